"""The aggregator: reads the log, folds it into state, and on a tick assesses what changed.

A batch of a partition is one transaction (rows and the next offset together). A tick thinks outside of any, and writes
what came of each project (alert log and outbox together) in one. Each begins by checking that the partition is still this
worker's. Only a tick assesses.

Next on the way of an event: `pmsync/core/project.py`, whose `fold` turns events into rows
(`pmsync/folding.py` brings the two together).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import structlog

from pmsync.bus.letters import DeadLimit, buried
from pmsync.bus.port import DEAD_LETTERS, EVENTS, Bus, BusUnavailable, Delivered
from pmsync.core.alerts import Transition, alerts, transitions
from pmsync.core.events import Project, instant
from pmsync.core.measures.forecast import forecast, pace
from pmsync.core.measures.progress import progress
from pmsync.core.messages import compose
from pmsync.core.project import ProjectState, day_end, load, local_day, shown_containers, view
from pmsync.core.rules import episodes
from pmsync.core.summary import unread
from pmsync.folding import BATCH, fold_into, read_batch
from pmsync.outputs import Outputs
from pmsync.store.state import Letter, LogEntry, StateStore

log = structlog.get_logger()

WAIT_SECONDS = 5.0
"""How long something that is in the log may take to come."""
REASSESS = timedelta(hours=1)
"""The longest that a rule which time alone makes true can go unnoticed."""
STOPPED = (
    "They are dead letters, and nothing is lost. If a newer pmsync wrote them, upgrade this one; if something else writes "
    "into the log, end that. Started again, it goes on until it meets as many more"
)
BACKLOG = timedelta(minutes=1)
"""How long a backlog of any partition is folded before thinking takes time from it."""
PATIENCE = timedelta(minutes=15)
"""How long a project waits for its containers to be read before it is assessed without those that are missing."""


class Batch(NamedTuple):
    """What was folded in one transaction: records, how many of them were dead, the newest version among them (0: none)."""

    records: int
    dead: int
    newest: int


class Aggregator:
    """Folds and assesses the partitions that it has taken. `step` is called between any two steps (tests end it there),
    `folded` after each batch.

    `channels` are the ways to people that the notifier has: a message is written to the outbox once for each. `outputs`
    writes what other programs are told.
    """

    def __init__(
        self,
        bus: Bus,
        store: StateStore,
        owner: str,
        channels: Sequence[str] = ("console",),
        step: Callable[[str], None] = lambda _: None,
        outputs: Outputs | None = None,
        folded: Callable[[Batch], None] = lambda _: None,
    ) -> None:
        self._bus = bus
        self._outputs = outputs or Outputs()
        self._store = store
        self._owner = owner
        self._channels = channels
        self._step = step
        self._folded = folded
        self._epochs: dict[int, int] = {}
        self._offsets: dict[int, int] = {}
        self._limits: dict[int, DeadLimit] = {}
        self._traces: dict[int, dict[str, str]] = {}
        """partition -> project -> the trace of what was folded last of it since it was last assessed."""
        self._goals: dict[int, int] = {}
        """What a partition must have folded before it is assessed."""
        self._leaving: dict[int, int] = {}
        self._behind_since: datetime | None = None
        self._owning = threading.Lock()
        """Held while what is owned changes: one thread folds, another one may assess."""
        self.stopped: dict[int, str] = {}
        """Partitions that stand still until they are taken anew, and why: too much of them cannot be decoded."""

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions that are this worker's, as far as it knows."""
        return frozenset(self._epochs)

    @property
    def following(self) -> dict[int, int]:
        """partition -> the offset of what it folds next, of those that do not stand still."""
        return {partition: offset for partition, offset in self._offsets.items() if partition not in self.stopped}

    @property
    def offsets(self) -> Mapping[int, int]:
        """partition -> the offset of the record that is folded next."""
        return dict(self._offsets)

    def take(self, partitions: Iterable[int]) -> None:
        """Become the owner of these partitions, besides those that are this worker's already."""
        self._step("assigned")
        epochs = {partition: self._store.take(partition, self._owner) for partition in partitions}
        stored = self._store.offsets()
        offsets = {partition: stored[partition] for partition in epochs}
        lost_log(self._bus, offsets)
        with self._owning:
            self._epochs |= epochs
            self._offsets |= offsets
            for partition in epochs:
                self._limits[partition] = DeadLimit()
                self._traces[partition] = {}
                self._goals.pop(partition, None)
                self.stopped.pop(partition, None)
        self._step("taken")

    def leave(self, partition: int, epoch: int) -> None:
        """Drop a partition at the next `follow`, unless it was taken anew since: for another thread than the one that
        folds."""
        self._leaving[partition] = epoch

    def drop(self, partition: int) -> None:
        """Leave a partition to others."""
        with self._owning:
            for known in (self._epochs, self._offsets, self._limits, self._traces, self._goals, self.stopped):
                known.pop(partition, None)

    def follow(self) -> tuple[frozenset[int], frozenset[int]]:
        """Take what the bus has assigned to this worker since, and drop what it no longer does; returns both."""
        while self._leaving:
            partition, epoch = self._leaving.popitem()
            if self._epochs.get(partition) == epoch:
                self.drop(partition)
        assigned, mine = self._bus.assigned(), self.partitions
        for partition in mine - assigned:
            self.drop(partition)
        if taken := assigned - mine:
            self.take(sorted(taken))
        return taken, mine - assigned

    def catch_up(self) -> int:
        """Fold everything that is in the log now; returns how many records that were."""
        folded = 0
        ends = self._ends(self._offsets)
        while any(self._offsets[partition] < end for partition, end in ends.items() if partition not in self.stopped):
            before = dict(self._offsets)
            folded += self.fold(WAIT_SECONDS)
            if self._offsets == before:
                break  # not to be had just now; the next round goes on here
        self._bus.commit(self._offsets)
        return folded

    def fold(self, wait: float) -> int:
        """Fold what the log has next, some batches at the most; returns how many records that were. If it has nothing
        new, it is waited for, `wait` seconds at the most."""
        folded, asked = 0, self.following
        for partition, batch in self._bus.poll(asked, BATCH, wait).items():
            self._step("read")
            folded += self._apply(partition, batch, asked[partition])
        return folded

    def _ends(self, offsets: Mapping[int, int]) -> dict[int, int]:
        """partition -> where the log ends now, which is not before the offset that was folded."""
        ends = {partition: self._bus.end_offset(EVENTS, partition) for partition in offsets}
        for partition, end in ends.items():
            _refuse_shorter(partition, end, offsets[partition])
        return ends

    def _apply(self, partition: int, batch: Sequence[Delivered], asked: int) -> int:
        """Fold one batch of one partition, read from the offset `asked` on: rows and the next offset in one transaction.
        Returns how many records that were: not all of them if the partition has to stop on the way.

        A store that stands further back, as a standby or a backup in its place may, lacks what is before the batch; the
        partition is read again from there. (After a commit of unknown outcome it may stand further on: what is read twice
        is skipped.)
        """
        claims, letters, traces = read_batch(batch, self._bus.partitions)
        known = {offset for offset, _ in claims}
        limit, passed, why = self._limits[partition].after([record.offset not in known for record in batch])
        if why:
            batch = batch[:passed]
            claims, letters, traces = read_batch(batch, self._bus.partitions)
        if letters:
            self._bus.publish(DEAD_LETTERS, [buried(letter) for letter in letters])
            for letter in letters:
                log.warning("record.buried", letter=letter.id, place=letter.subject, traceparent=letter.traceparent)
            self._step("buried")
        with self._store.owned(partition, self._epochs[partition]) as owned:
            if owned.next_offset < asked:
                self._offsets[partition] = owned.next_offset
                return 0
            self._step("begun")
            next_offset = fold_into(owned, claims, batch[-1].offset + 1)
            self._step("folded")
        self._offsets[partition] = next_offset
        with self._owning:
            self._traces.get(partition, {}).update(traces)
        self._limits[partition] = limit
        if why:
            self.stopped[partition] = f"partition {partition} stands still at offset {next_offset}: {why}. {STOPPED}"
        self._step("committed")
        newest = max((claim.version for _, claim in claims), default=0)
        self._folded(Batch(len(batch), len(letters), newest))
        return len(batch)

    @property
    def is_behind(self) -> bool:
        """Whether partitions that the last tick left out, because not all that was in their log was folded, still wait."""
        with self._owning:
            return any(
                self._offsets.get(each, goal) < goal for each, goal in self._goals.items() if each not in self.stopped
            )

    def tick(self, now: datetime, patience: timedelta = PATIENCE) -> int:
        """Assess every project that changed or whose moment has come; returns how many transitions that gave.

        A partition is left for the next tick until what was in the log when this one became due is folded: half a batch
        is no picture. Nor is a project of which some containers are still being read for the first time; it is waited
        for, up to `patience`. May be called by another thread than the one that folds.
        """
        with self._owning:
            epochs, offsets, goals = dict(self._epochs), dict(self._offsets), dict(self._goals)
        self._step("caught up")
        self._bus.commit(offsets)
        new = {partition: offset for partition, offset in offsets.items() if partition not in goals}
        goals |= self._ends(new)
        ripe = [partition for partition, offset in offsets.items() if offset >= goals[partition]]
        behind = set(offsets) - set(ripe) - set(self.stopped)
        self._behind_since = (self._behind_since or now) if behind else None
        if self._behind_since and now - self._behind_since < min(BACKLOG, patience):
            ripe = []
        with self._owning:
            self._goals = {partition: goal for partition, goal in goals.items() if partition not in ripe}
        return sum(self._assess_partition(each, epochs[each], offsets[each], now, patience) for each in ripe)

    def _assess_partition(self, partition: int, epoch: int, offset: int, now: datetime, patience: timedelta) -> int:
        with self._store.owned(partition, epoch) as owned:
            if owned.next_offset < offset:  # a store in its place that stands further back
                self.leave(partition, epoch)
                return 0
            at = max(now, owned.ticked_at or now)
            owned.ticked(at)
            due = owned.due(at)
        return sum(self._assess(partition, epoch, project, at, patience) for project in due)

    def _assess(self, partition: int, epoch: int, project: str, now: datetime, patience: timedelta) -> int:
        """Look at a project, think without keeping anybody from the database, and write down what came of it. What is
        folded meanwhile makes the project due again."""
        look = self._store.look(project)
        state = load(look.rows)
        shown = shown_containers(state)[0] if state else set()
        if state is None or _is_waiting(state.project, shown, look.shown or (), now - patience):
            gone = self._outputs.removed(project, now, look.metrics) if state is None else None
            with self._store.owned(partition, epoch) as owned:
                if gone:
                    owned.tell(*gone, now)
                owned.assessed(project, look.shown, now + PATIENCE, look.changed)
            return 0
        found = alerts(episodes(state, now), state.facts)
        moves = transitions(look.logged, found, now)
        with self._owning:
            trace = self._traces.get(partition, {}).pop(project, None)
        first = look.shown is None
        letters = self._letters(state, moves, now, first=first) if moves or first else []
        letters += self._outputs.letters(project, moves)
        measured = self._outputs.measured(state, found, now, look.metrics)
        covered = {f"{source}/{container}" for source, container in shown}
        self._step("compared")
        with self._store.owned(partition, epoch) as owned:
            owned.log(project, [_line(move) for move in moves], letters, now)
            if measured:
                owned.tell(*measured, now)
            owned.assessed(project, covered, _next_due(state.project, now), look.changed)
            self._step("assessed")
        self._step("told")
        if moves or letters:
            # What turned an alert is the newest read since the last look, as far as this process saw it.
            log.debug(
                "project.assessed", project=project, transitions=len(moves), messages=len(letters), traceparent=trace
            )
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
        if container not in project.personal.get(source, ())
    )


def _next_due(project: Project, now: datetime) -> datetime:
    """When time alone can change what is wrong: at the latest in an hour, and when the project's day ends."""
    zone = ZoneInfo(project.time_zone)
    return min(now + REASSESS, day_end(local_day(now, zone), zone).astimezone(UTC))
