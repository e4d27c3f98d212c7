"""What a process loads before it has anything to do: a worker that starts again is waited for."""

import subprocess
import sys

HEAVY = {"numpy", "icalendar", "kafka", "psycopg", "altair", "fastapi", "github", "jira"}


def test_a_command_loads_what_it_needs_and_no_more() -> None:
    program = "import sys, pmsync.cli, pmsync.app; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", program], timeout=60, capture_output=True, text=True, check=True).stdout
    loaded = set(out.split())
    assert "pmsync.aggregator" in loaded
    assert not loaded & HEAVY


def test_what_is_loaded_is_not_gone_through_again() -> None:
    program = (
        "import gc; from pmsync.service import settle; settle(); print(gc.get_freeze_count(), *gc.get_threshold())"
    )
    out = subprocess.run([sys.executable, "-c", program], timeout=60, capture_output=True, text=True, check=True).stdout
    frozen, young, *_ = map(int, out.split())
    assert frozen > 50_000
    assert young > 10_000
