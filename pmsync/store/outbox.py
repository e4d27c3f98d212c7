"""The outbox as the notifier sees it: claim a message, then say what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.engine import Row

from pmsync.core.events import instant
from pmsync.store.engine import Store, micros, moment
from pmsync.store.owners import is_dead
from pmsync.store.tables import outbox


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
            waiting = select(outbox).where(outbox.c.state.in_(("ready", "sending")))
            first: dict[tuple[str, str], str] = {}
            for row in db.execute(waiting.order_by(outbox.c.created_at, outbox.c.id)):
                behind = first.setdefault((row.channel, row.recipient), row.id) != row.id
                if behind or not _is_due(row, now):
                    continue
                claim = {
                    "state": "sending",
                    "owner": owner,
                    "attempts": row.attempts + 1,
                    "next_try": micros(until),
                }
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
        return None

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


def _is_due(row: Row[Any], now: datetime) -> bool:
    return row.next_try <= (micros(now) or 0) or (row.state == "sending" and is_dead(row.owner))
