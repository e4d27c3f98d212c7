"""CloudEvents 1.0 as a log carries them (the Kafka protocol binding): which attributes a record has, and which data.

In *structured* mode the value is a JSON document of attributes and data; in *binary* mode the attributes are headers
(`ce_id`, `ce_type`, …) and the value is the data alone. pmsync writes the first and reads both. What the data means is
not known here, but in `pmsync/core/events.py`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import from_json

Headers = Sequence[tuple[str, bytes]]
"""What a record of the log says beside its value, in order; a name may come twice, and the last one counts."""

STRUCTURED = "application/cloudevents+json"
_FORMATS, _BATCH = "application/cloudevents", "application/cloudevents-batch"
_ATTRIBUTE = "ce_"
_JSON = r"^[^;]*[/+][Jj][Ss][Oo][Nn]\s*(;.*)?$"
_TRACEPARENT = r"^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$"
MOST_WORDS = 500
"""Characters of a reason; whoever wrote the record could make it longer."""


class Undecodable(Exception):
    """The record is no CloudEvent, or none that this version of pmsync knows; the message says why. `traceparent` is that
    of the envelope, as far as that could be read."""

    def __init__(self, reason: str, traceparent: str | None = None) -> None:
        super().__init__(reason)
        self.traceparent = traceparent


@lru_cache(maxsize=64)
def _json_type(value: str) -> str:
    if not re.fullmatch(_JSON, value):
        raise ValueError(f"{value[:80]!r} is not JSON")
    return value


def traceparent(value: object) -> str | None:
    """The value, if it is a W3C `traceparent`."""
    return value if isinstance(value, str) and re.fullmatch(_TRACEPARENT, value) else None


Name = Annotated[str, Field(min_length=1)]
JsonType = Annotated[str, AfterValidator(_json_type), WithJsonSchema({"type": "string", "pattern": _JSON})]
Traceparent = Annotated[
    str | None,
    BeforeValidator(traceparent),
    WithJsonSchema({"type": "string", "pattern": _TRACEPARENT, "maxLength": 55}),
]
"""W3C trace context: which read an event came from. What is not well-formed is as if it were not there."""


class Context(BaseModel):
    """The attributes of a CloudEvent, as far as pmsync looks at them; others pass."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    specversion: Literal["1.0"]
    id: Name
    source: Name
    type: Name
    subject: str | None = None
    time: AwareDatetime | None = None
    datacontenttype: JsonType | None = None
    partitionkey: str | None = None
    traceparent: Traceparent = None


def unwrap(raw: bytes, headers: Headers = ()) -> tuple[Context, Any]:
    """The attributes and the data of a record of the log; raises `Undecodable` with the reason.

    A record without `content-type` and `ce_` headers is taken for a structured one: the embedded log needs none.
    """
    try:
        attributes = None if is_structured(headers) else _attributes(headers)
        return _structured(raw) if attributes is None else _binary(attributes, raw)
    except ValidationError as error:
        raise Undecodable(reasons(error)) from error
    except ValueError as error:
        raise Undecodable(" ".join(str(error).split())[:MOST_WORDS]) from error


def reasons(error: ValidationError) -> str:
    """What is wrong and where, without the values, which may be anybody's."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    said = "; ".join(": ".join(filter(None, [".".join(map(str, each["loc"])), each["msg"]])) for each in found)
    return said[:MOST_WORDS]


def is_structured(headers: Headers) -> bool:
    """Whether the value is a whole document. Raises ValueError for a batch, and for a format that is not JSON."""
    if not headers:
        return True
    said = {name.lower(): value for name, value in headers}
    content_type = said.get("content-type")
    media, charset = _media_type(content_type) if content_type else ("", "")
    if media.startswith(_BATCH):
        raise ValueError("this is a batch of CloudEvents; write each event as a record of its own")
    if media.startswith(_FORMATS):
        if media != STRUCTURED or charset not in {"", "utf-8", "utf8"}:
            raise ValueError(f"the event format is {content_type!r}, not {STRUCTURED} in UTF-8")
        return True
    return content_type is None and not any(name.startswith(_ATTRIBUTE) for name in said)


def _attributes(headers: Headers) -> dict[str, str]:
    """The attributes that stand in the headers, in binary mode."""
    said = {name.lower(): value for name, value in headers}
    named = {name.removeprefix(_ATTRIBUTE): value for name, value in said.items() if name.startswith(_ATTRIBUTE)}
    if "content-type" in said:
        named["datacontenttype"] = said["content-type"]
    return {name: value.decode() for name, value in named.items()}


def _structured(raw: bytes) -> tuple[Context, Any]:
    envelope: Any = from_json(raw)
    if not isinstance(envelope, dict):
        raise ValueError("it is no JSON object")
    context = Context.model_validate(envelope)
    if (encoded := envelope.get("data_base64")) is None:
        return context, envelope.get("data")
    if "data" in envelope or not isinstance(encoded, str):
        raise ValueError("data_base64 stands beside data, or is no text")
    return context, from_json(base64.b64decode(encoded, validate=True))


def _binary(attributes: dict[str, str], raw: bytes) -> tuple[Context, Any]:
    context = Context.model_validate(attributes)
    return context, from_json(raw)


@lru_cache(maxsize=64)
def _media_type(value: bytes) -> tuple[str, str]:
    """A content type without its parameters, and the charset that it names ('' for none), in lower case."""
    media, *parameters = value.decode().lower().split(";")
    named = dict(each.strip().partition("=")[::2] for each in parameters)
    return media.strip(), named.get("charset", "").strip('"')
