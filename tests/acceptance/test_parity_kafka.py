"""The same exports, byte for byte, whatever the log is and however many aggregators share it (L5)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from pmsync.app import App
from pmsync.bus.port import EVENTS
from pmsync.buses import layout
from pmsync.config import KafkaBusConfig
from pmsync.standins.portfolio import TOKENS
from tests.acceptance.installation import configure, difference, exports, installed, run_once
from tests.acceptance.small_world import CHAPTERS, SmallWorld

pytestmark = pytest.mark.acceptance

SECONDS = 60.0


@pytest.fixture
def bus(broker: str, prefix: str) -> dict[str, Any]:
    """A log on Kafka of this test's own, as `pmsync.yaml` says it."""
    values = {"kind": "kafka", "bootstrap_servers": broker, "replication": 1, "prefix": prefix}
    (topics,) = layout(KafkaBusConfig.model_validate(values))
    topics.mend(topics.differences())
    assert topics.differences() == []
    return values


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> SmallWorld:
    for name, token in TOKENS.items():
        monkeypatch.setenv(name, token)
    return SmallWorld()


def test_kafka_says_what_the_embedded_log_says(tmp_path: Path, world: SmallWorld, bus: dict[str, Any]) -> None:
    with world.served() as values:
        for chapter in CHAPTERS:
            world.time = chapter
            embedded = run_once(tmp_path / "embedded", values, chapter)
            kafka = run_once(tmp_path / "kafka", {**values, "bus": bus}, chapter)
            assert difference(embedded, kafka) == ""
            assert embedded == kafka
    assert embedded["work_items"]
    assert embedded["alerts"]


class Workers:
    """Aggregators of one installation, each with its own connections and threads of its own, as processes have."""

    def __init__(self, folder: Path, values: Mapping[str, Any], clock: Callable[[], datetime]) -> None:
        self._folder, self._values, self._clock = folder, values, clock
        self._running: dict[str, tuple[App, ExitStack]] = {}

    def start(self, name: str) -> None:
        bus = {**self._values["bus"], "member": name, "session_seconds": 2}
        app = App(configure(self._folder, {**self._values, "bus": bus}), self._clock, write=lambda _: None)
        stack = ExitStack()
        stack.callback(app.close)
        stack.enter_context(app.running(app.aggregator_workers()))
        self._running[name] = app, stack

    def end(self, name: str) -> None:
        app, stack = self._running.pop(name)
        stack.close()
        assert not app.died

    def close(self) -> None:
        for name in list(self._running):
            self.end(name)

    def share(self) -> dict[str, set[int]]:
        return {name: set(app.aggregator.partitions) for name, (app, _) in self._running.items()}


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"it never came to that: {what}"
        time.sleep(0.05)


def test_aggregators_that_come_and_go_say_what_one_says(
    tmp_path: Path, world: SmallWorld, bus: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read while one, two and again one of them work ends in the exports of one unbroken run."""
    monkeypatch.setattr("pmsync.app.TICK_SECONDS", 0.05)
    everything = set(range(8))
    with world.served() as served:
        values = {**served, "bus": bus}
        clock = lambda: world.time  # noqa: E731
        with (
            installed(tmp_path / "shared", values, clock) as reader,
            closing(Workers(tmp_path / "shared", values, clock)) as workers,
        ):
            steps = (
                (lambda: workers.start("a"), 1),
                (lambda: workers.start("b"), 2),
                (lambda: workers.end("a"), 1),
            )
            for chapter, (step, count) in zip(CHAPTERS, steps, strict=True):
                step()
                _read(reader, world, chapter)
                until(lambda n=count: _is_shared(workers.share(), everything, n), f"{count} share the partitions")
                until(lambda: _is_folded(reader), "what was read is folded")
            shared = exports(reader, CHAPTERS[-1])
        for chapter in CHAPTERS:
            world.time = chapter
            alone = run_once(tmp_path / "alone", served, chapter)
    assert difference(alone, shared) == ""
    assert alone == shared


def _read(app: App, world: SmallWorld, chapter: datetime) -> None:
    world.time = chapter
    app.apply()
    for source in app.sources:
        app.read(source)


def _is_shared(parts: Mapping[str, set[int]], everything: set[int], count: int) -> bool:
    """Whether so many have all partitions among them, and nobody has what another one has."""
    found = list(parts.values())
    return len(found) == count and all(found) and sum(map(len, found)) == 8 and set().union(*found) == everything


def _is_folded(app: App) -> bool:
    offsets = app.state.offsets()
    return all(offsets.get(n, 0) == app.bus.end_offset(EVENTS, n) for n in range(8))
