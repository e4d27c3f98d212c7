"""An installation of pmsync in a folder, reading stand-ins: what the acceptance tests drive and compare."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from pmsync.app import App
from pmsync.config import Config
from pmsync.core.exports import TABLES, rows
from pmsync.export import states

Rows = list[dict[str, Any]]


def configure(folder: Path, values: Mapping[str, Any]) -> Config:
    """The configuration in `values`, with its files in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    places = {"bus": {"path": str(folder / "log.db")}, "store": {"url": f"sqlite:///{folder / 'pmsync.db'}"}}
    return Config.model_validate({**values, **places})


@contextmanager
def installed(folder: Path, values: Mapping[str, Any], clock: Callable[[], datetime]):
    """The app in a folder; closed afterwards."""
    app = App(configure(folder, values), clock, write=lambda _: None)
    try:
        yield app
    finally:
        app.close()


def run_once(folder: Path, values: Mapping[str, Any], now: datetime) -> dict[str, str]:
    """`pmsync run --once --now NOW`; returns the exports."""
    with installed(folder, values, lambda: now) as app:
        outcome = app.once()
        assert not outcome.problems
        assert not outcome.dead
        return exports(app, now)


def exports(app: App, now: datetime, at: datetime | None = None, tables: Iterable[str] = TABLES) -> dict[str, str]:
    """Every table as NDJSON at one instant."""
    found = states(app.state, None, past=at is not None and at < now)
    return {
        table: "".join(
            json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n"
            for state in found
            for row in rows(table, state, at or now, now)
        )
        for table in tables
    }


def difference(one: Mapping[str, str], other: Mapping[str, str]) -> str:
    """The first lines in which two exports differ, for people."""
    said = []
    for table in one:
        a, b = set(one[table].splitlines()), set(other[table].splitlines())
        said += [f"{table} -{line[:300]}" for line in sorted(a - b)[:3]]
        said += [f"{table} +{line[:300]}" for line in sorted(b - a)[:3]]
        if a == b and one[table] != other[table]:
            said.append(f"{table}: another order")
    return "\n".join(said)
