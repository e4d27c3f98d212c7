"""The outbox as the notifier sees it: claim a message, then say what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, and_, func, or_, select, update

from pmsync.core.events import instant
from pmsync.store.engine import Store, micros, moment
from pmsync.store.owners import is_dead
from pmsync.store.tables import outbox

_WAITING = outbox.c.state.in_(("ready", "sending"))


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


class Outbox:
    """The messages in a `Store`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def claim(self, owner: str, now: datetime, until: datetime) -> Claimed | None:
        """The oldest message that is due, taken until `until` or until `owner` has died; None if there is none.

        Per recipient they go in order: a later one waits while an earlier one is still on its way, so that a resolve
        never overtakes its firing.
        """
        with self._store.write() as db:
            row = db.execute(_next(now, _dead_owners(db))).first()
            if row is None:
                return None
            claim = {"state": "sending", "owner": owner, "attempts": row.attempts + 1, "next_try": micros(until)}
            db.execute(update(outbox).where(outbox.c.id == row.id).values(claim))
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
        )

    def sent(self, ident: str) -> None:
        with self._store.write() as db:
            db.execute(update(outbox).where(outbox.c.id == ident).values(state="sent", error=""))

    def failed(self, ident: str, error: str, again: datetime | None, *, maybe_sent: bool = False) -> None:
        """It was not sent, as far as is known; it is tried again at `again`, or never."""
        state = "dead" if again is None else "sending" if maybe_sent else "ready"
        values = {"state": state, "error": error, "next_try": micros(again) or 0}
        # Whoever took longer than their claim must not call back what another one has sent meanwhile.
        mine = and_(outbox.c.id == ident, outbox.c.state == "sending")
        with self._store.write() as db:
            db.execute(update(outbox).where(mine).values(**values))

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
        query = select(func.min(outbox.c.next_try)).where(or_(outbox.c.state == "ready", outbox.c.state == "sending"))
        with self._store.read() as db:
            return moment(db.scalar(query))


def _next(now: datetime, dead: Sequence[str]) -> Select[Any]:
    """The oldest message that is due and has no earlier one of its recipient before it, locked.

    One that another notifier is claiming just now is passed over. What stands behind it is not taken for the first of its
    recipient: this statement sees it still waiting, or sees that it has been dealt with.
    """
    place = func.row_number().over(
        partition_by=(outbox.c.channel, outbox.c.recipient), order_by=(outbox.c.created_at, outbox.c.id)
    )
    queue = select(outbox.c.id, place.label("place")).where(_WAITING).subquery()
    ripe = or_(outbox.c.next_try <= (micros(now) or 0), and_(outbox.c.state == "sending", outbox.c.owner.in_(dead)))
    return (
        select(outbox)
        .join(queue, and_(queue.c.id == outbox.c.id, queue.c.place == 1))
        .where(_WAITING, ripe)
        .order_by(outbox.c.created_at, outbox.c.id)
        .limit(1)
        .with_for_update(of=outbox, skip_locked=True)
    )


def _dead_owners(db: Connection) -> Sequence[str]:
    """Who claimed a message and has died since: nobody waits for their claims to run out."""
    owners = db.scalars(select(outbox.c.owner).where(outbox.c.state == "sending").distinct())
    return [owner for owner in owners if is_dead(owner)]
