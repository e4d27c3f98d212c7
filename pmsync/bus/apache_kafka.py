"""The log on Apache Kafka, by kafka-python: what `publish` returned for is on every replica in sync.

Three clients, each opened when it is first needed: a producer, which threads may share; a reader, which stands in one
partition at a time; and, once `join` was called, a member of the group of aggregators, which fetches nothing and only
knows which partitions are this process's. kafka-python's consumers have no guard against threads, so a lock each.

Which partition a record goes to is pmsync's own choice, and where to read on is the store's: Kafka's partitioner and
its committed offsets decide nothing here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import AuthorizationError, KafkaError, KafkaTimeoutError, RetriableError
from kafka.structs import OffsetAndMetadata

from pmsync.bus.cluster import Cluster
from pmsync.bus.port import EVENTS, BusUnavailable, Delivered, Record, partition_of
from pmsync.bus.topics import TOPICS, identity_of, partitions_of

GROUP = "pmsync.aggregator"
HEARTBEAT_MS = 3000
LARGEST = max(topic.largest for topic in TOPICS)
BATCH_BYTES = 256 << 10
LINGER_MS = 5
"""How long a record waits for others to share its request: a publication is a page, sent record by record."""
FETCH_WAIT_MS = 10
"""The broker answers a connection's requests one by one, so that a fetch that waits holds up whatever comes after it.
Nothing is fetched unless there is something to fetch."""
MEMBER_MS = 100
"""How long a member waits for its group each time it is asked: without any wait kafka-python never gets to join."""
JOIN_MS = 1000
"""The same while the members agree anew on who has what."""
CLOSE_MS = 2000


class KafkaBus:
    """A `Bus` on Kafka. Opening it asks nothing of a broker; threads may share it.

    `prefix` stands before the name of every topic and of the group; `member` names this process among the aggregators,
    and is the same after a restart; after `session` seconds of silence its partitions go to others.
    """

    def __init__(
        self,
        cluster: Cluster,
        partitions: int,
        *,
        prefix: str = "",
        member: str = "pmsync-0",
        compression: str | None = "zstd",
        session: float = 30,
    ) -> None:
        self.partitions = partitions
        self._cluster = cluster
        self._prefix = prefix
        self._compression = compression
        self._opening = threading.Lock()
        self._producer: Any = None
        self._reader = _Reader(cluster)
        self._member = _Member(cluster, prefix, member, session)
        self._checked: set[str] = set()

    def publish(self, topic: str, records: Sequence[Record]) -> None:
        """Append the records, in order; returns once every replica in sync has them. If it raises, some may be there."""
        if not records:
            return
        name, headers = self._prefix + topic, _headers(topic)
        self._refuse_large(topic, records)
        with self._cluster.speaking("publish"):
            self._check(name)
            producer = self._open_producer()
            try:
                # The partition is always given: Kafka's own choice would differ from the embedded log's.
                sent = [
                    producer.send(
                        name, record.value, record.key.encode(), headers, partition_of(record.key, self.partitions)
                    )
                    for record in records
                ]
                # A record is given up (`delivery_timeout_ms`) before this wait is, so none can arrive after we raised.
                deadline = time.monotonic() + self._cluster.patience + 1
                for each in sent:
                    each.get(timeout=max(0.0, deadline - time.monotonic()))
            except (RetriableError, AuthorizationError):
                raise  # a producer goes on after these
            except KafkaError:
                self._drop(producer)
                raise

    def read(self, topic: str, partition: int, offset: int, limit: int) -> Sequence[Delivered]:
        """Up to `limit` records from `offset` on; empty only where the broker itself said that there are none yet."""
        place = TopicPartition(self._prefix + topic, partition)
        with self._cluster.speaking("read the log"):
            self._check(place.topic)
            return self._reader.read(place, offset, limit)

    def end_offset(self, topic: str, partition: int) -> int:
        place = TopicPartition(self._prefix + topic, partition)
        with self._cluster.speaking("read the log"):
            self._check(place.topic)
            return self._reader.end(place)

    def begin_offset(self, topic: str, partition: int) -> int:
        place = TopicPartition(self._prefix + topic, partition)
        with self._cluster.speaking("read the log"):
            self._check(place.topic)
            return self._reader.begin(place)

    def identity(self) -> str:
        name = self._prefix + EVENTS
        with self._cluster.speaking("read the log"):
            found = identity_of(self._cluster, name)
        if found is None:
            raise BusUnavailable(f"the topic {name} is not there; run `pmsync topics apply`")
        return found

    def join(self) -> None:
        with self._cluster.speaking("join the group of aggregators"):
            self._check(self._prefix + EVENTS)
            self._member.join()

    def assigned(self) -> frozenset[int]:
        with self._cluster.speaking("take part in the group of aggregators"):
            return self._member.assigned()

    def commit(self, offsets: Mapping[int, int]) -> None:
        self._member.commit(offsets)

    def close(self) -> None:
        self._member.close()
        self._reader.close()
        with self._opening:
            producer, self._producer = self._producer, None
        if producer:
            # Whatever `publish` returned for is acknowledged; what is still on its way raises there.
            with suppress(KafkaTimeoutError):
                producer.close(timeout=CLOSE_MS / 1000)

    def _check(self, name: str) -> None:
        """Refuse a topic that is not there, or in which other processes would place projects elsewhere."""
        if name in self._checked:
            return
        found = partitions_of(self._cluster, name)
        if found is None:
            raise BusUnavailable(f"the topic {name} is not there; run `pmsync topics apply`")
        if found != self.partitions:
            raise BusUnavailable(
                f"the topic {name} has {found} partitions, but bus.partitions is {self.partitions}: projects would be "
                f"looked for in the wrong place. Set bus.partitions to {found}"
            )
        self._checked.add(name)

    def _refuse_large(self, topic: str, records: Sequence[Record]) -> None:
        """Before any of them is sent: a record that never fits must not be tried together with others again and again."""
        largest = next((each.largest for each in TOPICS if each.name == topic), LARGEST)
        for record in records:
            if len(record.value) > largest:
                raise BusUnavailable(
                    f"a record of project {record.key} has {len(record.value)} bytes, but {topic} takes at most "
                    f"{largest}: shorten what its source holds"
                )

    def _open_producer(self) -> Any:
        with self._opening:
            if self._producer is None:
                patience = self._cluster.patience_ms
                self._producer = self._cluster.open(
                    KafkaProducer,
                    enable_idempotence=True,
                    acks="all",
                    compression_type=self._compression,
                    linger_ms=LINGER_MS,
                    batch_size=BATCH_BYTES,
                    max_request_size=LARGEST + (64 << 10),
                    max_block_ms=patience,
                    delivery_timeout_ms=patience,
                    request_timeout_ms=max(100, patience - 2 * LINGER_MS),
                    allow_auto_create_topics=False,
                )
            return self._producer

    def _drop(self, producer: Any) -> None:
        """Begin anew with the next publication; what others have under way with this producer fails and is repeated."""
        with self._opening:
            if self._producer is producer:
                self._producer = None
        with suppress(KafkaTimeoutError):
            producer.close(timeout=0)


class _Reader:
    """One consumer, without a group, that stands in one partition; what it fetched ahead there waits for the next read."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lock = threading.Lock()
        self._consumer: Any = None
        self._place: tuple[TopicPartition, int] | None = None

    def read(self, partition: TopicPartition, offset: int, limit: int) -> Sequence[Delivered]:
        with self._lock:
            consumer = self._open()
            if self._place != (partition, offset):
                consumer.assign([partition])
                consumer.seek(partition, offset)
            self._place = None  # until it is known again, whatever happens
            found = self._poll(partition, offset, limit)
            self._place = (partition, found[-1].offset + 1 if found else offset)
        return [Delivered(each.partition, each.offset, each.key.decode(), each.value or b"") for each in found]

    def _poll(self, partition: TopicPartition, offset: int, limit: int) -> Sequence[Any]:
        """What is at hand, else what the broker has; it is asked where the log ends before silence is believed."""
        deadline = time.monotonic() + self._cluster.patience
        wait = 0
        while not (found := self._consumer.poll(timeout_ms=wait, max_records=limit).get(partition, ())):
            if self._end(partition) <= offset:
                return ()
            if time.monotonic() > deadline:
                raise KafkaTimeoutError
            wait = 1000
        return list(found)

    def end(self, partition: TopicPartition) -> int:
        with self._lock:
            self._open()
            return self._end(partition)

    def begin(self, partition: TopicPartition) -> int:
        with self._lock:
            found = self._open().beginning_offsets([partition], timeout_ms=self._cluster.patience_ms)
            return int(found[partition])

    def _end(self, partition: TopicPartition) -> int:
        return int(self._consumer.end_offsets([partition], timeout_ms=self._cluster.patience_ms)[partition])

    def _open(self) -> Any:
        if self._consumer is None:
            self._consumer = self._cluster.open(
                KafkaConsumer,
                **_CONSUMER,
                # Where to read is always said; a place that is not there any more must be an error, not a leap.
                auto_offset_reset="none",
                fetch_max_wait_ms=FETCH_WAIT_MS,
                fetch_max_bytes=LARGEST,
                max_partition_fetch_bytes=LARGEST // 2,
            )
        return self._consumer

    def close(self) -> None:
        with self._lock:
            consumer, self._consumer = self._consumer, None
            if consumer:
                consumer.close(timeout_ms=CLOSE_MS)


class _Member:
    """This process in the group of aggregators. It is asked by one thread and kept alive by another one, kafka-python's;
    that one's calls on a rebalance are not needed: an assignment is read whole, and the store's epoch is the fence."""

    def __init__(self, cluster: Cluster, prefix: str, name: str, session: float) -> None:
        self._cluster = cluster
        self._topic = prefix + EVENTS
        self._group = prefix + GROUP
        self._name = name
        self._session_ms = int(session * 1000)
        self._joined = False
        self._lock = threading.Lock()
        self._consumer: Any = None

    def join(self) -> None:
        with self._lock:
            self._joined = True
            self._open()

    def assigned(self) -> frozenset[int]:
        with self._lock:
            if not self._joined:
                return frozenset()
            consumer = self._open()
            try:
                # To poll is to say that this process still works; whatever it brings is read by the reader, not here.
                consumer.poll(timeout_ms=JOIN_MS if consumer._coordinator.rejoining else MEMBER_MS)
                _ask_again(consumer)
                found = consumer.assignment()
                consumer.pause(*found)
            except KafkaError:
                self._close()  # one that was put out of the group stays out; the next call joins anew
                raise
            return frozenset(each.partition for each in found)

    def _open(self) -> Any:
        if self._consumer is None:
            self._consumer = self._cluster.open(
                KafkaConsumer,
                **_CONSUMER,
                auto_offset_reset="earliest",
                group_id=self._group,
                group_instance_id=self._name,
                session_timeout_ms=self._session_ms,
                heartbeat_interval_ms=min(HEARTBEAT_MS, self._session_ms // 3),
                # Of a rebalance only those partitions notice that move.
                partition_assignment_strategy=[CooperativeStickyAssignor()],
            )
            self._consumer.subscribe([self._topic])
        return self._consumer

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Tell Kafka how far this process is, without waiting. Nothing reads it but tools that show lag, so that it does
        not matter if it fails."""
        with self._lock:
            if self._consumer is None:
                return
            mine = {
                each: OffsetAndMetadata(offsets[each.partition], "", -1)
                for each in self._consumer.assignment()
                if each.partition in offsets
            }
            if mine:
                self._consumer.commit_async(mine, callback=lambda *_: None)

    def close(self) -> None:
        with self._lock:
            self._joined = False
            self._close()

    def _close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer:
            consumer.close(autocommit=False, timeout_ms=CLOSE_MS)


_CONSUMER: Mapping[str, Any] = {"enable_auto_commit": False, "allow_auto_create_topics": False, "check_crcs": True}


def _ask_again(consumer: Any) -> None:
    """Join once more if an assignment came between two polls: kafka-python 3.0.12 takes itself for joined then, and never
    looks at it; such a member would have no partitions for ever, and nobody else would have them. (No public door.)"""
    coordinator = consumer._coordinator
    if coordinator.rejoining and not coordinator.need_rejoin():
        coordinator.request_rejoin()


def _headers(topic: str) -> list[tuple[str, bytes]]:
    """CloudEvents' Kafka binding tells structured mode from others by this header."""
    return [("content-type", each.content_type.encode()) for each in TOPICS if each.name == topic]
