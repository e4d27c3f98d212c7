"""What differs between the topics as they should be and as they are, and what of it can be mended."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pmsync.bus.port import ALERTS, COMPACTED, DEAD_LETTERS, EVENTS, METRICS
from pmsync.bus.topics import Difference, Found, Wanted, differences, wanted

EVENTS_TOPIC, LETTERS_TOPIC, METRICS_TOPIC, ALERTS_TOPIC = wanted(8, 3)


def found(topic: Wanted, **settings: str) -> Found:
    """The topic as it should be, but for some settings; Kafka has more of them than pmsync cares for."""
    named = {key.replace("_", "."): value for key, value in settings.items()}
    return Found(topic.partitions, topic.replication, {"flush.ms": "1", **topic.settings, **named})


def test_events_are_kept_for_ever_and_never_compacted() -> None:
    assert EVENTS_TOPIC.name == EVENTS
    assert EVENTS_TOPIC.settings["retention.ms"] == EVENTS_TOPIC.settings["retention.bytes"] == "-1"
    assert EVENTS_TOPIC.settings["cleanup.policy"] == "delete"


def test_the_raw_bytes_of_dead_letters_are_kept_for_thirty_days() -> None:
    assert LETTERS_TOPIC.name == DEAD_LETTERS
    assert LETTERS_TOPIC.settings["retention.ms"] == "2592000000"


def test_of_metrics_the_newest_of_each_project_is_kept() -> None:
    assert METRICS_TOPIC.name == METRICS
    assert {topic.name for topic in wanted(8, 3) if topic.settings["cleanup.policy"] == "compact"} == COMPACTED


def test_transitions_are_kept_for_thirty_days() -> None:
    assert ALERTS_TOPIC.name == ALERTS
    assert ALERTS_TOPIC.settings["cleanup.policy"] == "delete"
    assert ALERTS_TOPIC.settings["retention.ms"] == "2592000000"


def test_events_may_be_kept_for_some_days_only() -> None:
    events, *others = wanted(8, 3, event_days=400)
    assert events.settings == EVENTS_TOPIC.settings | {"retention.ms": "34560000000"}
    assert others == [LETTERS_TOPIC, METRICS_TOPIC, ALERTS_TOPIC]


@pytest.mark.parametrize(("replication", "in_sync"), [(1, "1"), (2, "1"), (3, "2"), (4, "3")])
def test_what_is_acknowledged_is_on_more_than_one_broker_where_one_may_be_away(replication: int, in_sync: str) -> None:
    assert {topic.settings["min.insync.replicas"] for topic in wanted(8, replication)} == {in_sync}


def test_the_prefix_stands_before_each_name() -> None:
    assert [topic.name for topic in wanted(8, 3, "team-a.")] == [f"team-a.{topic.name}" for topic in wanted(8, 3)]


def test_a_topic_as_it_should_be_differs_in_nothing() -> None:
    assert list(differences(EVENTS_TOPIC, found(EVENTS_TOPIC))) == []
    assert list(differences(EVENTS_TOPIC, replace(found(EVENTS_TOPIC), replication=5))) == []


def test_a_topic_that_is_not_there_is_created_with_its_settings() -> None:
    (only,) = differences(EVENTS_TOPIC, None)
    assert only == Difference(EVENTS, "is not there: 8 partitions, 3 replicas", EVENTS_TOPIC.settings, new=True)
    assert only.is_mendable


def test_another_setting_is_mended_by_itself() -> None:
    (only,) = differences(EVENTS_TOPIC, found(EVENTS_TOPIC, retention_ms="604800000"))
    assert only == Difference(EVENTS, "retention.ms is 604800000, not -1", {"retention.ms": "-1"})
    assert only.is_mendable
    (only,) = differences(EVENTS_TOPIC, found(EVENTS_TOPIC, cleanup_policy="compact"))
    assert only.mend == {"cleanup.policy": "delete"}


def test_another_number_of_partitions_is_a_new_topic() -> None:
    for partitions in (4, 16):
        (only,) = differences(EVENTS_TOPIC, replace(found(EVENTS_TOPIC), partitions=partitions))
        assert not only.is_mendable
        assert f"has {partitions} partitions, not 8" in only.words
        assert "another number is a new topic (bus.prefix) and reading all again" in only.words


def test_too_few_replicas_are_for_kafkas_own_tool() -> None:
    (only,) = differences(EVENTS_TOPIC, replace(found(EVENTS_TOPIC), replication=1))
    assert not only.is_mendable
    assert "kafka-reassign-partitions" in only.words
