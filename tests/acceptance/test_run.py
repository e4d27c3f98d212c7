"""`pmsync run` as operations start it: a process that reads, shows pages, and ends when it is told to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy.engine import make_url

from pmsync.app import App
from pmsync.config import load
from pmsync.standins.portfolio import TOKENS
from tests.acceptance.small_world import CHAPTERS, SmallWorld
from tests.postgres import Server

SECONDS = 60.0
DRAIN_SECONDS = 25


class Role:
    """`pmsync WORDS` in a process of its own, with what it writes."""

    longest = 3 * SECONDS
    """One that hangs fails the test, and does not hang it."""

    def __init__(self, config: Path, *words: str) -> None:
        command = [sys.executable, "-m", "pmsync", "-c", str(config), *words]
        self.words = words
        self.process = subprocess.Popen(
            command, env={**os.environ, **TOKENS}, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._killer = threading.Timer(self.longest, self.process.kill)
        self._killer.start()

    def says(self, beginning: str) -> str:
        """The first line to standard error that begins so."""
        assert self.process.stderr
        return next(line for line in self.process.stderr if line.startswith(beginning))

    def end(self) -> str:
        """End it as operations do; returns what it wrote to standard output."""
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=DRAIN_SECONDS)
        assert self.process.returncode == 0, self.words
        return out

    def close(self) -> None:
        self._killer.cancel()
        self.process.kill()
        self.process.communicate()


def until(holds: Callable[[], bool], what: str, seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"it never came to that: {what}"
        time.sleep(0.2)


def play(folder: Path, values: dict[str, Any], *aggregators: dict[str, Any]) -> list[str]:
    """Every role in a process of its own, until all that there is was read and told; returns the messages."""
    config = written(folder / "pmsync.yaml", values)
    assert subprocess.run([sys.executable, "-m", "pmsync", "-c", str(config), "apply"], check=False).returncode == 0
    with ExitStack() as stack:

        def start(config: Path, *words: str) -> Role:
            return stack.enter_context(closing(Role(config, *words)))

        web = start(config, "web", "--port", "0")
        url = web.says("pages: ").split()[-1]
        roles = [start(config, "connector", source["name"]) for source in values["sources"]]
        for n, special in enumerate(aggregators):
            roles.append(start(written(folder / f"aggregator-{n}.yaml", {**values, **special}), "aggregator"))
        notifier = start(config, "notifier")
        until(lambda: _all_read(url), "everything is read")
        until(lambda: _sent(config) >= 2, "both projects are told of")
        said = notifier.end()
        for role in [*roles, web]:
            role.end()
    return [line for line in said.splitlines() if line.startswith(("apollo:", "beacon:"))]


def _all_read(url: str) -> bool:
    found = projects(url)
    return len(found) == 2 and all(not project["not_read"] for project in found)


def _sent(config: Path) -> int:
    with closing(App(load(config, {}), lambda: CHAPTERS[2])) as app:
        return app.outbox.counts().get("sent", 0)


def written(path: Path, values: dict[str, Any]) -> Path:
    places = {"bus": {"path": str(path.parent / "log.db")}, "store": {"url": f"sqlite:///{path.parent / 'pmsync.db'}"}}
    path.write_text(yaml.safe_dump({**places, **values, "web": {"port": 0}, "poll": {"every_seconds": 1}}))
    return path


def projects(url: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{url}/api/v1/projects", timeout=10) as answer:
        return list(json.load(answer)["projects"])


@pytest.mark.acceptance
def test_it_reads_shows_and_ends_when_told(tmp_path: Path) -> None:
    world = SmallWorld()
    world.time = CHAPTERS[2]
    with world.served() as values:
        config = written(tmp_path / "pmsync.yaml", values)
        with closing(Role(config, "run")) as role:
            url = role.says("pages: ").split()[-1]
            until(lambda: _all_read(url), "everything is read")
            until(lambda: _sent(config) >= 2, "both projects are told of")
            told = [line for line in role.end().splitlines() if line.startswith(("apollo:", "beacon:"))]
    assert sorted(line.split(":")[0] for line in told) == ["apollo", "beacon"], "one first message for each"


@pytest.mark.acceptance
def test_each_role_in_a_process_of_its_own(tmp_path: Path) -> None:
    world = SmallWorld()
    world.time = CHAPTERS[2]
    with world.served() as values:
        told = play(tmp_path, values, {})
        assert sorted(line.split(":")[0] for line in told) == ["apollo", "beacon"]


@pytest.mark.acceptance
def test_each_role_on_kafka_and_postgresql_with_two_aggregators(
    tmp_path: Path, broker: str, prefix: str, postgres_server: Server, migrated: str
) -> None:
    world = SmallWorld()
    world.time = CHAPTERS[2]
    name = postgres_server.create(migrated)
    bus = {"kind": "kafka", "bootstrap_servers": broker, "replication": 1, "prefix": prefix}
    with world.served() as served:
        values = {**served, "bus": bus, "store": secretly(postgres_server.url(name), tmp_path / "password")}
        config = str(written(tmp_path / "pmsync.yaml", values))
        topics = [sys.executable, "-m", "pmsync", "-c", config, "topics", "apply"]
        assert subprocess.run(topics, check=False).returncode == 0
        members = [{"bus": {**bus, "member": f"aggregator-{n}", "session_seconds": 6}} for n in range(2)]
        told = play(tmp_path, values, *members)
        assert sorted(line.split(":")[0] for line in told) == ["apollo", "beacon"]
    postgres_server.drop(name)


def secretly(url: str, file: Path) -> dict[str, Any]:
    """A store whose password is in a file, as configuration must have it."""
    parsed = make_url(url)
    file.write_text(str(parsed.password or ""))
    return {"url": parsed._replace(password=None).render_as_string(), "password": {"file": str(file)}}
