"""`python -m bench.hostile`: what each hostile feed costs at the worst, in time and memory.

Each is read by a calendar connector in a process of its own, from a file or, where the answer itself means harm, over HTTP;
and after it a sound one, to show that the worker is alive. What is in the feeds: `bench/hostile_feeds.py`.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from threading import Thread
from typing import NamedTuple

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.hostile_feeds import FEEDS, MB, START, Ends, entry, feed
from bench.memory import peak_mb
from bench.report import machine
from connectors.base import Calendars, ConnectorError, Read
from connectors.caldav import CalDavConnector, CalDavSettings
from connectors.calendar import CalendarConnector, CalendarSettings
from connectors.ics_apart import CHAMBER, CPU_SECONDS, MEMORY

ROOT = Path(__file__).parents[1]
NOW = datetime(2026, 11, 30, tzinfo=UTC)
LIBRARIES = ("icalendar", "recurring-ical-events", "python-dateutil", "urllib3")
TIME_LIMIT = 300
LOOP, UNCHANGED, MANY_ANSWERS = 302, 304, 207


class Cost(NamedTuple):
    """What became of a feed, and what it took: seconds by the clock, of CPU in the process apart, MB in both."""

    became: str
    seconds: float
    cpu: float
    apart_mb: float
    worker_mb: float


# --- answers that mean harm -------------------------------------------------------------------------------------------


class Hostility(NamedTuple):
    """An answer over HTTP, to who reads a feed or to who speaks CalDAV: its headers and body, piece by piece."""

    name: str
    ends: Ends
    why: str
    status: int
    headers: Mapping[str, str]
    pieces: Callable[[], Iterable[bytes]]

    @property
    def kind(self) -> str:
        return "caldav" if self.status == MANY_ANSWERS else "calendar"


def zipped(times: int, megabytes: int) -> Iterable[bytes]:
    """So many megabytes of nothing, packed so many times over."""
    body: Iterable[bytes] = (b"\0" * MB for _ in range(megabytes))
    for _ in range(times):
        body = packed(body)
    return body


def packed(body: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    for piece in body:
        yield packer.compress(piece)
    yield packer.flush()


def endless() -> Iterator[bytes]:
    for _ in range(4096):
        yield b"x" * MB


def answered(inside: bytes) -> bytes:
    """An answer of a CalDAV server."""
    return b'<multistatus xmlns="DAV:">' + inside + b"</multistatus>"


def xml(name: str, build: Callable[[], bytes], why: str) -> Hostility:
    return Hostility(name, "refused", why, MANY_ANSWERS, CHUNKED, lambda: [build()])


LAUGHS = (
    b'<!DOCTYPE x [<!ENTITY a0 "ha">'
    + b"".join(b'<!ENTITY a%d "%b">' % (n, b"&a%d;" % (n - 1) * 10) for n in range(1, 10))
    + b"]>"
    + answered(b"&a9;")
)
CHUNKED = {"Transfer-Encoding": "chunked"}
LARGER = "larger than"
ANSWERS = (
    Hostility("a gigabyte, packed with gzip", "refused", LARGER, 200, {"Content-Encoding": "gzip"} | CHUNKED, lambda: zipped(1, 1000)),
    Hostility("a gigabyte, packed twice", "refused", LARGER, 200, {"Content-Encoding": "gzip, gzip"} | CHUNKED, lambda: zipped(2, 1000)),
    Hostility("packed twenty times", "refused", "", 200, {"Content-Encoding": ", ".join(["gzip"] * 20)} | CHUNKED, lambda: zipped(20, 1)),
    Hostility("gzip that is none", "refused", "", 200, {"Content-Encoding": "gzip"} | CHUNKED, lambda: [b"x" * 1000]),
    Hostility("chunks without end", "refused", LARGER, 200, CHUNKED, endless),
    Hostility("a body that is shorter than it says", "refused", "", 200, {"Content-Length": str(9 * MB)}, lambda: [feed()]),
    Hostility("redirects without end", "refused", "redirects more than", LOOP, {"Location": "/again", "Content-Length": "0"}, list),
    Hostility("304 to who never asked", "refused", "304", UNCHANGED, {}, list),
    xml("an entity of entities, a billion in the end", lambda: LAUGHS, "a DTD or entities"),
    xml("an entity that is a file", lambda: b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + answered(b"&a;"), "a DTD or entities"),
    xml("a DTD elsewhere", lambda: b'<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">' + answered(b""), "a DTD or entities"),
    xml("elements in elements, a million deep", lambda: b"<a>" * 1_000_000, "within each other"),
    xml("two million elements", lambda: answered(b"<a/>" * 2_000_000), "more than 500000 elements"),
    xml("200,000 places", lambda: answered(b"<response><href>/x</href></response>" * 200_000), "more than 2000 places"),
    xml("an element with 500,000 attributes", lambda: answered(b"<a " + b"".join(b'a%d="" ' % n for n in range(500_000)) + b"/>"), ""),
    xml("a name of 9 MB", lambda: answered(b"<" + b"a" * (9 * MB) + b"/>"), ""),
    xml("XML in UTF-16 that says it is UTF-8", lambda: answered(b"").decode().encode("utf-16"), ""),
    xml("XML that ends in the middle", lambda: answered(b"")[:-10], "no whole XML"),
)  # fmt: skip


@contextmanager
def served(answer: Hostility) -> Iterator[str]:
    """Its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.close_connection = True
            self.send_response(answer.status)
            for name, value in {**answer.headers, "Connection": "close"}.items():
                self.send_header(name, value)
            self.end_headers()
            chunked = "Transfer-Encoding" in answer.headers
            try:
                for piece in answer.pieces():
                    if piece:
                        self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                self.wfile.write(b"0\r\n\r\n" if chunked else b"")
            except OSError:
                return  # who reads has had enough

        do_PROPFIND = do_REPORT = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002, ARG002
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/feed.ics"
    finally:
        server.shutdown()
        server.server_close()


# --- one of them ------------------------------------------------------------------------------------------------------


def cost(name: str, folder: Path) -> Cost:
    """What the reading of one of them comes to."""
    (folder / "sound.ics").write_bytes(feed(entry(START, uid="sound")))
    if (folder / "hostile.ics").exists():
        return measured(feeds(folder / "hostile.ics"), folder)
    answer = next(each for each in ANSWERS if each.name == name)
    with served(answer) as url:
        if answer.kind == "caldav":
            return measured(CalDavConnector.connect(CalDavSettings(name="dav", url=url), lambda: NOW), folder)
        return measured(feeds(url), folder)


def feeds(target: Path | str) -> Calendars:
    return CalendarConnector.connect(CalendarSettings(name="cal", ics=str(target)), lambda: NOW)


def measured(hostile: Calendars, folder: Path) -> Cost:
    sound = feeds(folder / "sound.ics")
    assert len(list(sound.entries("sound"))) == 2
    begun = time.perf_counter()
    became = outcome(hostile)
    seconds = time.perf_counter() - begun
    CHAMBER.end()  # what is started anew below would be measured with what the worker holds by now
    used, worker = resource.getrusage(resource.RUSAGE_CHILDREN), peak_mb()
    (folder / "sound.ics").write_bytes(feed(entry(START, uid="sound"), entry(START, uid="new")))
    assert len(list(sound.entries("sound"))) == 3, "the worker is not alive"
    CHAMBER.end()
    return Cost(became, seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6, worker)


def outcome(connector: Calendars) -> str:
    """What `doctor` would say of it, in short."""
    try:
        reads = list(connector.entries("hostile"))
    except ConnectorError as error:
        return f"refused: {error}"
    problems = [read.problem for read in reads if read.problem]
    return f"{len(problems)} of {len(reads)}: {problems[-1]}" if problems else f"read: {occurrences(reads)} occurrences"


def occurrences(reads: Iterable[Read]) -> int:
    return sum(len(getattr(read.content, "occurrences", ())) for read in reads)


# --- all of them ------------------------------------------------------------------------------------------------------


def as_said(ends: Ends, why: str, became: str) -> bool:
    """Whether it became what is said of it."""
    begins = {"refused": "refused: ", "read": "read: ", "a problem": ""}[ends]
    return became.startswith(begins) and why in became and (ends != "a problem" or " of " in became.partition(":")[0])


@click.command()
@click.option("--only", default="", help="Words of the names of some.")
@click.option("--one", nargs=2, hidden=True)
def main(only: str, one: tuple[str, str] | None) -> None:
    """Measure, and print the table."""
    if one:
        click.echo(json.dumps(cost(one[0], Path(one[1]))._asdict()))
        return
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    click.echo(f"{datetime.now(UTC):%Y-%m-%d}, Python {python_version()}, {versions}; {machine()}\n")
    wanted = [each for each in (*FEEDS, *ANSWERS) if only in each.name]
    if not wanted:
        raise click.ClickException("no feed has a name with these words in it")
    costs: dict[str, Cost] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("hostile feeds", total=len(wanted))
        click.echo(HEAD)
        for each in wanted:
            progress.update(task, description=each.name[:50])
            costs[each.name] = child(each.name)
            click.echo(row(each.name, costs[each.name]))
            progress.advance(task)
    click.echo("\n".join(worst(costs)))
    wrong = [each.name for each in wanted if not as_said(each.ends, each.why, costs[each.name].became)]
    if wrong:
        raise click.ClickException(f"not what is said of them: {'; '.join(wrong)}")


HEAD = "| feed | what becomes of it | s | CPU s, apart | MB, apart | MB, worker |\n|---|---|---:|---:|---:|---:|"


def row(name: str, found: Cost) -> str:
    words = (text.replace("|", "\\|")[:110] for text in (name, found.became))
    figures = f"{found.seconds:.2f}", f"{found.cpu:.1f}", f"{found.apart_mb:.0f}", f"{found.worker_mb:.0f}"
    return f"| {' | '.join((*words, *figures))} |"


def worst(costs: Mapping[str, Cost]) -> Iterator[str]:
    """What was worst, and of which of them."""
    of = {name: max(costs, key=lambda each: getattr(costs[each], name)) for name in Cost._fields[1:]}
    seconds, cpu, apart, worker = (f"{getattr(costs[each], name):.1f}" for name, each in of.items())
    yield f"\n{len(costs)} hostile feeds and answers. At worst:"
    yield f"- {seconds} s by the clock ({of['seconds']});"
    yield f"- {cpu} s of CPU in the process apart ({of['cpu']}), of {CPU_SECONDS};"
    yield f"- {apart} MB there ({of['apart_mb']}), of {MEMORY / 1e6:.0f};"
    yield f"- {worker} MB in the worker ({of['worker_mb']})."
    yield "The worker lived through all of them: after each it read a sound feed that had changed."


def child(name: str) -> Cost:
    """What one of them costs, in a process that has not built it."""
    with tempfile.TemporaryDirectory(prefix="pmsync-bench-") as folder:
        for hostile in (each for each in FEEDS if each.name == name):
            (Path(folder) / "hostile.ics").write_bytes(hostile.build())
        command = [sys.executable, "-m", "bench.hostile", "--one", name, folder]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
    if done.returncode:
        raise click.ClickException(f"{name} failed:\n{done.stderr}")
    return Cost(**json.loads(done.stdout))


if __name__ == "__main__":
    main()
