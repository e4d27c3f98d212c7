"""`python -m bench.calendars`: what it costs to read many large calendars, and to look whether anything in them is new.

Feeds come over HTTP from this process, with ETags; a worker in a process of its own reads them as `pmsync run` would: its
connector, its ledger on SQLite, its embedded log. First all is read, then it is polled with nothing new. Beside that stands what
one writes first with the libraries, icalendar and recurring-ical-events: parse a feed, expand the same four years.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import NamedTuple
from zoneinfo import ZoneInfo

import click
import icalendar
import recurring_ical_events  # type: ignore[import-untyped]
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bench.memory import peak_mb
from bench.report import machine, spread
from connectors.ics import Scope as Reading
from connectors.ics import read_feed, window_at
from pmsync.app import App
from pmsync.config import load
from pmsync.core.events import CalendarEntry, Meaning
from pmsync.logs import configure
from pmsync.standins.server import serve

ROOT = Path(__file__).parents[1]
NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)
SOURCE, PROJECTS = "calendars", 10
ZONES = ("Europe/Berlin", "America/New_York", "Asia/Tokyo", "Etc/UTC")
BESIDE = 3
"""Feeds that are read by the libraries alone, too."""
TIME_LIMIT = 7200


class Cost(NamedTuple):
    """What a round cost the server and the worker."""

    published: int
    dead: int
    calls: int
    not_modified: int
    bytes: int
    seconds: float
    cpu: float
    peak_mb: float


# --- the feeds --------------------------------------------------------------------------------------------------------


def feed(number: int, entries: int) -> bytes:
    """A calendar, always the same: of ten entries six are at a time in some zone, two are days, one is weekly with a date left
    out, and one monthly with an occurrence that was moved."""
    chance = random.Random(number)
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//pmsync//bench//EN"]
    for n in range(entries):
        start = NOW + timedelta(days=chance.randrange(-180, 360), minutes=15 * chance.randrange(40))
        uid = f"{number}-{n}@calendar.example.com"
        lines += _days(uid, start) if n % 10 in (6, 7) else _hours(uid, start, n % 10, chance.choice(ZONES))
    return "\r\n".join([*lines, "END:VCALENDAR", ""]).encode()


def _days(uid: str, start: datetime) -> list[str]:
    return _event(uid, f"DTSTART;VALUE=DATE:{start:%Y%m%d}", f"DTEND;VALUE=DATE:{start + timedelta(days=3):%Y%m%d}")


def _hours(uid: str, start: datetime, kind: int, zone: str) -> list[str]:
    def at(name: str, when: datetime) -> str:
        return f"{name};TZID={zone}:{when:%Y%m%dT%H%M%S}"

    def told(when: datetime, *more: str) -> list[str]:
        return _event(uid, at("DTSTART", when), at("DTEND", when + timedelta(hours=1)), *more)

    if kind == 8:
        return told(start, "RRULE:FREQ=WEEKLY;COUNT=20", at("EXDATE", start + timedelta(weeks=3)))
    if kind == 9:
        first = start.replace(day=1)
        second = (first + timedelta(days=31)).replace(day=1)
        moved = told(second + timedelta(days=1), at("RECURRENCE-ID", second))
        return [*told(first, "RRULE:FREQ=MONTHLY;COUNT=12"), *moved]
    return told(start)


def _event(uid: str, *lines: str) -> list[str]:
    people = [f"ATTENDEE;PARTSTAT=ACCEPTED;CN=Person {n}:mailto:person-{n}@example.com" for n in range(3)]
    text = ["SUMMARY:Something that takes place", f"DESCRIPTION:{'What it is about. ' * 3}", "LOCATION:Room 1"]
    return ["BEGIN:VEVENT", f"UID:{uid}", "DTSTAMP:20261101T000000Z", *lines, *text, *people, "END:VEVENT"]


class Feeds:
    """Serves them, each under its number, and counts what it answers. A request that is none for a calendar is refused."""

    def __init__(self, calendars: int, entries: int) -> None:
        self._calendars, self._entries = calendars, entries
        self.calls = self.not_modified = self.bytes = 0
        self.answered: Callable[[], object] = lambda: None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            answer = self._answer(Request(scope, receive))
            self.calls += 1
            self.not_modified += answer.status_code == 304
            self.bytes += len(answer.body)
            await answer(scope, receive, send)
            self.answered()

    def _answer(self, request: Request) -> Response:
        name = request.url.path.removeprefix("/").removesuffix(".ics")
        if request.method != "GET" or not name.isdecimal() or int(name) >= self._calendars:
            return Response("no calendar", 404)
        headers = {"ETag": f'"{name}-1"', "Content-Type": "text/calendar; charset=utf-8"}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(feed(int(name), self._entries), headers=headers)

    def taken(self) -> tuple[int, int, int]:
        """calls, those answered 304, bytes; and begin anew."""
        found = self.calls, self.not_modified, self.bytes
        self.calls = self.not_modified = self.bytes = 0
        return found


# --- the worker, in a process of its own ------------------------------------------------------------------------------


def worker(folder: Path) -> None:
    """Read all, and print what it took; then poll, as a minute later."""
    configure(sys.stderr, verbose=False)
    config = load(folder / "pmsync.yaml")
    with closing(App(config, lambda: NOW)) as app:
        app.apply()
        sweep_every = timedelta(seconds=config.poll.sweep_seconds)
        for _ in ("first", "again"):
            wall, cpu = perf_counter(), process_time()
            counts = app.read(SOURCE, sweep_every)
            figures = {
                "published": counts.published,
                "dead": counts.dead,
                "seconds": perf_counter() - wall,
                "cpu": process_time() - cpu,
                "peak_mb": peak_mb(),
            }
            print(json.dumps(figures), flush=True)
            sys.stdin.readline()


def written(folder: Path, url: str, calendars: int) -> None:
    """The configuration: one source, whose calendars ten projects share out among them."""
    names = [str(n) for n in range(calendars)]
    projects = [
        {"key": f"p{n}", "name": f"P{n}", "time_zone": "Etc/UTC", "from": {SOURCE: names[n::PROJECTS]}}
        for n in range(min(PROJECTS, calendars))
    ]
    source = {"name": SOURCE, "kind": "calendar", "ics": {name: f"{url}/{name}.ics" for name in names}}
    config = {
        "bus": {"kind": "embedded", "path": str(folder / "log.db")},
        "store": {"url": f"sqlite:///{folder / 'pmsync.db'}"},
        "sources": [source],
        "projects": projects,
    }
    (folder / "pmsync.yaml").write_text(json.dumps(config))  # which is YAML


# --- measuring --------------------------------------------------------------------------------------------------------


def measure(calendars: int, entries: int, bar: Callable[[str, int], Callable[[], object]]) -> list[Cost]:
    """The first reading, and a poll with nothing new."""
    feeds, found = Feeds(calendars, entries), list[Cost]()
    with tempfile.TemporaryDirectory(prefix="pmsync-bench-") as name, serve(feeds) as url:
        written(Path(name), url, calendars)
        command = [sys.executable, "-m", "bench.calendars", "--worker", name]
        with subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin
            assert process.stdout
            try:
                for label, calls in (("first reading", 2 * calendars), ("nothing new", calendars)):
                    feeds.answered = bar(label, calls)
                    figures = json.loads(process.stdout.readline() or "{}")
                    if not figures:
                        raise click.ClickException("the worker ended early; see above")
                    asked, not_modified, size = feeds.taken()
                    found.append(Cost(calls=asked, not_modified=not_modified, bytes=size, **figures))
                    process.stdin.write("\n")
                    process.stdin.flush()
                process.wait(TIME_LIMIT)
            finally:
                process.kill()
    expected = calendars * (entries + 1)  # and that it is synced
    if (found[0].published, found[0].dead, found[1].published) != (expected, 0, 0):
        raise click.ClickException(f"{found[0].published} of {expected} were published, then {found[1].published}")
    return found


def beside(entries: int) -> Iterator[tuple[float, float]]:
    """CPU seconds of pmsync's own reader, and of the libraries, for the same feeds; both have to find the same occurrences."""
    window = window_at(NOW)
    scope = Reading("c", Meaning.meeting, window, ZoneInfo("Etc/UTC"))
    for number in range(BESIDE):
        body = feed(number, entries)
        ours, our_time = _timed(lambda body=body: _ours(body, scope))  # type: ignore[misc]
        theirs, their_time = _timed(lambda body=body: _theirs(body, window.start, window.end))  # type: ignore[misc]
        if ours != theirs:
            raise click.ClickException(f"pmsync finds {ours} occurrences in a feed, the libraries {theirs}")
        yield our_time, their_time


def _ours(body: bytes, scope: Reading) -> int:
    contents = [read.content for read in read_feed(body, scope)]
    return sum(len(each.occurrences) for each in contents if isinstance(each, CalendarEntry))


def _theirs(body: bytes, start: date, end: date) -> int:
    calendar = icalendar.Calendar.from_ical(body)
    found = recurring_ical_events.of(calendar).between(start, end)
    return len([(each["UID"], each["DTSTART"].dt, each["DTEND"].dt) for each in found])


def _timed(work: Callable[[], int]) -> tuple[int, float]:
    cpu = process_time()
    return work(), process_time() - cpu


def table(calendars: int, entries: int, found: Sequence[Cost]) -> Iterator[str]:
    """Rows of Markdown."""
    yield f"| {calendars:,} calendars × {entries:,} entries | first reading | poll with nothing new |"
    yield "| --- | ---: | ---: |"
    for label, show in ROWS:
        yield f"| {label} | {' | '.join(show(cost, calendars * entries) for cost in found)} |"


ROWS: Sequence[tuple[str, Callable[[Cost, int], str]]] = (
    ("calls", lambda cost, _: f"{cost.calls:,}"),
    ("of them answered 304", lambda cost, _: f"{cost.not_modified:,}"),
    ("MB of answers", lambda cost, _: f"{cost.bytes / 1e6:,.1f}"),
    ("seconds", lambda cost, _: f"{cost.seconds:,.1f}"),
    ("entries a second", lambda cost, entries: f"{entries / cost.seconds:,.0f}"),
    ("CPU of the worker per entry, ms", lambda cost, entries: f"{1000 * cost.cpu / entries:.3f}"),
    ("peak memory, MB", lambda cost, _: f"{cost.peak_mb:,.0f}"),
)


@contextmanager
def _bars() -> Iterator[Callable[[str, int], Callable[[], object]]]:
    """A bar for each round, by the requests that were answered."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as bars:

        def begin(label: str, calls: int) -> Callable[[], object]:
            task = bars.add_task(label, total=calls)
            return lambda: bars.advance(task)

        yield begin


@click.command()
@click.option("--calendars", default=500, show_default=True, type=click.IntRange(1))
@click.option("--entries", default=2000, show_default=True, type=click.IntRange(1, 10_000), help="Of each calendar.")
@click.option("--worker", "role", hidden=True, type=click.Path(path_type=Path))
def main(calendars: int, entries: int, role: Path | None) -> None:
    """Measure, and print the table."""
    if role:
        worker(role)
        return
    libraries = ("icalendar", "recurring-ical-events")
    versions = ", ".join(f"{name} {version(name)}" for name in ("pmsync", *libraries))
    with _bars() as bar:
        found = measure(calendars, entries, bar)
    costs = list(zip(*beside(entries), strict=True))
    click.echo(f"- date: {datetime.now(UTC):%Y-%m-%d}\n- machine: {machine()}\n- {versions}")
    click.echo(f"- command: python -m bench.calendars --calendars {calendars} --entries {entries}\n")
    for line in table(calendars, entries, found):
        click.echo(line)
    ours, theirs = ([1000 * each / entries for each in some] for some in costs)
    ratio = median(ours) / median(theirs)
    click.echo(
        f"\n- a feed into occurrences, CPU per entry: {spread(ours)} ms; by the libraries alone {spread(theirs)} ms; "
        f"pmsync / libraries {ratio:.2f}"
    )


if __name__ == "__main__":
    main()
