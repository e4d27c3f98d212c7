"""What bounds a calendar that is read in pieces, so that it costs no more steps nor memory than a feed of the same entries.

Next on the way of an event: `connectors/caldav.py` and `connectors/google_calendar.py`, which read in pieces.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from connectors.base import Read, Retryable, Withheld
from connectors.ics import FEED_STEPS, OCCURRENCE_STEPS, Meter, feed_meter
from pmsync.core.events import CalendarEntry

MAX_HELD = FEED_STEPS // OCCURRENCE_STEPS
"""Of one calendar, in occurrences: as many as the steps of a feed are enough for."""
RAW = 256
"""Bytes of what a dead letter keeps that count as one."""


@dataclass(slots=True)
class Steps:
    """The steps of one reading. Each piece has a feed's budget to itself, so that what is refused is refused for its own sake;
    once all have spent as much together, the rest waits for the next reading."""

    container: str
    left: int = field(default_factory=lambda: feed_meter().left)

    @contextmanager
    def piece(self, waiting: int) -> Iterator[Meter]:
        """The budget of a piece; raises `Retryable` where it has to wait, as one of so many entries."""
        if self.left <= 0:
            raise Retryable(
                f"{self.container}: the rules of its entries need many steps together; the next reading goes on with the "
                f"{waiting} entries that are left"
            )
        meter = feed_meter()
        begun = meter.left
        try:
            yield meter
        finally:
            self.left -= begun - max(0, meter.left)


def held(reads: Iterable[Read]) -> int:
    """What is held of these, in occurrences."""
    return sum(1 + _occurrences(read) + len(read.raw) // RAW for read in reads)


def _occurrences(read: Read) -> int:
    return len(read.content.occurrences) if isinstance(read.content, CalendarEntry) else 0


def check_held(container: str, count: int) -> None:
    """Raises `Withheld`."""
    if count > MAX_HELD:
        raise Withheld(
            f"{container}: its entries have more than {MAX_HELD} occurrences within four years; keep what pmsync shall read in a "
            "calendar of its own"
        )
