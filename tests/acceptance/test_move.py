"""An installation outgrows its machine: from the embedded log and SQLite to Kafka and PostgreSQL, by the command line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import select
from sqlalchemy.engine import make_url

from pmsync.app import App, Outcome
from pmsync.bus.letters import closed, open_letters
from pmsync.bus.port import DEAD_LETTERS, EVENTS, Record
from pmsync.config import load
from pmsync.core.events import Acknowledgement, Fact
from pmsync.standins.portfolio import TOKENS
from pmsync.store import tables
from pmsync.store.moves import StoreMoved
from tests.acceptance.installation import difference, exports
from tests.acceptance.small_world import CHAPTERS, SmallWorld
from tests.postgres import Server

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).parents[2]
KILLS = ("filling:1", "left:1", "copied:2", "log-carried:1", "carrying:3", "carried:1", "old:1", "refolded:1")
TOLD = (tables.alert_log, tables.outbox)


class Installation:
    """A configuration file, driven by commands and looked at from within."""

    def __init__(self, folder: Path, values: dict[str, Any]) -> None:
        folder.mkdir(exist_ok=True)
        self.file = folder / "pmsync.yaml"
        self.file.write_text(yaml.safe_dump(values))

    def pmsync(self, *words: str, crash: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pmsync", "-c", str(self.file), *words]
        environment = {**os.environ, **TOKENS, "PMSYNC_CRASH_AT": crash}
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180, check=False
        )

    def app(self, now: datetime) -> closing[App]:
        return closing(App(load(self.file, {}), lambda: now, write=lambda _: None))

    def once(self, now: datetime) -> Outcome:
        with self.app(now) as app:
            found = app.once()
            assert not found.problems
            return found

    def run(self, now: datetime) -> None:
        """The same in a process of its own, which has ended by then; messages stay undelivered."""
        ended = self.pmsync("run", "--once", "--now", now.isoformat())
        # Shortly after a try the mail is not due again; otherwise it is asked for in vain.
        assert ended.returncode == 0 or "messages could not be sent" in ended.stderr, ended.stderr

    def look(self, now: datetime) -> tuple[dict[str, str], list[list[tuple[Any, ...]]]]:
        """The exports, and what was told and is to be told."""
        with self.app(now) as app, app.store.read() as db:
            told = [sorted(map(tuple, db.execute(select(table)))) for table in TOLD]
            return exports(app, now), told


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> SmallWorld:
    for name, token in TOKENS.items():
        monkeypatch.setenv(name, token)
    return SmallWorld()


@pytest.fixture
def values(world: SmallWorld) -> Iterator[dict[str, Any]]:
    """What all installations of a test read and whom they tell: a mail server that is not there keeps messages waiting."""
    with world.served() as served:
        projects = [{**project, "leader": "lead@example.com"} for project in served["projects"]]
        mail = {"host": "127.0.0.1", "port": 1, "sender": "pmsync@example.com", "tls": "none"}
        yield {**served, "projects": projects, "notify": {"mail": mail}}


def embedded(folder: Path) -> dict[str, Any]:
    return {"bus": {"path": str(folder / "log.db")}, "store": {"url": f"sqlite:///{folder / 'pmsync.db'}"}}


def live_a_while(old: Installation, world: SmallWorld) -> None:
    """A first chapter, an alert that somebody takes on, and two dead letters, one of which was discarded."""
    world.time = CHAPTERS[0]
    old.run(CHAPTERS[0])
    with old.app(CHAPTERS[0]) as app:
        fingerprint = app.state.alert_log("apollo")[0].fingerprint
        content = Acknowledgement(fingerprint=fingerprint, by="person-1", note="mine")
        app.publisher.publish([Fact(project="apollo", id="f1", at=CHAPTERS[0], content=content)])
        app.bus.publish(EVENTS, [Record("apollo", b"garbage"), Record("beacon", b"rubbish")])
    old.run(CHAPTERS[0])
    with old.app(CHAPTERS[0]) as app:
        (letter, other) = open_letters(app.bus)
        assert (letter.key, other.key) == ("apollo", "beacon")
        app.bus.publish(DEAD_LETTERS, [closed(letter.key, letter.id, "discarded", "a test")])


def test_from_one_machine_to_kafka_and_postgresql(
    tmp_path: Path,
    world: SmallWorld,
    values: dict[str, Any],
    broker: str,
    prefix: str,
    postgres_server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database = postgres_server.create()
    url = make_url(postgres_server.url(database))
    (tmp_path / "password").write_text(str(url.password))
    store = {"url": url._replace(password=None).render_as_string(), "password": {"file": str(tmp_path / "password")}}
    bus = {"kind": "kafka", "bootstrap_servers": broker, "replication": 1, "prefix": prefix, "partitions": 3}
    old = Installation(tmp_path / "old", {**values, **embedded(tmp_path / "old")})
    new = Installation(tmp_path / "new", {**values, "bus": bus, "store": store})
    live_a_while(old, world)
    shutil.copytree(tmp_path / "old", tmp_path / "stayed")
    stayed = Installation(tmp_path / "stayed", {**values, **embedded(tmp_path / "stayed")})
    before = old.look(CHAPTERS[0])
    assert {row[7] for row in before[1][1]} == {"ready", "sent"}
    assert "acknowledged" in before[0]["alerts"]

    to = ("move", "--to", str(new.file))
    said = old.pmsync(*to)
    assert said.returncode == 1
    assert f"pmsync: the topic {prefix}pmsync.events is not there" in said.stderr
    assert "run `pmsync topics apply` there first" in said.stderr
    assert new.pmsync("topics", "apply").returncode == 0
    said = old.pmsync(*to, "--dry-run")
    assert (said.returncode, said.stderr) == (0, "")
    assert f"outbox: {len(before[1][1])} rows" in said.stdout

    for kill in KILLS:
        ended = old.pmsync(*to, crash=kill)
        assert ended.returncode == -9, (kill, ended)
        if kill != "filling:1":
            with old.app(CHAPTERS[1]) as app, pytest.raises(StoreMoved, match="`pmsync move --undo`"):
                app.apply()
    said = old.pmsync(*to)
    assert said.returncode == 0, said
    assert said.stdout.startswith("already carried to Kafka at ")

    # The same to see, the same told, and nothing new to read or to tell.
    assert new.look(CHAPTERS[0]) == before == old.look(CHAPTERS[0])
    outcome = new.once(CHAPTERS[0])
    assert (outcome.published, outcome.dead, outcome.transitions) == (0, 0, 0)
    assert new.look(CHAPTERS[0])[0] == before[0]
    with new.app(CHAPTERS[0]) as app:
        assert [each.key for each in open_letters(app.bus)] == ["beacon"]

    # What comes next is what would have come had it stayed.
    stayed.once(CHAPTERS[0])
    for chapter in CHAPTERS[1:]:
        world.time = chapter
        new.once(chapter)
        stayed.once(chapter)
        moved, expected = new.look(chapter), stayed.look(chapter)
        assert difference(expected[0], moved[0]) == ""
        assert moved[0] == expected[0]
        assert [_without_times(each) for each in moved[1]] == [_without_times(each) for each in expected[1]]

    # The old one stays as it was, and does nothing.
    assert old.look(CHAPTERS[0]) == before
    for words in (("run", "--once"), ("run",), ("aggregator",), ("notifier",), ("connector", "jira"), ("doctor",)):
        refused = old.pmsync(*words)
        assert refused.returncode == 1, words
        assert "this installation was moved to Kafka at " in refused.stdout + refused.stderr, words
    assert old.pmsync("move", "--undo").returncode == 0
    assert old.pmsync("apply").returncode == 0
    postgres_server.drop(database)


def _without_times(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Of the outbox, without who sent a message last and when it is tried again."""
    return [row if len(row) == len(tables.alert_log.columns) else (*row[:8], *row[11:]) for row in rows]
