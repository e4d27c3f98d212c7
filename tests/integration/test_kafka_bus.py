"""The log on a real Kafka keeps the bus's promises, and says what is wrong where it cannot."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from bus_contract import BusContract, read_all, records, until, values
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

from pmsync.bus import apache_kafka
from pmsync.bus.apache_kafka import KafkaBus
from pmsync.bus.cluster import Cluster
from pmsync.bus.port import (
    ALERTS,
    DEAD_LETTERS,
    EVENTS,
    METRICS,
    Bus,
    BusUnavailable,
    Record,
    RecordTooLarge,
    partition_of,
)
from pmsync.bus.topics import TOPICS, Layout, wanted
from pmsync.core.events import Thing, Tombstone, decode, encode
from tests.kafka_broker import Broker
from tests.unit.builders import TRACEPARENT, binary

pytestmark = pytest.mark.integration

APOLLO = partition_of("apollo", 8)
NOBODY = Cluster(("127.0.0.1:1",), patience=0.5)


@pytest.fixture
def cluster(broker: str) -> Cluster:
    return Cluster((broker,))


def created(cluster: Cluster, prefix: str, partitions: int = 8) -> Layout:
    """pmsync's topics in a cluster."""
    layout = Layout(cluster, wanted(partitions, 1, prefix))
    layout.mend(layout.differences())
    return layout


@pytest.fixture
def connect(cluster: Cluster, prefix: str) -> Iterator[Callable[..., KafkaBus]]:
    """Opens a bus of this test's own topics."""
    created(cluster, prefix)
    opened: list[KafkaBus] = []

    def connect(**options: Any) -> KafkaBus:
        opened.append(KafkaBus(cluster, 8, prefix=prefix, **options))
        return opened[-1]

    yield connect
    for bus in opened:
        bus.close()


class TestKafkaBus(BusContract):
    @pytest.fixture
    def new_topic(self, cluster: Cluster, prefix: str) -> Callable[[], str]:
        def create() -> str:
            name = uuid.uuid4().hex
            with closing(KafkaAdminClient(**cluster.options())) as admin:
                settings = {"max.message.bytes": str(4 << 20)}
                topic = {"num_partitions": 8, "replication_factor": 1, "configs": settings}
                admin.create_topics({prefix + name: topic}, wait_for_metadata=True)
            return name

        return create

    @pytest.fixture
    def unreachable(self) -> Iterator[Callable[[], Bus]]:
        bus = KafkaBus(NOBODY, 8)
        yield lambda: bus
        bus.close()


# --- what is in the records -------------------------------------------------------------------------------------------


@pytest.fixture
def polled(cluster: Cluster, prefix: str) -> Iterator[Callable[[str], Any]]:
    """The one record of a topic, as any other consumer finds it."""
    with closing(KafkaConsumer(**cluster.options(), auto_offset_reset="earliest", enable_auto_commit=False)) as reader:

        def poll(topic: str) -> Any:
            reader.assign([TopicPartition(prefix + topic, APOLLO)])
            ((record,),) = reader.poll(timeout_ms=10_000).values()
            return record

        yield poll


@pytest.mark.parametrize(
    ("topic", "content_type"),
    [
        (EVENTS, b"application/cloudevents+json; charset=UTF-8"),
        (DEAD_LETTERS, b"application/json"),
        (METRICS, b"application/cloudevents+json; charset=UTF-8"),
        (ALERTS, b"application/cloudevents+json; charset=UTF-8"),
    ],
)
def test_records_say_what_they_are(
    connect: Callable[..., KafkaBus], polled: Callable[[str], Any], topic: str, content_type: bytes
) -> None:
    connect().publish(topic, [Record("apollo", b"{}")])
    record = polled(topic)
    assert (record.headers, record.key, record.value) == ([("content-type", content_type)], b"apollo", b"{}")


@pytest.mark.parametrize(("topic", "value"), [(METRICS, None), (EVENTS, b"")])
def test_only_where_kafka_compacts_nothing_ends_a_key(
    connect: Callable[..., KafkaBus], polled: Callable[[str], Any], topic: str, value: bytes | None
) -> None:
    connect().publish(topic, [Record("apollo", b"")])
    assert polled(topic).value == value


def test_a_publication_is_never_on_its_way_as_a_whole(
    connect: Callable[..., KafkaBus], monkeypatch: pytest.MonkeyPatch
) -> None:
    """kafka-python's producer has no bound of its own: what is given to it while the broker is away stays in memory."""
    monkeypatch.setattr(apache_kafka, "WINDOW_BYTES", 30)
    bus = connect()
    bus.publish(EVENTS, records("apollo", "first"))
    producer, under_way, most = bus._producer, list[Any](), 0
    send = producer.send

    def spying(topic: str, value: bytes, *words: Any) -> Any:
        nonlocal most, under_way
        under_way = [(size, future) for size, future in under_way if not future.is_done]
        under_way.append((len(value), send(topic, value, *words)))
        most = max(most, sum(size for size, _ in under_way))
        return under_way[-1][1]

    monkeypatch.setattr(producer, "send", spying)
    wanted = [f"{n:010}" for n in range(20)] + ["x" * 50] + ["last"]
    bus.publish(EVENTS, records("apollo", *wanted))
    assert values(read_all(bus, EVENTS, APOLLO)) == ["first", *wanted]
    assert most <= 50


def test_what_others_write_without_a_key_or_a_value_is_read(
    connect: Callable[..., KafkaBus], cluster: Cluster, prefix: str
) -> None:
    """It cannot be folded, but to stumble over it would stop the partition for ever."""
    bus = connect()
    with closing(KafkaProducer(**cluster.options())) as stranger:
        for key, value, headers in ((None, b"1", []), (b"\xff", b"2", [("x", b"")]), (b"apollo", None, [])):
            stranger.send(prefix + EVENTS, value, key, headers, APOLLO).get(timeout=10)
    assert [each[2:] for each in read_all(bus, EVENTS, APOLLO)] == [
        ("", b"1", ()),
        ("\\xff", b"2", (("x", b""),)),
        ("apollo", b"", ()),
    ]


def test_what_others_write_in_binary_mode_is_an_event(
    connect: Callable[..., KafkaBus], cluster: Cluster, prefix: str
) -> None:
    bus = connect()
    told = Tombstone(project="apollo", thing=Thing("jira", "work_item", "1"), version=1)
    value, headers = binary(encode(told, TRACEPARENT))
    with closing(KafkaProducer(**cluster.options())) as stranger:
        stranger.send(prefix + EVENTS, value, b"apollo", headers, APOLLO).get(timeout=10)
    bus.publish(EVENTS, [Record("apollo", encode(told))])
    found = read_all(bus, EVENTS, APOLLO)
    assert [decode(each.value, each.headers) for each in found] == [told, told]


# --- what cannot be done is said --------------------------------------------------------------------------------------


def test_nobody_there_is_said_within_the_patience() -> None:
    begun = time.monotonic()
    with closing(KafkaBus(NOBODY, 8)) as bus, pytest.raises(BusUnavailable) as said:
        bus.publish(EVENTS, records("apollo", "one"))
    assert time.monotonic() - begun < 5
    assert "Kafka at 127.0.0.1:1: no answer within 0.5 s" in str(said.value)
    assert "bus.bootstrap_servers" in str(said.value)


def test_nobody_there_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    with closing(KafkaBus(NOBODY, 8)) as bus:
        for _ in range(3):
            with pytest.raises(BusUnavailable):
                bus.read(EVENTS, 0, 0, 1)
            with pytest.raises(BusUnavailable):
                bus.publish(EVENTS, records("apollo", "one"))
    until(lambda: threading.active_count() <= before)


def test_a_missing_topic_is_said(cluster: Cluster, prefix: str) -> None:
    with closing(KafkaBus(cluster, 8, prefix=prefix)) as bus:
        for use in (lambda: bus.read(EVENTS, 0, 0, 1), lambda: bus.publish(EVENTS, records("apollo", "one")), bus.join):
            with pytest.raises(BusUnavailable, match=r"pmsync\.events is not there; run `pmsync topics apply`"):
                use()


def test_another_number_of_partitions_is_refused(cluster: Cluster, prefix: str) -> None:
    created(cluster, prefix, partitions=4)
    with (
        closing(KafkaBus(cluster, 8, prefix=prefix)) as bus,
        pytest.raises(BusUnavailable, match=r"has 4 partitions, but bus.partitions is 8: .*Set bus.partitions to 4"),
    ):
        bus.publish(EVENTS, records("apollo", "one"))


def test_a_record_that_is_too_large_is_refused_before_any_is_sent(connect: Callable[..., KafkaBus]) -> None:
    bus = connect()
    largest = TOPICS[0].largest
    with pytest.raises(RecordTooLarge, match=rf"project apollo has {largest + 1} bytes, .*takes at most {largest}"):
        bus.publish(EVENTS, [Record("apollo", b"before"), Record("apollo", b"x" * (largest + 1))])
    assert bus.end_offset(EVENTS, APOLLO) == 0
    bus.publish(EVENTS, records("apollo", "one"))
    assert bus.end_offset(EVENTS, APOLLO) == 1


def test_the_largest_record_fits(connect: Callable[..., KafkaBus]) -> None:
    """The bounds of the bus, of the producer and of the topic agree, also where nothing can be compressed."""
    bus = connect(compression=None)
    for topic in TOPICS:
        bus.publish(topic.name, [Record("a" * 60, b"x" * (topic.largest - 10_000))])


def test_a_topic_that_takes_less_than_it_should_is_said(
    connect: Callable[..., KafkaBus], cluster: Cluster, prefix: str
) -> None:
    from kafka.admin import ConfigResource

    with closing(KafkaAdminClient(**cluster.options())) as admin:
        admin.alter_configs([ConfigResource("topic", prefix + EVENTS, {"max.message.bytes": "1000"})])
    bus = connect(compression=None)

    def refused() -> bool:
        try:
            bus.publish(EVENTS, records("apollo", "x" * 5000))
        except BusUnavailable as error:
            return "larger than the topic takes; `pmsync topics apply`" in str(error)
        return False

    until(refused)  # a broker takes a moment to follow a new setting
    bus.publish(EVENTS, records("apollo", "one"))


def test_what_was_removed_from_the_log_is_not_leapt_over(
    connect: Callable[..., KafkaBus], cluster: Cluster, prefix: str
) -> None:
    bus = connect()
    bus.publish(EVENTS, records("apollo", *"abcdef"))
    with closing(KafkaAdminClient(**cluster.options())) as admin:
        admin.delete_records({TopicPartition(prefix + EVENTS, APOLLO): 4})
    assert bus.begin_offset(EVENTS, APOLLO) == 4
    with pytest.raises(BusUnavailable, match="what is to be read next is no longer there"):
        bus.read(EVENTS, APOLLO, 0, 10)
    assert values(bus.read(EVENTS, APOLLO, 4, 10)) == ["e", "f"]


# --- the broker goes away ---------------------------------------------------------------------------------------------


def test_a_broker_that_went_down_is_said_and_one_that_came_back_is_used(own_broker: Broker) -> None:
    cluster = Cluster((own_broker.address,), patience=2.0)
    created(cluster, "")
    with closing(KafkaBus(cluster, 8)) as bus:
        bus.publish(EVENTS, records("apollo", "one"))
        assert values(bus.read(EVENTS, APOLLO, 0, 1)) == ["one"]
        own_broker.kill()
        for use in (
            lambda: bus.read(EVENTS, APOLLO, 1, 10),
            lambda: bus.end_offset(EVENTS, APOLLO),
            lambda: bus.publish(EVENTS, records("apollo", "lost")),
        ):
            begun = time.monotonic()
            with pytest.raises(BusUnavailable, match="no answer within 2 s"):
                use()
            assert time.monotonic() - begun < 10
        own_broker.start()
        until(lambda: answers(bus))
        bus.publish(EVENTS, records("apollo", "two"))
        assert values(read_all(bus, EVENTS, APOLLO)) == ["one", "two"], "what was given up does not arrive later"


def answers(bus: Bus) -> bool:
    try:
        return bus.end_offset(EVENTS, APOLLO) >= 0
    except BusUnavailable:
        return False


def test_killed_while_publishing_nothing_acknowledged_is_lost_doubled_or_out_of_order(own_broker: Broker) -> None:
    """`kill -9` three times in the middle of publications; no publication need even fail."""
    cluster = Cluster((own_broker.address,), patience=30.0)
    created(cluster, "")
    stop = threading.Event()

    def publish(bus: KafkaBus, project: str) -> list[str]:
        told: list[str] = []
        while not stop.is_set():
            batch = [f"{project}/{len(told) + n}" for n in range(20)]
            bus.publish(EVENTS, records(project, *batch))
            told += batch
        return told

    with closing(KafkaBus(cluster, 8)) as bus, ThreadPoolExecutor(3) as pool:
        projects = sorted(
            {partition_of(key, 8): key for key in ("apollo", "beacon", "cirrus", "delta", "p1")}.values()
        )[:3]
        running = [pool.submit(publish, bus, project) for project in projects]
        try:
            for _ in range(3):
                ends = sum(bus.end_offset(EVENTS, n) for n in range(8))
                until(lambda before=ends: sum(bus.end_offset(EVENTS, n) for n in range(8)) > before + 200)
                own_broker.kill()
                own_broker.start()
        finally:
            stop.set()
        told = {project: each.result() for project, each in zip(projects, running, strict=True)}
        found = {project: values(read_all(bus, EVENTS, partition_of(project, 8))) for project in projects}
    assert found == told
    assert sum(map(len, told.values())) > 600


def test_a_producer_that_is_dropped_leaves_no_thread_behind(own_broker: Broker) -> None:
    """Also when another thread of this process has something under way with it."""
    cluster = Cluster((own_broker.address,), patience=30.0)
    created(cluster, "")
    before = threading.active_count()
    with closing(KafkaBus(cluster, 8)) as bus:
        bus.publish(EVENTS, records("apollo", "one"))
        own_broker.kill()
        producer = bus._open_producer()
        producer.send(EVENTS, b"under way", partition=0)
        bus._drop(producer)
        del producer
        until(lambda: threading.active_count() <= before, 10)


def test_an_outage_that_outlasts_the_patience_ends_when_the_broker_is_back(own_broker: Broker) -> None:
    """Records that a broker refused on its way down and that are then given up must not stop their producer for good."""
    cluster = Cluster((own_broker.address,), patience=2.0)
    created(cluster, "")
    stop, failed, told = threading.Event(), threading.Event(), []
    before = threading.active_count()

    def publish(bus: KafkaBus) -> None:
        while not stop.is_set():
            try:
                bus.publish(EVENTS, records("apollo", str(len(told))))
                told.append(str(len(told)))
            except BusUnavailable:
                failed.set()

    def goes_on() -> None:
        had = len(told)
        until(lambda: len(told) > had + 20)

    with closing(KafkaBus(cluster, 8)) as bus, ThreadPoolExecutor(1) as pool:
        running = pool.submit(publish, bus)
        try:
            for _ in range(2):
                failed.clear()
                goes_on()
                own_broker.stop()
                assert failed.wait(30)
                own_broker.start()
            goes_on()
        finally:
            stop.set()
        running.result()
        found = values(read_all(bus, EVENTS, APOLLO))
    assert sorted(set(found), key=int)[: len(told)] == told, "nothing that was acknowledged is lost"
    until(lambda: threading.active_count() <= before)


# --- sharing the partitions -------------------------------------------------------------------------------------------


class Members:
    """Aggregators' ends of the bus, each asked by a thread of its own, as rounds of work do."""

    def __init__(self, open_bus: Callable[..., KafkaBus]) -> None:
        self._open_bus = open_bus
        self._stops: dict[str, tuple[threading.Event, threading.Thread, KafkaBus]] = {}
        self.seen: dict[str, frozenset[int]] = {}

    def join(self, name: str) -> None:
        bus, stop = self._open_bus(member=name, session=2.0), threading.Event()
        bus.join()
        self.seen[name] = frozenset()

        def rounds() -> None:
            while not stop.wait(0.05):
                try:
                    self.seen[name] = bus.assigned()
                except BusUnavailable:
                    continue  # the next round tries again, as the aggregator does

        thread = threading.Thread(target=rounds)
        thread.start()
        self._stops[name] = stop, thread, bus

    def leave(self, name: str) -> None:
        stop, thread, bus = self._stops.pop(name)
        stop.set()
        thread.join()
        bus.close()
        del self.seen[name]

    def close(self) -> None:
        for name in list(self._stops):
            self.leave(name)

    def share(self, *sizes: int) -> bool:
        """Whether everything is assigned, once, in parts of these sizes."""
        parts = list(self.seen.values())
        return sorted(map(len, parts)) == sorted(sizes) and frozenset().union(*parts) == frozenset(range(8))


@pytest.fixture
def members(connect: Callable[..., KafkaBus]) -> Iterator[Members]:
    with closing(Members(connect)) as members:
        yield members


def test_members_share_the_partitions_and_those_of_a_leaver_are_taken_over(members: Members) -> None:
    members.join("pmsync-0")
    until(lambda: members.share(8))
    members.join("pmsync-1")
    until(lambda: members.share(4, 4))
    kept = members.seen["pmsync-0"]
    members.join("pmsync-2")
    until(lambda: members.share(2, 3, 3))
    assert members.seen["pmsync-0"] <= kept, "only those partitions move that must"
    members.leave("pmsync-1")
    until(lambda: members.share(4, 4))


def test_members_that_are_never_asked_at_the_same_time_share_the_partitions_all_the_same(
    connect: Callable[..., KafkaBus],
) -> None:
    """Kafka has all of them join together. Were each at it only while it is asked, one would always be too late, and
    have all the others join anew, for ever."""
    buses = [connect(member=f"pmsync-{n}") for n in range(4)]
    for bus in buses:
        bus.join()

    def shared() -> bool:
        parts = [bus.assigned() for bus in buses]
        return [len(each) for each in parts] == [2, 2, 2, 2] and frozenset().union(*parts) == frozenset(range(8))

    until(shared)


def test_an_assignment_that_comes_between_two_rounds_is_not_missed(connect: Callable[..., KafkaBus]) -> None:
    """kafka-python forgets one that comes while nobody waits for it. It does so seldom but on a busy machine, so that
    the state in which it then stays is made by hand."""
    bus = connect()
    bus.join()
    until(lambda: len(bus.assigned()) == 8)
    consumer = bus._member._consumer
    consumer._subscription.assign_from_subscribed([])
    consumer._coordinator.rejoining = True
    until(lambda: len(bus.assigned()) == 8)


def test_a_member_that_is_back_soon_has_its_partitions_again(members: Members) -> None:
    for name in ("pmsync-0", "pmsync-1"):
        members.join(name)
    until(lambda: members.share(4, 4))
    before = dict(members.seen)
    members.leave("pmsync-1")
    members.join("pmsync-1")
    until(lambda: members.share(4, 4))
    assert members.seen == before


def test_lag_tools_see_how_far_a_member_is(connect: Callable[..., KafkaBus], cluster: Cluster, prefix: str) -> None:
    bus = connect()
    bus.commit({APOLLO: 1})  # before it joined: nothing to show, and no error
    bus.join()
    until(lambda: len(bus.assigned()) == 8)
    bus.commit({APOLLO: 7})
    place = TopicPartition(prefix + EVENTS, APOLLO)
    group = f"{prefix}pmsync.aggregator"
    with closing(KafkaAdminClient(**cluster.options())) as admin:
        until(lambda: place in admin.list_group_offsets({group: None})[group])
        assert admin.list_group_offsets({group: None})[group][place].offset == 7
