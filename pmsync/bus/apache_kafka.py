"""The log on Apache Kafka, by kafka-python: what `publish` returned for is on every replica in sync.

Four clients, each opened when it is first needed: a producer, which threads may share; a reader for `read`, which stands
in one partition at a time; one for `poll`, which follows the partitions of an aggregator; and, once `join` was called, a
member of the group of aggregators, which fetches nothing and only knows which partitions are this process's.
kafka-python's consumers have no guard against threads, so a lock each; the member is kept by a thread of its own.

Which partition a record goes to is pmsync's own choice, and where to read on is the store's: Kafka's partitioner and
its committed offsets decide nothing here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import AuthorizationError, KafkaError, KafkaTimeoutError
from kafka.structs import OffsetAndMetadata

from pmsync.bus.cluster import Cluster
from pmsync.bus.port import COMPACTED, EVENTS, BusUnavailable, Delivered, Record, RecordTooLarge, partition_of
from pmsync.bus.topics import TOPICS, identity_of, partitions_of

GROUP = "pmsync.aggregator"
HEARTBEAT_MS = 3000
LARGEST = max(topic.largest for topic in TOPICS)
BATCH_BYTES = 256 << 10
WINDOW_BYTES = 8 << 20
"""So much may be on its way to the brokers at once: kafka-python's producer takes whatever it is given into memory."""
LINGER_MS = 5
"""How long a record waits for others to share its request: a publication is a page, sent record by record."""
FETCH_WAIT_MS = 10
"""The broker answers a connection's requests one by one, so that a fetch that waits holds up whatever comes after it.
Nothing is fetched unless there is something to fetch."""
FOLLOW_WAIT_MS = 500
"""The same for who follows the log and asks for nothing else."""
MEMBER_SECONDS = 0.5
"""How often a member looks after its group while that is at rest."""
MEMBER_MS = 5
"""How long it then waits for news."""
REJOIN_SECONDS = 2.0
"""How long it stays away once something went wrong, such as another process that goes by its name."""
JOIN_MS = 1000
"""The same while the members agree on who has what, without a pause between: whoever is not there then comes too late."""
UNASKED_SECONDS = 60.0
"""A process that has not asked for so long what is assigned to it does not work any more."""
CLOSE_MS = 2000


class KafkaBus:
    """A `Bus` on Kafka. Opening it asks nothing of a broker; threads may share it.

    `prefix` stands before the name of every topic and of the group; `member` names this process among the aggregators,
    and is the same after a restart; after `session` seconds of silence its partitions go to others. `step` is called
    between the sends of a publication, for tests that end the process there.
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
        step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.partitions = partitions
        self._step = step
        self._cluster = cluster
        self._prefix = prefix
        self._compression = compression
        self._opening = threading.Lock()
        self._producer: Any = None
        self._reader = _Reader(cluster, FETCH_WAIT_MS)
        self._follower = _Reader(cluster, FOLLOW_WAIT_MS)
        self._member = _Member(cluster, prefix, member, session)
        self._checked: set[str] = set()

    def publish(self, topic: str, records: Sequence[Record]) -> None:
        """Append the records, in order; returns once every replica in sync has them. If it raises, some may be there."""
        if not records:
            return
        name, headers = self._prefix + topic, _headers(topic)
        nothing = None if topic in COMPACTED else b""  # to Kafka, a record without a value ends its key
        self._refuse_large(topic, records)
        with self._cluster.speaking("publish"):
            self._check(name)
            producer = self._open_producer()
            try:
                for some in _windows(records):
                    # The partition is always given: Kafka's own choice would differ from the embedded log's.
                    sent = []
                    for record in some:
                        place = partition_of(record.key, self.partitions)
                        value, said = record.value or nothing, list(record.headers) or headers
                        sent.append(producer.send(name, value, record.key.encode(), said, place))
                        self._step("sent")
                    # A record is given up (`delivery_timeout_ms`) before this wait is: none can arrive after we raised.
                    deadline = time.monotonic() + self._cluster.patience + 1
                    for each in sent:
                        each.get(timeout=max(0.0, deadline - time.monotonic()))
            except AuthorizationError:
                raise  # a producer goes on after that
            except KafkaError:
                # After a time-out, too: once it has given up a record that it had sent, kafka-python 3.0.12 gives up its
                # id, never gets another one, and sends nothing more.
                self._drop(producer)
                raise

    def read(self, topic: str, partition: int, offset: int, limit: int) -> Sequence[Delivered]:
        """Up to `limit` records from `offset` on; empty only where the broker itself said that there are none yet."""
        place = TopicPartition(self._prefix + topic, partition)
        with self._cluster.speaking("read the log"):
            self._check(place.topic)
            return self._reader.read(place, offset, limit)

    def poll(self, offsets: Mapping[int, int], limit: int, wait: float) -> Mapping[int, Sequence[Delivered]]:
        places = {TopicPartition(self._prefix + EVENTS, partition): offset for partition, offset in offsets.items()}
        with self._cluster.speaking("read the log"):
            self._check(self._prefix + EVENTS)
            return {place.partition: found for place, found in self._follower.poll(places, limit, wait).items()}

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

    def joined(self) -> bool:
        return self._member.joined()

    def commit(self, offsets: Mapping[int, int]) -> None:
        self._member.commit(offsets)

    def close(self) -> None:
        self._member.close()
        self._reader.close()
        self._follower.close()
        with self._opening:
            producer, self._producer = self._producer, None
        if producer:
            # Whatever `publish` returned for is acknowledged; what is still on its way raises there.
            _end(producer, CLOSE_MS / 1000)

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
                raise RecordTooLarge(
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
        _end(producer, 0)


class _Reader:
    """One consumer, without a group. What it fetched ahead waits for the next call that goes on where the last one was."""

    def __init__(self, cluster: Cluster, fetch_wait_ms: int) -> None:
        self._cluster = cluster
        self._fetch_wait_ms = fetch_wait_ms
        self._lock = threading.Lock()
        self._consumer: Any = None
        self._places: dict[TopicPartition, int] = {}

    def poll(
        self, places: Mapping[TopicPartition, int], limit: int, wait: float
    ) -> dict[TopicPartition, Sequence[Delivered]]:
        """What is at hand of these places (partition -> offset), else what comes within `wait` seconds."""
        with self._lock:
            return self._poll(places, limit, wait)

    def read(self, partition: TopicPartition, offset: int, limit: int) -> Sequence[Delivered]:
        """What a place has; the broker is asked where the log ends before silence is believed."""
        deadline = time.monotonic() + self._cluster.patience
        wait = 0.0
        with self._lock:
            while not (found := self._poll({partition: offset}, limit, wait).get(partition, ())):
                if self._end(partition) <= offset:
                    return ()
                if time.monotonic() > deadline:
                    raise KafkaTimeoutError
                wait = 1.0
        return found

    def _poll(
        self, places: Mapping[TopicPartition, int], limit: int, wait: float
    ) -> dict[TopicPartition, Sequence[Delivered]]:
        consumer = self._open()
        before, self._places = self._places, {}  # until they are known again, whatever happens
        if before.keys() != places.keys():
            consumer.assign(list(places))
        for place, offset in places.items():
            if before.get(place) != offset:
                consumer.seek(place, offset)
        found = consumer.poll(timeout_ms=int(wait * 1000), max_records=limit)
        self._places = {**places, **{place: records[-1].offset + 1 for place, records in found.items()}}
        return {place: list(map(_delivered, records)) for place, records in found.items()}

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
                fetch_max_wait_ms=self._fetch_wait_ms,
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
    """This process in the group of aggregators. A thread of its own keeps it there: all members of a group have to join it
    together, and kafka-python 3.0.12 throws away what it is assigned while nobody waits for it, so that members that wait
    now and then have one another join anew for ever.

    The thread goes on only as long as `assigned` is asked: a process that does not work any more must lose its
    partitions. kafka-python's calls on a rebalance are not needed: an assignment is read whole, and the store's epoch is
    the fence.
    """

    def __init__(self, cluster: Cluster, prefix: str, name: str, session: float) -> None:
        self._cluster = cluster
        self._topic = prefix + EVENTS
        self._group = prefix + GROUP
        self._name = name
        self._session_ms = int(session * 1000)
        self._lock = threading.Lock()
        self._consumer: Any = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._asked_at = 0.0
        self._found: frozenset[int] = frozenset()
        self._problem: Exception | None = None

    def join(self) -> None:
        with self._lock:
            self._open()
            self._asked_at = time.monotonic()
            if self._thread is None:
                self._thread = threading.Thread(target=self._keep, name="kafka-member", daemon=True)
                self._thread.start()

    def joined(self) -> bool:
        consumer = self._consumer  # no lock: one that asks how things are must not wait for a member that waits
        return consumer is not None and bool(consumer._coordinator.stable())

    def assigned(self) -> frozenset[int]:
        """What was assigned last; raises what has gone wrong since this was asked."""
        self._asked_at = time.monotonic()
        problem, self._problem = self._problem, None
        if problem:
            raise problem
        return self._found

    def _keep(self) -> None:
        pause = 0.0
        while not self._ended.wait(pause):
            pause = MEMBER_SECONDS
            if time.monotonic() - self._asked_at > UNASKED_SECONDS:
                continue
            with self._lock:
                if self._ended.is_set():
                    return
                try:
                    self._found = self._poll()
                    pause = 0.0 if _is_joining(self._consumer) else MEMBER_SECONDS
                except Exception as error:  # whatever it is, it is for who asks: a thread that ended would tell nobody
                    self._close()  # one that was put out of the group stays out; the next round joins anew
                    self._found, self._problem = frozenset(), error
                    pause = REJOIN_SECONDS

    def _poll(self) -> frozenset[int]:
        """To poll is to say that this process still works; whatever it brings is read by the reader, not here."""
        consumer = self._open()
        consumer.poll(timeout_ms=JOIN_MS if _is_joining(consumer) else MEMBER_MS)
        _ask_again(consumer)
        found = consumer.assignment()
        consumer.pause(*found)
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
        not matter if it fails, nor if it is left out while the member is busy."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            with suppress(KafkaError, OSError):
                self._commit(offsets)
        finally:
            self._lock.release()

    def _commit(self, offsets: Mapping[int, int]) -> None:
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
        self._ended.set()
        with self._lock:
            self._close()
        if self._thread:
            self._thread.join(CLOSE_MS / 1000)

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


def _is_joining(consumer: Any) -> bool:
    return bool(consumer._coordinator.rejoining or consumer._coordinator.need_rejoin())


def _windows(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """The records in their order, in parts that may be on their way at once: of `WINDOW_BYTES`, or of one record."""
    begin, size = 0, 0
    for end, record in enumerate(records):
        if end > begin and size + len(record.value) > WINDOW_BYTES:
            yield records[begin:end]
            begin, size = end, 0
        size += len(record.value)
    yield records[begin:]


def _delivered(record: Any) -> Delivered:
    """A record as it is, whoever wrote it: others may leave out its key or its value, or write a key that is no text."""
    key = (record.key or b"").decode(errors="backslashreplace")
    headers = tuple((name, value or b"") for name, value in record.headers)
    return Delivered(record.partition, record.offset, key, record.value or b"", headers)


def _end(producer: Any, seconds: float) -> None:
    """Close a producer. kafka-python waits for what is under way, and if that takes longer it raises and leaves its thread
    running, which goes on trying. (No public door.)"""
    try:
        producer.close(timeout=seconds)
    except KafkaTimeoutError:
        producer._sender.force_close()
        producer._sender.join(CLOSE_MS / 1000)
        with suppress(KafkaTimeoutError):
            producer.close(timeout=0)


def _headers(topic: str) -> list[tuple[str, bytes]]:
    """CloudEvents' Kafka binding tells structured mode from others by this header."""
    return [("content-type", each.content_type.encode()) for each in TOPICS if each.name == topic]
