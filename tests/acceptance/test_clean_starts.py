"""Roles that are started before what they need, and that lose it in the middle: not ready, saying why, and then going on."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import requests

from pmsync.app import App
from pmsync.config import load
from pmsync.core.events import Snapshot
from pmsync.standins.portfolio import TOKENS
from tests import kafka_broker
from tests.acceptance import test_run
from tests.acceptance.installation import exports, run_once
from tests.acceptance.small_world import CHAPTERS, SmallWorld
from tests.acceptance.test_run import DRAIN_SECONDS, SECONDS, Role, projects, secretly, written
from tests.kafka_broker import Broker
from tests.postgres import Server, served
from tests.unit.builders import item

pytestmark = pytest.mark.acceptance

BACKLOG = 20_000
ANSWER_SECONDS = 5.0
"""Far less than what is away is waited for."""


class Watched(Role):
    """A role that serves `/readyz` and `/metrics`."""

    longest = 15 * SECONDS

    def __init__(self, config: Path, *words: str) -> None:
        super().__init__(config, *words)
        self.url = self.says("health: ").split()[-1]

    def why_not(self) -> str:
        """What `/readyz` says while it is 503; empty while it is 200."""
        answer = requests.get(f"{self.url}/readyz", timeout=ANSWER_SECONDS)
        assert requests.get(f"{self.url}/healthz", timeout=ANSWER_SECONDS).text == "ok\n"
        assert (answer.status_code == 200) == (answer.text == "ready\n"), answer.text
        return "" if answer.ok else answer.text

    def figures(self) -> dict[str, float]:
        """What `/metrics` says; never waits for anything."""
        lines = requests.get(f"{self.url}/metrics", timeout=ANSWER_SECONDS).text.splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}

    def tell_to_end(self) -> None:
        """Once: a second SIGTERM would meet a Python that is past its handlers."""
        self.process.terminate()

    def said(self) -> list[dict[str, Any]]:
        """The log of one that was told to end."""
        _, said = self.process.communicate(timeout=DRAIN_SECONDS)
        assert self.process.returncode == 0, said
        return [json.loads(line) for line in said.splitlines() if line.startswith("{")]


@pytest.fixture
def server(needs: Callable[[str], str]) -> Iterator[Server]:
    """A PostgreSQL that this test may stop."""
    with served(needs("postgres")) as server:
        if not server.ours:
            pytest.skip("the PostgreSQL that is here is not ours to stop; Debian's package would be")
        yield server


@pytest.fixture
def late_broker(needs: Callable[[str], str]) -> Iterator[Broker]:
    """A broker that is not started yet."""
    needs("kafka")
    if not kafka_broker.has_jars():
        pytest.skip("the Kafka that is here is not ours to stop; with java and maven there would be one")
    with tempfile.TemporaryDirectory(prefix="pmsync-kafka-") as folder, closing(Broker(Path(folder))) as broker:
        yield broker


def until(holds: Callable[[], bool], what: str) -> None:
    """As long as a broker's patience and the longest wait before another try may take, on a busy machine."""
    test_run.until(holds, what, 3 * SECONDS)


def pmsync(config: Path, *words: str) -> None:
    subprocess.run([sys.executable, "-m", "pmsync", "-c", str(config), *words], check=True, timeout=60)


def ready(*roles: Watched) -> Callable[[], bool]:
    return lambda: not any(role.why_not() for role in roles)


def not_ready(words: str, *roles: Watched) -> Callable[[], bool]:
    return lambda: all(re.search(words, role.why_not()) for role in roles)


def test_each_role_waits_for_what_is_not_there_and_goes_on(
    tmp_path: Path, server: Server, late_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**TOKENS, "PMSYNC_POLL__SWEEP_SECONDS": "1"}.items():
        monkeypatch.setenv(name, value)
    world = SmallWorld()
    database = server.create()
    bus = {"kind": "kafka", "bootstrap_servers": late_broker.address, "replication": 1, "session_seconds": 6}
    with world.served() as sources, ExitStack() as stack:
        store = secretly(server.url(database), tmp_path / "password")
        config = written(tmp_path / "pmsync.yaml", {**sources, "bus": bus, "store": store, "health": {"port": 0}})

        def start(*words: str) -> Watched:
            return stack.enter_context(closing(Watched(config, *words)))

        server.stop()
        readers = [start("connector", source["name"]) for source in sources["sources"]]
        aggregator, notifier, web = start("aggregator"), start("notifier"), start("web", "--port", "0")
        all_roles, on_log = (*readers, aggregator, notifier, web), (*readers, aggregator)

        until(not_ready("is the server running, and store.url right", *all_roles), "they say that the database is away")
        server.start()
        until(ready(notifier, web), "those who need only the database are ready")
        pages = web.says("pages: ").split()[-1]
        until(not_ready("no answer within 15 s", aggregator), "the aggregator says that the broker is away")
        late_broker.start()
        until(not_ready("run `pmsync topics apply`", *on_log), "they say that the topics are missing")
        pmsync(config, "topics", "apply")
        until(ready(*all_roles), "everyone is ready")
        pmsync(config, "apply")
        until(lambda: _all_read(pages), "everything is read")

        late_broker.kill()
        until(not_ready("Kafka at .*: no answer", *on_log), "they say that the broker is gone")
        assert ready(notifier, web)()
        world.time = CHAPTERS[2]  # what changes meanwhile at the sources
        late_broker.start()
        until(ready(*all_roles), "they go on with the broker")

        server.stop()
        until(not_ready("the database .* answered", *all_roles), "they say that the database is gone")
        assert aggregator.figures()["pmsync_ready"] == 0
        assert requests.get(pages, timeout=10).status_code == 503
        assert requests.get(f"{pages}/readyz", timeout=ANSWER_SECONDS).text == web.why_not()
        server.start()
        until(ready(*all_roles), "they go on with the database")
        until(lambda: _caught_up(aggregator, readers), "everything that was published is folded")
        whole = run_once(tmp_path / "whole", sources, CHAPTERS[2])
        until(lambda: _exports(config) == whole, "what is folded is what one unbroken run reads")

        for role in all_roles:
            role.tell_to_end()
        for role in all_roles:
            said = [line for line in role.said() if line["event"] in {"start.waiting", "work.waiting"}]
            again = Counter(line["error"] for line in said if line["event"] == "start.waiting")
            assert said, role.words
            assert set(again.values()) <= {1}, "one line for each reason, not one for each try"


def _exports(config: Path) -> dict[str, str]:
    with closing(App(load(config, {}), lambda: CHAPTERS[2])) as app:
        return exports(app, CHAPTERS[2])


def _all_read(pages: str) -> bool:
    found = projects(pages)
    return len(found) == 2 and all(not project["not_read"] for project in found)


def _caught_up(aggregator: Watched, readers: list[Watched]) -> bool:
    figures = aggregator.figures()
    lags = [value for name, value in figures.items() if name.startswith("pmsync_consumer_lag_records")]
    published = sum(reader.figures()["pmsync_things_published_total"] for reader in readers)
    # The projects themselves are published by `pmsync apply`; what was sent twice over a broken connection is there twice.
    return len(lags) == 8 and sum(lags) == 0 and figures["pmsync_records_folded_total"] >= published + 2 > 2


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"store": {"url": "postgresql+psycopg://pmsync@127.0.0.1:1/pmsync"}}, "is the server running"),
        ({"bus": {"kind": "kafka", "bootstrap_servers": "127.0.0.1:1"}}, "it is starting|no answer within 15 s"),
    ],
    ids=["database", "broker"],
)
def test_to_end_while_it_waits_takes_no_time(tmp_path: Path, values: dict[str, Any], says: str) -> None:
    config = written(tmp_path / "pmsync.yaml", {**values, "health": {"port": 0}})
    with closing(Watched(config, "aggregator")) as role:
        until(not_ready(says, role), "it waits")
        begun = time.monotonic()
        role.tell_to_end()
        role.said()
        assert time.monotonic() - begun < 10, "a broker is waited for 15 s"


def test_to_end_in_the_middle_of_a_backlog_takes_little_time_and_loses_nothing(tmp_path: Path) -> None:
    config = written(tmp_path / "pmsync.yaml", {"health": {"port": 0}})
    with closing(App(load(config, {}), lambda: CHAPTERS[0])) as app:
        for first in range(0, BACKLOG, 5000):
            items = [item(str(n)) for n in range(first, first + 5000)]
            told = [Snapshot(project="apollo", thing=thing, version=1, content=content) for thing, content in items]
            app.publisher.publish(told)
    with closing(Watched(config, "aggregator")) as role:
        until(lambda: role.figures()["pmsync_records_folded_total"] > 0, "it is at it")
        role.tell_to_end()
        events = [line["event"] for line in role.said()]
        assert "drain.cut" not in events
    with closing(App(load(config, {}), lambda: CHAPTERS[0])) as app:
        assert 0 < sum(app.state.offsets().values()) < BACKLOG, "it was in the middle"
        app.aggregator.take(range(8))
        app.aggregator.catch_up()
        assert len(app.state.rows("apollo")) == BACKLOG


def test_what_cannot_be_right_ends_it_at_once(tmp_path: Path) -> None:
    config = written(tmp_path / "pmsync.yaml", {"store": {"url": "mysql://localhost/pmsync"}})
    with closing(Role(config, "web")) as role:
        assert role.process.wait(DRAIN_SECONDS) == 2
        _, said = role.process.communicate()
        assert said.splitlines()[-1].startswith("pmsync: store.url is not usable: mysql is not known")
