"""The published schemas are what the code reads and writes, as it is committed; and a type only grows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from builders import (
    NOW,
    START,
    TRACEPARENT,
    acknowledgement,
    deployment,
    entry,
    item,
    milestone,
    project,
    release,
    sprint,
    workflow_run,
)
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator, FormatChecker
from test_laws import _places, any_event

from connectors.pump import DeadLetter
from pmsync import schemas
from pmsync.bus import port
from pmsync.bus.letters import buried, closed, fold_letter, translation_letter
from pmsync.bus.port import DEAD_LETTERS, Delivered
from pmsync.bus.topics import TOPICS
from pmsync.core.cloudevents import Undecodable
from pmsync.core.events import (
    CONFIGURATION,
    ChangeRequest,
    Content,
    Event,
    Meaning,
    Mention,
    Review,
    ReviewRequest,
    Snapshot,
    Synced,
    Thing,
    Tombstone,
    decode,
    encode,
    type_of,
)

FOLDER = Path(__file__).parents[2] / "docs" / "schemas"
GENERATED = {"events": schemas.events_schema, "asyncapi": schemas.asyncapi}
EVENTS: Mapping[str, Any] = json.loads(schemas.events_schema())
ASYNCAPI: Mapping[str, Any] = json.loads(schemas.asyncapi())

formats = FormatChecker(["date"])


@formats.checks("date-time", raises=ValueError)
def _is_instant(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


whole = Draft202012Validator(EVENTS, format_checker=formats)


def for_type(name: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": EVENTS["$defs"]}, format_checker=formats)


def for_message(title: str) -> Draft7Validator:
    """What AsyncAPI says of a message, as a schema of its own dialect."""
    schema = {"$ref": f"#/components/schemas/{title}", "components": ASYNCAPI["components"]}
    return Draft7Validator(schema, format_checker=formats)


def snapshot(thing: Thing, content: Content) -> Snapshot:
    return Snapshot(project="apollo", thing=thing, version=7, content=content)


def requested() -> ChangeRequest:
    return ChangeRequest(
        key="acme/apollo#1", container="acme/apollo", title="Fix", created_at=START, state="open",
        reviews=(Review(id="1", at=NOW, state="approved"),), work_items=("APO-1",),
        mentions=(Mention(key="APO-1", where="title"),), review_requests=(ReviewRequest(reviewer="team:7", at=START, until=NOW),),
    )  # fmt: skip


ONE_OF_EACH: tuple[Event, ...] = (
    snapshot(*item("1", [(NOW, "status_category", "done")])),
    snapshot(Thing("gh", "change_request", "1"), requested()),
    snapshot(*milestone()),
    snapshot(*sprint("7", "closed", NOW, NOW, closed_at=NOW)),
    snapshot(*deployment("1", [(NOW, "success")])),
    snapshot(*release("1", NOW)),
    snapshot(*workflow_run("1", (START, NOW, "success"))),
    snapshot(*entry("e", Meaning.holiday, NOW.date())),
    snapshot(Thing(CONFIGURATION, "project", "apollo"), project(promises=({"key": "m", "title": "M", "due_date": NOW.date()},))),
    snapshot(Thing("jira", "synced", "APO"), Synced(container="APO", mapped={"apollo": 1}, listed=1, published=1, dead=0)),
    Tombstone(project="apollo", thing=Thing("jira", "work_item", "1"), version=7),
    acknowledgement("f", NOW),
)  # fmt: skip


# --- as committed -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GENERATED)
def test_what_is_committed_is_what_the_code_says(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text() == GENERATED[name]() + "\n", (
        f"docs/schemas/{name}.json is of another day. If no type broke (test_a_type_only_grows), write it anew: "
        f"pmsync schema {name} > docs/schemas/{name}.json"
    )


def test_a_type_only_grows() -> None:
    before = json.loads((FOLDER / "events.json").read_text())["$defs"]
    broken = [
        f"{name}{place}: a reader of {name} would break. Leave it as it was, or make it a new major, {name[:-1]}2"
        for name in before
        if name.startswith("pmsync.")
        for place in breaks(before, before[name], EVENTS["$defs"], EVENTS["$defs"].get(name))
    ]
    assert broken == []


# --- what is written and read -----------------------------------------------------------------------------------------


def test_one_of_each_is_one_of_each() -> None:
    types = [type_of(event) for event in ONE_OF_EACH]
    assert sorted(types) == sorted(str(message.type) for message in schemas.MESSAGES if message.topic == port.EVENTS)
    assert [each["$ref"] for each in EVENTS["oneOf"]] == [f"#/$defs/{name}" for name in types]
    Draft202012Validator.check_schema(EVENTS)


@given(any_event)
def test_every_event_is_as_its_schema_says(told: Event) -> None:
    for raw in (encode(told), encode(told, TRACEPARENT)):
        for_type(type_of(told)).validate(json.loads(raw))


@pytest.mark.parametrize("told", ONE_OF_EACH, ids=type_of)
def test_both_schemas_take_an_event(told: Event) -> None:
    envelope = json.loads(encode(told, TRACEPARENT))
    whole.validate(envelope)
    (title,) = (each["title"] for each in ASYNCAPI["components"]["messages"].values() if each["name"] == type_of(told))
    for_message(title).validate(envelope)


@pytest.mark.parametrize("told", ONE_OF_EACH, ids=type_of)
def test_what_is_missing_or_of_a_wrong_type_is_refused_by_model_and_schema(told: Event) -> None:
    envelope = json.loads(encode(told))
    refused = 0
    for place in list(_paths(envelope)):
        for damaged in _damaged(envelope, place, _required(told)):
            assert not whole.is_valid(damaged), place
            with pytest.raises(Undecodable):
                decode(json.dumps(damaged).encode())
            refused += 1
    assert refused > 15


_written = st.recursive(
    # A whole number written as a float beyond this is one to JSON Schema, but to no database.
    st.none() | st.booleans() | st.integers() | st.floats(-(2.0**53), 2.0**53) | st.text(max_size=5),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below, max_size=3),
    max_leaves=6,
)


@given(any_event, st.data())
def test_what_the_schema_takes_is_decoded(told: Event, data: st.DataObject) -> None:
    """Whoever writes by the schema is understood: it is never looser than the model."""
    envelope = json.loads(encode(told))
    holder, name = data.draw(st.sampled_from(list(_places(envelope))))
    holder[name] = data.draw(_written)
    if whole.is_valid(envelope):
        decode(json.dumps(envelope).encode())


Place = tuple[str | int, ...]


def _paths(value: Any, above: Place = ()) -> Iterator[Place]:
    if isinstance(value, dict | list):
        for name in list(value) if isinstance(value, dict) else range(len(value)):
            yield (*above, name)
            yield from _paths(value[name], (*above, name))


def _damaged(envelope: Any, place: Place, required: set[str]) -> Iterator[Any]:
    """With a value of a wrong type in this place, and without what must be there."""
    *above, last = place
    wrong = deepcopy(envelope)
    holder = _at(wrong, above)
    holder[last] = {"wrong": 1} if holder[last] is None or isinstance(holder[last], str | bool) else "wrong"
    yield wrong
    if last in required and len(place) < 4:
        missing = deepcopy(envelope)
        del _at(missing, above)[last]
        yield missing


def _at(value: Any, place: list[str | int]) -> Any:
    for name in place:
        value = value[name]
    return value


def _required(told: Event) -> set[str]:
    """The fields that an event of this type must have, by the models."""
    required = {"specversion", "id", "source", "type", "data", "content", "thing", "version"}
    content = () if isinstance(told, Tombstone) else type(told.content).model_fields.items()
    return required | {name for name, field in content if field.is_required()}


def test_dead_letters_are_as_their_schemas_say() -> None:
    translated = translation_letter(DeadLetter("1", Thing("jira", "work_item", "1"), "why", b"\xff"), TRACEPARENT)
    folded = fold_letter(Delivered(3, 7, "apollo", b"\xff\x00", (("ce_id", b"\xff"),)), "apollo", "why", None)
    records = [buried(translated), buried(folded), closed("apollo", folded.id, "discarded", "a test")]
    for title, record in zip(["Buried", "Buried", "Closed"], records, strict=True):
        for_message(title).validate(json.loads(record.value))
    assert not for_message("Closed").is_valid(json.loads(records[0].value))
    assert not for_message("Buried").is_valid(json.loads(records[2].value))


# --- AsyncAPI ---------------------------------------------------------------------------------------------------------


def test_every_topic_is_told_of_with_its_messages() -> None:
    assert [channel["address"] for channel in ASYNCAPI["channels"].values()] == [topic.name for topic in TOPICS]
    assert all(channel["messages"] for channel in ASYNCAPI["channels"].values())
    assert schemas.ABOUT.keys() == {topic.name for topic in TOPICS} == {each.topic for each in schemas.MESSAGES}
    assert len(ASYNCAPI["components"]["messages"]) == len(schemas.MESSAGES)
    for name, channel in ASYNCAPI["channels"].items():
        for action in ("send", "receive"):
            operation = ASYNCAPI["operations"][f"{action}.{name}"]
            assert operation["channel"]["$ref"] == f"#/channels/{name}"
            assert len(operation["messages"]) == len(channel["messages"])


def test_every_reference_leads_to_something() -> None:
    found = [value for holder, name in _places(ASYNCAPI) for value in [holder[name]] if name == "$ref"]
    assert len(found) > 50
    for reference in found:
        _at(ASYNCAPI, [each.replace("~1", "/") for each in reference.removeprefix("#/").split("/")])


def test_a_channel_has_the_settings_of_its_topic() -> None:
    kafka = ASYNCAPI["channels"]["dead-letters"]["bindings"]["kafka"]
    assert kafka["topic"] == DEAD_LETTERS
    assert kafka["topicConfiguration"]["cleanup.policy"] == ["delete"]
    assert kafka["topicConfiguration"]["retention.ms"] == 30 * 24 * 3600 * 1000


# --- what breaks a reader ---------------------------------------------------------------------------------------------

ANNOTATIONS = {"title", "description", "examples", "deprecated", "$comment"}
"""What a reader does not depend on."""


def breaks(old_definitions: Any, old: Any, new_definitions: Any, new: Any) -> Iterator[str]:
    """The places where a schema did more than grow by optional fields."""
    old, new = _resolved(old_definitions, old), _resolved(new_definitions, new)
    if not isinstance(old, dict) or not isinstance(new, dict):
        if old != new:
            yield ""
        return
    known, now = old.get("properties", {}), new.get("properties", {})
    yield from (f".{name}" for name in sorted(set(old.get("required", ())) ^ set(new.get("required", ()))))
    for name, schema in known.items():
        below = breaks(old_definitions, schema, new_definitions, now.get(name))
        yield from (f".{name}{place}" for place in below)
    for word in sorted((old.keys() | new.keys()) - ANNOTATIONS - {"properties", "required", "$defs"}):
        parts = _aligned(old.get(word), new.get(word))
        for before, after in parts:
            yield from (f" {word}{place}" for place in breaks(old_definitions, before, new_definitions, after))


def _aligned(old: Any, new: Any) -> list[tuple[Any, Any]]:
    """Alternatives and tuples part by part."""
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return list(zip(old, new, strict=True))
    return [(old, new)]


def _resolved(definitions: Any, schema: Any) -> Any:
    while isinstance(schema, dict) and "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    return schema


def _edit(path: str, value: Any) -> Any:
    """The definitions with something else in a place; None takes it away."""
    edited = deepcopy(EVENTS["$defs"])
    *above, last = path.split("/")
    holder = _at(edited, [*above])
    if value is None:
        del holder[last]
    else:
        holder[last] = value
    return edited


NAME = "pmsync.work_item.v1"


@pytest.mark.parametrize(
    ("edited", "place"),
    [
        (_edit("WorkItem/properties/title", None), ".data.content.title"),
        (_edit("WorkItem/properties/title/type", "integer"), ".data.content.title type"),
        (_edit("WorkItem/required", ["key"]), ".data.content.title"),
        (_edit("WorkItem/properties/estimate/anyOf", [{"type": "integer"}]), ".data.content.estimate anyOf"),
        (_edit("WorkItem/properties/blocked/default", True), ".data.content.blocked default"),
        (_edit("StatusCategory/enum", ["todo", "done"]), ".data.content.status_category enum"),
        (_edit("StatusCategory/enum", ["todo", "in_progress", "done", "dropped", "paused"]), ".data.content.status_category enum"),
        (_edit("Change/properties/at/format", "date"), ".data.content.history items.at format"),
        (_edit("WorkItemSnapshot/properties/version/maximum", 9), ".data.version maximum"),
        (_edit("WorkItem/additionalProperties", False), ".data.content additionalProperties"),
        (_edit("pmsync.work_item.v1/required", ["id"]), ".specversion"),
        ({**EVENTS["$defs"], NAME: None}, ""),
    ],
)  # fmt: skip
def test_what_breaks_a_reader_is_found(edited: Any, place: str) -> None:
    assert place in list(breaks(EVENTS["$defs"], EVENTS["$defs"][NAME], edited, edited[NAME]))


def test_an_optional_field_and_other_words_break_nobody() -> None:
    edited = _edit(
        "WorkItem/properties/later", {"anyOf": [{"$ref": "#/$defs/Change"}, {"type": "null"}], "default": None}
    )
    edited["WorkItem"]["description"] = "Said better."
    assert list(breaks(EVENTS["$defs"], EVENTS["$defs"][NAME], edited, edited[NAME])) == []
    edited["WorkItem"]["required"].append("later")
    assert list(breaks(EVENTS["$defs"], EVENTS["$defs"][NAME], edited, edited[NAME])) == [".data.content.later"]


def test_an_instant_of_a_test_is_one() -> None:
    assert formats.conforms(datetime(2026, 3, 1, tzinfo=UTC).isoformat(), "date-time")
    assert not formats.conforms("2026-03-01T00:00:00", "date-time")
