"""L1, convergence: the same set of events gives the same state in any order, with any repeats, in any batches; and what
is written down is read back the same, or refused as `Undecodable`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from builders import NOW, START, acknowledgement, any_item
from builders import project as a_project
from hypothesis import given, settings
from hypothesis import strategies as st

from pmsync.core.claims import Claim, claimed, read
from pmsync.core.cloudevents import Undecodable
from pmsync.core.events import (
    CONFIGURATION,
    KEPT,
    KINDS,
    Acknowledgement,
    Attempt,
    CalendarEntry,
    Change,
    ChangeRequest,
    Deployment,
    Event,
    Fact,
    Meaning,
    Milestone,
    Occurrence,
    Project,
    Promise,
    Release,
    Review,
    ReviewRequest,
    Snapshot,
    Sprint,
    Synced,
    Thing,
    Tombstone,
    WorkflowRun,
    body,
    decode,
    digest,
    encode,
    version_at,
)
from pmsync.core.exports import TABLES, rows
from pmsync.core.project import Key, Row, fold, load, view

PROJECTS = ("apollo", "beacon")
VERSIONS = tuple(version_at(NOW) - n for n in range(3))
"""Few, so that equal versions with different contents are common."""

days = st.dates(date(2026, 2, 1), date(2026, 4, 30))
instants = st.integers(0, 60 * 24).map(lambda hours: START + timedelta(hours=hours))
words = st.text('aé\u0000"\\\n\u2028=😀', max_size=6)


def maybe(found: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | found


@st.composite
def requests(draw: st.DrawFn) -> ChangeRequest:
    merged = draw(maybe(instants))
    moves = [Change(field="state", old="open", new="merged", at=merged, id="1")] if merged else []
    reviews = draw(st.lists(st.builds(Review, id=words, at=instants, state=words, reviewer=maybe(words)), max_size=2))
    asked = draw(st.lists(st.builds(ReviewRequest, reviewer=words, at=instants, until=maybe(instants)), max_size=2))
    return ChangeRequest(
        key=draw(words),
        container="acme/apollo",
        title=draw(words),
        created_at=START,
        state="merged" if merged else "open",
        merged_at=merged,
        reviews=tuple(reviews),
        review_requests=tuple(asked),
        work_items=tuple(draw(st.lists(words, max_size=2))),
        history=tuple(moves),
    )


titles = words | st.sampled_from(["2.0", " 2.0", "V2.0", "v2.0"])
"""Some of them are those of others, or nearly."""
milestones = st.builds(
    Milestone,
    key=words,
    container=st.sampled_from(["APO", "acme/apollo"]),
    title=titles,
    created_at=maybe(instants),
    due_date=maybe(days),
    state=st.sampled_from(["open", "closed"]),
    closed_at=maybe(instants),
)
deployments = st.builds(
    Deployment,
    container=st.just("acme/apollo"),
    environment=words,
    ref=words,
    sha=words,
    production=st.booleans(),
    created_at=st.just(START),
    state=st.just("success"),
    history=st.lists(
        st.builds(Change, field=st.just("state"), old=words, new=st.just("success"), at=instants, id=words), max_size=2
    ).map(tuple),
)
releases = st.builds(
    Release, key=words, container=st.just("acme/apollo"), title=words, created_at=instants, published_at=maybe(instants)
)
runs = st.builds(
    WorkflowRun,
    container=st.just("acme/apollo"),
    workflow=words,
    name=words,
    number=st.integers(1, 9),
    branch=words,
    event=words,
    sha=words,
    created_at=instants,
    state=words,
    attempts=st.lists(
        st.builds(Attempt, number=st.integers(1, 3), started_at=instants, ended_at=maybe(instants), state=words),
        max_size=2,
    ).map(tuple),
)
sprints = st.builds(
    Sprint,
    key=words,
    container=st.sampled_from(["APO", "ELSE"]),
    sprint=st.sampled_from(["1", "2"]),
    title=words,
    goal=words,
    state=st.sampled_from(["future", "active", "closed"]),
    starts_at=maybe(instants),
    ends_at=maybe(instants),
    closed_at=maybe(instants),
)
occurrences = st.builds(Occurrence, start=days, end=days) | st.builds(Occurrence, start=instants, end=instants)
calendar = st.builds(
    CalendarEntry,
    container=st.just("team"),
    title=maybe(titles),
    meaning=st.sampled_from(Meaning),
    recurring=st.booleans(),
    occurrences=st.lists(occurrences, max_size=3).map(tuple),
)
promises = st.builds(
    Promise,
    key=words,
    title=titles,
    due_date=days,
    also=st.dictionaries(st.sampled_from(["jira", "gh", "calendar"]), st.lists(titles, max_size=2).map(tuple)),
)
WHERE = (("jira", "APO"), ("gh", "acme/apollo"), ("calendar", "team"))


def configured(project: str) -> st.SearchStrategy[Project]:
    return st.builds(
        Project,
        key=st.just(project),
        name=words,
        time_zone=st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Apia"]),
        deadline=maybe(days),
        milestones=st.lists(promises, max_size=2).map(tuple),
        dates=st.lists(st.sampled_from(["jira", "gh", CONFIGURATION]), unique=True).map(tuple),
        mapping=st.just({source: {container: 1} for source, container in WHERE}),
        notify=st.lists(words, max_size=2).map(tuple),
    )


@st.composite
def synced(draw: st.DrawFn, container: str) -> Synced:
    since = draw(st.sampled_from([1, 1, 1, 2]))
    return Synced(container=container, mapped=dict.fromkeys(PROJECTS, since), listed=draw(st.integers(0, 9)), published=0, dead=0)  # fmt: skip


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    project, ident = draw(st.sampled_from(PROJECTS)), draw(st.sampled_from(["1", "m1"]))
    source, container = draw(st.sampled_from(WHERE))
    thing, content = draw(
        st.one_of(
            any_item(ident),
            st.tuples(st.just(Thing("gh", "change_request", ident)), requests()),
            st.tuples(st.sampled_from(["jira", "gh"]).map(lambda name: Thing(name, "milestone", ident)), milestones),
            st.tuples(st.just(Thing("gh", "deployment", ident)), deployments),
            st.tuples(st.just(Thing("gh", "release", ident)), releases),
            st.tuples(st.just(Thing("gh", "workflow_run", ident)), runs),
            st.tuples(st.just(Thing("jira", "sprint", ident)), sprints),
            st.tuples(st.just(Thing("calendar", "calendar_entry", ident)), calendar),
            st.tuples(st.just(Thing(CONFIGURATION, "project", project)), configured(project)),
            st.tuples(st.just(Thing(source, "synced", container)), synced(container)),
        )
    )
    return Snapshot(project=project, thing=thing, version=draw(st.sampled_from(VERSIONS)), content=content)


@st.composite
def tombstones(draw: st.DrawFn) -> Tombstone:
    told = draw(snapshots())
    return Tombstone(project=told.project, thing=told.thing, version=draw(st.sampled_from(VERSIONS)))


@st.composite
def facts(draw: st.DrawFn) -> Fact:
    content = Acknowledgement(fingerprint=draw(words), by=draw(words))
    ident = draw(st.sampled_from(["f1", "f2"]))
    return Fact(project=draw(st.sampled_from(PROJECTS)), id=ident, at=draw(instants), content=content)


any_event: st.SearchStrategy[Event] = st.one_of(snapshots(), snapshots(), snapshots(), tombstones(), facts())


def settled(project: str) -> list[Event]:
    """What makes a project show everything that is told of it."""
    first = Project(key=project, name=project, mapping={source: {container: 1} for source, container in WHERE})
    told: list[Event] = [
        Snapshot(project=project, thing=Thing(CONFIGURATION, "project", project), version=VERSIONS[-1], content=first)
    ]
    for source, container in WHERE:
        read = Synced(container=container, mapped=dict.fromkeys(PROJECTS, 1), listed=0, published=0, dead=0)
        told.append(
            Snapshot(project=project, thing=Thing(source, "synced", container), version=VERSIONS[-1], content=read)
        )
    return told


def folded(events: Sequence[Event]) -> dict[Key, Row]:
    return fold(map(claimed, events))


def in_batches(events: Sequence[Event], sizes: Sequence[int]) -> dict[Key, Row]:
    """Fold as the aggregator and the store do: batch by batch, and of each row the greatest stays."""
    kept: dict[Key, Row] = {}
    left = list(events)
    for size in [*sizes, len(events)]:
        batch, left = left[:size], left[size:]
        kept |= {key: max(row, kept.get(key, row)) for key, row in folded(batch).items()}
    return kept


def exported(known: dict[Key, Row], project: str) -> Any:
    state = load({key: row for key, row in known.items() if key.project == project})
    if state is None:
        return None
    return view(state, NOW), {table: list(rows(table, state, NOW, NOW)) for table in TABLES}


@settings(max_examples=100)
@given(st.lists(any_event, max_size=14), st.data())
def test_order_repeats_and_batches_do_not_matter(told: list[Event], data: st.DataObject) -> None:
    told = [*settled("apollo"), *settled("beacon"), *told]
    shuffled = data.draw(st.permutations(told * 2))
    sizes = data.draw(st.lists(st.integers(0, 5), max_size=12))
    once, again = folded(told), in_batches(shuffled, sizes)
    assert once == again
    for project in PROJECTS:
        assert exported(once, project) == exported(again, project)


@given(st.lists(snapshots() | tombstones(), max_size=14))
def test_the_newest_version_wins_and_kept_kinds_keep_all(told: list[Snapshot | Tombstone]) -> None:
    found = folded(told)
    for event in told:
        same = [e for e in told if (e.project, e.thing) == (event.project, event.thing)]
        newest = max(e.version for e in same)
        row = found[Key(event.project, *event.thing, 0)]
        assert row.version == newest
        assert row.gone == any(isinstance(e, Tombstone) for e in same if e.version == newest)
        kept = {key.at for key in found if key[:4] == (event.project, *event.thing)} - {0}
        snaps = {e.version for e in same if isinstance(e, Snapshot)}
        assert kept == (snaps if event.thing.kind in KEPT else set())


@given(snapshots(), st.data())
def test_of_two_contents_with_one_version_the_same_one_wins(told: Snapshot, data: st.DataObject) -> None:
    other = data.draw(snapshots().filter(lambda e: e.content.kind == told.content.kind and e.content != told.content))
    rival = other.model_copy(update={"project": told.project, "thing": told.thing, "version": told.version})
    assert in_batches([told, rival], [1]) == in_batches([rival, told], [1])
    assert folded([told, rival]) == folded([rival, told])


@given(any_event)
def test_what_is_written_is_read_back(told: Event) -> None:
    assert decode(encode(told)) == told


def test_every_kind_is_tried() -> None:
    """The strategy above must not forget a kind that the vocabulary gains."""
    known: set[str] = set()

    @settings(max_examples=400, database=None, derandomize=True)
    @given(snapshots())
    def collect(told: Snapshot) -> None:
        known.add(told.content.kind)

    collect()
    assert known == set(KINDS)


@given(any_event)
def test_the_envelope_is_a_cloud_event(told: Event) -> None:
    envelope = json.loads(encode(told))
    assert envelope["specversion"] == "1.0"
    assert envelope["partitionkey"] == told.project
    assert envelope["type"].startswith("pmsync.")
    assert {"id", "source", "subject", "type", "time", "data"} <= envelope.keys()
    assert datetime.fromisoformat(envelope["time"]).tzinfo is not None


@given(any_event)
def test_unknown_minor_fields_pass(told: Event) -> None:
    envelope = json.loads(encode(told))
    envelope["traceparent"] = "00-1-2-01"
    envelope["data"]["later"] = {"more": [1]}
    if "content" in envelope["data"]:
        envelope["data"]["content"]["later"] = 7
    assert decode(json.dumps(envelope).encode()) == told


@given(any_event, st.sampled_from(["v2", "v10", "v0", "", "V1"]))
def test_an_unknown_major_is_undecodable(told: Event, major: str) -> None:
    envelope = json.loads(encode(told))
    envelope["type"] = envelope["type"].removesuffix("v1") + major
    with pytest.raises(Undecodable, match="newer pmsync"):
        decode(json.dumps(envelope).encode())


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", "Europe", "UTC\\u0000"])
def test_a_zone_that_nobody_knows_is_undecodable(zone: str) -> None:
    told = Snapshot(project="apollo", thing=Thing(CONFIGURATION, "project", "apollo"), version=1, content=a_project())
    raw = encode(told)
    assert decode(raw) == told
    with pytest.raises(Undecodable, match="time_zone"):
        decode(raw.replace(b'"time_zone":"UTC"', f'"time_zone":"{zone}"'.encode()))


@given(st.binary(max_size=60) | _json.map(lambda value: json.dumps(value).encode()))
def test_garbage_is_undecodable(raw: bytes) -> None:
    with pytest.raises(Undecodable):
        decode(raw)


@pytest.mark.parametrize("raw", [b"", b"[" * 100_000, b'{"type": []}', b'{"type": "pmsync.work_item.v1"}', b"\xff\xfe", b"null"])  # fmt: skip
def test_garbage_by_hand(raw: bytes) -> None:
    with pytest.raises(Undecodable):
        decode(raw)


@given(any_event, st.data())
def test_a_damaged_event_is_an_event_or_undecodable(told: Event, data: st.DataObject) -> None:
    """Whatever stands in the place of a value, nothing but `Undecodable` is raised."""
    envelope = json.loads(encode(told))
    places = list(_places(envelope))
    holder, name = data.draw(st.sampled_from(places))
    if data.draw(st.booleans()):
        del holder[name]
    else:
        holder[name] = data.draw(_json)
    raw = json.dumps(envelope).encode()
    with suppress(Undecodable):
        found = decode(raw)
        assert decode(encode(found)) == found
    assert outcome(read, raw) == outcome(lambda each: claimed(decode(each)), raw)


def outcome(how: Callable[[bytes], Claim], raw: bytes) -> Claim | str:
    try:
        return how(raw)
    except Undecodable as error:
        return str(error)


@given(any_event)
def test_a_claim_is_read_from_the_bytes_as_from_the_event(told: Event) -> None:
    """The quick way and the slow one agree; whether the quick one is taken at all is `test_claims.py`'s to say."""
    assert read(encode(told)) == claimed(told)


@given(any_event, st.data())
def test_a_cut_event_is_undecodable(told: Event, data: st.DataObject) -> None:
    raw = encode(told)
    with pytest.raises(Undecodable):
        decode(raw[: data.draw(st.integers(0, len(raw) - 1))])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("version", 10**30),  # no database has a column for it
        ("version", version_at(datetime.max.replace(tzinfo=UTC)) + 1),  # no instant
        ("version", -1),
        ("at", "9999-12-31T23:59:59-10:00"),  # no instant in UTC
        ("at", "0001-01-01T00:00:00+10:00"),
    ],
)
def test_values_out_of_range_are_undecodable(name: str, value: object) -> None:
    told = Tombstone(project="apollo", thing=Thing("jira", "milestone", "1"), version=1)
    envelope = json.loads(encode(acknowledgement("f", NOW) if name == "at" else told))
    envelope["data"][name] = value
    with pytest.raises(Undecodable):
        decode(json.dumps(envelope).encode())


def test_a_thing_of_one_kind_with_the_content_of_another_is_undecodable() -> None:
    told = Snapshot(
        project="apollo", thing=Thing("jira", "milestone", "1"), version=1,
        content=Milestone(key="m", container="APO", title="t"),
    )  # fmt: skip
    forged = encode(told).replace(b'["jira","milestone","1"]', b'["jira","work_item","1"]')
    assert forged != encode(told)
    with pytest.raises(Undecodable, match="a work_item cannot have the content of a milestone"):
        decode(forged)


def _places(value: Any) -> Any:
    if isinstance(value, dict | list):
        for name in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, name
            yield from _places(value[name])


@given(snapshots())
def test_equal_contents_have_one_text(told: Snapshot) -> None:
    """The text of a content is canonical: parsing and writing it again, or giving its keys in another order, changes nothing."""
    text = body(told.content)
    model = KINDS[told.content.kind]
    assert body(model.model_validate_json(text)) == text
    backwards = dict(reversed(json.loads(text).items()))
    assert body(model.model_validate(backwards)) == text
    assert digest(model.model_validate(backwards)) == digest(told.content)
    assert json.dumps(json.loads(text), ensure_ascii=False, sort_keys=True, separators=(",", ":")) == text


def test_an_instant_has_one_text_in_any_zone() -> None:
    berlin = datetime.fromisoformat("2026-03-16T13:00:00+01:00")
    one, other = (
        Milestone(key="m", container="c", title="t", created_at=at) for at in (berlin, berlin.astimezone(UTC))
    )
    assert body(one) == body(other)
    assert one == other
