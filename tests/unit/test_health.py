"""What a process says of itself: reasons once each, news once, silence as no health, ages told by the clock it is given."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client.exposition import generate_latest

from pmsync.health import SILENT_SECONDS, STARTING, Health

NOW = datetime(2026, 3, 16, 12, tzinfo=UTC)


class Time:
    now = NOW
    pulse = 0.0


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def health(time: Time) -> Health:
    return Health(lambda: time.now, lambda: time.pulse)


def test_it_is_not_ready_before_it_has_started(health: Health) -> None:
    assert health.reasons() == ["it is starting"]
    assert health.works(STARTING)
    assert health.reasons() == []


def test_each_reason_is_said_once_whoever_meets_it(health: Health) -> None:
    health.works(STARTING)
    health.waits("store", "gone")
    health.waits("notifier", "gone")
    health.waits("log", "away")
    assert health.reasons() == ["away", "gone"]
    health.works("store")
    assert health.reasons() == ["away", "gone"], "one of those who met it has not got over it"


def test_a_reason_is_news_until_all_is_well_again(health: Health) -> None:
    health.works(STARTING)
    said = [health.waits("log", reason) for reason in ("away", "away", "refused", "away")]
    assert said == [True, False, True, False], "reasons that alternate would fill the log"
    assert [health.waits("group", "not joined"), health.waits("store", "away")] == [True, False]
    assert [health.works("log"), health.works("log"), health.works("store"), health.works("group")] == [
        True,
        False,
        True,
        True,
    ]
    assert health.waits("log", "away")


def test_silence_is_no_health(health: Health, time: Time) -> None:
    health.works(STARTING)
    time.pulse = 1000.0
    assert health.reasons() == [], "nobody has begun to look"
    health.heard()
    time.pulse += SILENT_SECONDS
    assert health.reasons() == []
    time.pulse += 1
    (reason,) = health.reasons()
    assert reason.startswith("nothing was heard of store and log for 61 s")


def exposed(health: Health) -> list[str]:
    return [line for line in generate_latest(health.registry).decode().splitlines() if line.startswith("pmsync_")]


def test_levels_are_what_they_are_when_they_are_asked_for(health: Health, time: Time) -> None:
    metrics = health.metrics
    metrics.lag, metrics.outbox, metrics.newest = {0: 7, 3: 0}, {"ready": 2}, NOW
    metrics.read_at = {"jira": NOW}
    time.now = NOW + timedelta(seconds=90)
    assert {
        'pmsync_consumer_lag_records{partition="0"} 7.0',
        'pmsync_consumer_lag_records{partition="3"} 0.0',
        'pmsync_outbox_messages{state="ready"} 2.0',
        'pmsync_source_read_age_seconds{source="jira"} 90.0',
        "pmsync_newest_event_age_seconds 90.0",
        "pmsync_ready 0.0",
    } <= set(exposed(health))
    metrics.lag = {3: 1}
    lags = [line for line in exposed(health) if line.startswith("pmsync_consumer_lag")]
    assert lags == ['pmsync_consumer_lag_records{partition="3"} 1.0'], "a partition that went to others is theirs"


def test_a_clock_set_back_gives_no_age_below_nothing(health: Health, time: Time) -> None:
    health.metrics.newest = NOW
    time.now = NOW - timedelta(hours=1)
    assert "pmsync_newest_event_age_seconds 0.0" in exposed(health)


def test_what_is_counted_by_kind_is_there_from_the_beginning(health: Health) -> None:
    """Prometheus sees no rise in a series that comes up with one."""
    zero = {line for line in exposed(health) if line.endswith(" 0.0")}
    assert {
        'pmsync_source_failures_total{kind="fatal"} 0.0',
        'pmsync_source_failures_total{kind="retryable"} 0.0',
        'pmsync_dead_letters_total{stage="fold"} 0.0',
    } <= zero


def test_two_of_them_share_nothing() -> None:
    one, other = Health(lambda: NOW), Health(lambda: NOW)
    one.metrics.sent.inc()
    assert "pmsync_messages_sent_total 0.0" in exposed(other)
