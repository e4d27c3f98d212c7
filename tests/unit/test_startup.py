"""What a process loads before it has anything to do: a worker that starts again is waited for."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("heavy", ["numpy", "icalendar", "kafka", "psycopg", "altair", "fastapi", "github", "jira"])
def test_a_command_loads_what_it_needs_and_no_more(heavy: str) -> None:
    program = f"import sys, pmsync.cli, pmsync.app; sys.exit('{heavy}' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


def test_what_is_loaded_is_not_gone_through_again() -> None:
    program = (
        "import gc; from pmsync.service import settle; settle(); print(gc.get_freeze_count(), *gc.get_threshold())"
    )
    out = subprocess.run([sys.executable, "-c", program], timeout=60, capture_output=True, text=True, check=True).stdout
    frozen, young, *_ = map(int, out.split())
    assert frozen > 50_000
    assert young > 10_000
