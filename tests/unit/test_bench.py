"""The benchmarks run, on the same events each time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bench import calendars
from bench.__main__ import MEASUREMENTS, measure
from bench.events import records
from bench.report import Sizes, markdown, rows
from pmsync.core.events import Snapshot, decode

SIZES: Sizes = (100, 200)


def test_the_same_count_gives_the_same_events() -> None:
    assert list(records(200)) == list(records(200))


def test_events_are_what_the_report_says_of_them() -> None:
    told = [decode(record.value) for record in records(2000)]
    assert len(told) == 2000
    things = Counter((event.thing, event.version) for event in told if isinstance(event, Snapshot))
    assert sum(n - 1 for n in things.values()) == 40, "2 % come again"
    versions = [event.version for event in told if isinstance(event, Snapshot)]
    late = sum(version < max(versions[: n + 1]) for n, version in enumerate(versions))
    assert late > 100, "and some 5 % are overtaken by others"
    items = [record for record in records(2000) if b"pmsync.work_item" in record.value]
    assert 1500 < sum(len(record.value) for record in items) / len(items) < 2200


def test_every_measurement_runs(tmp_path: Path) -> None:
    said: list[str] = []
    run = measure(tmp_path, SIZES, 1, said.append)
    assert {f"{name}/{size}" for name in ("write", *MEASUREMENTS) for size in SIZES} == run.keys()
    assert run["fold/200"][0]["count"] == run["read/200"][0]["count"] == 200
    assert run["tick/200"][0]["projects"] == 4
    assert run["tick/200"][0]["first_count"] > 0, "a tick that finds nothing measures nothing"
    assert len(said) == len(run)
    page = markdown({"date": "2026-03-16"}, run, SIZES)
    assert all(label in page for label, *_ in rows(run, SIZES))
    json.dumps(run)


def test_the_same_number_is_the_same_calendar() -> None:
    assert calendars.feed(3, 20) == calendars.feed(3, 20) != calendars.feed(4, 20)


def test_calendars_are_read_and_polled() -> None:
    said: list[tuple[str, int]] = []

    def bar(label: str, calls: int) -> Callable[[], None]:
        said.append((label, calls))
        return lambda: None

    first, again = calendars.measure(2, 20, bar)
    assert (first.published, first.calls, first.not_modified) == (2 * 20 + 2, 4, 2), "a sweep asks once more"
    assert (again.published, again.calls, again.not_modified, again.bytes) == (0, 2, 2, 0)
    assert said == [("first reading", 4), ("nothing new", 2)]
    page = "\n".join(calendars.table(2, 20, [first, again]))
    assert all(label in page for label, _ in calendars.ROWS)
    assert len(list(calendars.beside(20))) == calendars.BESIDE, "both find the same occurrences"
