"""Publishes what is told to other programs (`pmsync/core/outputs.py`) on the log: a sender whose recipients are topics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from pmsync.bus.port import Bus, BusUnavailable, Record, RecordTooLarge
from pmsync.notify.notifier import Manner, Unanswered, Undeliverable
from pmsync.store.outbox import Claimed

TOPIC = "topic"
"""The channel."""
WAITS = timedelta(seconds=5), timedelta(seconds=30)


class TopicSender:
    """Publishes a run at once. Without its log pmsync can do nothing anyway, so it waits for it, however long; what is
    published again bears the same CloudEvents id."""

    manner = Manner(most=200, waits=WAITS, gives_up=False, keep=False)

    def __init__(self, bus: Callable[[], Bus]) -> None:
        self._bus = bus

    def send(self, run: Sequence[Claimed]) -> None:
        records = [Record(message.project, message.text.encode()) for message in run]
        try:
            self._bus().publish(run[0].recipient, records)
        except RecordTooLarge as error:
            raise Undeliverable(str(error)) from error
        except BusUnavailable as error:
            raise Unanswered(str(error)) from error
