"""What readers publish with (`connectors.pump.Bus`): events and dead letters as records of the log."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.pump import DeadLetter
from pmsync.bus.letters import buried, closed, translation_letter
from pmsync.bus.port import DEAD_LETTERS, EVENTS, Bus, Record
from pmsync.core.events import Event, encode
from pmsync.tracing import current


class Publisher:
    """A `connectors.pump.Bus` over the log. What it publishes carries the trace that is under way."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def publish(self, events: Sequence[Event]) -> None:
        self._bus.publish(EVENTS, [Record(event.project, encode(event, current())) for event in events])

    def bury(self, letters: Sequence[DeadLetter]) -> None:
        self._bus.publish(DEAD_LETTERS, [buried(translation_letter(letter, current())) for letter in letters])

    def mend(self, source: str, letters: Sequence[str]) -> None:
        self._bus.publish(DEAD_LETTERS, [closed(source, letter, "mended") for letter in letters])
