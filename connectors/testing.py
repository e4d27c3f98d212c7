"""For tests of connectors, here and elsewhere: a ledger and a bus in memory, and (below) the promises to inherit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from connectors.base import Ref
from connectors.pump import Cursor, DeadLetter, Entry, Fate, LeaseLost, Pending
from pmsync.core.events import Event


@dataclass
class MemoryLedger:
    """A `connectors.pump.Ledger` in memory; `expired` lets the next reader take the lease over. It passes the same
    suite as the one in the store."""

    expired: bool = False
    _leases: dict[str, tuple[str, int]] = field(default_factory=dict)
    _entries: dict[tuple[str, Ref], Entry] = field(default_factory=dict)
    _pending: dict[tuple[str, Ref], Pending] = field(default_factory=dict)
    _cursors: dict[tuple[str, str], Cursor] = field(default_factory=dict)

    def lease(self, source: str, owner: str) -> int:
        holder, epoch = self._leases.get(source, (owner, 1))
        if holder != owner:
            if not self.expired:
                raise LeaseLost(f"{source} is being read by {holder}")
            epoch += 1
        self.expired = False
        self._leases[source] = (owner, epoch)
        return epoch

    def pending(self, source: str) -> Mapping[Ref, Pending]:
        return {ref: pending for (name, ref), pending in self._pending.items() if name == source}

    def entries(self, source: str, refs: Iterable[Ref]) -> Mapping[Ref, Entry]:
        return {ref: self._entries[source, ref] for ref in refs if (source, ref) in self._entries}

    def in_container(self, source: str, container: str) -> Mapping[Ref, Entry]:
        return {
            ref: entry
            for (name, ref), entry in self._entries.items()
            if name == source and entry.container == container and entry.fate is not Fate.gone
        }

    def ever_in(self, source: str, container: str) -> Sequence[Ref]:
        return [
            ref
            for (name, ref), entry in self._entries.items()
            if name == source and container in entry.containers and ref.kind != "synced"
        ]

    def cursors(self, source: str) -> Mapping[str, Cursor]:
        return {container: cursor for (name, container), cursor in self._cursors.items() if name == source}

    def note(self, source: str, epoch: int, pending: Mapping[Ref, Pending]) -> None:
        self._check(source, epoch)
        self._pending.update({(source, ref): note for ref, note in pending.items()})

    def settle(self, source: str, epoch: int, entries: Mapping[Ref, Entry]) -> None:
        self._check(source, epoch)
        for ref, entry in entries.items():
            known = self._entries.get((source, ref))
            if known is None or entry.version >= known.version:
                self._entries[source, ref] = entry
            self._pending.pop((source, ref), None)

    def move_cursor(self, source: str, epoch: int, container: str, cursor: Cursor | None) -> None:
        self._check(source, epoch)
        if cursor is None:
            self._cursors.pop((source, container), None)
        else:
            self._cursors[source, container] = cursor

    def _check(self, source: str, epoch: int) -> None:
        if self._leases[source][1] != epoch:
            raise LeaseLost(f"another reader has taken over {source}")


@dataclass
class MemoryBus:
    """A `connectors.pump.Bus` in memory."""

    events: list[Event] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)

    def publish(self, events: Sequence[Event]) -> None:
        self.events += events

    def bury(self, letters: Sequence[DeadLetter]) -> None:
        self.letters += letters
