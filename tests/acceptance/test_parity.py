"""The same exports, byte for byte, whatever the log is and however many aggregators share it (L5)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pmsync.buses import layout
from pmsync.config import KafkaBusConfig
from pmsync.standins.portfolio import TOKENS
from tests.acceptance.installation import difference, run_once
from tests.acceptance.small_world import CHAPTERS, SmallWorld

pytestmark = pytest.mark.acceptance


@pytest.fixture
def bus(broker: str, prefix: str) -> dict[str, Any]:
    """A log on Kafka of this test's own, as `pmsync.yaml` says it."""
    values = {"kind": "kafka", "bootstrap_servers": broker, "replication": 1, "prefix": prefix}
    (topics,) = layout(KafkaBusConfig.model_validate(values))
    topics.mend(topics.differences())
    assert topics.differences() == []
    return values


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> SmallWorld:
    for name, token in TOKENS.items():
        monkeypatch.setenv(name, token)
    return SmallWorld()


def test_kafka_says_what_the_embedded_log_says(tmp_path: Path, world: SmallWorld, bus: dict[str, Any]) -> None:
    with world.served() as values:
        for chapter in CHAPTERS:
            world.time = chapter
            embedded = run_once(tmp_path / "embedded", values, chapter)
            kafka = run_once(tmp_path / "kafka", {**values, "bus": bus}, chapter)
            assert difference(embedded, kafka) == ""
            assert embedded == kafka
    assert embedded["work_items"]
    assert embedded["alerts"]
