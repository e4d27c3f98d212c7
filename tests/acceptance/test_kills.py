"""Kill it anywhere, start it again: the exports, the alert log and the messages are those of an unbroken run (L3, L4), and
so is what other programs are told."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.reading import Homes, Job, PostgresHomes, Unbroken, compare, last_words, look, runner
from tests.acceptance.small_world import CHAPTERS, SmallWorld

KILLS = int(os.environ.get("KILLS", "220"))
"""On SQLite; on PostgreSQL, where each costs a database of its own, 40 by default."""
POSTGRES_KILLS = int(os.environ.get("KILLS", "40"))
STEPS = 105
"""Somewhat more than a run of the small world has steps; a kill beyond its end does not count."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def homes(request: pytest.FixtureRequest) -> Iterator[Homes]:
    if request.param == "sqlite":
        yield Homes()
        return
    found = PostgresHomes(request.getfixturevalue("postgres_server"), request.getfixturevalue("migrated"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def world() -> SmallWorld:
    return SmallWorld()


@pytest.fixture(scope="module")
def values(world: SmallWorld) -> Iterator[dict[str, Any]]:
    with world.served() as found:
        yield {**found, "outputs": {"metrics": True, "alerts": True}}


@pytest.fixture(scope="module")
def run(world: SmallWorld, values: dict[str, Any], homes: Homes) -> Iterator[Job]:
    with runner(world, values, homes) as job:
        yield job


@pytest.fixture(scope="module")
def unbroken(run: Job, values: dict[str, Any], homes: Homes, tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    return Unbroken(tmp_path_factory.mktemp("unbroken"), run, values, homes)


@pytest.mark.acceptance
@pytest.mark.parametrize("part", range(4))
def test_killed_anywhere(
    run: Job, values: dict[str, Any], unbroken: Unbroken, homes: Homes, tmp_path: Path, part: int
) -> None:
    """Killed at a random step while it reads the second chapter; in half of the cases the world is in its third when it
    starts again, so that what was under way has changed, moved or gone."""
    dice = random.Random(part)
    wanted = (POSTGRES_KILLS if isinstance(homes, PostgresHomes) else KILLS) // 4
    kills = 0
    for seed in range(part, 40 * wanted, 4):
        if kills >= wanted:
            break
        folder = tmp_path / "killed"
        homes.copy(unbroken.base, folder)
        crash = f"any:{dice.randint(1, STEPS)}"
        ended = run(folder, CHAPTERS[1], crash)
        then = CHAPTERS[1 + seed % 8 // 4]
        if ended == -9:
            kills += 1
            assert run(folder, then, "") == 0, f"seed {part}/{seed}, {crash}\n{last_words(folder)}"
            compare(
                look(folder, homes.values(folder, values), then),
                unbroken,
                then,
                f"seed {part}/{seed}, {crash}, then {then}",
            )
        else:
            assert ended == 0, last_words(folder)
        homes.remove(folder)
    assert kills >= wanted
