"""The notifier: drains the outbox to people. Sent at least once; without a crash, exactly once.

Next, and last, on the way of an event: `pmsync/notify/senders.py`, which reaches a person.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pmsync.store.outbox import Outbox

if TYPE_CHECKING:
    from pmsync.notify.senders import Sender

CLAIM = timedelta(minutes=2)
"""How long a sender may take; afterwards the message is sent again and counted as a possible duplicate."""
RETRIES = (*(timedelta(seconds=seconds) for seconds in (5, 30, 120, 600)), *(timedelta(minutes=15),) * 56)
"""The waits between tries, 14 hours in all; after the last the message is dead. What is newer waits behind it, so they
stay short: a server that is back is found out within a quarter of an hour."""


class Unreachable(Exception):
    """It could not be sent just now."""


class Unanswered(Unreachable):
    """It may have been sent, or not: the other side did not say. Sent again, it may be a duplicate."""


class Undeliverable(Exception):
    """It can never be sent as it stands."""


@dataclass(slots=True)
class Delivery:
    """What one round did."""

    sent: int = 0
    failed: int = 0
    dead: int = 0
    possible_duplicates: int = 0


class Notifier:
    """Sends what the outbox holds, by the channel that each message names."""

    def __init__(
        self,
        outbox: Outbox,
        senders: Mapping[str, Sender],
        clock: Callable[[], datetime],
        owner: str,
        step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._outbox = outbox
        self._senders = senders
        self._clock = clock
        self._owner = owner
        self._step = step

    def drain(self, stopped: Callable[[], bool] = lambda: False) -> Delivery:
        """Send everything that is due now, each message once at the most, unless `stopped` says so in between."""
        done = Delivery()
        start = self._clock()
        while not stopped() and (message := self._outbox.claim(self._owner, start, self._clock() + CLAIM)):
            self._step("claimed")
            done.possible_duplicates += message.maybe_sent
            try:
                sender = self._senders.get(message.channel)
                if sender is None:
                    raise Undeliverable(f"the channel {message.channel} is not configured any more")
                sender.send(message)
            except Unreachable as error:
                wait = RETRIES[message.attempts - 1] if message.attempts <= len(RETRIES) else None
                again = self._clock() + wait if wait else None
                self._outbox.failed(message.id, str(error), again, maybe_sent=isinstance(error, Unanswered))
                done.failed += wait is not None
                done.dead += wait is None
            except Undeliverable as error:
                self._outbox.failed(message.id, str(error), None)
                done.dead += 1
            else:
                self._step("delivered")
                self._outbox.sent(message.id)
                done.sent += 1
        return done
