"""Jira: the values in its answers, each read as what it should be: texts, instants, seconds of work, ids. All of it is pure."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import ValidationError

T = TypeVar("T")

MOST_SECONDS = 10**12
UNWRITABLE = re.compile("[\\0\ud800-\udfff]")
"""What JSON can hold and UTF-8 or a database cannot."""


class Unreadable(ValueError):
    """Something that Jira sent is not what it should be; the message names the field and holds no content."""


def identity(raw: Any) -> str:
    """The id of a thing, empty where it cannot be read."""
    try:
        return maybe(raw, "id", str) or ""
    except Unreadable:
        return ""


def typed(value: Any, kind: type[T], what: str) -> T:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
        raise Unreadable(f"{what} is {type(value).__name__}, not {kind.__name__}")
    if isinstance(value, str) and UNWRITABLE.search(value):
        raise Unreadable(f"{what} holds characters that are no text")
    return value


def take(raw: Any, path: str, kind: type[T]) -> T:
    """The value at a dotted path, of this type; raises `Unreadable` naming the path."""
    value = raw
    for step in path.split("."):
        if not isinstance(value, dict) or value.get(step) is None:
            raise Unreadable(f"{path} is missing")
        value = value[step]
    return typed(value, kind, path)


def maybe(raw: Any, path: str, kind: type[T]) -> T | None:
    """The value at a dotted path, None where it or what should hold it is absent or null."""
    value = raw
    for step in path.split("."):
        if not isinstance(value, dict):
            typed(value, dict, path)
        value = value.get(step)
        if value is None:
            return None
    return typed(value, kind, path)


def instant(value: Any, what: str) -> datetime:
    """An instant from ISO text; the documentation of the bulk changelog also shows seconds since 1970."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value / 1000 if value > 10**11 else value, UTC)
        when = datetime.fromisoformat(typed(value, str, what))
        if when.tzinfo is not None:
            return when.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise Unreadable(f"{what} is no instant")


def seconds(value: Any, what: str) -> int | None:
    """Seconds of work, from a number or its digits."""
    if value is None:
        return None
    digits = "" if isinstance(value, bool) else str(value)
    if digits.isascii() and digits.isdigit() and len(digits) < 20 and int(digits) <= MOST_SECONDS:
        return int(digits)
    raise Unreadable(f"{what} is no number of seconds")


def account(raw: Any, path: str) -> str | None:
    """The id of the account at a dotted path; Data Center has none, and keys that stay when a user is renamed (old ones names
    alone)."""
    if maybe(raw, path, dict) is None:
        return None
    keys = (maybe(raw, f"{path}.{name}", str) for name in ("accountId", "key", "name"))
    return next((key for key in keys if key), None) or take(raw, f"{path}.accountId", str)


def rank(ident: str) -> float:
    """By which ids are sorted: those that are numbers as such, before all others."""
    return int(ident) if ident.isascii() and ident.isdigit() else math.inf


def problem(error: Exception) -> str:
    """One line that names the field and holds no content."""
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['type']}" for e in error.errors(include_input=False)[:3])
    return str(error)


def dump(raw: Any) -> bytes:
    try:
        return json.dumps(raw).encode()
    except RecursionError:
        return b""
