"""An installation of many processes: a log, a database that watches its fence, and real roles that can be killed.

`Parts` makes one after another, on the embedded log with SQLite or on Kafka with PostgreSQL.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient

from pmsync.bus.port import BusUnavailable
from pmsync.buses import layout, open_bus
from pmsync.config import EmbeddedBusConfig, KafkaBusConfig
from pmsync.store.engine import Store
from tests.acceptance.forker import BATCH, Forker, Process
from tests.judge.evidence import (
    DEAD_LETTERS,
    EVENTS,
    Evidence,
    connect,
    digest,
    embedded_log,
    kafka_log,
    look,
    noted,
    watch,
)
from tests.postgres import Server

PARTITIONS = 8
SESSION_SECONDS = 2
DONE_SECONDS = 60.0
"""I10: when the faults have ended, so long may it take until nothing lags behind."""
DRAIN_SECONDS = 25.0
CHUNK = 100
PRODUCER_SECONDS = 120.0


def until(holds: Callable[[], bool], what: Callable[[], str], seconds: float = DONE_SECONDS) -> float:
    """Wait until something holds; returns how long that took. `what` says what did not come, and is asked only then."""
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() < begun + seconds, f"not within {seconds:g} s: {what()}"
        time.sleep(0.02)
    return time.monotonic() - begun


SILENT = {"metrics": False, "alerts": False}
"""What others are told is judged by `test_outputs_kafka.py`."""


class Site:
    """One installation. Its processes are named by their member, and numbered, so that each start is a writer of its
    own."""

    def __init__(self, folder: Path, forker: Forker, bus: dict[str, Any], url: str, now: datetime) -> None:
        self.folder, self.bus, self.url, self.now = folder, bus, url, now
        self.batch = BATCH
        self.acknowledged: list[str] = []
        self.processes: list[Process] = []
        self._forker = forker
        self._starts: Counter[str] = Counter()
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def is_embedded(self) -> bool:
        return self.bus["kind"] == "embedded"

    def start(
        self,
        *words: str,
        member: str = "a",
        crash: str = "",
        url: str = "",
        counting: bool = False,
        sources: Sequence[Any] = (),
    ) -> Process:
        """Start a role; on Kafka `member` is its name in the group, the same after a restart."""
        self._starts[member] += 1
        writer = f"{member}-{self._starts[member]}"
        bus = self.bus if self.is_embedded else {**self.bus, "member": member}
        path = self.folder / f"{writer}.yaml"
        path.write_text(json.dumps({"bus": bus, "sources": list(sources), "projects": [], "outputs": SILENT}))
        environment = {"PMSYNC_STORE__URL": _named(url or self.url, writer), "PMSYNC_CRASH_AT": crash}
        job = {
            "folder": str(self.folder), "words": ["-v", "-c", str(path), *words], "writer": writer, "counting": counting,
            "environment": environment, "now": self.now.isoformat(), "batch": self.batch,
        }  # fmt: skip
        self.processes.append(self._forker.start(job))
        return self.processes[-1]

    def publish(self, records: Iterable[Any], rate: float = math.inf) -> None:
        """A plain producer: publishes in chunks, `rate` records a second at most, and remembers what was acknowledged.
        What could not be published is published again, as a reader would do it."""
        source, begun, count = iter(records), time.monotonic(), 0
        with closing(self.open_bus()) as bus:
            while chunk := list(islice(source, CHUNK)):
                patience = time.monotonic() + PRODUCER_SECONDS
                while not _published(bus, chunk):
                    assert time.monotonic() < patience, f"nothing could be published for {PRODUCER_SECONDS:g} s"
                self.acknowledged += [digest(EVENTS, each.key, each.value) for each in chunk]
                count += len(chunk)
                time.sleep(max(0.0, begun + count / rate - time.monotonic()))

    def open_bus(self) -> Any:
        kind = EmbeddedBusConfig if self.is_embedded else KafkaBusConfig
        return open_bus(kind.model_validate(self.bus))

    def progress(self) -> tuple[int, int]:
        """(records folded, projects that wait to be assessed)."""
        with closing(connect(self.url)) as db:
            ((folded,),) = db.execute("SELECT COALESCE(SUM(next_offset), 0) FROM partitions").fetchall()
            ((waiting,),) = db.execute("SELECT COUNT(*) FROM due WHERE dirty").fetchall()
        return int(folded), int(waiting)

    def is_done(self, count: int) -> bool:
        return self.progress() == (count, 0)

    def length(self) -> int:
        """How many events are in the log."""
        with closing(self.open_bus()) as bus:
            return sum(bus.end_offset(EVENTS, n) for n in range(PARTITIONS))

    def end(self, *processes: Process) -> float:
        """End processes as a supervisor does; returns how long the slowest took. Each must end with 0, and in time."""
        begun = time.monotonic()
        for process in processes:
            process.send(signal.SIGTERM)
        for process in processes:
            assert (code := process.wait(DRAIN_SECONDS)) == 0, f"ended with {code}; {self.said(process)}"
        return time.monotonic() - begun

    def said(self, process: Process) -> str:
        """The end of what a process wrote to its terminal."""
        log = self.folder / f"{process.writer}.log"
        return f"{process.writer} said: {log.read_text(errors='replace')[-2000:] if log.exists() else 'nothing'}"

    def address(self, process: Process) -> str:
        """Where a process serves its pages, once it has said so; empty before."""
        log = self.folder / f"{process.writer}.log"
        found = re.search(r"^pages: (\S+)$", log.read_text(errors="replace") if log.exists() else "", re.MULTILINE)
        return found[1] if found else ""

    def is_up(self, process: Process) -> bool:
        """Whether a process is at work: from then on it ends by itself when it is asked to."""
        log = self.folder / f"{process.writer}.log"
        return log.exists() and "pmsync.started" in log.read_text(errors="replace")

    def log(self, topic: str) -> list[Any]:
        if self.is_embedded:
            return embedded_log(Path(self.bus["path"]), topic)
        return kafka_log(self.bus["bootstrap_servers"], self.bus["prefix"] + topic, PARTITIONS)

    def evidence(self, *, finished: bool = True, delivered: bool = False) -> Evidence:
        """All there is to see."""
        store = look(self.url)
        acknowledged, reads, _ = noted(self.folder / "notes")
        return Evidence(
            self.log(EVENTS), self.log(DEAD_LETTERS), PARTITIONS, store, [*self.acknowledged, *acknowledged], reads,
            finished=finished, delivered=delivered,
        )  # fmt: skip

    def steps(self) -> Counter[str]:
        """How often each step was passed, by all processes that counted."""
        _, _, steps = noted(self.folder / "notes")
        return sum((Counter(each) for each in steps.values()), Counter())

    def close(self) -> None:
        for process in self.processes:
            process.close()


def _published(bus: Any, chunk: list[Any]) -> bool:
    try:
        bus.publish(EVENTS, chunk)
    except BusUnavailable:
        return False
    return True


class Parts:
    """Makes installations whose tables are there and watched."""

    def __init__(self, folder: Path, forker: Forker) -> None:
        self.folder, self.forker = folder, forker
        self._template = folder / "template.db"

    def database(self) -> str:
        """A new database's address."""
        if not self._template.exists():
            _prepare(f"sqlite:///{self._template}")
        place = self.folder / f"{uuid.uuid4().hex[:12]}.db"
        shutil.copy(self._template, place)
        return f"sqlite:///{place}"

    def empty_database(self) -> str:
        """The address of one without tables."""
        return f"sqlite:///{self.folder / uuid.uuid4().hex[:12]}.db"

    def drop(self, url: str) -> None:
        place = Path(url.removeprefix("sqlite:///"))
        for each in place.parent.glob(f"{place.name}*"):
            each.unlink()

    def log(self) -> dict[str, Any]:
        """A new log, as `bus` says it."""
        return {"kind": "embedded", "path": str(self.folder / f"{uuid.uuid4().hex[:12]}.log.db")}

    def forget(self, bus: dict[str, Any]) -> None:
        place = Path(bus["path"])
        for each in place.parent.glob(f"{place.name}*"):
            each.unlink()

    @contextmanager
    def site(self, now: datetime, url: str = "") -> Iterator[Site]:
        """An installation, on a database of its own if none is given; gone afterwards, unless something went wrong."""
        folder = self.folder / uuid.uuid4().hex[:12]
        site = Site(folder, self.forker, self.log(), url or self.database(), now)
        try:
            yield site
        finally:
            site.close()
        self.drop(site.url)
        self.forget(site.bus)
        shutil.rmtree(folder)


class RealParts(Parts):
    """Kafka and PostgreSQL."""

    def __init__(self, folder: Path, forker: Forker, broker: str, server: Server) -> None:
        super().__init__(folder, forker)
        self.server = server
        self._broker = broker
        self._watched = ""

    def watched(self) -> str:
        """The database that others are made like."""
        if not self._watched:
            self._watched = self.server.create()
            _prepare(self.server.url(self._watched))
        return self._watched

    def database(self) -> str:
        return self.server.url(self.server.create(self.watched()))

    def empty_database(self) -> str:
        return self.server.url(self.server.create())

    def drop(self, url: str) -> None:
        self.server.drop(url.rpartition("/")[2])

    def log(self) -> dict[str, Any]:
        values = {
            "kind": "kafka", "bootstrap_servers": self._broker, "replication": 1, "session_seconds": SESSION_SECONDS,
            "prefix": f"site-{uuid.uuid4().hex[:12]}.",
        }  # fmt: skip
        (topics,) = layout(KafkaBusConfig.model_validate(values))
        topics.mend(topics.differences())
        return values

    def forget(self, bus: dict[str, Any]) -> None:
        with closing(KafkaAdminClient(bootstrap_servers=self._broker)) as admin:
            admin.delete_topics([bus["prefix"] + topic for topic in (EVENTS, DEAD_LETTERS)])

    def close(self) -> None:
        if self._watched:
            self.server.drop(self._watched)


def _prepare(url: str) -> None:
    with closing(Store(url)) as store:
        store.migrate()
    watch(url)


def _named(url: str, writer: str) -> str:
    """PostgreSQL is told who it is that connects; SQLite asks a function."""
    return f"{url}{'&' if '?' in url else '?'}application_name={writer}" if url.startswith("postgresql") else url
