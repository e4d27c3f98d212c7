"""What readers publish with (`connectors.pump.Bus`): events and dead letters as records of the log."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

from connectors.pump import DeadLetter
from pmsync.bus.port import DEAD_LETTERS, EVENTS, Bus, Record
from pmsync.core.events import Event, encode


class Publisher:
    """A `connectors.pump.Bus` over the log."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def publish(self, events: Sequence[Event]) -> None:
        self._bus.publish(EVENTS, [Record(event.project, encode(event)) for event in events])

    def bury(self, letters: Sequence[DeadLetter]) -> None:
        self._bus.publish(DEAD_LETTERS, [translation_letter(letter) for letter in letters])


def translation_letter(letter: DeadLetter) -> Record:
    """The record of something read from a source that could not be translated."""
    return _record("translate", letter.thing.source, letter.id, "/".join(letter.thing), letter.reason, letter.raw)


def fold_letter(partition: int, offset: int, key: str, reason: str, raw: bytes) -> Record:
    """The record of something in the log that could not be decoded."""
    place = f"{partition}/{offset}"
    return _record("fold", key, place, place, reason, raw)


def _record(stage: str, key: str, ident: str, subject: str, reason: str, raw: bytes) -> Record:
    letter = {"id": ident, "stage": stage, "subject": subject, "reason": reason, "raw": base64.b64encode(raw).decode()}
    return Record(key, json.dumps(letter, ensure_ascii=False).encode())
