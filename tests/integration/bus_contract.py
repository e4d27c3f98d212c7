"""What every bus adapter promises. A test class inherits `BusContract` and gives the fixtures `connect` (each
call opens the same log anew, as another process would) and `unreachable`."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from pmsync.bus.port import EVENTS, METRICS, Bus, BusUnavailable, Delivered, Record, partition_of

Connect = Callable[[], Bus]


def records(key: str, *values: str) -> list[Record]:
    return [Record(key, value.encode()) for value in values]


def read_all(bus: Bus, topic: str, partition: int, limit: int = 1000) -> list[Delivered]:
    """Everything in a partition, read in pieces as the aggregator does."""
    found: list[Delivered] = []
    while len(found) < bus.end_offset(topic, partition):
        piece = bus.read(topic, partition, len(found), limit)
        assert 0 < len(piece) <= limit
        found += piece
    return found


def read_on(bus: Bus, topic: str) -> Iterator[Delivered]:
    """Everything in a topic, read on from each record's offset as a consumer does; offsets rise, gaps or not."""
    for partition in range(bus.partitions):
        offset, end = 0, bus.end_offset(topic, partition)
        while offset < end:
            piece = bus.read(topic, partition, offset, 3)
            assert piece
            for each in piece:
                assert each.offset >= offset
                offset = each.offset + 1
            yield from piece


def until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for something that takes the time it takes, such as other processes agreeing; not for ever."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def values(found: Sequence[Delivered]) -> list[str]:
    return [each.value.decode() for each in found]


class BusContract:
    """Inherit this with the fixtures `connect` and `unreachable`, which opens a log that cannot be reached."""

    @pytest.fixture
    def new_topic(self) -> Callable[[], str]:
        """Makes a topic of the bus; an adapter whose topics must be created does so here."""
        return lambda: f"pmsync.test-{uuid.uuid4().hex}"

    @pytest.fixture
    def topic(self, new_topic: Callable[[], str]) -> str:
        return new_topic()

    def test_a_log_is_known_by_its_identity(self, connect: Connect) -> None:
        assert connect().identity() == connect().identity() != ""

    def test_a_new_topic_is_empty(self, connect: Connect, topic: str) -> None:
        bus = connect()
        for partition in range(bus.partitions):
            assert bus.end_offset(topic, partition) == 0
            assert list(bus.read(topic, partition, 0, 10)) == []

    def test_a_record_comes_back_whole(self, connect: Connect, topic: str) -> None:
        bus = connect()
        value = bytes(range(256)) + "é😀".encode()
        bus.publish(topic, [Record("pröject", value), Record("pröject", b"")])
        where = partition_of("pröject", bus.partitions)
        assert list(bus.read(topic, where, 0, 10)) == [
            Delivered(where, 0, "pröject", value),
            Delivered(where, 1, "pröject", b""),
        ]

    def test_headers_come_back_as_they_were_given(self, connect: Connect, topic: str) -> None:
        """Any bytes, in their order, a name more than once; and none where none were given."""
        bus = connect()
        given = (("content-type", b"application/json"), ("ce_id", "é😀".encode()), ("x", bytes(range(256))), ("x", b""))
        bus.publish(topic, [Record("apollo", b"1", given), Record("apollo", b"2"), Record("apollo", b"3", given[:1])])
        found = read_all(bus, topic, partition_of("apollo", bus.partitions))
        assert [tuple(each.headers) for each in found] == [given, (), given[:1]]

    def test_the_key_decides_the_partition(self, connect: Connect, topic: str) -> None:
        bus = connect()
        keys = [f"project-{n}" for n in range(40)]
        bus.publish(topic, [Record(key, key.encode()) for key in keys])
        found = {each.key: each for n in range(bus.partitions) for each in read_all(bus, topic, n)}
        assert found.keys() == set(keys)
        assert all(each.partition == partition_of(key, bus.partitions) for key, each in found.items())
        assert len({each.partition for each in found.values()}) > 1

    def test_order_holds_within_a_partition(self, connect: Connect, topic: str) -> None:
        bus = connect()
        told = [f"{n}" for n in range(250)]
        for start in range(0, 250, 50):
            bus.publish(topic, records("apollo", *told[start : start + 50]))
        found = read_all(bus, topic, partition_of("apollo", bus.partitions), limit=33)
        assert values(found) == told
        assert [each.offset for each in found] == list(range(250))

    def test_partitions_count_apart(self, connect: Connect, topic: str) -> None:
        bus = connect()
        keys = {partition_of(key, bus.partitions): key for key in (f"p{n}" for n in range(200))}
        for n, key in enumerate(keys.values()):
            bus.publish(topic, records(key, *"x" * n))
        assert [bus.end_offset(topic, partition) for partition in keys] == list(range(len(keys)))

    def test_topics_count_apart(self, connect: Connect, topic: str, new_topic: Callable[[], str]) -> None:
        bus, other = connect(), new_topic()
        bus.publish(topic, records("apollo", "one"))
        bus.publish(other, records("apollo", "other"))
        where = partition_of("apollo", bus.partitions)
        assert values(bus.read(topic, where, 0, 10)) == ["one"]
        assert values(bus.read(other, where, 0, 10)) == ["other"]

    def test_a_publication_over_all_partitions_is_read_in_turns(self, connect: Connect, topic: str) -> None:
        """A reader that goes from partition to partition and back, in the middle of each, misses and repeats nothing."""
        bus = connect()
        keys = {partition_of(key, bus.partitions): key for key in (f"p{n}" for n in range(200))}
        bus.publish(topic, [Record(key, f"{n}".encode()) for n in range(30) for key in keys.values()])
        found: dict[int, list[str]] = {partition: [] for partition in keys}
        for _ in range(10):
            for partition, so_far in found.items():
                so_far.extend(values(bus.read(topic, partition, len(so_far), 3)))
        assert found == {partition: [f"{n}" for n in range(30)] for partition in keys}

    def test_a_large_record_comes_back_whole(self, connect: Connect, topic: str) -> None:
        """As large as an event of 2,000 long changes can be, and of bytes that no compression makes small."""
        bus = connect()
        value = random.Random(1).randbytes(3_000_000)
        bus.publish(topic, [Record("apollo", b"before"), Record("apollo", value), Record("apollo", b"after")])
        found = read_all(bus, topic, partition_of("apollo", bus.partitions))
        assert [each.value for each in found] == [b"before", value, b"after"]

    def test_a_log_begins_where_it_was_begun(self, connect: Connect, topic: str) -> None:
        bus = connect()
        where = partition_of("apollo", bus.partitions)
        assert bus.begin_offset(topic, where) == 0
        bus.publish(topic, records("apollo", "one", "two"))
        assert bus.begin_offset(topic, where) == 0

    def test_there_is_nothing_beyond_the_end(self, connect: Connect, topic: str) -> None:
        bus = connect()
        bus.publish(topic, records("apollo", "one"))
        where = partition_of("apollo", bus.partitions)
        assert list(bus.read(topic, where, 1, 10)) == []
        assert list(bus.read(topic, where, 100, 10)) == []
        bus.publish(topic, records("apollo", "two"))
        assert values(bus.read(topic, where, 1, 10)) == ["two"], "what came after an empty read is seen"

    def test_readers_in_threads_do_not_disturb_each_other(self, connect: Connect, topic: str) -> None:
        bus = connect()
        keys = {partition_of(key, bus.partitions): key for key in (f"p{n}" for n in range(200))}
        bus.publish(topic, [Record(key, f"{n}".encode()) for n in range(50) for key in keys.values()])
        with ThreadPoolExecutor(len(keys)) as pool:
            found = list(pool.map(lambda partition: values(read_all(bus, topic, partition, limit=7)), keys))
        assert found == [[f"{n}" for n in range(50)]] * len(keys)

    def test_what_follows_the_log_misses_and_repeats_nothing(self, connect: Connect) -> None:
        bus = connect()
        keys = {partition_of(key, bus.partitions): key for key in (f"p{n}" for n in range(200))}
        begin = {partition: bus.end_offset(EVENTS, partition) for partition in keys}
        offsets, found = dict(begin), dict[int, list[Delivered]]()
        for n in range(20):
            bus.publish(EVENTS, [Record(key, f"{n}/{i}".encode()) for i in range(3) for key in keys.values()])
            for partition, some in bus.poll(offsets, 7, 5).items():
                assert 0 < len(some) <= 7
                found.setdefault(partition, []).extend(some)
                offsets[partition] = some[-1].offset + 1
        ends = {partition: bus.end_offset(EVENTS, partition) for partition in keys}
        while offsets != ends:
            piece = bus.poll(offsets, 7, 5)
            assert piece, "there is more"
            for partition, some in piece.items():
                found.setdefault(partition, []).extend(some)
                offsets[partition] = some[-1].offset + 1
        for partition in keys:
            assert [each.offset for each in found[partition]] == list(range(begin[partition], ends[partition]))
            assert values(found[partition]) == [f"{n}/{i}" for n in range(20) for i in range(3)]

    def test_who_follows_the_log_may_go_back_and_leave_partitions_out(self, connect: Connect) -> None:
        bus = connect()
        bus.publish(EVENTS, records("apollo", "one", "two"))
        bus.publish(EVENTS, records("beacon", "other"))
        apollo, beacon = partition_of("apollo", bus.partitions), partition_of("beacon", bus.partitions)
        assert apollo != beacon
        ends = {each: bus.end_offset(EVENTS, each) for each in (apollo, beacon)}
        for _ in range(2):
            found = bus.poll({apollo: ends[apollo] - 2}, 10, 5)
            assert {each: values(some) for each, some in found.items()} == {apollo: ["one", "two"]}
        assert values(bus.poll({apollo: ends[apollo], beacon: ends[beacon] - 1}, 10, 5)[beacon]) == ["other"]
        assert bus.poll(ends, 10, 0) == {}
        assert bus.poll({}, 10, 0) == {}

    def test_who_waits_for_news_gets_them_when_they_come(self, connect: Connect) -> None:
        reader, writer = connect(), connect()
        ends = {each: reader.end_offset(EVENTS, each) for each in range(reader.partitions)}
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(reader.poll, ends, 10, 60)
            writer.publish(EVENTS, records("apollo", "news"))
            found = waiting.result(timeout=30)
        assert values(found[partition_of("apollo", reader.partitions)]) == ["news"]

    def test_who_works_alone_is_assigned_all(self, connect: Connect) -> None:
        bus = connect()
        bus.join()
        everything = frozenset(range(bus.partitions))
        until(lambda: bus.assigned() == everything)
        bus.commit({0: 0})
        assert bus.assigned() == everything

    def test_an_unreachable_log_is_said(self, unreachable: Callable[[], Bus]) -> None:
        """Not an empty log: whoever reads or writes must notice. (An adapter may notice when it is opened.)"""
        for use in (
            lambda bus: bus.publish(EVENTS, records("apollo", "one")),
            lambda bus: bus.read(EVENTS, 0, 0, 1),
            lambda bus: bus.poll({0: 0}, 1, 0),
            lambda bus: bus.end_offset(EVENTS, 0),
            lambda bus: bus.begin_offset(EVENTS, 0),
        ):
            with pytest.raises(BusUnavailable):
                use(unreachable())

    def test_a_read_begins_at_its_offset_and_keeps_its_limit(self, connect: Connect, topic: str) -> None:
        bus = connect()
        bus.publish(topic, records("apollo", *"abcdef"))
        where = partition_of("apollo", bus.partitions)
        assert values(bus.read(topic, where, 2, 3)) == ["c", "d", "e"]
        assert values(bus.read(topic, where, 5, 3)) == ["f"]
        assert values(bus.read(topic, where, 0, 2)) == ["a", "b"]  # going back is allowed
        assert list(bus.read(topic, where, 6, 3)) == []

    def test_publishing_nothing_is_nothing(self, connect: Connect, topic: str) -> None:
        bus = connect()
        bus.publish(topic, [])
        assert all(bus.end_offset(topic, n) == 0 for n in range(bus.partitions))

    # A topic of which the newest record of each key is enough: what else is still there, and when it goes, is the log's
    # own affair (Kafka cleans now and then, the embedded log at once).

    def test_the_newest_record_of_each_key_stays(self, connect: Connect) -> None:
        """Also of keys that share a partition."""
        bus = connect()
        where = partition_of("apollo", bus.partitions)
        keys = [key for key in ("apollo", *(f"p{n}" for n in range(40))) if partition_of(key, bus.partitions) == where]
        for n in range(3):
            bus.publish(METRICS, [Record(key, f"{key}/{n}{i}".encode()) for i in range(2) for key in keys])
        bus.publish(METRICS, records(keys[0], "last"))
        newest = {each.key: each.value.decode() for each in read_on(bus, METRICS)}
        assert newest == {key: f"{key}/21" for key in keys} | {keys[0]: "last"}
        assert len(keys) > 2

    def test_offsets_go_on_whatever_was_removed_below(self, connect: Connect) -> None:
        bus = connect()
        where = partition_of("apollo", bus.partitions)
        for n in range(5):
            bus.publish(METRICS, records("apollo", f"{n}"))
            assert bus.end_offset(METRICS, where) == n + 1
        assert [each.offset for each in bus.read(METRICS, where, 4, 10)] == [4]
        for offset in range(5):
            found = [each.offset for each in bus.read(METRICS, where, offset, 1)]
            assert found in ([offset], [4]), "the next one that is still there"
        assert bus.begin_offset(METRICS, where) <= 4

    def test_what_is_said_to_be_no_more_is_told_after_what_was(self, connect: Connect) -> None:
        bus = connect()
        bus.publish(METRICS, records("apollo", "one", "two"))
        bus.publish(METRICS, [Record("apollo", b"")])
        assert values(list(read_on(bus, METRICS)))[-1] == ""
        bus.publish(METRICS, records("apollo", "three"))
        assert values(list(read_on(bus, METRICS)))[-1] == "three"

    def test_what_was_published_outlives_the_connection(self, connect: Connect, topic: str) -> None:
        bus = connect()
        bus.publish(topic, records("apollo", "one", "two"))
        bus.close()
        again = connect()
        assert values(read_all(again, topic, partition_of("apollo", again.partitions))) == ["one", "two"]
        again.publish(topic, records("apollo", "three"))
        assert values(read_all(again, topic, partition_of("apollo", again.partitions))) == ["one", "two", "three"]

    def test_a_reader_sees_what_another_connection_publishes(self, connect: Connect, topic: str) -> None:
        reader, writer = connect(), connect()
        where = partition_of("apollo", reader.partitions)
        assert reader.end_offset(topic, where) == 0
        writer.publish(topic, records("apollo", "one"))
        assert reader.end_offset(topic, where) == 1
        assert values(reader.read(topic, where, 0, 10)) == ["one"]

    def test_several_writers_at_once_lose_nothing(self, connect: Connect, topic: str) -> None:
        """Each writer's records stay in its order and together per call; offsets have no gap and no repeat."""
        shared = connect()
        buses = [shared, shared, connect()]

        def write(n: int) -> None:
            for i in range(0, 40, 2):
                buses[n].publish(topic, records("apollo", f"{n}/{i}", f"{n}/{i + 1}"))

        threads = [threading.Thread(target=write, args=(n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = read_all(shared, topic, partition_of("apollo", shared.partitions))
        assert [each.offset for each in found] == list(range(120))
        assert Counter(values(found)) == Counter(f"{n}/{i}" for n in range(3) for i in range(40))
        for n in range(3):
            mine = [value for value in values(found) if value.startswith(f"{n}/")]
            assert mine == [f"{n}/{i}" for i in range(40)]
