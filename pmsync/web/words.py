"""How values are written for people: figures with their units, instants in the project's zone, safe links."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pmsync.core.measures import Measure
from pmsync.core.rules.episode import counted, percent, spoken
from pmsync.core.rules.outlook import yesterday
from pmsync.core.summary import chances, distance


def shown(measure: Measure) -> str:
    """A figure with its unit; what cannot be computed says why."""
    if measure.value is None:
        return f"not known: {measure.evidence.get('reason', 'no reason is given')}"
    if measure.name == "on_time" and isinstance(measure.value, int | float):
        return chances(measure.value)
    return UNITS.get(measure.unit, lambda value: f"{value} {measure.unit}")(measure.value)


def note(measure: Measure) -> str:
    """The name and the formula of a figure, in one line."""
    return f"{measure.name}: {measure.formula}"


def duration(seconds: int) -> str:
    """Elapsed time in the unit that suits it."""
    if seconds < 3600:
        return counted(seconds // 60, "minute")
    return counted(seconds // 3600, "hour") if seconds < 86400 else f"{seconds / 86400:.1f} days"


def last_read(stale: Mapping[str, datetime], now: datetime) -> list[str]:
    """A line for each source that stopped being read."""
    return [f"{source}: last read {duration(int((now - when).total_seconds()))} ago" for source, when in stale.items()]


def hours(seconds: int) -> str:
    """Working time: a day of it has no fixed number of hours."""
    return f"{round(seconds / 3600, 1):,g} h"


UNITS: Mapping[str, Callable[[Any], str]] = {
    "share": percent,
    "date": lambda value: spoken(date.fromisoformat(value)),
    "seconds": duration,
    "seconds of work": hours,
    "items": lambda value: f"{value:,}",
    "working days": lambda value: counted(value, "working day"),
}


def moment(when: datetime, zone: str) -> str:
    """An instant as the project's people write it."""
    local = when.astimezone(ZoneInfo(zone))
    return f"{spoken(local.date())}, {local:%H:%M} {local.tzname() or ''}".rstrip()


def day(when: datetime, zone: str) -> str:
    """The day of an instant where the project's people are."""
    return spoken(when.astimezone(ZoneInfo(zone)).date())


def link(url: str | None) -> str | None:
    """An address that a page may link to: http(s) with a host, else None."""
    try:
        parts = urlsplit(url or "")
    except ValueError:
        return None
    return url if parts.scheme in {"http", "https"} and parts.netloc else None


def worded(name: str) -> str:
    """A machine's name of a rule, a figure or an input, in words."""
    return name.replace("_", " ")


FILTERS: Mapping[str, Callable[..., Any]] = {
    "shown": shown,
    "note": note,
    "moment": moment,
    "day": day,
    "link": link,
    "worded": worded,
    "spoken": spoken,
    "distance": distance,
    "duration": duration,
    "hours": hours,
    "counted": counted,
    "yesterday": yesterday,
}
