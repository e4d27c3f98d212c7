"""What a process says of itself: what keeps it from working (`/readyz`) and what it has done (`/metrics`).

Whoever works notes it here, and whoever asks is answered from memory: a probe or a scrape never waits for a database, a
broker or a worker.

Next: `pmsync/web/health.py`, which serves it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

SILENT_SECONDS = 60.0
"""How old what is known of store and log may be: to look takes 30 s at the worst, a broker and a database both away."""
MOST_SAID = 100
"""Reasons that are remembered as said; with more than that, one may be said again."""
STARTING = "start"
FAILURES = ("retryable", "fatal", "lease")
STAGES = ("translate", "fold")
WEBHOOKS = (
    "taken", "ignored", "no_source", "closed", "no_secret", "forged", "form", "large", "slow", "unreadable", "busy", "away",
)  # fmt: skip
FAST = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds: where the histograms divide."""


class Health:
    """One process's. Threads share it: every value is replaced as a whole."""

    def __init__(self, clock: Callable[[], datetime], pulse: Callable[[], float] = time.monotonic) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry, clock, lambda: not self.reasons())
        self._pulse = pulse
        self._lock = threading.Lock()
        self._reasons: dict[str, str] = {STARTING: "it is starting"}
        self._said: set[str] = set()
        self._heard_at: float | None = None

    def waits(self, part: str, reason: str) -> bool:
        """A part of the process cannot work, and why. Returns whether that is news: not said since all last worked."""
        with self._lock:
            self._reasons[part] = reason
            news = reason not in self._said
            if len(self._said) == MOST_SAID:
                self._said.clear()
            self._said.add(reason)
            return news

    def works(self, part: str) -> bool:
        """A part works, or is no more. Returns whether that is news."""
        with self._lock:
            had = self._reasons.pop(part, None) is not None
            if not self._reasons:
                self._said.clear()
            return had

    def heard(self) -> None:
        """Store and log have just been looked at; from now on they have to be, again and again."""
        self._heard_at = self._pulse()

    def reasons(self) -> list[str]:
        """Why this process cannot work, each reason once; none if it can."""
        with self._lock:
            found = list(self._reasons.values())
        if self._heard_at is not None and (silent := self._pulse() - self._heard_at) > SILENT_SECONDS:
            found.append(f"nothing was heard of store and log for {silent:.0f} s; is the machine overloaded?")
        return sorted(set(found))


class Metrics:
    """What is counted and measured; `docs/operations.md` has the same table. Labels are few: no project, no item."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], datetime], ready: Callable[[], bool]) -> None:
        self.lag: Mapping[int, int] = {}
        """partition -> records that it has and that are not folded yet, of the partitions of this process."""
        self.read_at: Mapping[str, datetime] = {}
        """source -> when it was last read to its end, or else since when that has been tried."""
        self.failing: Mapping[str, datetime] = {}
        """source -> since when it fails, of those whose last round failed."""
        self.newest: datetime | None = None
        """When the newest event was published that was folded here."""
        self.outbox: Mapping[str, int] = {}
        """state -> messages of the outbox in it."""
        self.partitions = 0
        self.stopped = 0

        def level(name: str, words: str, values: Callable[[], Mapping[str, float]], label: str = "") -> None:
            registry.register(_Level(f"pmsync_{name}", words, label, values))

        def count(name: str, words: str, label: str = "", known: tuple[str, ...] = ()) -> Counter:
            made = Counter(f"pmsync_{name}", words, [label] if label else (), registry=registry)
            for each in known:
                made.labels(each)  # there from the beginning: a rise from nothing to one is no rise to Prometheus
            return made

        def span(name: str, words: str) -> Histogram:
            return Histogram(f"pmsync_{name}", words, registry=registry, buckets=FAST)

        def age(when: datetime) -> float:
            return max(0.0, (clock() - when).total_seconds())

        def newest() -> Mapping[str, float]:
            return {"": age(self.newest)} if self.newest else {}

        ProcessCollector(registry=registry)
        level("build_info", "1; which pmsync this is.", lambda: {version("pmsync"): 1.0}, "version")
        level("ready", "Whether /readyz says 200.", lambda: {"": float(ready())})
        level(
            "consumer_lag_records", "Records of a partition of this process that are not folded yet.",
            lambda: {str(partition): float(lag) for partition, lag in self.lag.items()}, "partition",
        )  # fmt: skip
        level(
            "source_read_age_seconds", "Since a source was last read to its end.",
            lambda: {source: age(when) for source, when in self.read_at.items()}, "source",
        )  # fmt: skip
        level(
            "source_failing_seconds", "Since a source began to fail; 0 if it does not.",
            lambda: {source: age(self.failing[source]) if source in self.failing else 0.0 for source in self.read_at},
            "source",
        )  # fmt: skip
        level("newest_event_age_seconds", "Since the newest event that was folded here was published.", newest)
        level(
            "outbox_messages", "Messages to people, by what became of them.",
            lambda: {state: float(count) for state, count in self.outbox.items()}, "state",
        )  # fmt: skip
        level("partitions", "Partitions that are this process's.", lambda: {"": float(self.partitions)})
        level("partitions_stopped", "Of them, those that stand still.", lambda: {"": float(self.stopped)})
        self.published = count(
            "things_published_total", "Things of sources that were published, each to all its projects at once."
        )
        self.folded = count("records_folded_total", "Records of the log that were folded.")
        self.dead = count("dead_letters_total", "What could not be read, by where.", "stage", STAGES)
        self.batches = span("batch_seconds", "A batch of records, from the log to the committed transaction.")
        self.ticks = span("tick_seconds", "A tick: assessing what changed.")
        self.transitions = count("transitions_total", "Alerts that began, changed or ended.")
        self.sent = count("messages_sent_total", "Messages that were taken.")
        self.failed = count("messages_failed_total", "Tries to send that failed and are repeated.")
        self.given_up = count("messages_given_up_total", "Messages that are not tried again.")
        self.doubtful = count("possible_duplicates_total", "Messages sent again after a try that ended without word.")
        self.taken = count("partitions_taken_total", "Partitions that came to this process.")
        self.dropped = count("partitions_dropped_total", "Partitions that went to others.")
        self.fenced = count("fenced_total", "Partitions that another process had taken over before this one noticed.")
        self.webhooks = count("webhooks_total", "Webhooks, by what became of them.", "outcome", WEBHOOKS)
        self.source_failures = count("source_failures_total", "Rounds over a source that failed.", "kind", FAILURES)


class _Level(Collector):
    """A gauge whose values are looked up in memory when somebody asks."""

    def __init__(self, name: str, words: str, label: str, values: Callable[[], Mapping[str, float]]) -> None:
        self._name, self._words, self._labels, self._values = name, words, [label] if label else [], values

    def describe(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(self._name, self._words, labels=self._labels)

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(self._name, self._words, labels=self._labels)
        for label, value in self._values().items():
            family.add_metric([label] if self._labels else [], value)
        yield family
