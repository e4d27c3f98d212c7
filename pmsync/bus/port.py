"""The bus: a durable log in partitions. One port; every adapter passes the same suite (`tests/integration/bus_contract.py`).

A record's key is its project, and pmsync itself computes the partition, so that every adapter places it alike.

Next on the way of an event: `pmsync/aggregator.py`, which reads the log and folds it into state.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

from pmsync.core.cloudevents import Headers

EVENTS = "pmsync.events"
DEAD_LETTERS = "pmsync.dead-letters"
METRICS = "pmsync.metrics"
ALERTS = "pmsync.alerts"

COMPACTED = frozenset({METRICS})
"""Topics of which only the newest record of each key has to stay; an empty one says that there is nothing of it any more."""


class BusUnavailable(Exception):
    """The log cannot be reached or written just now."""


class RecordTooLarge(BusUnavailable):
    """The log takes no record of this size; nothing of the publication is in it."""


class Record(NamedTuple):
    """What is published: a key (the project), bytes, and headers where they differ from the topic's own."""

    key: str
    value: bytes
    headers: Headers = ()


class Delivered(NamedTuple):
    """A record of the log and its place there. Offsets of a partition rise: by one, but for what was removed since from
    a topic that is not kept whole."""

    partition: int
    offset: int
    key: str
    value: bytes
    headers: Headers = ()


class Bus(Protocol):
    """A log of topics; `partitions` is the number of partitions of `pmsync.events` and never changes."""

    partitions: int

    def publish(self, topic: str, records: Sequence[Record]) -> None:
        """Append the records, in order; returns once they are durable. Raises `BusUnavailable`."""

    def read(self, topic: str, partition: int, offset: int, limit: int) -> Sequence[Delivered]:
        """Up to `limit` records, the first of those at `offset` or after it; empty when there are none yet."""

    def poll(self, offsets: Mapping[int, int], limit: int, wait: float) -> Mapping[int, Sequence[Delivered]]:
        """What `pmsync.events` has from these offsets on (partition -> offset): up to `limit` records of some of the
        partitions, each in its turn. If there are none it waits up to `wait` seconds for the first; nothing found does not
        mean that there is nothing. For one thread."""

    def end_offset(self, topic: str, partition: int) -> int:
        """The offset that the next record of a partition will have."""

    def begin_offset(self, topic: str, partition: int) -> int:
        """The offset of the oldest record that a partition still has, or would have."""

    def identity(self) -> str:
        """What tells this log from every other one, also from an older or newer one in its place."""

    def join(self) -> None:
        """Become one of those who share the partitions of `pmsync.events`. Raises `BusUnavailable`."""

    def assigned(self) -> frozenset[int]:
        """The partitions that this process should work on now; to be asked often, since it also says that it is alive.

        Only the store's epoch keeps others out: for a moment two processes may both be told of a partition.
        """

    def joined(self) -> bool:
        """Whether this process is one of those who share the partitions, and they have agreed on who has what."""

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Show to others how far this process has come; the store's offsets are the truth. Never raises."""

    def close(self) -> None: ...


@lru_cache(maxsize=4096)
def partition_of(key: str, partitions: int) -> int:
    """The partition of a project: sha256 of its key, modulo."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) % partitions


def by_partition(records: Iterable[Record], partitions: int) -> dict[int, list[Record]]:
    """The records of each partition, in their order."""
    placed: dict[int, list[Record]] = {}
    for record in records:
        placed.setdefault(partition_of(record.key, partitions), []).append(record)
    return placed
