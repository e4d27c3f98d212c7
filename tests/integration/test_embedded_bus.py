"""The embedded log keeps the bus's promises, and survives kills, torn files and full disks as SQLite promises."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from bus_contract import BusContract, read_all, read_on, records, values

from pmsync.bus.embedded import NEWEST, EmbeddedBus
from pmsync.bus.port import ALERTS, EVENTS, METRICS, Bus, BusUnavailable, Record, partition_of

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
APOLLO = partition_of("apollo", 8)
WRITER = """
import sys
from pathlib import Path
from pmsync.bus.embedded import EmbeddedBus
from pmsync.bus.port import EVENTS, Record
bus = EmbeddedBus(Path(sys.argv[1]))
for n in range(int(sys.argv[3])):
    bus.publish(EVENTS, [Record("apollo", f"{sys.argv[2]}/{n}/{i}".encode() + b"." * 300) for i in range(3)])
    print(n, flush=True)
    if len(sys.argv) > 4:
        sys.stdin.readline()
"""


class TestEmbeddedBus(BusContract):
    @pytest.fixture
    def connect(self, tmp_path: Path) -> Iterator[Callable[[], Bus]]:
        opened: list[Bus] = []

        def connect() -> Bus:
            opened.append(EmbeddedBus(tmp_path / "log.db"))
            return opened[-1]

        yield connect
        for bus in opened:
            bus.close()

    @pytest.fixture
    def unreachable(self, tmp_path: Path) -> Callable[[], Bus]:
        return lambda: EmbeddedBus(tmp_path / "gone" / "log.db")


def member(path: Path, name: str) -> EmbeddedBus:
    bus = EmbeddedBus(path, member=name)
    bus.join()
    return bus


def test_members_share_the_partitions(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    one = member(path, "one")
    assert one.assigned() == frozenset(range(8))
    two, three = member(path, "two"), member(path, "three")
    shares = [bus.assigned() for bus in (one, two, three)]
    assert sorted(map(len, shares)) == [2, 3, 3]
    assert frozenset().union(*shares) == frozenset(range(8))
    two.close()
    assert one.assigned() | three.assigned() == frozenset(range(8))
    assert one.assigned() & three.assigned() == frozenset()
    one.close()
    three.close()


def test_who_did_not_join_has_no_share(tmp_path: Path) -> None:
    with closing(EmbeddedBus(tmp_path / "log.db")) as bus, closing(member(tmp_path / "log.db", "one")) as one:
        assert bus.assigned() == frozenset()
        assert one.assigned() == frozenset(range(8))


def test_the_share_of_a_dead_process_is_free_at_once(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    script = "import sys; from pathlib import Path; from pmsync.bus.embedded import EmbeddedBus; b = EmbeddedBus(Path(sys.argv[1])); b.join(); print(len(b.assigned()), flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == "8\n"
        with closing(EmbeddedBus(path)) as bus:
            bus.join()
            assert len(bus.assigned()) == 4
            other.kill()
            other.wait(timeout=10)
            assert bus.assigned() == frozenset(range(8))


def test_the_share_of_a_silent_member_is_free_after_a_while(tmp_path: Path) -> None:
    """One in another container, say, whose process cannot be looked up. And who is late says so and shares again."""
    path = tmp_path / "log.db"
    with closing(member(path, "elsewhere")) as silent, closing(member(path, "one")) as one:
        assert len(one.assigned()) == 4
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("UPDATE members SET heard_at = heard_at - 61 WHERE name = 'elsewhere'")
        assert one.assigned() == frozenset(range(8))
        assert len(silent.assigned()) == 4
        assert len(one.assigned()) == 4


def test_a_partition_far_behind_keeps_no_other_waiting(tmp_path: Path) -> None:
    with closing(EmbeddedBus(tmp_path / "log.db")) as bus:
        bus.publish(EVENTS, records("apollo", *map(str, range(100))))
        bus.publish(EVENTS, records("beacon", "one"))
        offsets = dict.fromkeys(range(8), 0)
        seen = []
        for _ in range(2):
            for partition, found in bus.poll(offsets, 10, 0).items():
                offsets[partition] = found[-1].offset + 1
                seen.append(found[0].key)
        assert sorted(seen) == ["apollo", "beacon"]


def test_what_is_read_at_once_is_bounded_in_bytes(tmp_path: Path) -> None:
    with closing(EmbeddedBus(tmp_path / "log.db")) as bus:
        large = Record("apollo", bytes(3 << 20))
        bus.publish(EVENTS, [large] * 5)
        assert len(bus.read(EVENTS, APOLLO, 0, 10)) == 3
        assert len(bus.read(EVENTS, APOLLO, 3, 10)) == 2


def writer(path: Path, name: str, times: int, *, paced: bool = False) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), name, str(times), *(["paced"] if paced else [])]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_processes_append_at_once(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    writers = [writer(path, name, 30) for name in "abc"]
    for each in writers:
        each.communicate(timeout=60)
        assert each.returncode == 0
    with closing(EmbeddedBus(path)) as bus:
        found = read_all(bus, EVENTS, APOLLO)
    assert [each.offset for each in found] == list(range(270))
    for name in "abc":
        mine = [value.rstrip(".") for value in values(found) if value.startswith(name)]
        assert mine == [f"{name}/{n}/{i}" for n in range(30) for i in range(3)]


def test_many_open_a_new_log_at_once(tmp_path: Path) -> None:
    """SQLite refuses some of those who switch to WAL at one moment; none of them must notice."""

    def open_one(gate: threading.Barrier, path: Path) -> None:
        gate.wait()
        EmbeddedBus(path).close()

    with ThreadPoolExecutor(6) as pool:
        for n in range(40):
            gate = threading.Barrier(6)
            found = [pool.submit(open_one, gate, tmp_path / f"{n}.db") for _ in range(6)]
            assert [each.result() for each in found] == [None] * 6


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A folder with the log of a writer killed after so many acknowledged publications: they stand in the -wal file."""
    folder = tmp_path_factory.mktemp("killed")
    with writer(folder / "log.db", "a", 20, paced=True) as process:
        assert process.stdin
        assert process.stdout
        for n in range(12):
            assert process.stdout.readline() == f"{n}\n"
            if n < 11:
                process.stdin.write("\n")
                process.stdin.flush()
        process.kill()
    assert (folder / "log.db-wal").stat().st_size > 0
    return folder, 12


def prefix(path: Path) -> int:
    """How many publications the log holds; they must be the first ones, whole, without a gap."""
    with closing(EmbeddedBus(path)) as bus:
        found = read_all(bus, EVENTS, APOLLO)
        assert [each.offset for each in found] == list(range(len(found)))
        whole = len(found) // 3
        assert [value.rstrip(".") for value in values(found)] == [f"a/{n}/{i}" for n in range(whole) for i in range(3)]
        bus.publish(EVENTS, records("apollo", "after"))
        assert bus.end_offset(EVENTS, APOLLO) == len(found) + 1
    return whole


def test_what_a_killed_writer_was_told_is_there(killed: tuple[Path, int], tmp_path: Path) -> None:
    folder, told = killed
    shutil.copytree(folder, tmp_path / "copy")
    assert prefix(tmp_path / "copy" / "log.db") == told


def test_a_torn_wal_leaves_a_prefix(killed: tuple[Path, int], tmp_path: Path) -> None:
    """SQLite keeps every transaction whose frames are whole and check, up to the first that does not: a disk that lost
    the end of the file costs the newest publications, never one in the middle, and never half of one."""
    folder, told = killed
    dice = random.Random(7)
    size = (folder / "log.db-wal").stat().st_size
    kept = []
    for n, cut in enumerate([0, 31, 32, *sorted(dice.randrange(size) for _ in range(12)), size]):
        copy = tmp_path / str(n)
        shutil.copytree(folder, copy)
        (copy / "log.db-shm").unlink(missing_ok=True)
        with (copy / "log.db-wal").open("r+b") as wal:
            wal.truncate(cut)
        kept.append(prefix(copy / "log.db"))
    assert kept == sorted(kept)
    assert kept[0] == 0
    assert kept[-1] == told
    assert len(set(kept)) > 3, "the cuts must fall into different publications"


def test_damaged_bytes_in_the_wal_leave_a_prefix(killed: tuple[Path, int], tmp_path: Path) -> None:
    folder, told = killed
    dice = random.Random(8)
    size = (folder / "log.db-wal").stat().st_size
    for n in range(8):
        copy = tmp_path / str(n)
        shutil.copytree(folder, copy)
        (copy / "log.db-shm").unlink(missing_ok=True)
        with (copy / "log.db-wal").open("r+b") as wal:
            wal.seek(dice.randrange(size - 64))
            wal.write(dice.randbytes(64))
        assert prefix(copy / "log.db") < told


def test_what_was_checkpointed_needs_no_wal(killed: tuple[Path, int], tmp_path: Path) -> None:
    folder, told = killed
    shutil.copytree(folder, tmp_path / "copy")
    path = tmp_path / "copy" / "log.db"
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        Path(f"{path}-wal").write_bytes(b"torn")
    assert prefix(path) == told


def test_what_is_for_others_reading_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NEWEST, ALERTS, 10)
    keys = {partition_of(key, 8): key for key in (f"p{n}" for n in range(100))}
    with closing(EmbeddedBus(tmp_path / "log.db")) as bus:
        for n in range(25):
            for topic in (METRICS, ALERTS, EVENTS):
                bus.publish(topic, [record for key in keys.values() for record in records(key, f"{n}/1", f"{n}/2")])
        assert [values([each]) for each in read_on(bus, METRICS)] == [["24/2"]] * 8
        assert [bus.begin_offset(ALERTS, n) for n in range(8)] == [40] * 8
        assert len(bus.read(ALERTS, 0, 40, 100)) == 10
        assert sum(1 for _ in read_on(bus, EVENTS)) == 8 * 50
        assert bus.begin_offset(EVENTS, 0) == 0


def test_commits_wait_for_the_disk(tmp_path: Path) -> None:
    """What survives a power loss cannot be tried here; that SQLite is asked for it can."""
    with closing(EmbeddedBus(tmp_path / "log.db")) as bus:
        assert bus._db.execute("PRAGMA synchronous").fetchone() == (2,)
        assert bus._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_log_from_before_headers_opens_and_gets_them(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(
            """
            CREATE TABLE log (
              topic TEXT NOT NULL, partition INTEGER NOT NULL, position INTEGER NOT NULL, key TEXT NOT NULL,
              value BLOB NOT NULL, PRIMARY KEY (topic, partition, position)
            ) WITHOUT ROWID, STRICT;
            CREATE TABLE identity (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), id TEXT NOT NULL) STRICT;
            INSERT INTO identity VALUES (1, 'old');
            """
        )
        db.execute("INSERT INTO log VALUES (?, ?, 0, 'apollo', ?)", (EVENTS, APOLLO, b"before"))
        db.commit()
    for _ in range(2):
        with closing(EmbeddedBus(path)) as bus:
            assert bus.identity() == "old"
            bus.publish(EVENTS, [Record("apollo", b"after", [("x", b"1")])])
    with closing(EmbeddedBus(path)) as bus:
        found = read_all(bus, EVENTS, APOLLO)
        assert values(found) == ["before", "after", "after"]
        assert [list(each.headers) for each in found] == [[], [("x", b"1")], [("x", b"1")]]


def test_a_full_disk_is_said_and_survived(tmp_path: Path) -> None:
    with closing(EmbeddedBus(tmp_path / "log.db")) as bus:
        bus.publish(EVENTS, records("apollo", "one"))
        (pages,) = bus._db.execute("PRAGMA page_count").fetchone()
        bus._db.execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(BusUnavailable, match=r"cannot be written: .*full"):
            bus.publish(EVENTS, records("apollo", "x" * 100_000))
        bus._db.execute("PRAGMA max_page_count=100000")
        bus.publish(EVENTS, records("apollo", "two"))
        assert values(read_all(bus, EVENTS, APOLLO)) == ["one", "two"]


def test_a_publication_is_whole_or_not_at_all(tmp_path: Path) -> None:
    with closing(EmbeddedBus(tmp_path / "log.db")) as bus:
        with pytest.raises(BusUnavailable):
            bus.publish(EVENTS, [*records("apollo", "one"), Record("apollo", None)])  # type: ignore[arg-type]
        assert all(bus.end_offset(EVENTS, n) == 0 for n in range(bus.partitions))
        bus.publish(EVENTS, records("apollo", "two"))


@pytest.mark.parametrize("fault", ["no folder", "a folder", "no log"])
def test_an_unusable_path_is_said_with_advice(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "gone" / "log.db" if fault == "no folder" else tmp_path / "log.db"
    if fault == "a folder":
        path.mkdir()
    elif fault == "no log":
        path.write_text("nothing of SQLite's" * 100)
    with pytest.raises(BusUnavailable, match=r"log\.db: .*; bus\.path must be a file of its own, in a folder") as said:
        EmbeddedBus(path)
    assert str(path) in str(said.value)


def test_a_log_that_breaks_while_open_is_said(tmp_path: Path) -> None:
    bus = EmbeddedBus(tmp_path / "log.db")
    bus.close()
    with pytest.raises(BusUnavailable, match="cannot be read"):
        bus.read(EVENTS, 0, 0, 1)
    with pytest.raises(BusUnavailable, match="cannot be read"):
        bus.end_offset(EVENTS, 0)
    with pytest.raises(BusUnavailable, match="cannot be written"):
        bus.publish(EVENTS, records("apollo", "one"))
