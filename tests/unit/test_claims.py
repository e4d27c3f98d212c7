"""What is read from the log quickly: the same as slowly, and for what comes in masses quickly indeed."""

from __future__ import annotations

import json
import re
from contextlib import suppress

import pytest
from builders import NOW, item

from pmsync.core import claims
from pmsync.core.claims import claimed, read
from pmsync.core.cloudevents import Undecodable
from pmsync.core.events import ChangeRequest, Review, ReviewRequest, Snapshot, Thing, decode, encode, version_at

REQUEST = ChangeRequest(
    key="acme/apollo#1", container="acme/apollo", title="Mend \u2028 it", created_at=NOW, state="merged", merged_at=NOW,
    closed_at=NOW, reviews=(Review(id="1", at=NOW, state="approved"),),
    review_requests=(ReviewRequest(reviewer="2", at=NOW, until=NOW), ReviewRequest(reviewer="3", at=NOW)),
)  # fmt: skip
LINK = {"relation": "blocked_by", "key": "APO-2", "since": NOW, "until": NOW}
WORKLOG = {"id": "1", "created_at": NOW, "started_at": NOW, "seconds": 60}
THING, ITEM = item("1", [(NOW, "blocked", True)], created=NOW, due_date="2026-03-13", links=[LINK], worklogs=[WORKLOG])
MASSES = [
    Snapshot(project="apollo", thing=THING, version=version_at(NOW), content=ITEM),
    Snapshot(project="apollo", thing=Thing("gh", "change_request", "1"), version=1, content=REQUEST),
]


@pytest.mark.parametrize("told", MASSES, ids=lambda told: told.thing.kind)
def test_what_comes_in_masses_is_read_without_building_it(told: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = claimed(told)
    monkeypatch.setattr(claims, "unwrap", None)
    assert read(encode(told)) == expected


@pytest.mark.parametrize("told", MASSES, ids=lambda told: told.thing.kind)
def test_an_instant_of_another_offset_comes_out_in_utc(told: Snapshot) -> None:
    """Whoever wrote it: the body is the canonical one."""
    raw = encode(told).replace(b'Z"', b'+00:00"').replace(b"T09:00:00+00:00", b"T11:00:00+02:00")
    assert read(raw) == claimed(told)


@pytest.mark.parametrize("told", MASSES, ids=lambda told: told.thing.kind)
def test_any_single_one_of_another_offset_does(told: Snapshot) -> None:
    raw, utc, other = encode(told), b'"2026-03-16T12:00:00Z"', b'"2026-03-16T13:00:00+01:00"'
    places = [match.start() for match in re.finditer(re.escape(utc), raw)]
    assert len(places) > 5
    for place in places:
        assert read(raw[:place] + other + raw[place + len(utc) :]) == claimed(told), raw[place - 20 : place]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("version", -1),
        ("version", 10**30),
        ("created_at", "2026-03-02T09:00:00"),
        ("created_at", "0001-01-01T00:00:00+10:00"),
        ("created_at", "9999-12-31T23:59:59-10:00"),
        ("status_category", "later"),
        ("estimate", 1.5),
        ("kind", None),
        ("title", "\ud800"),
        ("history", [{"field": "status"}]),
        ("thing", ["jira", "milestone", "1"]),
    ],
)
def test_what_is_no_event_is_refused_by_both(name: str, value: object) -> None:
    envelope = json.loads(encode(MASSES[0]))
    holder = envelope["data"] if name in {"version", "thing"} else envelope["data"]["content"]
    holder[name] = value
    raw = json.dumps(envelope).encode()
    for how in (decode, read):
        with pytest.raises(Undecodable):
            how(raw)


@pytest.mark.parametrize("place", [b'"data":{', b'"content":{', b'{"specversion"'])
@pytest.mark.parametrize("depth", [500, 1100, 100_000])
def test_what_is_nested_deeply_is_a_claim_or_refused(place: bytes, depth: int) -> None:
    """Nothing else: what ends a worker would end each that comes after it."""
    nest = b'"x":' + b"[" * depth + b"]" * depth + b","
    raw = encode(MASSES[0])
    found = raw.replace(place, b"{" + nest + place[1:] if place.startswith(b"{") else place + nest, 1)
    assert found != raw
    with suppress(Undecodable):
        assert read(found) == claimed(MASSES[0])


def test_the_newest_fields_of_the_vocabulary_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each field of a work item is in what was read quickly: the structs follow the models."""
    told = MASSES[0]
    monkeypatch.setattr(claims, "unwrap", None)
    assert json.loads(read(encode(told)).body).keys() == {
        info.alias or name for name, info in type(told.content).model_fields.items()
    }
