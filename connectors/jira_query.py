"""Jira's query language, as far as it is needed: the issues of a project by time of change, or issues by id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Self

EARLIEST_ZONE = timezone(timedelta(hours=-12))
"""A time of day written in this zone is never later than meant, whichever zone Jira reads it in."""


@dataclass(frozen=True, slots=True)
class Query:
    """The issues of a project that changed at or after `since` (None: all of them), or those of these ids; the one first
    that changed first. JQL knows whole minutes only, in the zone of the account: rounded down."""

    project: str = ""
    since: datetime | None = None
    zone: tzinfo = EARLIEST_ZONE
    ids: tuple[str, ...] = ()

    @classmethod
    def of_ids(cls, ids: Sequence[str]) -> Self:
        return cls(ids=tuple(ids))

    def again_from(self, since: datetime | None) -> Self:
        """What is left of this query, when all that changed before `since` was seen."""
        return self if since is None else replace(self, since=since)

    @property
    def bare(self) -> str:
        """Without an order, for who only counts."""
        if self.ids:
            return f"id in ({', '.join(self.ids)})"
        project = self.project.replace("\\", "\\\\").replace('"', '\\"')
        return f'project = "{project}"{self._bound()}'

    @property
    def jql(self) -> str:
        return f"{self.bare} ORDER BY updated ASC, key ASC"

    def _bound(self) -> str:
        if self.since is None:
            return ""
        try:
            return f' AND updated >= "{_local(self.since, self.zone):%Y/%m/%d %H:%M}"'
        except OverflowError:  # at either end of all time: whatever wrote that
            return ""


def _local(when: datetime, zone: tzinfo) -> datetime:
    """`when` in `zone`; in the hour that comes twice in autumn, one that is not later however it is read."""
    local = when.astimezone(zone)
    twice = (local.utcoffset() or timedelta()) - (local.replace(fold=1).utcoffset() or timedelta())
    return (when - max(twice, timedelta())).astimezone(zone)
