"""The topics on Kafka as they should be, as one table; what differs in a cluster, and mending it (`pmsync topics apply`).

How many partitions there are decides where each project's events are, so that a topic with another number cannot be
mended: it is a new log.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

from kafka.admin import ConfigResource, KafkaAdminClient

from pmsync.bus.cluster import Cluster
from pmsync.bus.port import ALERTS, DEAD_LETTERS, EVENTS, METRICS

MIB = 1 << 20
FOR_EVER = "-1"
DAY = 24 * 3600 * 1000
MONTH = str(30 * DAY)
CLOUD_EVENTS = "application/cloudevents+json; charset=UTF-8"


class Topic(NamedTuple):
    """A topic: what its records are, how large one may be, and Kafka's own settings of it."""

    name: str
    content_type: str
    largest: int
    settings: Mapping[str, str]


# An event of 2,000 changes has about 400 kB; a dead letter holds the bytes of what it is about in base64.
# Events are never compacted: their key is the project, and the newest event of a project is not its state.
TOPICS = (
    Topic(
        EVENTS,
        CLOUD_EVENTS,
        4 * MIB,
        {"cleanup.policy": "delete", "retention.ms": FOR_EVER, "retention.bytes": FOR_EVER},
    ),
    Topic(
        DEAD_LETTERS,
        "application/json",
        8 * MIB,
        {"cleanup.policy": "delete", "retention.ms": MONTH, "retention.bytes": FOR_EVER},
    ),
    Topic(METRICS, CLOUD_EVENTS, 4 * MIB, {"cleanup.policy": "compact"}),
    Topic(
        ALERTS,
        CLOUD_EVENTS,
        1 * MIB,
        {"cleanup.policy": "delete", "retention.ms": MONTH, "retention.bytes": FOR_EVER},
    ),
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A topic as it should be in one cluster."""

    name: str
    partitions: int
    replication: int
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Found:
    """A topic as it is."""

    partitions: int
    replication: int
    settings: Mapping[str, str]


class Difference(NamedTuple):
    """What is wrong with a topic; `mend` holds the settings that mend it, `new` that it is not there at all."""

    topic: str
    words: str
    mend: Mapping[str, str] = {}
    new: bool = False

    @property
    def is_mendable(self) -> bool:
        return self.new or bool(self.mend)


def wanted(partitions: int, replication: int, prefix: str = "", event_days: int | None = None) -> Sequence[Wanted]:
    """All topics as they should be; events are kept for so many days (None: for ever)."""
    # With three copies, one broker may be away and two still hold what was acknowledged.
    in_sync = str(max(1, replication - 1))
    own = {EVENTS: {"retention.ms": str(event_days * DAY)}} if event_days else {}
    return [
        Wanted(
            prefix + topic.name,
            partitions,
            replication,
            {
                **topic.settings,
                **own.get(topic.name, {}),
                "max.message.bytes": str(topic.largest),
                "min.insync.replicas": in_sync,
            },
        )
        for topic in TOPICS
    ]


def differences(want: Wanted, found: Found | None) -> Iterator[Difference]:
    """What differs between a topic as it should be and as it is."""
    if found is None:
        words = f"is not there: {want.partitions} partitions, {want.replication} replicas"
        yield Difference(want.name, words, want.settings, new=True)
        return
    if found.partitions != want.partitions:
        yield Difference(
            want.name,
            f"has {found.partitions} partitions, not {want.partitions}: each project's place follows from their number. "
            "Set bus.partitions to what is there; another number is a new topic (bus.prefix) and reading all again",
        )
    if found.replication < want.replication:
        yield Difference(
            want.name,
            f"has {found.replication} replicas, not {want.replication}: add some with Kafka's "
            "kafka-reassign-partitions, or set bus.replication",
        )
    wrong = {key: value for key, value in want.settings.items() if found.settings.get(key) != value}
    for key, value in wrong.items():
        yield Difference(want.name, f"{key} is {found.settings.get(key)}, not {value}", {key: value})


class Layout:
    """The topics of one cluster: looked at, and mended."""

    def __init__(self, cluster: Cluster, topics: Sequence[Wanted]) -> None:
        self._cluster = cluster
        self._topics = topics

    def differences(self) -> list[Difference]:
        """What is wrong with the topics of this cluster."""
        with self._cluster.speaking("look at the topics"), closing(_administrator(self._cluster)) as admin:
            found = _described(admin, [topic.name for topic in self._topics])
        return [each for topic in self._topics for each in differences(topic, found.get(topic.name))]

    def mend(self, wrong: Sequence[Difference]) -> None:
        """Create what is not there and set what differs, as far as that is possible."""
        new = {each.topic for each in wrong if each.new}
        with self._cluster.speaking("mend the topics"), closing(_administrator(self._cluster)) as admin:
            if create := {topic.name: _creation(topic) for topic in self._topics if topic.name in new}:
                admin.create_topics(create, timeout_ms=self._cluster.patience_ms)
                admin.wait_for_topics(list(create), timeout_ms=self._cluster.patience_ms)
            for each in wrong:
                if each.mend and not each.new:
                    admin.alter_configs([ConfigResource("topic", each.topic, dict(each.mend))])


def partitions_of(cluster: Cluster, topic: str) -> int | None:
    """How many partitions a topic has; None where it is not there."""
    with closing(_administrator(cluster)) as admin:
        found = _counted(admin, [topic])
    return len(found[topic]) if topic in found else None


def identity_of(cluster: Cluster, topic: str) -> str | None:
    """The id that Kafka gave a topic when it was created; None where it is not there."""
    with closing(_administrator(cluster)) as admin:
        found = [each for each in admin.describe_topics([topic]) if not each["error_code"]]
    return str(found[0]["topic_id"]) if found else None


def _administrator(cluster: Cluster) -> Any:
    return cluster.open(KafkaAdminClient)


def _creation(topic: Wanted) -> dict[str, Any]:
    return {
        "num_partitions": topic.partitions,
        "replication_factor": topic.replication,
        "configs": dict(topic.settings),
    }


def _counted(admin: Any, names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """topic -> its partitions, of those topics that are there."""
    return {each["name"]: each["partitions"] for each in admin.describe_topics(list(names)) if not each["error_code"]}


def _described(admin: Any, names: Sequence[str]) -> dict[str, Found]:
    counted = _counted(admin, names)
    if not counted:
        return {}
    resources = [ConfigResource("topic", name) for name in counted]
    settings = admin.describe_configs(resources, config_filter="all")["topic"]
    return {
        name: Found(
            partitions=len(partitions),
            replication=min(len(each["replica_nodes"]) for each in partitions),
            settings={key: str(entry["value"]) for key, entry in settings[name].items()},
        )
        for name, partitions in counted.items()
    }
