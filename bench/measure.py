"""One measurement, in a process of its own: `python -m bench.measure NAME LOG STORE` prints it as JSON.

`read` is what no aggregator can do without: it reads the log, decodes each record and commits the offset, a batch at a
time. `fold` is `Aggregator.catch_up`, and leaves the store that `tick` assesses, first all of it and then a hundredth.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from bench.events import NOW, update, write
from bench.memory import peak_mb
from pmsync.aggregator import Aggregator
from pmsync.bus.embedded import EmbeddedBus
from pmsync.bus.port import EVENTS, partition_of
from pmsync.core.claims import claimed
from pmsync.core.claims import read as read_claim
from pmsync.core.project import fold
from pmsync.folding import BATCH
from pmsync.logs import configure
from pmsync.store.engine import Store
from pmsync.store.state import StateStore

Figures = dict[str, float]
OWNER = "bench"


def main(name: str, log: Path, store: Path) -> None:
    configure(sys.stderr, verbose=False)
    figures = MEASUREMENTS[name](log, store)
    figures["peak_mb"] = peak_mb()
    print(json.dumps(figures))


def write_log(log: Path, _: Path) -> Figures:
    count = int(log.stem)
    write(log, count)
    with closing(EmbeddedBus(log)) as bus:
        sizes = [len(record.value) for n in range(bus.partitions) for record in bus.read(EVENTS, n, 0, count)]
    return {"events": len(sizes), "bytes_per_event": sum(sizes) / len(sizes)}


def read(log: Path, store: Path) -> Figures:
    """The plain loop, as durable as the aggregator."""
    with closing(EmbeddedBus(log)) as bus, closing(sqlite3.connect(store, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("CREATE TABLE offsets (partition INTEGER PRIMARY KEY, next_offset INTEGER)")
        return _timed(lambda: sum(_read_partition(bus, db, partition) for partition in range(bus.partitions)))


def _read_partition(bus: EmbeddedBus, db: sqlite3.Connection, partition: int) -> int:
    offset = 0
    while batch := bus.read(EVENTS, partition, offset, BATCH):
        for record in batch:
            read_claim(record.value)
        offset = batch[-1].offset + 1
        db.execute("INSERT OR REPLACE INTO offsets VALUES (?, ?)", (partition, offset))
    return offset


def catch_up(log: Path, store: Path) -> Figures:
    """From the log to committed state."""
    opened = Store(f"sqlite:///{store}")
    opened.migrate()
    with closing(EmbeddedBus(log)) as bus, closing(opened):
        aggregator = Aggregator(bus, StateStore(opened), OWNER)
        aggregator.take(range(bus.partitions))
        return _timed(aggregator.catch_up)


def tick(log: Path, store: Path) -> Figures:
    """A tick that finds every project changed, then one that finds a hundredth of them changed, a minute later."""
    with closing(EmbeddedBus(log)) as bus, closing(Store(f"sqlite:///{store}")) as opened:
        state = StateStore(opened)
        aggregator = Aggregator(bus, state, OWNER)
        aggregator.take(range(bus.partitions))
        first = _timed(lambda: aggregator.tick(NOW))
        changed = range(max(1, len(state.projects()) // 100))
        for project in changed:
            _change(state, project, bus.partitions)
        aggregator.take(range(bus.partitions))
        later = _timed(lambda: aggregator.tick(NOW + timedelta(minutes=1)))
        return {
            "projects": len(state.projects()),
            "changed": len(changed),
            **{f"first_{name}": value for name, value in first.items()},
            **{f"later_{name}": value for name, value in later.items()},
        }


def _change(state: StateStore, project: int, partitions: int) -> None:
    """Fold one more reading of an item, without a record in the log, which every round shares."""
    event = update(project, 0)
    partition = partition_of(event.project, partitions)
    with state.owned(partition, state.take(partition, OWNER)) as owned:
        owned.save(fold([claimed(event)]), owned.next_offset)


def _timed(work: Callable[[], int]) -> Figures:
    wall, cpu = time.perf_counter(), time.process_time()
    count = work()
    return {"count": count, "seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


MEASUREMENTS: Mapping[str, Callable[[Path, Path], Figures]] = {
    "write": write_log,
    "read": read,
    "fold": catch_up,
    "tick": tick,
}

if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
