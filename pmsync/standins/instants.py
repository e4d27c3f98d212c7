"""Instants as the stand-ins of sources that count in seconds write them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import overload


def second(when: datetime) -> datetime:
    """The second in which an instant lies."""
    return when.astimezone(UTC).replace(microsecond=0)


@overload
def text(when: datetime) -> str: ...
@overload
def text(when: datetime | None) -> str | None: ...
def text(when: datetime | None) -> str | None:
    """In RFC 3339, in whole seconds."""
    return f"{when.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if when else None
