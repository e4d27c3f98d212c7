"""The notifier: drains the outbox to people and topics. Sent at least once; without a crash, exactly once.

Next, and last, on the way of an event: `pmsync/notify/senders.py`, which reaches a person.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from pmsync.store.outbox import Claimed, Outbox, Queue

if TYPE_CHECKING:
    from pmsync.notify.senders import Sender

CLAIM = timedelta(minutes=2)
"""How long a sender may take; afterwards the message is sent again and counted as a possible duplicate."""
TURN = 200
"""So many messages of one queue, then the next queue has its turn."""


class Manner(NamedTuple):
    """How a sender's messages are dealt with.

    `most`: how many of one recipient it takes at once. `waits`: between tries; the last one again and again if it never
    `gives_up`, else the message is then dead. `keep`: whether what was sent stays in the outbox.
    """

    most: int
    waits: Sequence[timedelta]
    gives_up: bool
    keep: bool


RETRIES = (*(timedelta(seconds=seconds) for seconds in (5, 30, 120, 600)), *(timedelta(minutes=15),) * 56)
"""14 hours in all. What is newer waits behind it, so they stay short: a server that is back is found out within a quarter
of an hour."""
TO_PEOPLE = Manner(most=1, waits=RETRIES, gives_up=True, keep=True)
"""One by one: a crash may cost one person one message twice."""


class Unreachable(Exception):
    """It could not be sent just now."""


class Unanswered(Unreachable):
    """It may have been sent, or not: the other side did not say. Sent again, it may be a duplicate."""


class Undeliverable(Exception):
    """It can never be sent as it stands."""


@dataclass(slots=True)
class Delivery:
    """What one round did; `problem` is the last of what went wrong."""

    sent: int = 0
    failed: int = 0
    dead: int = 0
    possible_duplicates: int = 0
    problem: str = ""

    @property
    def tried(self) -> int:
        return self.sent + self.failed + self.dead


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
        before = -1
        while not stopped() and done.tried > before:
            before = done.tried
            for queue in self._outbox.due(start):
                self._serve(queue, start, done, stopped)
        return done

    def _serve(self, queue: Queue, start: datetime, done: Delivery, stopped: Callable[[], bool]) -> None:
        """Send what of a queue is due, up to its turn."""
        sender = self._senders.get(queue.channel)
        manner = sender.manner if sender else TO_PEOPLE
        left = TURN
        while left > 0 and not stopped():
            until = self._clock() + CLAIM
            run = self._outbox.claim(queue, self._owner, start, until, min(manner.most, left))
            if not run:
                return
            left -= len(run)
            self._step("claimed")
            done.possible_duplicates += sum(message.maybe_sent for message in run)
            self._send(sender, manner, run, done)

    def _send(self, sender: Sender | None, manner: Manner, run: Sequence[Claimed], done: Delivery) -> bool:
        """Send a run; returns whether the next one may be sent, or has to wait behind this one."""
        try:
            if sender is None:
                raise Undeliverable(f"the channel {run[0].channel} is not configured any more")
            sender.send(run)
        except Unreachable as error:
            wait = _wait(manner, max(message.attempts for message in run))
            again = self._clock() + wait if wait else None
            self._outbox.failed(run, str(error), again, maybe_sent=isinstance(error, Unanswered))
            done.failed += len(run) if wait else 0
            done.dead += 0 if wait else len(run)
            done.problem = str(error)
            return wait is None
        except Undeliverable as error:
            if len(run) > 1:  # one of them; each by itself shows which
                return self._send_singly(sender, manner, run, done)
            self._outbox.failed(run, str(error), None)
            done.dead += 1
            done.problem = str(error)
        else:
            self._step("delivered")
            self._outbox.sent(run, keep=manner.keep)
            done.sent += len(run)
        return True

    def _send_singly(self, sender: Sender | None, manner: Manner, run: Sequence[Claimed], done: Delivery) -> bool:
        for n, message in enumerate(run):
            if not self._send(sender, manner, [message], done):
                # What is behind it keeps its place there: none may overtake it.
                self._outbox.failed(run[n + 1 :], "waits behind one that could not be sent", self._clock())
                return False
        return True


def _wait(manner: Manner, attempts: int) -> timedelta | None:
    """How long to wait after so many tries; None: they were enough."""
    if attempts > len(manner.waits):
        return None if manner.gives_up else manner.waits[-1]
    return manner.waits[attempts - 1]
