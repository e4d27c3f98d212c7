"""L5, parity: whatever the log, whatever the store, however many aggregators share the work, the exports are equal, byte for
byte. Aggregators are processes, as operations start them; the last to come finds the others at it.

`make soak` does it with 100,000 events (`MATRIX_EVENTS`), `make test` with fewer.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import select

from bench.events import NOW
from bench.stream import records
from pmsync.app import App
from pmsync.bus.port import EVENTS
from pmsync.buses import layout, open_bus
from pmsync.config import BusConfig, load
from pmsync.store.tables import state
from tests.acceptance.installation import difference, exports
from tests.postgres import Server

pytestmark = pytest.mark.acceptance

SOAK = int(os.environ.get("MATRIX_EVENTS", "100000"))
SECONDS = 900.0
SHARED_SECONDS = 120.0
"""How long it may take until each of them has its share."""
WORKERS = (1, 2, 4)
STORES = ("sqlite", "postgresql")


class Cell:
    """One installation: its configuration in a folder, read by so many aggregators."""

    def __init__(self, folder: Path, values: Mapping[str, Any]) -> None:
        self._folder, self._values = folder, values
        self.config = self._written("pmsync", {})

    def _written(self, name: str, bus: Mapping[str, Any]) -> Path:
        path = self._folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**self._values, "bus": {**self._values["bus"], **bus}}))
        return path

    def fold(self, workers: int, goal: int) -> None:
        """Have everything folded by so many processes, each of which has to take part."""
        with closing(self.open()) as app, ExitStack() as stack:
            for n in range(workers):
                member = (
                    {"member": f"aggregator-{n}", "session_seconds": 6}
                    if self._values["bus"]["kind"] == "kafka"
                    else {}
                )
                stack.enter_context(_process(self._written(f"aggregator-{n}", member)))
            self._until(lambda: len(set(self._owners(app))) == workers, SHARED_SECONDS, f"{workers} share the work")
            self._until(lambda: sum(app.state.offsets().values()) >= goal, SECONDS, "everything is folded")

    def _owners(self, app: App) -> list[str]:
        with app.store.read() as db:
            return [str(owner) for (owner,) in db.exec_driver_sql("SELECT owner FROM partitions ORDER BY partition")]

    def _until(self, holds: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"it never came to that: {what}\n{self._said()}"
            time.sleep(0.05)

    def _said(self) -> str:
        """What the aggregators said last, and who owns what."""
        with closing(self.open()) as app:
            owners = self._owners(app)
        logs = sorted(self._folder.glob("*.log"))
        return "\n".join([str(owners), *(f"--- {path.name}\n{path.read_text()[-3000:]}" for path in logs)])

    def open(self) -> App:
        return App(load(self.config), lambda: NOW, write=lambda _: None)

    def look(self) -> tuple[str, dict[str, str]]:
        """A digest of all rows, and the exports."""
        with closing(self.open()) as app:
            with app.store.read() as db:
                rows = sorted(tuple(row) for row in db.execute(select(state)))
            return hashlib.sha256(repr(rows).encode()).hexdigest(), exports(app, NOW)


@contextmanager
def _process(config: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "pmsync", "-c", str(config), "aggregator"]
    with config.with_suffix(".log").open("w") as said, subprocess.Popen(command, stderr=said) as process:
        try:
            yield
        finally:
            process.terminate()
            assert process.wait(timeout=25) == 0


def _fill(values: Mapping[str, Any], count: int) -> None:
    from pydantic import TypeAdapter

    config: BusConfig = TypeAdapter(BusConfig).validate_python(values)
    for topics in layout(config):
        topics.mend(topics.differences())
    source = records(count)
    with closing(open_bus(config)) as bus:
        while batch := list(islice(source, 1000)):
            bus.publish(EVENTS, batch)


@pytest.mark.parametrize("count", [4000, pytest.param(SOAK, marks=pytest.mark.soak)])
def test_every_way_gives_the_same_exports(
    tmp_path: Path, broker: str, prefix: str, postgres_server: Server, migrated: str, count: int
) -> None:
    logs = (
        {"kind": "embedded", "path": str(tmp_path / "log.db")},
        {"kind": "kafka", "bootstrap_servers": broker, "replication": 1, "prefix": prefix},
    )
    known: dict[str, tuple[str, dict[str, str]]] = {}
    for bus in logs:
        _fill(bus, count)
        for kind in STORES:
            for workers in WORKERS:
                case = f"{bus['kind']}-{kind}-{workers}"
                known[case] = _cell(
                    tmp_path / case, bus, (postgres_server, migrated) if kind != "sqlite" else None, workers, count
                )
    (first, expected), *others = known.items()
    assert expected[1]["work_items"]
    assert expected[1]["alerts"]
    for case, found in others:
        assert difference(expected[1], found[1]) == "", f"{first} and {case}"
        assert found == expected, f"{first} and {case}"


def _cell(
    folder: Path, bus: Mapping[str, Any], database: tuple[Server, str] | None, workers: int, count: int
) -> tuple[str, dict[str, str]]:
    folder.mkdir()
    name = database[0].create(database[1]) if database else ""
    url = database[0].url(name) if database else f"sqlite:///{folder / 'pmsync.db'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PMSYNC_STORE__URL", url)  # where a password may stand in it
        cell = Cell(folder, {"bus": bus})
        cell.fold(workers, count)
        found = cell.look()
    if database:
        database[0].drop(name)
    return found
