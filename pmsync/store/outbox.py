"""The outbox as the notifier sees it: which queues are due, a run of messages of one of them, and what became of it.

A queue is what goes to one recipient by one channel, in order: a later message waits while an earlier one is still on
its way, so that a resolve never overtakes its firing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, delete, func, or_, select, tuple_, update

from pmsync.core.events import instant
from pmsync.owners import is_dead
from pmsync.store.engine import Store, micros, moment
from pmsync.store.moves import refuse_moved
from pmsync.store.tables import WAITING, outbox

_PLACE = outbox.c.created_at, outbox.c.id
# Whoever took longer than their claim must not change what another one has claimed, or sent, since.
_HELD = and_(
    outbox.c.id == bindparam("held_id"),
    outbox.c.state == "sending",
    outbox.c.owner == bindparam("held_owner"),
    outbox.c.attempts == bindparam("held_attempts"),
)


class Queue(NamedTuple):
    """The messages to one recipient by one channel."""

    channel: str
    recipient: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message to be sent now. `maybe_sent` means that an earlier try ended without word: this may be a duplicate."""

    id: str
    project: str
    channel: str
    recipient: str
    subject: str
    text: str
    created_at: datetime
    attempts: int
    maybe_sent: bool
    owner: str


class Outbox:
    """The messages in a `Store`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def due(self, now: datetime) -> Sequence[Queue]:
        """The queues whose first message is due; the one whose has waited longest comes first."""
        queue = (outbox.c.channel, outbox.c.recipient)
        place = func.row_number().over(partition_by=queue, order_by=_PLACE).label("place")
        with self._store.read() as db:
            first = select(*queue, *_PLACE, outbox.c.state, outbox.c.next_try, outbox.c.owner, place)
            heads = first.where(WAITING).subquery()
            query = select(heads.c.channel, heads.c.recipient).where(heads.c.place == 1, _ripe(heads.c, now, _dead(db)))
            return [Queue(*row) for row in db.execute(query.order_by(heads.c.created_at, heads.c.id))]

    def claim(self, queue: Queue, owner: str, now: datetime, until: datetime, most: int = 1) -> Sequence[Claimed]:
        """The first messages of a queue that are due, taken until `until` or until `owner` has died.

        None while another one is claiming the first: what stands behind it is not taken for the first.
        """
        with self._store.write() as db:
            dead = _dead(db)
            run = _run(db, queue, now, dead, most)
            if run:
                refuse_moved(db)
                claim = {"state": "sending", "owner": owner, "next_try": micros(until)}
                taken = update(outbox).where(outbox.c.id == bindparam("taken"))
                counted = taken.values(**claim, attempts=outbox.c.attempts + 1)
                db.execute(counted, [{"taken": row.id} for row in run])
        return [_claimed(row, owner) for row in run]

    def sent(self, run: Sequence[Claimed], *, keep: bool = True) -> None:
        """They were sent, and stay as a record of that unless they need not be kept."""
        change = update(outbox).where(_HELD).values(state="sent", error="") if keep else delete(outbox).where(_HELD)
        self._settle(change, run)

    def failed(self, run: Sequence[Claimed], error: str, again: datetime | None, *, maybe_sent: bool = False) -> None:
        """They were not sent, as far as is known; they are tried again at `again`, or never."""
        state = "dead" if again is None else "sending" if maybe_sent else "ready"
        values = {"state": state, "error": error, "next_try": micros(again) or 0}
        self._settle(update(outbox).where(_HELD).values(**values), run)

    def counts(self) -> dict[str, int]:
        """state -> how many messages are in it."""
        with self._store.read() as db:
            rows = db.execute(select(outbox.c.state, func.count()).group_by(outbox.c.state)).all()
        return {str(state): int(count) for state, count in rows}

    def dead(self) -> Sequence[tuple[str, str, str]]:
        """(project, recipient, error) of what could not be delivered."""
        query = select(outbox.c.project, outbox.c.recipient, outbox.c.error).where(outbox.c.state == "dead")
        with self._store.read() as db:
            return [(row.project, row.recipient, row.error) for row in db.execute(query)]

    def next_try(self) -> datetime | None:
        """When the next waiting message is due, if any is waiting."""
        with self._store.read() as db:
            return moment(db.scalar(select(func.min(outbox.c.next_try)).where(WAITING)))

    def _settle(self, change: Any, run: Sequence[Claimed]) -> None:
        # One by one, in their order: whoever claims them meanwhile locks them in the same order.
        held = [{"held_id": each.id, "held_owner": each.owner, "held_attempts": each.attempts} for each in run]
        with self._store.write() as db:
            db.execute(change, held)


def _run(db: Connection, queue: Queue, now: datetime, dead: Sequence[str], most: int) -> Sequence[Row[Any]]:
    """The first messages of a queue as far as they are due, locked. One whose first another notifier is claiming just now
    gives none; when that one is done, this statement sees that the first is no longer due, or is no longer waiting."""
    mine = and_(outbox.c.channel == queue.channel, outbox.c.recipient == queue.recipient, WAITING)
    head = select(outbox.c.id).where(mine).order_by(*_PLACE).limit(1).scalar_subquery()
    query = select(outbox).where(outbox.c.id == head, mine, _ripe(outbox.c, now, dead))
    first = db.execute(query.with_for_update(skip_locked=True)).first()
    if first is None or most == 1:
        return [first] if first else []
    # Only who holds the first one takes those behind it: another one waits here for a moment, if at all.
    behind = and_(mine, tuple_(*_PLACE) > tuple_(first.created_at, first.id))
    rows = db.execute(select(outbox).where(behind).order_by(*_PLACE).limit(most - 1).with_for_update())
    until = micros(now) or 0
    return [
        first,
        *takewhile(lambda row: row.next_try <= until or (row.state == "sending" and row.owner in dead), rows),
    ]


def _ripe(columns: Any, now: datetime, dead: Sequence[str]) -> ColumnElement[bool]:
    """Whether a waiting message is due: its time has come, or who was sending it has died."""
    return or_(columns.next_try <= (micros(now) or 0), and_(columns.state == "sending", columns.owner.in_(dead)))


def _dead(db: Connection) -> Sequence[str]:
    """Who claimed a message and has died since: nobody waits for their claims to run out."""
    owners = db.scalars(select(outbox.c.owner).where(outbox.c.state == "sending").distinct())
    return [owner for owner in owners if is_dead(owner)]


def _claimed(row: Row[Any], owner: str) -> Claimed:
    return Claimed(
        id=row.id,
        project=row.project,
        channel=row.channel,
        recipient=row.recipient,
        subject=row.subject,
        text=row.text,
        created_at=instant(row.created_at),
        attempts=row.attempts + 1,
        maybe_sent=row.state == "sending",
        owner=owner,
    )
