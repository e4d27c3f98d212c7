"""One run of one engine over a topic: `python -m bench.contestants NAME ADDRESS PREFIX COUNT FOLDER` prints JSON.

Each reads the same events by the same decoder and folds them by the same fold (`pmsync.core`), and keeps rows and offsets
durably. The clock runs from the first record that is decoded to the commit of the last one; `pmsync` runs as it does in
production, assessment and all. `quix` and `bytewax` need the extra `bench`.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from bench.memory import peak_mb
from pmsync.core.claims import Claim, read
from pmsync.core.project import Key, Row, fold

PARTITIONS = 8
EVENTS = "pmsync.events"
BATCH = 2000
MIB = 1 << 20
TIME_LIMIT = 1800.0


class Work(NamedTuple):
    """What is to be folded, and where state may be kept."""

    address: str
    prefix: str
    count: int
    folder: Path
    store: str = ""

    @property
    def topic(self) -> str:
        return self.prefix + EVENTS


class Clock:
    """Wall and CPU from the first record to the last commit."""

    def __init__(self) -> None:
        self.first: tuple[float, float] | None = None
        self.last = 0.0, 0.0

    def begin(self) -> None:
        self.first = self.first or (time.perf_counter(), time.process_time())

    def end(self) -> None:
        self.last = time.perf_counter(), time.process_time()

    def figures(self, count: int) -> dict[str, float]:
        assert self.first
        return {
            "count": count,
            "seconds": self.last[0] - self.first[0],
            "cpu": self.last[1] - self.first[1],
            "peak_mb": peak_mb(),
        }


def pmsync(work: Work, clock: Clock) -> int:
    """The aggregator as it runs in production, in a group, ticks and all."""
    from pmsync.app import App
    from pmsync.config import Config
    from pmsync.logs import configure
    from pmsync.service import settle

    configure(sys.stderr, verbose=False)
    bus = {
        "kind": "kafka",
        "bootstrap_servers": work.address,
        "prefix": work.prefix,
        "member": os.environ.get("PMSYNC_BENCH_MEMBER", "bench"),
        "replication": 1,
    }
    store = {"url": work.store or f"sqlite:///{work.folder / 'pmsync.db'}"}
    config = Config.model_validate({"bus": bus, "store": store})

    def step(name: str) -> None:
        if name == "read":
            clock.begin()
        elif name == "committed":
            clock.end()

    with closing(App(config, lambda: datetime.now(UTC), step=step, write=lambda _: None)) as app:
        workers = app.aggregator_workers()
        settle()
        with app.running(workers) as stopped:
            deadline = time.monotonic() + TIME_LIMIT
            while sum(app.state.offsets().values()) < work.count:
                assert time.monotonic() < deadline, "it takes too long"
                assert not stopped.wait(0.25), "an aggregator died"  # to look takes time from what is measured
        return sum(app.state.offsets().values())


def loop(work: Work, clock: Clock) -> int:
    """What one would write by hand: poll, decode, fold, upsert and offsets in one transaction."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(
        bootstrap_servers=work.address, enable_auto_commit=False, auto_offset_reset="earliest",
        fetch_max_bytes=8 * MIB, max_partition_fetch_bytes=4 * MIB,
    )  # fmt: skip
    consumer.assign([TopicPartition(work.topic, n) for n in range(PARTITIONS)])
    with _database(work.folder / "loop.db") as db:
        done = 0
        while done < work.count:
            found = consumer.poll(timeout_ms=1000, max_records=BATCH)
            clock.begin()
            with db:
                db.execute("BEGIN IMMEDIATE")
                for place, records in found.items():
                    rows = fold(read(record.value) for record in records)
                    db.executemany(_UPSERT, [(*key, *row) for key, row in rows.items()])
                    db.execute(
                        "INSERT OR REPLACE INTO offsets VALUES (?, ?)", (place.partition, records[-1].offset + 1)
                    )
                    done += len(records)
        clock.end()
    consumer.close()
    return done


_UPSERT = """
INSERT INTO state VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (project, source, kind, id, at) DO UPDATE
SET version = excluded.version, gone = excluded.gone, body = excluded.body WHERE excluded.version > state.version
"""


@contextmanager
def _database(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute(
            "CREATE TABLE state (project TEXT, source TEXT, kind TEXT, id TEXT, at INTEGER, version INTEGER, gone INTEGER,"
            " body TEXT, PRIMARY KEY (project, source, kind, id, at))"
        )
        db.execute("CREATE TABLE offsets (partition INTEGER PRIMARY KEY, next_offset INTEGER)")
        yield db


def quix(work: Work, clock: Clock) -> int:
    """Quix Streams, exactly once, a commit each second; state is kept per project in its store."""
    from quixstreams import Application

    app = Application(
        broker_address=work.address, consumer_group=f"quix-{work.folder.name}", processing_guarantee="exactly-once",
        commit_interval=1.0, auto_offset_reset="earliest", state_dir=work.folder / "quix", loglevel="ERROR",
    )  # fmt: skip
    topic = app.topic(work.topic, key_deserializer="str", value_deserializer="bytes")
    done = 0

    def step(value: bytes, state: Any) -> None:
        nonlocal done
        clock.begin()
        for key, row in fold([read(value)]).items():
            name = "\0".join(map(str, key[1:]))
            known = state.get(name)
            if known is None or row > tuple(known):
                state.set(name, list(row))
        done += 1

    app.dataframe(topic).update(step, stateful=True)
    app.run(count=work.count, timeout=TIME_LIMIT)
    clock.end()
    return done


def bytewax(work: Work, clock: Clock) -> int:
    """Bytewax with recovery, an epoch each 10 s (its default); state is kept per project."""
    import bytewax.operators as op
    from bytewax.connectors.kafka import KafkaSource
    from bytewax.dataflow import Dataflow
    from bytewax.outputs import DynamicSink, StatelessSinkPartition
    from bytewax.recovery import RecoveryConfig, init_db_dir
    from bytewax.testing import cluster_main

    done = 0

    class Count(StatelessSinkPartition):  # type: ignore[misc]
        def write_batch(self, items: list[Any]) -> None:
            nonlocal done
            done += len(items)

    class Sink(DynamicSink):  # type: ignore[misc]
        def build(self, *_: Any) -> Count:
            return Count()

    def claim(message: Any) -> tuple[str, Claim]:
        clock.begin()
        found = read(message.value)
        return found.project, found

    def step(state: dict[Key, Row] | None, found: Claim) -> tuple[dict[Key, Row], int]:
        state = {} if state is None else state
        for key, row in fold([found]).items():
            known = state.get(key)
            if known is None or row > known:
                state[key] = row
        return state, 1

    folder = work.folder / "bytewax"
    folder.mkdir()
    init_db_dir(folder, 1)
    flow = Dataflow("bench")
    source = KafkaSource([work.address], [work.topic], tail=False, batch_size=BATCH)
    claims = op.map("read", op.input("kafka", flow, source), claim)
    op.output("count", op.stateful_map("fold", claims, step), Sink())
    cluster_main(flow, [], 0, epoch_interval=timedelta(seconds=10), recovery_config=RecoveryConfig(str(folder)))
    clock.end()
    return done


CONTESTANTS: dict[str, Callable[[Work, Clock], int]] = {
    "pmsync": pmsync,
    "loop": loop,
    "quix": quix,
    "bytewax": bytewax,
}
PEERS = ("quix", "bytewax")


def main(name: str, *words: str) -> None:
    address, prefix, count, folder, *store = words
    work, clock = Work(address, prefix, int(count), Path(folder), *store), Clock()
    done = CONTESTANTS[name](work, clock)
    assert done >= work.count, f"{done} of {work.count} events were folded"
    print(json.dumps(clock.figures(done)))


if __name__ == "__main__":
    main(*sys.argv[1:])
