"""`pmsync topics apply` and `doctor` on a real Kafka, as from a shell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import structlog
from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import ConfigResource
from test_cli import Folder, bad

from pmsync.bus.port import EVENTS, Record, partition_of
from pmsync.buses import open_bus
from pmsync.config import load

pytestmark = pytest.mark.integration


@pytest.fixture
def folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broker: str, prefix: str
) -> Iterator[Folder]:
    """An installation whose log is on Kafka, without its topics."""
    folder = Folder(tmp_path, monkeypatch, capsys)
    folder.values["bus"] = {"kind": "kafka", "bootstrap_servers": broker, "prefix": prefix, "replication": 1}
    yield folder
    structlog.reset_defaults()


@pytest.fixture
def admin(broker: str) -> Any:
    with closing(KafkaAdminClient(bootstrap_servers=broker)) as admin:
        yield admin


def names(folder: Folder, admin: Any) -> set[str]:
    prefix = folder.values["bus"]["prefix"]
    return {name.removeprefix(prefix) for name in admin.list_topics() if name.startswith(prefix)}


def test_topics_are_created_once(folder: Folder, admin: Any) -> None:
    said = folder.run("topics", "apply", "--dry-run")
    assert (said.code, names(folder, admin)) == (0, set())
    assert "pmsync.events is not there: 8 partitions, 1 replicas\n" in said.out
    assert said.out.endswith("would change: 4\n")
    said = folder.run("topics", "apply")
    assert (said.code, said.out.splitlines()[-1]) == (0, "changed: 4")
    assert names(folder, admin) == {"pmsync.events", "pmsync.dead-letters", "pmsync.metrics", "pmsync.alerts"}
    for words in (("--dry-run",), ()):
        said = folder.run("topics", "apply", *words)
        assert said.code == 0
        assert said.out.splitlines() == ["would change: 0" if words else "changed: 0"]


def test_a_setting_that_was_changed_is_set_right(folder: Folder, admin: Any) -> None:
    folder.run("topics", "apply")
    name = folder.values["bus"]["prefix"] + EVENTS
    admin.alter_configs([ConfigResource("topic", name, {"cleanup.policy": "compact", "retention.ms": "1000000"})])
    folder.run("run", "--once")
    found = bad(folder.run("doctor"))
    assert [re.sub(r"topic \S+", "topic T", each) for each in sorted(found)] == [
        "log: the topic T cleanup.policy is compact, not delete; run `pmsync topics apply`",
        "log: the topic T retention.ms is 1000000, not -1; run `pmsync topics apply`",
    ]
    assert folder.run("topics", "apply").out.splitlines()[-1] == "changed: 2"
    assert bad(folder.run("doctor")) == []


@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_another_number_of_partitions_cannot_be_mended(folder: Folder, admin: Any, words: tuple[str, ...]) -> None:
    name = folder.values["bus"]["prefix"] + EVENTS
    admin.create_topics({name: {"num_partitions": 3, "replication_factor": 1}}, wait_for_metadata=True)
    said = folder.run("topics", "apply", *words)
    assert said.code == 1
    assert f"CANNOT BE MENDED {name} has 3 partitions, not 8: " in said.out
    said = folder.run("run", "--once")
    assert (said.code, said.out) == (1, "")
    assert "has 3 partitions, but bus.partitions is 8" in said.err


def test_more_replicas_than_brokers_is_said(folder: Folder) -> None:
    folder.values["bus"]["replication"] = 3
    said = folder.run("topics", "apply")
    assert said.code == 1
    assert said.err.startswith("pmsync: cannot mend the topics: Kafka at ")
    assert "there are fewer brokers than bus.replication" in said.err
    assert len(said.err.splitlines()) == 1


def test_the_embedded_log_has_none(folder: Folder) -> None:
    folder.values["bus"] = {"path": str(folder.path / "log.db")}
    said = folder.run("topics", "apply")
    assert (said.code, said.out) == (
        0,
        f"nothing to do: the embedded log {folder.path}/log.db has no topics to create\n",
    )


# --- doctor -----------------------------------------------------------------------------------------------------------


def test_doctor_finds_nothing_wrong(folder: Folder) -> None:
    folder.run("topics", "apply")
    folder.run("run", "--once")
    said = folder.run("doctor")
    assert (said.code, bad(said)) == (0, [])
    assert re.search(r"^ok   log: Kafka at \S+, not encrypted$", said.out, re.MULTILINE)


def test_doctor_says_what_a_shorter_log_costs(folder: Folder, admin: Any) -> None:
    folder.run("topics", "apply")
    folder.run("run", "--once")
    folder.values["bus"]["retention_days"] = 30
    (found,) = bad(folder.run("doctor"))
    assert "retention.ms is -1, not 2592000000; run `pmsync topics apply`" in found
    folder.run("topics", "apply")
    said = folder.run("doctor")
    assert (said.code, bad(said)) == (0, [])
    assert "ok   retention: events are kept for 30 days only (bus.retention_days): to build state from" in said.out


def test_doctor_finds_no_topics(folder: Folder) -> None:
    found = [each for each in bad(folder.run("doctor")) if each.startswith("log")]
    assert len(found) == 4
    assert all(re.match(r"log: the topic \S+ is not there: .*; run `pmsync topics apply`", each) for each in found)


def test_doctor_finds_no_broker(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pmsync.bus.cluster.Cluster.patience_ms", 500)  # what is said is asked here, not how soon
    folder.values["bus"]["bootstrap_servers"] = "127.0.0.1:1"
    (found,) = (each for each in bad(folder.run("doctor")) if each.startswith("log"))
    assert re.match(
        r"log: cannot look at the topics: Kafka at 127.0.0.1:1: no answer within .*bus\.bootstrap_servers", found
    )


def test_doctor_finds_that_the_log_has_lost_its_beginning(folder: Folder, admin: Any) -> None:
    """Somebody shortened the topic's retention: what was removed before it was read would be missing for ever."""
    folder.run("topics", "apply")
    folder.run("run", "--once")
    folder.write()
    where = partition_of("apollo", 8)
    with closing(open_bus(load(folder.file, {}).bus)) as bus:
        bus.publish(EVENTS, [Record("apollo", b"{}")] * 5)
    admin.delete_records({TopicPartition(folder.values["bus"]["prefix"] + EVENTS, where): 4})
    (found,) = bad(folder.run("doctor"))
    assert re.match(rf"log: the log begins at 4 in partition {where}, but the store has read it only up to 0: ", found)
    said = folder.run("run", "--once")
    assert (said.code, len(said.err.splitlines())) == (1, 1)
    assert "the log begins at 4" in said.err


def test_doctor_finds_another_log(folder: Folder, prefix: str) -> None:
    folder.run("topics", "apply")
    folder.values["projects"] = [{"key": "apollo"}]
    folder.run("run", "--once")
    folder.values["bus"]["prefix"] = f"{prefix}new."
    folder.run("topics", "apply")
    (found,) = bad(folder.run("doctor"))
    assert re.match(r"log: this log .* is not the one that the store is built from", found)
