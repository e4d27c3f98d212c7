"""GitHub: the shapes that its answers share: the fields that we read, and no others. All of it is pure."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field


def _text(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("should be a date and time as text")
    return value


def _in_utc(when: datetime) -> datetime:
    try:
        return when.astimezone(UTC)
    except OverflowError:
        raise ValueError("should be a time of the years 1 to 9999") from None


Time = Annotated[AwareDatetime, BeforeValidator(_text), Field(strict=False), AfterValidator(_in_utc)]


class Raw(BaseModel):
    """An object of GitHub's, of which nothing is converted that is of another type."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Identified(Raw):
    """An account or a team."""

    id: int


def raw(body: Any) -> bytes:
    """What came, as JSON; in ASCII, since what came may be no text that UTF-8 can hold."""
    try:
        return json.dumps(body, separators=(",", ":")).encode()
    except RecursionError:
        return b""
