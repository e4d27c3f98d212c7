"""What is on the log, written down for others: JSON Schemas of the messages and an AsyncAPI document of the topics.

Both are generated from the models that pmsync itself reads and writes with, by one table, `MESSAGES`. What they look
like now is committed in `docs/schemas`; a type may only grow by optional fields (`tests/unit/test_schemas.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, Field, WithJsonSchema, create_model
from pydantic.json_schema import models_json_schema

from pmsync.bus.letters import Buried, Closed
from pmsync.bus.port import ALERTS, DEAD_LETTERS, EVENTS, METRICS
from pmsync.bus.topics import TOPICS, Topic
from pmsync.core.cloudevents import Context
from pmsync.core.events import KINDS, Fact, Snapshot, Thing, Tombstone
from pmsync.core.outputs import AlertTransition, ProjectMetrics

DIALECT = "https://json-schema.org/draft/2020-12/schema"
COMPONENTS = "#/components/schemas/{model}"


class Message(NamedTuple):
    """A message of a topic. `type` is that of the CloudEvent whose data the model is; None: the model is the whole."""

    topic: str
    name: str
    model: type[BaseModel]
    type: str | None = None


def _snapshot(kind: str, content: type[BaseModel]) -> type[BaseModel]:
    """The snapshots of one kind: the model for all kinds leaves open which content goes with which thing."""
    third = {"type": "string"}
    thing = {"type": "array", "prefixItems": [third, {"const": kind}, third], "minItems": 3, "maxItems": 3}
    described = thing | {"description": "The source's name, the kind, the source's immutable id."}
    return create_model(
        f"{content.__name__}Snapshot",
        __base__=Snapshot,
        __doc__=Snapshot.__doc__,
        thing=(Annotated[Thing, WithJsonSchema(described)], ...),
        content=(content, ...),
    )


def _event(name: str, model: type[BaseModel]) -> Message:
    return Message(EVENTS, name, model, f"pmsync.{name}.v1")


MESSAGES = (
    *(_event(kind, _snapshot(kind, content)) for kind, content in KINDS.items()),
    _event("tombstone", Tombstone),
    _event("acknowledgement", Fact),
    Message(DEAD_LETTERS, "buried", Buried),
    Message(DEAD_LETTERS, "closed", Closed),
    Message(METRICS, "metrics", ProjectMetrics, "pmsync.metrics.v1"),
    Message(ALERTS, "alert", AlertTransition, "pmsync.alert.v1"),
)
ABOUT: Mapping[str, str] = {
    EVENTS: "Everything that pmsync knows: what was read of the sources, and what people said.",
    DEAD_LETTERS: "What could not be read, with its bytes and the reason, and what became of it.",
    METRICS: "What each project is measured at: its newest record stands for all before it; an empty one ends it.",
    ALERTS: "Every transition of an alert, as people were told of it.",
}


def events_schema() -> str:
    """The JSON Schema of every CloudEvent on the log as JSON; `$defs` has each type by its name."""
    events = [message for message in MESSAGES if message.topic == EVENTS]
    named, schema = _definitions(events, "#/$defs/{model}")
    types = {str(message.type): named[message] for message in events}
    return _written(
        {
            "$schema": DIALECT,
            "title": "A CloudEvent on pmsync's log",
            "oneOf": [{"$ref": f"#/$defs/{name}"} for name in types],
            "$defs": types | schema,
        }
    )


def asyncapi() -> str:
    """The AsyncAPI 3 document of all topics as JSON."""
    named, schema = _definitions(MESSAGES, COMPONENTS)
    titles = {message: str(named[message]["title"]) for message in MESSAGES}
    schemas = schema | {titles[message]: named[message] for message in MESSAGES}
    return _written(
        {
            "asyncapi": "3.0.0",
            "info": {
                "title": "pmsync",
                "version": "1",
                "description": (
                    "The topics of pmsync's log. A type of message only grows by optional fields; whatever breaks a reader is "
                    "a new type (`.v2`). A record's key is its project (a dead letter's may be its source), and its partition "
                    "is the first eight bytes of the SHA-256 of its key, as a big-endian number, modulo the number of "
                    "partitions. On Kafka, `bus.prefix` of the configuration stands before each address."
                ),
                "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
            },
            "defaultContentType": "application/json",
            "channels": {_id(topic.name): _channel(topic) for topic in TOPICS},
            "operations": {
                f"{action}.{_id(topic.name)}": {
                    "action": action,
                    "channel": {"$ref": f"#/channels/{_id(topic.name)}"},
                    "messages": [
                        {"$ref": f"#/channels/{_id(topic.name)}/messages/{message.name}"} for message in _of(topic)
                    ],
                }
                for topic in TOPICS
                for action in ("send", "receive")
            },
            "components": {
                "messages": {
                    f"{_id(topic.name)}.{message.name}": _message(topic, message, titles[message])
                    for topic in TOPICS
                    for message in _of(topic)
                },
                # AsyncAPI's own schemas are JSON Schema's draft 7, which calls the items of a tuple otherwise.
                "schemas": _renamed(schemas, "prefixItems", "items"),
            },
        }
    )


def _channel(topic: Topic) -> dict[str, Any]:
    settings = topic.settings
    cleanup = settings["cleanup.policy"].split(",")
    retention = {name: int(settings[name]) for name in ("retention.ms", "retention.bytes") if name in settings}
    return {
        "address": topic.name,
        "description": ABOUT[topic.name],
        "messages": {
            message.name: {"$ref": f"#/components/messages/{_id(topic.name)}.{message.name}"} for message in _of(topic)
        },
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "topicConfiguration": {"cleanup.policy": cleanup, **retention, "max.message.bytes": topic.largest},
                "bindingVersion": "0.5.0",
            }
        },
    }


def _message(topic: Topic, message: Message, title: str) -> dict[str, Any]:
    return {
        "name": message.type or f"{topic.name}.{message.name}",
        "title": title,
        "contentType": topic.content_type,
        "headers": {"type": "object", "properties": {"content-type": {"const": topic.content_type}}},
        "payload": {"$ref": COMPONENTS.format(model=title)},
        "bindings": {"kafka": {"key": {"type": "string"}, "bindingVersion": "0.5.0"}},
    }


def _of(topic: Topic) -> list[Message]:
    return [message for message in MESSAGES if message.topic == topic.name]


def _definitions(messages: Sequence[Message], reference: str) -> tuple[dict[Message, dict[str, Any]], dict[str, Any]]:
    """The schema of each message, and the schemas that these refer to."""
    models = {message: _whole(message) for message in messages}
    found, definitions = models_json_schema(
        [(model, "validation") for model in models.values()], ref_template=reference
    )
    below: dict[str, Any] = definitions["$defs"]
    names = {message: _name(found[model, "validation"]) for message, model in models.items()}
    return {message: below.pop(name) for message, name in names.items()}, below


def _name(reference: Mapping[str, Any]) -> str:
    return str(reference["$ref"]).rpartition("/")[2]


def _whole(message: Message) -> type[BaseModel]:
    """The model of a whole record: for a CloudEvent the envelope with its data."""
    if message.type is None:
        return message.model
    named: Any = Literal[message.type]
    return create_model(
        f"{''.join(map(str.capitalize, message.name.split('_')))}Event",
        __base__=Context,
        __doc__=message.model.__doc__,
        type=(named, ...),
        data=(message.model, Field(description="What is said; newer versions may add fields.")),
    )


def _id(topic: str) -> str:
    """A topic without the program's name: pmsync.dead-letters -> dead-letters."""
    return topic.partition(".")[2]


def _renamed(node: Any, old: str, new: str) -> Any:
    if isinstance(node, dict):
        return {new if key == old else key: _renamed(value, old, new) for key, value in node.items()}
    return [_renamed(each, old, new) for each in node] if isinstance(node, list) else node


def _written(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False)
