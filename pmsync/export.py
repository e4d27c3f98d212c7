"""Tables as text: NDJSON for programs, CSV for spreadsheets."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from pmsync.core.exports import TABLES, rows
from pmsync.core.project import ProjectState, load
from pmsync.store.state import StateStore

_ACTIVE = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What makes a spreadsheet take a cell for a formula."""


def states(store: StateStore, project: str | None, *, past: bool = False) -> Sequence[ProjectState]:
    """The states of all projects, or of one, in the order of their keys; for a look at the past, with what was read of
    it then. The present is what was read last, whatever the clock said at the time."""
    known = store.projects()
    if project is not None and project not in known:
        raise click.UsageError(
            f"there is no project {project!r}; known: {', '.join(known) or 'none yet, try `pmsync run --once`'}"
        )
    loaded = (load(store.rows(key, kept=past)) for key in known if project in {None, key})
    return [state for state in loaded if state is not None]


def lines(table: str, form: str, projects: Iterable[ProjectState], at: datetime, now: datetime) -> Iterator[str]:
    """The text of a table, line by line."""
    return FORMATS[form](TABLES[table], (row for state in projects for row in rows(table, state, at, now)))


def _ndjson(_: Sequence[str], found: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for row in found:
        yield json.dumps(row, ensure_ascii=False, sort_keys=True, separators=(",", ":")) + "\n"


def _csv(columns: Sequence[str], found: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    yield _csv_line(columns)
    for row in found:
        yield _csv_line([_cell(row[column]) for column in columns])


def _csv_line(cells: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()


def _cell(value: Any) -> Any:
    """A cell that a spreadsheet shows and does not run; numbers stay numbers."""
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value.lstrip(" \"'").startswith(_ACTIVE):
        return f"'{value}"
    return value


FORMATS: Mapping[str, Callable[[Sequence[str], Iterable[Mapping[str, Any]]], Iterator[str]]] = {
    "ndjson": _ndjson,
    "csv": _csv,
}
