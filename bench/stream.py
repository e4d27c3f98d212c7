"""The events of the benchmark on a broker, in the order in which they arrive: made up, and the same each time.

200 projects share up to 50,000 work items, each of which is read again and again while its history grows to ten changes:
20 times in a million events. Of all events 2 % come again, and 5 % out of order. They are written down by a template,
since building a million events would take longer than measuring them; a test holds the template to `encode`.
"""

from __future__ import annotations

import heapq
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count as counted
from itertools import islice
from random import Random
from typing import NamedTuple

from bench.events import NOW, PROJECTS, header
from pmsync.bus.port import Record
from pmsync.core.events import encode, version_at

READINGS = 20
ITEMS = 50_000
REPEATED, DISPLACED, DISTANCE = 0.02, 0.05, 300
LIFE = (
    ("estimate", None, 3000),
    ("assignee", None, "5b10ac8d82e05b22cc7d4ef5"),
    ("due_date", None, "2026-04-10"),
    ("sprint", None, "41"),
    ("status", "To Do", "In Progress"),
    ("status_category", "todo", "in_progress"),
    ("blocked", False, True),
    ("blocked", True, False),
    ("status", "In Progress", "Done"),
    ("status_category", "in_progress", "done"),
)
"""What happens to every second item until the end; the others stop before it is done."""
FIRST = {"status": "To Do", "status_category": "todo", "blocked": False, "estimate": None, "assignee": None}


class Item(NamedTuple):
    """A work item, as text: `begin` up to its changes, which its readings show more and more of."""

    project: str
    number: int
    created: str
    changes: list[str]
    present: list[str]
    """The tracked fields after so many changes."""


def records(count: int, most: int = PROJECTS) -> Iterator[Record]:
    """`count` events of `most` projects at the most, whose versions rise from one reading to the next, but for those that come again or out of order."""
    return islice(_displaced(_readings(count, most), Random(count)), count)


def _readings(count: int, most: int) -> Iterator[Record]:
    projects = max(1, min(most, count // 50))
    for project in range(projects):
        for event in header(project):
            yield Record(event.project, encode(event))
    random = Random(count)
    items = [_item(n, projects, random) for n in range(max(projects, min(ITEMS, count // READINGS)))]
    version = version_at(NOW - timedelta(days=1))
    for reading in counted():
        for item in items:
            version += 1000
            yield _record(item, min(reading, len(item.changes)), version)


def _displaced(source: Iterator[Record], random: Random) -> Iterator[Record]:
    waiting: list[tuple[float, int, Record]] = []
    for n, record in enumerate(source):
        place = n + random.random() * DISTANCE * (random.random() < DISPLACED)
        heapq.heappush(waiting, (place, 2 * n, record))
        if random.random() < REPEATED:
            heapq.heappush(waiting, (n + random.random() * DISTANCE, 2 * n + 1, record))
        while waiting and waiting[0][0] <= n:
            yield heapq.heappop(waiting)[2]


def _item(n: int, projects: int, random: Random) -> Item:
    at = NOW - timedelta(minutes=random.randrange(30 * 24 * 60, 180 * 24 * 60))
    created, life = at, LIFE if n % 2 else LIFE[:8]
    changes, present, fields = [], [_written(FIRST)], dict(FIRST)
    for place, (field, old, new) in enumerate(life):
        at += timedelta(minutes=random.randrange(120, 4000))
        ident = f"{n:07}{place:02}"
        changes.append(_written({"field": field, "from": old, "to": new, "at": _text(at), "id": ident}))
        fields[field] = new
        present.append(_written(fields))
    return Item(f"project-{n % projects:03}", n, _text(created), changes, present)


def _record(item: Item, changes: int, version: int) -> Record:
    project, n = item.project, item.number
    container = f"P{int(project[-3:])}"
    content = (
        f'{{"kind":"work_item","key":"{container}-{n}","container":"{container}","type":"Story",'
        f'"title":"Item {n}: a title as long as people write them","url":"https://example.atlassian.net/browse/{container}-{n}",'
        f'"created_at":"{item.created}",{item.present[changes][1:-1]},"milestone":"{int(project[-3:])}-{n % 4}",'
        f'"labels":["backend","customer"],"history":[{",".join(item.changes[:changes])}]}}'
    )
    time = _text(datetime.fromtimestamp(version // 1_000_000, UTC).replace(microsecond=version % 1_000_000))
    value = (
        f'{{"specversion":"1.0","id":"{project}/jira/work_item/{n}@{version}","source":"/sources/jira",'
        f'"subject":"work_item/{n}","type":"pmsync.work_item.v1","time":"{time}","datacontenttype":"application/json",'
        f'"partitionkey":"{project}","data":{{"project":"{project}","thing":["jira","work_item","{n}"],'
        f'"version":{version},"content":{content}}}}}'
    )
    return Record(project, value.encode())


def _written(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _text(when: datetime) -> str:
    return when.replace(tzinfo=None).isoformat() + "Z"


if __name__ == "__main__":  # how large these events are: `python -m bench.stream 100000 5000000`
    for wanted in map(int, sys.argv[1:]):
        size = sum(len(record.value or b"") for record in records(wanted))
        print(f"{wanted:,} events: {size / wanted:,.0f} bytes each")
