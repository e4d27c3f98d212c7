"""Crash points by name: the table is whole, each step of it is in the code, and a wrong name is said."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pmsync.crash import ANY, POINTS, VARIABLE, crash_points

ROOT = Path(__file__).parents[2]
FROM_OUTSIDE = {"C8", "C26"}


def test_the_table_is_whole() -> None:
    assert list(POINTS) == [f"C{n}" for n in range(1, 27)]
    assert all(point.role for point in POINTS.values())
    assert {name for name, point in POINTS.items() if not point.steps} == FROM_OUTSIDE


def test_each_step_of_the_table_is_in_the_code() -> None:
    code = "\n".join(path.read_text() for folder in ("pmsync", "connectors") for path in (ROOT / folder).rglob("*.py"))
    called = set(re.findall(r"step\(\"([\w ]+)\"\)", code)) | {"published", "republished"}
    wanted = {step for point in POINTS.values() for step in point.steps} - {ANY}
    assert wanted <= called


def test_the_page_has_the_same_table() -> None:
    text = (ROOT / "docs/reliability.md").read_text().partition("## Crash points")[2].partition("## Storms")[0]
    said = {cells[0]: cells[1:] for line in text.splitlines() if (cells := line.strip("| ").split(" | "))[0] in POINTS}
    assert said == {
        name: [
            point.role,
            ", ".join(f"`{step}`" for step in point.steps) or "–",
            point.where,
            point.must_hold,
        ]
        for name, point in POINTS.items()
    }


@pytest.mark.parametrize("wanted", ["C4", "C4:", "C4:x", "C8:1", "C26:1", ":3", "C27"])
def test_what_is_no_point_is_said(wanted: str) -> None:
    with pytest.raises(ValueError, match="names no step; write NAME:COUNT"):
        crash_points({VARIABLE: wanted})


PASS = """
import os, sys
from pmsync.crash import crash_points
step = crash_points(os.environ)
for name in sys.argv[1:]:
    print(name, flush=True)
    step(name)
"""


@pytest.mark.parametrize(
    ("wanted", "steps", "passed"),
    [
        ("C4:2", ["published", "settled", "published", "settled"], 3),
        ("C5:3", ["before the cursor", "after the cursor", "before the cursor", "settled"], 3),
        ("settled:1", ["published", "settled", "noted"], 2),
        ("any:2", ["a", "b", "c"], 2),
        ("C4:9", ["published", "noted"], None),
    ],
)
def test_it_ends_at_the_step_that_was_asked_for(wanted: str, steps: list[str], passed: int | None) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PASS, *steps], env={VARIABLE: wanted, "PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == (0 if passed is None else -signal.SIGKILL)
    assert done.stdout.splitlines() == steps[:passed]
