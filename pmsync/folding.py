"""Folds a batch of the log: for the owner of a partition, a rebuild and a move alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from pmsync.bus.letters import Letter, fold_letter
from pmsync.bus.port import EVENTS, Bus, BusUnavailable, Delivered, partition_of
from pmsync.core.claims import Claim, receive
from pmsync.core.cloudevents import Undecodable
from pmsync.core.project import Key, Row, fold

BATCH = 2000
"""Records that are read at once; those of one partition are folded in one transaction."""


class Folding(Protocol):
    """One transaction on rows and on the offset up to which the log is folded into them."""

    next_offset: int

    def save(self, folded: Mapping[Key, Row], next_offset: int) -> None:
        """Fold the rows of a batch into those that stand, of which each is kept that is as great, and move the offset
        past the batch."""


class Received(NamedTuple):
    """What the events of a batch claim, by offset, dead letters for what is no event, and each project's newest trace."""

    claims: list[tuple[int, Claim]]
    letters: list[Letter]
    traces: dict[str, str]


def read_batch(batch: Sequence[Delivered], partitions: int) -> Received:
    """Read a batch of a log of so many partitions. An event in another partition than its project's is a dead letter."""
    found = Received([], [], {})
    for record in batch:
        try:
            claim, trace = receive(record.value, record.headers)
        except Undecodable as error:
            found.letters.append(fold_letter(record, record.key, str(error), error.traceparent))
            continue
        if (home := partition_of(claim.project, partitions)) != record.partition:
            why = (
                f"an event of {claim.project} belongs in partition {home}, not in {record.partition}, whose owner is "
                "another one: write it there, or replay this letter"
            )
            # Replayed, it gets the right key.
            found.letters.append(fold_letter(record, claim.project, why, trace))
            continue
        found.claims.append((record.offset, claim))
        if trace:
            found.traces[claim.project] = trace
    return found


def fold_into(folding: Folding, claims: Sequence[tuple[int, Claim]], end: int) -> int:
    """Fold what those events of a batch that ends before `end` claim that are not folded yet; returns where to read on."""
    next_offset = max(folding.next_offset, end)
    folding.save(fold(claim for offset, claim in claims if offset >= folding.next_offset), next_offset)
    return next_offset


def replay(
    bus: Bus,
    partition: int,
    offset: int,
    end: int,
    begin: Callable[[], AbstractContextManager[Folding]],
    bury: Callable[[Sequence[Letter]], None],
) -> Iterator[tuple[int, int]]:
    """Fold a partition from `offset` up to `end` anew, a transaction of `begin` for each batch. After each of them:
    where it stands, and how many records of the batch could not be decoded."""
    while offset < end:
        batch = bus.read(EVENTS, partition, offset, min(BATCH, end - offset))
        if not batch:
            raise BusUnavailable(f"the log ends at {offset} in partition {partition}, where {end} was to be reached")
        claims, letters, _ = read_batch(batch, bus.partitions)
        bury(letters)
        with begin() as folding:
            if folding.next_offset >= offset:
                offset = fold_into(folding, claims, batch[-1].offset + 1)
            else:  # a database that went back, as a standby or a backup in its place may have, goes on from there
                offset = folding.next_offset
        yield offset, len(letters)
