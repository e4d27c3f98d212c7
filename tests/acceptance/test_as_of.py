"""As of T: with the sources' full history, the past that is shown equals what a run at that time would have shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pmsync.app import App
from pmsync.core.exports import HISTORY
from pmsync.standins.portfolio import Portfolio
from tests.acceptance.installation import exports, installed, run_once

NOW = datetime(2026, 6, 17, 15, 30, tzinfo=UTC)
INSTANTS = [NOW - timedelta(days=8 * n, hours=5 * n, minutes=7 * n) for n in range(20)]


class World:
    """The portfolio served over HTTP, with a clock that can be set."""

    def __init__(self) -> None:
        self.time = NOW
        self.portfolio = Portfolio(NOW, lambda: self.time)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def served(world: World) -> Iterator[dict[str, Any]]:
    with world.portfolio.served() as values:
        yield values


@pytest.fixture(scope="module")
def today(world: World, served: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    world.time = NOW
    with installed(tmp_path_factory.mktemp("today"), served, lambda: NOW) as app:
        app.once()
        yield app


@pytest.mark.acceptance
@pytest.mark.parametrize("then", INSTANTS, ids=lambda then: then.isoformat())
def test_the_past_equals_a_run_whose_world_stopped_there(
    world: World, served: dict[str, Any], today: App, tmp_path: Path, then: datetime
) -> None:
    shown = exports(today, NOW, at=then, tables=HISTORY)
    world.time = then
    real = run_once(tmp_path, served, then)
    for table, columns in ((table, columns) for table, columns in HISTORY.items() if columns):
        assert _only(shown[table], columns) == _only(_left_since(table, real[table]), columns), table
    assert shown["work_items"], "an empty past proves nothing"


def _left_since(table: str, lines: str) -> str:
    """Without the workflow runs that have left their window since then: of those no past is shown (ADR 25)."""
    edge = f"{NOW - timedelta(days=30):%Y-%m-%d}"
    kept = (line for line in lines.splitlines() if table != "workflow_runs" or json.loads(line)["created_at"] >= edge)
    return "\n".join(kept)


def _only(lines: str, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    return [{name: json.loads(line)[name] for name in columns} for line in lines.splitlines()]
