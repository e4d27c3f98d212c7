"""An installation that reads the small world in runs of one process each (`run --once`), which may be killed.

What it showed and told is compared with that of an unbroken one.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from pmsync.app import App
from pmsync.bus.port import ALERTS, METRICS
from pmsync.core.exports import sight
from pmsync.core.outputs import AlertTransition, ProjectMetrics, metrics
from pmsync.core.project import load
from pmsync.core.summary import all_alerts
from pmsync.standins.portfolio import TOKENS
from pmsync.store.state import LogEntry
from tests.acceptance.forker import Forker
from tests.acceptance.installation import configure, difference, exports
from tests.acceptance.site import SILENT, RealParts
from tests.acceptance.small_world import CHAPTERS, SmallWorld
from tests.judge.evidence import noted
from tests.postgres import Server

SECONDS = 120.0

Job = Callable[..., int]
"""(folder, now, crash, counting) -> how a run ended"""


class Homes:
    """Where installations live: a folder each, with the store in it."""

    def values(self, folder: Path, values: dict[str, Any], writer: str = "") -> dict[str, Any]:
        """The configuration of the installation in this folder, for a process of this name."""
        return values

    def copy(self, folder: Path, there: Path) -> None:
        shutil.copytree(folder, there)

    def remove(self, folder: Path) -> None:
        shutil.rmtree(folder)


class PostgresHomes(Homes):
    """The log is in the folder, the store is a database."""

    def __init__(self, server: Server, migrated: str) -> None:
        self._server, self._migrated = server, migrated
        self._names: dict[Path, str] = {}

    def url(self, folder: Path) -> str:
        if folder not in self._names:
            self._names[folder] = self._server.create(self._migrated)
        return self._server.url(self._names[folder])

    def values(self, folder: Path, values: dict[str, Any], writer: str = "") -> dict[str, Any]:
        name = f"?application_name={writer}" if writer else ""
        return {**values, "store": {"url": self.url(folder) + name}}

    def copy(self, folder: Path, there: Path) -> None:
        self._server.cut(self._names[folder])  # a template must have no guest, and one that was killed leaves slowly
        self._names[there] = self._server.create(self._names[folder])
        super().copy(folder, there)

    def remove(self, folder: Path) -> None:
        self._server.drop(self._names.pop(folder))
        super().remove(folder)

    def close(self) -> None:
        for name in self._names.values():
            self._server.drop(name)


class KafkaHomes(PostgresHomes):
    """The log is on Kafka, too; such an installation cannot be copied, only begun anew."""

    def __init__(self, parts: RealParts) -> None:
        super().__init__(parts.server, parts.watched())
        self._parts = parts
        self._logs: dict[Path, dict[str, Any]] = {}

    def bus(self, folder: Path) -> dict[str, Any]:
        if folder not in self._logs:
            self._logs[folder] = self._parts.log()
        return self._logs[folder]

    def values(self, folder: Path, values: dict[str, Any], writer: str = "") -> dict[str, Any]:
        return {"outputs": SILENT, **super().values(folder, values, writer), "bus": self.bus(folder)}

    def remove(self, folder: Path) -> None:
        self._parts.forget(self._logs.pop(folder))
        super().remove(folder)


@contextmanager
def runner(world: SmallWorld, values: dict[str, Any], homes: Homes) -> Iterator[Job]:
    """Runs pmsync once in a folder, in a process of its own, killed at a step if one is given; returns how it ended."""
    starts = Counter[Path]()
    with closing(Forker()) as forker:

        def job(folder: Path, now: datetime, crash: str = "", *, counting: bool = False) -> int:
            world.time = now
            folder.mkdir(exist_ok=True)
            starts[folder] += 1
            writer = f"{folder.name}-{starts[folder]}"
            process = forker.start({
                "folder": str(folder), "values": homes.values(folder, values, writer), "now": now.isoformat(),
                "crash": crash, "environment": TOKENS, "messages": str(folder / "messages"), "writer": writer,
                "counting": counting,
            })  # fmt: skip
            return process.wait(SECONDS)

        yield job


def last_words(folder: Path) -> str:
    """The ends of what the processes in a folder said, for who wonders why one failed."""
    return "\n".join(f"{log.name}: {log.read_text()[-1500:]}" for log in sorted(folder.glob("*.log")))


class Unbroken:
    """What the world looks like when nothing goes wrong, chapter by chapter."""

    def __init__(self, folder: Path, run: Job, values: dict[str, Any], homes: Homes, *, counting: bool = False) -> None:
        self.steps = Counter[str]()
        """How often the second chapter passes each step, if that was counted."""
        self.base = folder / "base"
        assert run(self.base, CHAPTERS[0], "") == 0
        self.ends: dict[tuple[datetime, ...], tuple[dict[str, str], dict[str, Told]]] = {}
        for path in ((CHAPTERS[1],), (CHAPTERS[2],), (CHAPTERS[1], CHAPTERS[2])):
            there = folder / "-".join(str(chapter.day) for chapter in path)
            homes.copy(self.base, there)
            for chapter in path:
                assert run(there, chapter, "", counting=counting and path == (CHAPTERS[1],)) == 0
            for found in noted(there / "notes")[2].values():
                self.steps += Counter(found)
            self.ends[path] = look(there, homes.values(there, values), path[-1])


class Told(NamedTuple):
    """What a project's people were told: its alert log, and its messages."""

    log: Sequence[LogEntry]
    messages: Sequence[str]


def look(folder: Path, values: dict[str, Any], now: datetime) -> tuple[dict[str, str], dict[str, Told]]:
    """The exports of an installation, and what it told of each project."""
    messages = (folder / "messages").read_text(encoding="utf-8").split("\0")[:-1]
    with closing(App(configure(folder, values), lambda: now)) as app:
        assert app.outbox.counts().keys() <= {"sent"}
        told = {
            project: Told(app.state.alert_log(project), [text for text in messages if text.startswith(f"{project}:")])
            for project in app.state.projects()
        }
        assert sum(len(found.messages) for found in told.values()) == len(messages), "a message of no project"
        if app.config.outputs.metrics:
            _check_outputs(app, now)
        return exports(app, now), told


def _check_outputs(app: App, now: datetime) -> None:
    """Others are told each line of the alert log, in order, and of each project the newest figures last. What was being
    published at a kill may be there twice, under one id."""
    for project in app.state.projects():
        state = load(app.state.rows(project, kept=False))
        assert state
        *_, newest = (each for each in _documents(app, METRICS) if each["partitionkey"] == project)
        told = ProjectMetrics.model_validate(newest["data"])
        assert told.digest() == metrics(sight(state, now), all_alerts(state, now)).digest()
        found = [each for each in _documents(app, ALERTS) if each["partitionkey"] == project]
        first = {each["id"]: each for each in reversed(found)}
        assert all(each == first[each["id"]] for each in found), "another document under the same id"
        assert max(Counter(each["id"] for each in found).values()) <= 2
        lines = sorted((line.fingerprint, line.n, line.state, line.at) for line in app.state.alert_log(project))
        said = [AlertTransition.model_validate(each["data"]) for each in first.values()]
        assert sorted((each.fingerprint, each.n, str(each.state), each.at) for each in said) == lines
        for fingerprint in {line[0] for line in lines}:
            order = [each["data"]["n"] for each in found if each["data"]["fingerprint"] == fingerprint]
            assert list(dict.fromkeys(order)) == sorted(set(order))


def _documents(app: App, topic: str) -> list[dict[str, Any]]:
    return [
        json.loads(each.value)
        for partition in range(app.bus.partitions)
        for each in app.bus.read(topic, partition, 0, 10_000)
    ]


def compare(found: tuple[dict[str, str], dict[str, Told]], unbroken: Unbroken, then: datetime, case: str) -> None:
    shown, told = found
    ends = [end for path, end in unbroken.ends.items() if path[-1] == then]
    assert difference(shown, ends[0][0]) == "", case
    assert shown == ends[0][0], case
    again = 0
    for project, (log, messages) in told.items():
        # A tick is a transaction of its partition: before the kill this project may or may not have been told of the
        # second chapter, whatever the other one was. Each transition is told once either way.
        same = [expected[project] for _, expected in ends if expected[project].log == log]
        assert same, f"{case}: another alert log of {project}"
        same = [expected for expected in same if set(expected.messages) == set(messages)]
        assert same, f"{case}: other messages of {project}"
        again += len(messages) - len(same[0].messages)
    # Killed between a delivery and its note, one message is sent once more.
    assert again <= 1, case
