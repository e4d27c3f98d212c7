"""The CloudEvents binding: what others write in either mode is read as what pmsync writes, and what is none is refused
with the reason. Where the published conformance features are at hand, they are tried."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from builders import TRACEPARENT, binary, item
from hypothesis import given
from hypothesis import strategies as st
from test_laws import any_event

from pmsync.bus.port import EVENTS
from pmsync.bus.topics import TOPICS
from pmsync.core.claims import claimed, receive
from pmsync.core.cloudevents import Context, Headers, Undecodable, unwrap
from pmsync.core.events import Event, Snapshot, decode, encode

FEATURES = Path(__file__).parents[2] / "../shared/data/cloudevents-conformance/features/kafka-protocol-binding.feature"
WRITTEN = tuple(("content-type", topic.content_type.encode()) for topic in TOPICS if topic.name == EVENTS)
"""The headers that pmsync gives its events on Kafka."""

ITEM = Snapshot(project="apollo", thing=item()[0], version=1, content=item()[1])


def changed(**attributes: Any) -> bytes:
    """An event with other attributes; None takes one away."""
    envelope = json.loads(encode(ITEM)) | attributes
    return json.dumps({name: value for name, value in envelope.items() if value is not None}).encode()


@given(any_event)
def test_both_modes_say_the_same(told: Event) -> None:
    raw = encode(told, TRACEPARENT)
    assert decode(raw) == decode(raw, WRITTEN) == decode(*binary(raw)) == told
    assert unwrap(raw, WRITTEN)[0] == unwrap(*binary(raw))[0]
    assert receive(raw) == receive(raw, WRITTEN) == receive(*binary(raw)) == (claimed(told), TRACEPARENT)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("content-type", b"application/cloudevents+json")],
        [("content-type", b"application/cloudevents+json; charset=utf-8")],
        [("Content-Type", b'Application/CloudEvents+JSON;CHARSET="UTF-8"')],
        [("content-type", b"text/plain"), ("content-type", b"application/cloudevents+json")],  # the last one counts
        [("content-type", b"application/cloudevents+json"), ("ce_type", b"some.other")],  # the document is what counts
        [("x-forwarded-by", b"mirror")],
    ],
)
def test_what_is_structured(headers: Headers) -> None:
    assert decode(encode(ITEM), headers) == ITEM


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "application/vnd.x+json"]
)
def test_what_is_binary(content_type: str) -> None:
    value, headers = binary(encode(ITEM), content_type)
    assert decode(value, headers) == ITEM
    assert decode(value, [(name.upper(), each) for name, each in headers]) == ITEM
    assert decode(value, [each for each in headers if each[0] != "content-type"]) == ITEM


def test_data_in_base64_is_data() -> None:
    envelope = json.loads(encode(ITEM))
    encoded = json.dumps({**envelope, "data": None, "data_base64": "eyJhIjoxfQ=="})
    with pytest.raises(Undecodable, match="stands beside data"):
        unwrap(encoded.encode())
    del envelope["data"]
    assert unwrap(json.dumps({**envelope, "data_base64": "eyJhIjoxfQ=="}).encode())[1] == {"a": 1}
    for wrong in ("eyJhIj", "%%%%", 7, ["eyJhIjoxfQ=="]):
        with pytest.raises(Undecodable):
            unwrap(json.dumps({**envelope, "data_base64": wrong}).encode())


@pytest.mark.parametrize(
    ("raw", "headers", "reason"),
    [
        (b"[]", [("content-type", b"application/cloudevents-batch+json")], r"a batch of CloudEvents; write each event as a "),
        (b"", [("content-type", b"application/cloudevents+avro")], r"format is .*avro.*, not application/cloudevents\+json"),
        (b"{}", [("content-type", b"application/cloudevents+json; charset=utf-16")], r"format is .*, not .* in UTF-8"),
        (changed(specversion="0.3"), (), r"specversion: Input should be '1.0'"),
        (changed(specversion=None), (), r"specversion: Field required"),
        (changed(specversion=1.0), (), r"specversion: Input should be '1.0'"),
        (changed(id=""), (), r"id: String should have at least 1 character"),
        (changed(source=None), (), r"source: Field required"),
        (changed(time="yesterday"), (), r"time: Input should be a valid datetime"),
        (changed(time="2026-03-01T00:00:00"), (), r"time: Input should have timezone info"),
        (changed(datacontenttype="application/xml"), (), r"datacontenttype: .*'application/xml' is not JSON"),
        (changed(type="pmsync.work_item.v2"), (), r"unknown type 'pmsync.work_item.v2'; is this event from a newer pmsync\?"),
        (changed(type="com.example.someevent"), (), r"unknown type 'com.example.someevent'"),
        (changed(type="pmsync.milestone.v1"), (), r"a pmsync.milestone.v1 cannot be a pmsync.work_item.v1"),
        (changed(data=None), (), r"data: Input should be a valid dictionary"),
        (b'"text"', (), r"it is no JSON object"),
        (encode(ITEM), [("content-type", b"application/json")], r"specversion: Field required"),
        (b"<a/>", binary(encode(ITEM), "application/xml")[1], r"datacontenttype: .*'application/xml' is not JSON"),
        (b"", binary(encode(ITEM))[1], r"EOF while parsing"),
        (b"{}", [*binary(encode(ITEM))[1], ("ce_specversion", b"2.0")], r"specversion: Input should be '1.0'"),
        (b"{}", [("ce_id", b"\xff")], r"can't decode byte 0xff"),
        (b"{}", [("content-type", b"\xff")], r"can't decode byte 0xff"),
    ],
)  # fmt: skip
def test_what_is_no_event_is_refused_with_the_reason(raw: bytes, headers: Headers, reason: str) -> None:
    for how in (decode, receive):
        with pytest.raises(Undecodable, match=reason):
            how(raw, headers)


def test_reasons_tell_no_values_and_have_an_end() -> None:
    """They are shown and logged; what is in a record is not for everybody."""
    envelope = json.loads(encode(ITEM))
    envelope["data"]["content"] |= {"title": {"secret": 1}, "labels": ["x", *[{"secret": 1}] * 999]}
    with pytest.raises(Undecodable) as said:
        decode(json.dumps(envelope).encode())
    assert "content.work_item.title: Input should be a valid string" in str(said.value)
    assert "secret" not in str(said.value)
    assert len(str(said.value)) < 600


_header = st.tuples(
    st.sampled_from(["content-type", "ce_id", "ce_type", "ce_specversion", "ce_source", "ce_time", "ce_", "x"]),
    st.sampled_from([b"1.0", b"application/json", b"application/cloudevents", b";;=", b"", b"\xff"])
    | st.binary(max_size=9),
)


@given(any_event, st.lists(_header, max_size=5))
def test_any_headers_make_an_event_or_undecodable(told: Event, headers: Headers) -> None:
    with suppress(Undecodable):
        assert decode(encode(told), headers) == told
    value, attributes = binary(encode(told))
    with suppress(Undecodable):
        assert decode(value, [*headers, *attributes]) == told


# --- traceparent ------------------------------------------------------------------------------------------------------


@given(any_event)
def test_a_trace_is_no_part_of_an_event(told: Event) -> None:
    raw = encode(told, TRACEPARENT)
    assert json.loads(raw) == json.loads(encode(told)) | {"traceparent": TRACEPARENT}
    assert decode(raw) == decode(encode(told))
    assert unwrap(raw)[0].traceparent == TRACEPARENT
    assert unwrap(encode(told))[0].traceparent is None


@pytest.mark.parametrize(
    "wrong",
    [
        "", "1", 7, None, ["00"], {}, TRACEPARENT.upper(), TRACEPARENT[:-1], TRACEPARENT + "-00", TRACEPARENT + "\n",
        f"00-{'0' * 32}-{'1' * 16}-01", f"00-{'1' * 32}-{'0' * 16}-01", f"ff-{'1' * 32}-{'1' * 16}-01",
    ],
)  # fmt: skip
def test_what_is_no_traceparent_is_as_if_it_were_not_there(wrong: object) -> None:
    raw = json.dumps(json.loads(encode(ITEM)) | {"traceparent": wrong}).encode()
    assert decode(raw) == ITEM
    assert unwrap(raw)[0].traceparent is None
    assert receive(raw)[1] is None


# --- the published features -------------------------------------------------------------------------------------------


class Example(NamedTuple):
    """A scenario of the feature, its outline filled in."""

    name: str
    value: bytes
    headers: Sequence[tuple[str, bytes]]
    attributes: dict[str, str]
    data: Any


def examples(feature: str) -> Iterator[Example]:
    """The scenarios of a feature about Kafka messages, which have the same steps each."""
    for scenario in re.split(r"^\s*Scenario(?: Outline)?: ", feature, flags=re.MULTILINE)[1:]:
        text, _, filled = scenario.partition("Examples:")
        columns, *rows = list(_table(filled)) or [[]]
        for row in rows or [[]]:
            told = text
            for column, cell in zip(columns, row, strict=True):
                told = told.replace(f"<{column}>", cell)
            value, data = re.findall(r'"""\n(.+?)"""', told, re.DOTALL)
            message, _, expected = told.partition("Then the attributes are:")
            headers = [(name, each.encode()) for name, each in list(_table(message))[1:]]
            attributes = dict(list(_table(expected))[1:])
            yield Example(told.splitlines()[0], value.encode(), headers, attributes, json.loads(data))


def _table(text: str) -> Iterator[list[str]]:
    for line in text.splitlines():
        if line.strip().startswith("|"):
            yield [cell.strip() for cell in line.strip().strip("|").split("|")]


@pytest.fixture
def published() -> list[Example]:
    if not FEATURES.exists():
        pytest.skip("CloudEvents' conformance features are not here (shared/data/cloudevents-conformance)")
    return list(examples(FEATURES.read_text()))


def said(context: Context) -> dict[str, str]:
    return context.model_dump(mode="json", exclude_none=True)


def test_the_published_kafka_features_hold(published: list[Example]) -> None:
    assert len(published) == 3, "one of binary mode, two of structured mode"
    for example in published:
        context, data = unwrap(example.value, example.headers)
        assert (said(context), data) == (example.attributes, example.data), example.name
        with pytest.raises(Undecodable, match=r"unknown type 'com\.example\.someevent'"):
            decode(example.value, example.headers)


def test_what_pmsync_writes_has_the_form_of_the_published_features(published: list[Example]) -> None:
    """A reader that knows the features' structured example finds every attribute in ours, and the mode by the header."""
    (structured,) = (each for each in published if each.headers[0][1].endswith(b"charset=utf-8"))
    assert [(name, value.lower()) for name, value in WRITTEN] == structured.headers
    ours, theirs = json.loads(encode(ITEM, TRACEPARENT)), json.loads(structured.value)
    assert ours.keys() - theirs.keys() == {"subject", "partitionkey", "traceparent"}
    assert not theirs.keys() - ours.keys()
    assert {name: type(ours[name]) for name in theirs} == {name: type(value) for name, value in theirs.items()}
    extensions = ours.keys() - {"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data"}
    assert all(re.fullmatch("[a-z0-9]{1,20}", name) for name in extensions)
