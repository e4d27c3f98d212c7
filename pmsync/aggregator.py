"""The aggregator: reads the log, folds it into state, and on a tick assesses what changed.

A batch of a partition is one transaction (rows and the next offset together), and so is a tick (alert log and outbox
together); both begin by checking that the partition is still this worker's. Only a tick assesses.

Next on the way of an event: `pmsync/core/project.py`, whose `fold` turns events into rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from pmsync.bus.letters import DeadLimit, buried, fold_letter
from pmsync.bus.port import DEAD_LETTERS, EVENTS, Bus, BusUnavailable, Delivered, Record
from pmsync.core.alerts import Transition, alerts, transitions
from pmsync.core.events import Event, Project, Undecodable, decode, instant
from pmsync.core.measures.forecast import forecast, pace
from pmsync.core.measures.progress import progress
from pmsync.core.messages import compose
from pmsync.core.project import ProjectState, day_end, fold, keys, load, local_day, shown_containers, view
from pmsync.core.rules import episodes
from pmsync.core.summary import unread
from pmsync.store.state import Letter, LogEntry, PartitionTransaction, StateStore

BATCH = 500
REASSESS = timedelta(hours=1)
"""The longest that a rule which time alone makes true can go unnoticed."""
STOPPED = (
    "They are dead letters, and nothing is lost. If a newer pmsync wrote them, upgrade this one; if something else writes "
    "into the log, end that. Started again, it goes on until it meets as many more"
)
PATIENCE = timedelta(minutes=15)
"""How long a project waits for its containers to be read before it is assessed without those that are missing."""


class Aggregator:
    """Folds and assesses the partitions that it has taken. `step` is called between any two steps (tests end it there).

    `channels` are the ways to people that the notifier has: a message is written to the outbox once for each.
    """

    def __init__(
        self,
        bus: Bus,
        store: StateStore,
        owner: str,
        channels: Sequence[str] = ("console",),
        step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._bus = bus
        self._store = store
        self._owner = owner
        self._channels = channels
        self._step = step
        self._epochs: dict[int, int] = {}
        self._offsets: dict[int, int] = {}
        self._limits: dict[int, DeadLimit] = {}
        self.stopped: dict[int, str] = {}
        """Partitions that stand still until they are taken anew, and why: too much of them cannot be decoded."""

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions that are this worker's, as far as it knows."""
        return frozenset(self._epochs)

    def take(self, partitions: Iterable[int]) -> None:
        """Become the owner of these partitions, besides those that are this worker's already."""
        epochs = {partition: self._store.take(partition, self._owner) for partition in partitions}
        stored = self._store.offsets()
        offsets = {partition: stored[partition] for partition in epochs}
        lost_log(self._bus, offsets)
        self._epochs |= epochs
        self._offsets |= offsets
        for partition in epochs:
            self._limits[partition] = DeadLimit()
            self.stopped.pop(partition, None)
        self._step("taken")

    def drop(self, partition: int) -> None:
        """Leave a partition to others."""
        for known in (self._epochs, self._offsets, self._limits, self.stopped):
            known.pop(partition, None)

    def follow(self) -> tuple[frozenset[int], frozenset[int]]:
        """Take what the bus has assigned to this worker since, and drop what it no longer does; returns both."""
        assigned, mine = self._bus.assigned(), self.partitions
        for partition in mine - assigned:
            self.drop(partition)
        if taken := assigned - mine:
            self.take(sorted(taken))
        return taken, mine - assigned

    def catch_up(self) -> int:
        """Fold everything that is in the log now; returns how many records that were."""
        folded = 0
        for partition in self._epochs:
            end = self._bus.end_offset(EVENTS, partition)
            _refuse_shorter(partition, end, self._offsets[partition])
            while self._offsets[partition] < end and partition not in self.stopped:
                batch = self._bus.read(EVENTS, partition, self._offsets[partition], BATCH)
                if not batch:
                    break  # not to be had just now; the next round goes on here
                self._step("read")
                folded += self._apply(partition, batch)
        if folded:
            self._bus.commit(self._offsets)
        return folded

    def _apply(self, partition: int, batch: Sequence[Delivered]) -> int:
        """Fold one batch of one partition: rows and the next offset in one transaction. Returns how many records that
        were: not all of them if the partition has to stop on the way."""
        events, letters = _decoded(batch)
        read = {offset for offset, _ in events}
        limit, passed, why = self._limits[partition].after([record.offset not in read for record in batch])
        if why:
            batch = batch[:passed]
            events, letters = _decoded(batch)
        if letters:
            self._bus.publish(DEAD_LETTERS, letters)
            self._step("buried")
        with self._store.owned(partition, self._epochs[partition]) as owned:
            if self._believed_too_much(partition, owned):
                return 0
            fresh = [event for offset, event in events if offset >= owned.next_offset]
            known = owned.rows({key for event in fresh for key in keys(event)})
            next_offset = max(owned.next_offset, batch[-1].offset + 1)
            owned.save(fold(known, fresh), next_offset)
            self._step("folded")
        self._offsets[partition] = next_offset
        self._limits[partition] = limit
        if why:
            self.stopped[partition] = f"partition {partition} stands still at offset {next_offset}: {why}. {STOPPED}"
        self._step("committed")
        return len(batch)

    def _believed_too_much(self, partition: int, owned: PartitionTransaction) -> bool:
        """Whether the store stands further back than this worker has folded, as a standby or a backup in its place may;
        then the partition is read again from there. (After a commit of unknown outcome it may stand further on: what is
        read twice is skipped.)"""
        if owned.next_offset >= self._offsets[partition]:
            return False
        self._offsets[partition] = owned.next_offset
        return True

    def tick(self, now: datetime, patience: timedelta = PATIENCE) -> int:
        """Assess every project that changed or whose moment has come; returns how many transitions that gave.

        A partition that has not caught up with the log is left for the next tick: half a batch is no picture. Nor is a
        project of which some containers are still being read for the first time; it is waited for, up to `patience`.
        Each project is a transaction of its own, so that a large one keeps nobody else from the database for long.
        """
        told = 0
        for partition, epoch in self._epochs.items():
            if self._offsets[partition] < self._bus.end_offset(EVENTS, partition):
                continue
            with self._store.owned(partition, epoch) as owned:
                if self._believed_too_much(partition, owned):
                    continue
                at = max(now, owned.ticked_at or now)
                owned.ticked(at)
                due = owned.due(at)
            for project in due:
                with self._store.owned(partition, epoch) as owned:
                    told += self._assess(owned, project, at, patience)
                    self._step("assessed")
        return told

    def _assess(self, owned: PartitionTransaction, project: str, now: datetime, patience: timedelta) -> int:
        state = load(owned.project_rows(project))
        before = owned.shown(project)
        shown = shown_containers(state)[0] if state else set()
        if state is None or _is_waiting(state.project, shown, before or (), now - patience):
            owned.assessed(project, before, now + PATIENCE)
            return 0
        moves = transitions(owned.logged(project), alerts(episodes(state, now), state.facts), now)
        first = before is None
        letters = self._letters(state, moves, now, first=first) if moves or first else []
        owned.log(project, [_line(move) for move in moves], letters, now)
        owned.assessed(project, {f"{source}/{container}" for source, container in shown}, _next_due(state.project, now))
        return len(moves)

    def _letters(self, state: ProjectState, moves: Sequence[Transition], now: datetime, *, first: bool) -> list[Letter]:
        """One message per recipient: everything that a tick has to say of a project."""
        seen = view(state, now)
        shared = pace(seen)
        forecasts = [forecast(seen, deadline, shared) for deadline in seen.deadlines]
        standing, missing = progress(seen.items), unread(state)
        message = compose(state.project, moves, forecasts, standing, first=first, now=now, unread=missing)
        told = [f"{move.fingerprint}/{move.n}" for move in moves] or [f"first/{now.isoformat()}"]
        return [
            Letter(
                id=hashlib.sha256("\0".join([state.project.key, channel, recipient, *told]).encode()).hexdigest()[:32],
                project=state.project.key,
                channel=channel,
                recipient=recipient,
                subject=message.subject,
                text=message.text,
            )
            for channel, recipient in self._recipients(state.project)
        ]

    def _recipients(self, project: Project) -> list[tuple[str, str]]:
        people = sorted({*project.notify, *([project.leader] if project.leader else [])})
        found = [("console", "console")] if "console" in self._channels else []
        return found + [("mail", person) for person in people if "mail" in self._channels]


def check_log(bus: Bus, store: StateStore) -> None:
    """Raise `BusUnavailable` unless the log is the one that the store is built from, as far as it was read."""
    known = store.log_identity()
    if known and known != (found := bus.identity()):
        raise BusUnavailable(
            f"this log ({found[:8]}) is not the one that the store is built from ({known[:8]}): what is published here would "
            "be lost to it. Put bus.path (or the topic) and store.url of one installation together, or begin anew without "
            "either"
        )
    lost_log(bus, store.offsets())


def lost_log(bus: Bus, offsets: Mapping[int, int]) -> None:
    """Raise `BusUnavailable` if the log is not the one that was read, or no longer has what is to be read next."""
    for partition, offset in offsets.items():
        _refuse_shorter(partition, bus.end_offset(EVENTS, partition), offset)
        if (begin := bus.begin_offset(EVENTS, partition)) > offset:
            raise BusUnavailable(
                f"the log begins at {begin} in partition {partition}, but the store has read it only up to {offset}: what "
                "stood between was removed. Keep the topic for ever (`pmsync topics apply`), and put a later copy of the "
                "store back, or begin anew with a new topic (bus.prefix) and an empty store"
            )


def _refuse_shorter(partition: int, end: int, offset: int) -> None:
    """A log that ends before what was read of it: whatever is published next would get offsets that are skipped as
    folded already."""
    if end < offset:
        raise BusUnavailable(
            f"the log ends at {end} in partition {partition}, but the store has read it up to {offset}: the log was "
            "lost or replaced. Put the log and the store of the same day back, or begin anew without either"
        )


def _decoded(batch: Sequence[Delivered]) -> tuple[list[tuple[int, Event]], list[Record]]:
    """The events of a batch with their offsets, and dead letters for what is none."""
    events: list[tuple[int, Event]] = []
    letters: list[Record] = []
    for partition, offset, key, value in batch:
        try:
            events.append((offset, decode(value)))
        except Undecodable as error:
            letters.append(buried(fold_letter(partition, offset, key, str(error), value)))
    return events, letters


def _line(move: Transition) -> LogEntry:
    told: dict[str, Any] = {}
    if move.alert:
        episode = move.alert.episode
        told = {
            "rule": episode.rule,
            "key": episode.key,
            "title": episode.title,
            "severity": episode.severity,
            "summary": episode.summary,
            "evidence": episode.evidence,
        }
    return LogEntry(move.fingerprint, move.n, move.at, move.state.value, move.since, told)


def _is_waiting(project: Project, shown: Collection[tuple[str, str]], before: Collection[str], since: datetime) -> bool:
    """Whether to wait for a container: one mapped after `since` is still being read, and one that was assessed before is
    being read again; without it, its alerts would seem to be resolved. A project of which nothing at all is read is
    waited for as long as it has no dates of its own to speak of."""
    if project.mapping and not shown and not (project.deadline or project.milestones):
        return True
    return any(
        (source, container) not in shown and (f"{source}/{container}" in before or instant(began) > since)
        for source, containers in project.mapping.items()
        for container, began in containers.items()
    )


def _next_due(project: Project, now: datetime) -> datetime:
    """When time alone can change what is wrong: at the latest in an hour, and when the project's day ends."""
    zone = ZoneInfo(project.time_zone)
    return min(now + REASSESS, day_end(local_day(now, zone), zone).astimezone(UTC))
