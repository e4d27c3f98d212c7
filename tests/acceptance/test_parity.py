"""The same world ends in the same exports, byte for byte, whichever database keeps it (L5), and whatever commit of it
gets no answer (C16)."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pmsync.core.exports import TABLES
from pmsync.standins.portfolio import TOKENS
from pmsync.store.engine import StoreUnavailable
from tests.acceptance.installation import difference, exports, installed, run_once
from tests.acceptance.small_world import CHAPTERS, SmallWorld
from tests.cutting_proxy import CuttingProxy, Side, cutting_proxy
from tests.postgres import Server

pytestmark = pytest.mark.acceptance

CUTS = int(os.environ.get("CUTS", "12"))
COMMITS = 120
"""Somewhat more than a first run of the small world has, reading ones included; a cut beyond them does not count."""


@pytest.fixture
def database() -> str:
    """The fixtures of both databases give this one here; the other is the folder's."""
    return "postgresql"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> SmallWorld:
    for name, value in TOKENS.items():
        monkeypatch.setenv(name, value)
    return SmallWorld()


@pytest.fixture
def values(world: SmallWorld) -> Iterator[dict[str, Any]]:
    with world.served() as found:
        yield found


def test_exports_are_equal_byte_for_byte(world: SmallWorld, values: dict[str, Any], url: str, tmp_path: Path) -> None:
    for chapter in CHAPTERS:
        world.time = chapter
        one = run_once(tmp_path / "sqlite", values, chapter)
        other = run_once(tmp_path / "postgresql", {**values, "store": {"url": url}}, chapter)
        assert difference(one, other) == ""
        assert one == other
        assert all(one[table] for table in TABLES if table != "alerts"), "an empty table proves nothing"


def test_what_was_told_is_equal(world: SmallWorld, values: dict[str, Any], url: str, tmp_path: Path) -> None:
    found = []
    for name, used in (("sqlite", values), ("postgresql", {**values, "store": {"url": url}})):
        for world.time in CHAPTERS:
            run_once(tmp_path / name, used, world.time)
        with installed(tmp_path / name, used, lambda: CHAPTERS[-1]) as app:
            found.append([(project, app.state.alert_log(project)) for project in app.state.projects()])
    assert found[0] == found[1]
    assert all(lines for _, lines in found[0])


@pytest.mark.parametrize("side", ["before", "after"])
def test_a_commit_without_an_answer_changes_nothing_in_the_end(
    world: SmallWorld, values: dict[str, Any], postgres_server: Server, migrated: str, tmp_path: Path, side: Side
) -> None:
    """At a random COMMIT of a run the connection breaks, before the server has it or before its answer is back."""
    expected = run_once(tmp_path / "unbroken", values, CHAPTERS[0])
    dice = random.Random(side)
    cuts = 0
    for n in range(5 * CUTS):
        if cuts >= CUTS // 2:
            break
        name = postgres_server.create(migrated)
        with cutting_proxy(postgres_server.url(name)) as proxy:
            commit = dice.randint(1, COMMITS)
            cuts += _cut_and_again(tmp_path / str(n), values, proxy, side, commit, expected)
        postgres_server.drop(name)
    assert cuts >= CUTS // 2


def _cut_and_again(
    folder: Path, values: dict[str, Any], proxy: CuttingProxy, side: Side, commit: int, expected: dict[str, str]
) -> bool:
    """Whether the cut came; what is there after another run must be what is expected."""
    # What is published again gets a version after the first one; at one frozen instant that would lie in the future.
    now = CHAPTERS[0] - timedelta(seconds=1)
    with installed(folder, {**values, "store": {"url": proxy.url}}, lambda: now) as app:
        proxy.cut(side, commit)
        try:
            app.once()
        except StoreUnavailable:
            assert proxy.has_cut
        came = proxy.has_cut
        now = CHAPTERS[0]
        outcome = app.once()
        assert not outcome.problems
        found = exports(app, now)
        now += timedelta(minutes=10)  # a claim that was written and not answered for has run out
        app.notifier.drain()
        assert app.outbox.counts().keys() == {"sent"}
    assert difference(expected, found) == "", f"{side} commit {commit}"
    assert found == expected
    return came
