"""Kill it anywhere, start it again: the exports, the alert log and the messages are those of an unbroken run (L3, L4)."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pmsync.app import App
from pmsync.standins.portfolio import TOKENS
from pmsync.store.state import LogEntry
from tests.acceptance.installation import configure, difference, exports
from tests.acceptance.small_world import CHAPTERS, SmallWorld
from tests.postgres import Server

KILLS = int(os.environ.get("KILLS", "220"))
"""On SQLite; on PostgreSQL, where each costs a database of its own, 40 by default."""
POSTGRES_KILLS = int(os.environ.get("KILLS", "40"))
STEPS = 75
"""Somewhat more than a run of the small world has steps; a kill beyond its end does not count."""
ROOT = Path(__file__).parents[2]

Job = Callable[[Path, datetime, str], int]


class Homes:
    """Where installations live: a folder each, with the store in it."""

    def values(self, folder: Path, values: dict[str, Any]) -> dict[str, Any]:
        """The configuration of the installation in this folder."""
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

    def values(self, folder: Path, values: dict[str, Any]) -> dict[str, Any]:
        return {**values, "store": {"url": self.url(folder)}}

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


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def homes(request: pytest.FixtureRequest) -> Iterator[Homes]:
    if request.param == "sqlite":
        yield Homes()
        return
    found = PostgresHomes(request.getfixturevalue("postgres_server"), request.getfixturevalue("migrated"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def world() -> SmallWorld:
    return SmallWorld()


@pytest.fixture(scope="module")
def values(world: SmallWorld) -> Iterator[dict[str, Any]]:
    with world.served() as found:
        yield found


@pytest.fixture(scope="module")
def run(world: SmallWorld, values: dict[str, Any], homes: Homes) -> Iterator[Job]:
    """Runs pmsync once in a folder, in a process of its own, killed at a step if one is given; returns how it ended."""
    command = [sys.executable, "-m", "tests.acceptance.forker"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as forker:
        assert forker.stdin
        assert forker.stdout

        def job(folder: Path, now: datetime, crash: str) -> int:
            assert forker.stdin
            assert forker.stdout
            world.time = now
            folder.mkdir(exist_ok=True)
            order = {
                "folder": str(folder), "values": homes.values(folder, values), "now": now.isoformat(), "crash": crash,
                "environment": TOKENS, "messages": str(folder / "messages"),
            }  # fmt: skip
            forker.stdin.write(json.dumps(order) + "\n")
            forker.stdin.flush()
            return int(forker.stdout.readline())

        yield job
        forker.stdin.close()


class Unbroken:
    """What the world looks like when nothing goes wrong, chapter by chapter."""

    def __init__(self, folder: Path, run: Job, values: dict[str, Any], homes: Homes) -> None:
        self.base = folder / "base"
        assert run(self.base, CHAPTERS[0], "") == 0
        self.ends: dict[tuple[datetime, ...], tuple[dict[str, str], dict[str, Told]]] = {}
        for path in ((CHAPTERS[1],), (CHAPTERS[2],), (CHAPTERS[1], CHAPTERS[2])):
            there = folder / "-".join(str(chapter.day) for chapter in path)
            homes.copy(self.base, there)
            for chapter in path:
                assert run(there, chapter, "") == 0
            self.ends[path] = look(there, homes.values(there, values), path[-1])


@pytest.fixture(scope="module")
def unbroken(run: Job, values: dict[str, Any], homes: Homes, tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    return Unbroken(tmp_path_factory.mktemp("unbroken"), run, values, homes)


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
        return exports(app, now), told


@pytest.mark.acceptance
@pytest.mark.parametrize("part", range(4))
def test_killed_anywhere(
    run: Job, values: dict[str, Any], unbroken: Unbroken, homes: Homes, tmp_path: Path, part: int
) -> None:
    """Killed at a random step while it reads the second chapter; in half of the cases the world is in its third when it
    starts again, so that what was under way has changed, moved or gone."""
    dice = random.Random(part)
    wanted = (POSTGRES_KILLS if isinstance(homes, PostgresHomes) else KILLS) // 4
    kills = 0
    for seed in range(part, 40 * wanted, 4):
        if kills >= wanted:
            break
        folder = tmp_path / "killed"
        homes.copy(unbroken.base, folder)
        crash = f"any:{dice.randint(1, STEPS)}"
        ended = run(folder, CHAPTERS[1], crash)
        then = CHAPTERS[1 + seed % 8 // 4]
        if ended == -9:
            kills += 1
            assert run(folder, then, "") == 0, f"seed {part}/{seed}, {crash}"
            _compare(
                look(folder, homes.values(folder, values), then),
                unbroken,
                then,
                f"seed {part}/{seed}, {crash}, then {then}",
            )
        else:
            assert ended == 0
        homes.remove(folder)
    assert kills >= wanted


def _compare(found: tuple[dict[str, str], dict[str, Told]], unbroken: Unbroken, then: datetime, case: str) -> None:
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
