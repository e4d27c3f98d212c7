"""How the stand-in for Jira keeps its world, whose past is written beforehand, and how it says no."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


@dataclass(slots=True)
class Timeline:
    """All that one thing ever was: its revisions, oldest first, and when it was deleted."""

    id: str
    times: list[datetime] = field(default_factory=list)
    revisions: list[Any] = field(default_factory=list)
    deleted: datetime | None = None

    def add(self, at: datetime, revision: Any) -> None:
        if (self.times and at < self.times[-1]) or self.deleted is not None:
            raise ValueError(f"{self.id} is written in the order of time, and not after its deletion")
        self.times.append(at.astimezone(UTC))
        self.revisions.append(revision)

    def at(self, moment: datetime) -> Any | None:
        """The revision that holds at a moment, None before its creation and from its deletion on."""
        index = bisect_right(self.times, moment)
        gone = self.deleted is not None and moment >= self.deleted
        return self.revisions[index - 1] if index and not gone else None

    def until(self, moment: datetime) -> Sequence[Any]:
        return self.revisions[: bisect_right(self.times, moment)]


class Refusal(Exception):
    """The request is answered with this status and message."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers or {}


def stamp(when: datetime) -> str:
    """An instant as Jira writes it: milliseconds, in UTC."""
    when = when.astimezone(UTC)
    return f"{when:%Y-%m-%dT%H:%M:%S}.{when.microsecond // 1000:03d}+0000"
