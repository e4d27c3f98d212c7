"""What other programs are told on a real Kafka, as the example in the documents hears it; and after kills."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition

from pmsync.app import App
from pmsync.bus.port import ALERTS, METRICS
from pmsync.buses import layout
from pmsync.config import KafkaBusConfig
from pmsync.core.exports import sight
from pmsync.core.outputs import metrics
from pmsync.core.project import load
from pmsync.core.summary import all_alerts
from pmsync.standins.portfolio import TOKENS
from tests.acceptance.installation import installed, run_once
from tests.acceptance.reading import Homes, runner
from tests.acceptance.small_world import CHAPTERS, SmallWorld

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "consumer_example.py"
SECONDS = 60.0
KILLS = ("delivered:1", "delivered:2", "claimed:2", "delivered:3", "delivered:1")


@pytest.fixture
def bus(broker: str, prefix: str) -> dict[str, Any]:
    """A log on Kafka of this test's own, as `pmsync.yaml` says it; outputs are on unless said otherwise."""
    values = {"kind": "kafka", "bootstrap_servers": broker, "replication": 1, "prefix": prefix}
    (topics,) = layout(KafkaBusConfig.model_validate(values))
    topics.mend(topics.differences())
    return values


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> SmallWorld:
    for name, token in TOKENS.items():
        monkeypatch.setenv(name, token)
    return SmallWorld()


class Listener:
    """The example as a process of its own, and the lines that it has printed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.lines: list[str] = []
        self._more = threading.Condition()
        self._process = process
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            with self._more:
                self.lines.append(line.rstrip("\n"))
                self._more.notify_all()

    def heard(self, wanted: set[str]) -> None:
        """Wait until all of these lines have been printed."""
        with self._more:
            came = self._more.wait_for(lambda: wanted <= set(self.lines), SECONDS)
        assert came, f"not heard: {sorted(wanted - set(self.lines))}; heard: {self.lines}"


@contextmanager
def listening(broker: str, prefix: str) -> Iterator[Listener]:
    command = [sys.executable, str(EXAMPLE), broker, prefix]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Listener(process)
        finally:
            process.kill()


def lines_of(app: App, now: datetime) -> set[str]:
    """What the example should print of an installation, at last."""
    found = set()
    for project in app.state.projects():
        state = load(app.state.rows(project, kept=False))
        assert state
        said = metrics(sight(state, now), all_alerts(state, now))
        chances = {each.title: each.on_time for each in said.deadlines}
        found.add(f"{project}: {said.done} of {said.scope} done, on time: {chances}")
        found |= {f"{project} {line.fingerprint} {line.n} {line.state}" for line in app.state.alert_log(project)}
    return found


def test_the_example_hears_everything_once(
    tmp_path: Path, world: SmallWorld, bus: dict[str, Any], broker: str, prefix: str
) -> None:
    with world.served() as served, listening(broker, prefix) as listener:
        values = {**served, "bus": bus}
        for world.time in CHAPTERS:
            run_once(tmp_path / "home", values, world.time)
        with installed(tmp_path / "home", values, lambda: world.time) as app:
            listener.heard(lines_of(app, world.time))
            assert app.outbox.counts().keys() <= {"sent"}
        without = {**values, "projects": [each for each in served["projects"] if each["key"] != "beacon"]}
        run_once(tmp_path / "home", without, world.time)
        listener.heard({"beacon is gone"})
    alerts = [line for line in listener.lines if re.fullmatch(r"\w+ [0-9a-f]{16} \d+ \w+", line)]
    assert len(alerts) == len(set(alerts)) > 10


def test_the_example_is_as_long_as_an_example_may_be() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 42
    assert "pmsync." not in re.sub(r'"[^"]*"', "", EXAMPLE.read_text().split('"""', 2)[2]), "no code of pmsync's"


def documents(broker: str, topic: str) -> list[dict[str, Any]]:
    """All documents of a topic, as they lie there."""
    found: list[dict[str, Any]] = []
    with closing(
        KafkaConsumer(bootstrap_servers=broker, auto_offset_reset="earliest", enable_auto_commit=False)
    ) as reader:
        places = [TopicPartition(topic, n) for n in range(8)]
        reader.assign(places)
        ends = reader.end_offsets(places)
        while any(reader.position(place) < ends[place] for place in places):
            for records in reader.poll(timeout_ms=1000).values():
                found += [json.loads(record.value) for record in records]
    return found


def test_killed_around_a_publication(
    tmp_path: Path, world: SmallWorld, bus: dict[str, Any], broker: str, prefix: str
) -> None:
    """A kill between the log's acknowledgement and its note costs at most one repeat of what was on its way, under the
    same id; nothing is lost."""
    home = tmp_path / "home"
    with world.served() as served, runner(world, {**served, "bus": bus}, Homes()) as run:
        kills = 0
        for crash, now in [*((crash, CHAPTERS[0]) for crash in KILLS), ("", CHAPTERS[1])]:
            ended = run(home, now, crash)
            assert ended in ({0, -9} if crash else {0})
            kills += ended == -9
        values = {**served, "bus": bus}
        assert kills >= 3
        with installed(home, values, lambda: world.time) as app:
            log = {
                (project, line.fingerprint, line.n)
                for project in app.state.projects()
                for line in app.state.alert_log(project)
            }
            assert app.outbox.counts().keys() <= {"sent"}
            state = load(app.state.rows("apollo", kept=False))
            assert state
            expected = metrics(sight(state, world.time), all_alerts(state, world.time))
    told = documents(broker, prefix + ALERTS)
    said = [(each["data"]["project"], each["data"]["fingerprint"], each["data"]["n"]) for each in told]
    assert set(said) == log, "each transition is told"
    assert len({each["id"] for each in told}) == len(log), "a repeat has the same id"
    assert max(Counter(each["id"] for each in told).values()) <= 1 + kills
    *_, newest = (each["data"] for each in documents(broker, prefix + METRICS) if each["partitionkey"] == "apollo")
    assert newest == {**json.loads(expected.model_dump_json()), "assessed_at": newest["assessed_at"]}
