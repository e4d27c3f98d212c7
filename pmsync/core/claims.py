"""What an event claims: the one row that it would be. This is all that folding needs of it.

`read` takes most claims from the log without building the event: msgspec checks the bytes against the same models,
translated, in an eighth of the time. Whatever it does not take, pydantic decides on (ADR 18).

Next on the way of an event: `pmsync/core/project.py`, whose `fold` turns claims into rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import reduce
from operator import or_
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import msgspec
from annotated_types import Ge, Le
from pydantic import AwareDatetime, BaseModel
from pydantic.fields import FieldInfo

from pmsync.core.cloudevents import Headers, is_structured, traceparent, unwrap
from pmsync.core.events import ChangeRequest, Event, Fact, Snapshot, Tombstone, WorkItem, body, event_in

PEOPLE = "people"
"""The source of facts."""


class Claim(NamedTuple):
    """The row that an event would be: `body` is the canonical JSON of its content, empty for what is `gone`; a fact has
    version 0."""

    project: str
    source: str
    kind: str
    id: str
    version: int
    gone: bool
    body: str


def claimed(event: Event) -> Claim:
    """What an event claims."""
    match event:
        case Snapshot(project=project, thing=thing, version=version):
            return Claim(project, *thing, version, False, body(event.content))
        case Tombstone(project=project, thing=thing, version=version):
            return Claim(project, *thing, version, True, "")
        case Fact(project=project, id=ident):
            return Claim(project, PEOPLE, "fact", ident, 0, False, body(event))


def read(raw: bytes, headers: Headers = ()) -> Claim:
    """What the event in this record claims; raises `Undecodable` as `decode` does, which has the last word."""
    return receive(raw, headers)[0]


def receive(raw: bytes, headers: Headers = ()) -> tuple[Claim, str | None]:
    """What the event in this record claims, and the `traceparent` that it came with."""
    try:
        envelope = _envelope.decode(raw) if is_structured(headers) else _NO_ENVELOPE
        kind = _quick[envelope.type]
        event = kind.read(envelope.data)
        content = event.content
        if kind.in_utc(content):
            source, name, ident = event.thing
            claim = Claim(event.project, source, name, ident, event.version, False, _encode(content).decode())
            return claim, traceparent(envelope.traceparent)
    except (KeyError, ValueError, RecursionError, OverflowError):  # msgspec's own errors are of the second kind
        pass
    context, data = unwrap(raw, headers)
    return claimed(event_in(context, data)), context.traceparent


# --- the models, translated -------------------------------------------------------------------------------------------


_Name = Annotated[str, msgspec.Meta(min_length=1)]


class _Envelope(msgspec.Struct):
    """A structured `Context` as it mostly comes, with its data."""

    type: str
    specversion: Literal["1.0"]
    id: _Name
    source: _Name
    data: msgspec.Raw
    subject: str | None = None
    time: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    datacontenttype: Literal["application/json"] | None = None
    partitionkey: str | None = None
    traceparent: Any = None
    data_base64: None = None


_NO_ENVELOPE = _Envelope("", "1.0", "", "", msgspec.Raw())
"""Binary mode is others', and comes seldom."""


class _Kind(NamedTuple):
    read: Callable[[msgspec.Raw], Any]
    in_utc: Callable[[Any], bool]
    """Whether every instant of a content is in UTC, as in the canonical form."""


def _struct(model: type[BaseModel]) -> type[msgspec.Struct]:
    """The model as a msgspec struct. Fields stand in the order of the canonical form, by the names that it writes."""
    written = sorted((info.alias or name, name, info) for name, info in model.model_fields.items())
    fields = [(name, _translated(info), *_default(info)) for _, name, info in written]
    rename = {name: alias for alias, name, _ in written}
    return msgspec.defstruct(model.__name__, fields, rename=rename, kw_only=True, frozen=True, gc=False)


def _translated(info: FieldInfo) -> Any:
    """The type of a field, with its limits. A model whose fields are limited otherwise cannot be read quickly."""
    meta: dict[str, Any] = {}
    for limit in info.metadata:
        match limit:
            case Ge(ge=least):
                meta["ge"] = least
            case Le(le=most):
                meta["le"] = most
            case _ if info.annotation is not AwareDatetime:
                raise TypeError(f"{limit} has no translation")
    return Annotated[_type(info.annotation), msgspec.Meta(**meta)] if meta else _type(info.annotation)


def _type(given: Any) -> Any:
    if isinstance(given, type) and issubclass(given, BaseModel):
        return _struct(given)
    if given is AwareDatetime:
        return Annotated[datetime, msgspec.Meta(tz=True)]
    origin, inner = get_origin(given), get_args(given)
    if origin is Annotated:
        return _type(inner[0])
    if origin in {Union, UnionType}:
        return reduce(or_, [_type(each) for each in inner])
    if origin is tuple:
        return tuple.__class_getitem__(tuple(each if each is ... else _type(each) for each in inner))
    return given


def _default(info: FieldInfo) -> tuple[Any, ...]:
    # `kind` must be there although it has a default: it tells the models apart.
    return () if info.is_required() or get_origin(info.annotation) is Literal else (info.get_default(),)


def _snapshot(model: type[BaseModel]) -> Callable[[msgspec.Raw], Any]:
    """Reads the data of a snapshot whose content is of this model."""
    kind: Any = Literal[model.model_fields["kind"].default]
    fields = [
        ("project", str),
        ("thing", tuple[str, kind, str]),
        ("version", _translated(Snapshot.model_fields["version"])),
        ("content", _struct(model)),
    ]
    return msgspec.json.Decoder(msgspec.defstruct("Snapshot", fields, gc=False)).decode


_envelope = msgspec.json.Decoder(_Envelope)
_encode = msgspec.json.Encoder().encode


def _item_in_utc(item: Any) -> bool:
    if item.created_at.tzinfo is not UTC or not _each_in_utc(item.history):
        return False
    # Most have neither, and two generators for nothing would cost a hundredth of all folding.
    return not (item.links or item.worklogs) or all(when is None or when.tzinfo is UTC for when in _others(item))


def _others(item: Any) -> Iterator[datetime | None]:
    for link in item.links:
        yield from (link.since, link.until)
    for worklog in item.worklogs:
        yield from (worklog.created_at, worklog.started_at)


def _request_in_utc(request: Any) -> bool:
    instants = (request.created_at, request.merged_at, request.closed_at)
    ends = (each.until for each in request.review_requests)
    others = all(when is None or when.tzinfo is UTC for when in (*instants, *ends))
    return others and all(map(_each_in_utc, (request.history, request.reviews, request.review_requests)))


def _each_in_utc(things: Iterable[Any]) -> bool:
    for each in things:  # noqa: SIM110 - `all` over a generator takes twice as long
        if each.at.tzinfo is not UTC:
            return False
    return True


_quick = {
    "pmsync.work_item.v1": _Kind(_snapshot(WorkItem), _item_in_utc),
    "pmsync.change_request.v1": _Kind(_snapshot(ChangeRequest), _request_in_utc),
}
"""The types that come in hundreds of thousands."""
