"""What the state must be, computed from the log's JSON: all claims on a row, sorted, and the last one.

DESIGN.md's rules: the newest version of a thing wins whole; milestones, releases, calendar entries and projects also keep every
version; a tombstone is a version like another; facts are a set by id. Equal versions are told apart by (gone, body).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tests.judge.evidence import Entry, Key, Row

KEPT = {"milestone", "sprint", "release", "calendar_entry", "project"}
SNAPSHOTS = {
    "work_item", "change_request", "milestone", "sprint", "deployment", "release", "workflow_run", "calendar_entry", "project", "synced",
}  # fmt: skip
FACTS = {"acknowledgement"}


class Unreadable(Exception):
    """It is no event of the first schema."""


def claims(raw: bytes) -> list[tuple[Key, Row]]:
    """The rows that a record lays claim to."""
    try:
        envelope: dict[str, Any] = json.loads(raw)
        kind = envelope["type"].removeprefix("pmsync.").removesuffix(".v1")
        if envelope["type"] != f"pmsync.{kind}.v1":
            raise Unreadable(envelope["type"])
        data = envelope["data"]
        if kind in FACTS:
            return [(Key(data["project"], "people", "fact", data["id"], 0), Row(0, False, canonical(data)))]
        source, named, ident = data["thing"]
        newest = Key(data["project"], source, named, ident, 0)
        if kind == "tombstone":
            return [(newest, Row(data["version"], True, ""))]
        if kind not in SNAPSHOTS or named != kind:
            raise Unreadable(kind)
        row = Row(data["version"], False, canonical(data["content"]))
        return [(newest, row), *([(newest._replace(at=row.version), row)] if kind in KEPT else [])]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreadable(str(error)) from error


def canonical(value: Any) -> str:
    """JSON in its one form: keys sorted, nothing between."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def reference(entries: Iterable[Entry], offsets: Mapping[int, int]) -> tuple[dict[Key, Row], set[tuple[int, int]]]:
    """What the state must be when each partition stands at its offset, and the places of what cannot be read."""
    all_claims: list[tuple[Key, Row]] = []
    unreadable: set[tuple[int, int]] = set()
    for entry in entries:
        if entry.offset < offsets.get(entry.partition, 0):
            try:
                all_claims += claims(entry.value)
            except Unreadable:
                unreadable.add((entry.partition, entry.offset))
    return dict(sorted(all_claims)), unreadable
