"""Counts cells, seeds and violations of the long tests, and writes them down as the tables of `docs/reliability.md`."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parents[2] / "build" / "soak"


class Run(NamedTuple):
    cell: str
    parts: str
    seed: str
    violations: str
    seconds: float
    counts: dict[str, int]


class Tally:
    """The runs of one file of tests."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._runs: list[Run] = []
        self._begun = time.monotonic()

    def add(self, cell: str, parts: str, seed: Any, violations: str, seconds: float, counts: dict[str, int]) -> None:
        self._runs.append(Run(cell, parts, str(seed), violations, seconds, counts))

    def failures(self, cell: str, parts: str) -> list[str]:
        """What went wrong in a cell, with the seed."""
        return [
            f"{run.cell} on {run.parts}, seed {run.seed}: {run.violations}"
            for run in self._runs
            if run.violations and (run.cell, run.parts) == (cell, parts)
        ]

    def close(self, *, keep: bool) -> None:
        """Print the table; `keep` it in `build/soak`, too."""
        if not self._runs:
            return
        text = self.table()
        print(f"\n{text}", file=sys.stderr)
        if keep:
            FOLDER.mkdir(parents=True, exist_ok=True)
            worker = os.environ.get("PYTEST_XDIST_WORKER", "")
            (FOLDER / f"{self._name}{'-' * bool(worker)}{worker}.md").write_text(text)

    def table(self) -> str:
        """Markdown: a line for each cell."""
        cells: dict[tuple[str, str], list[Run]] = defaultdict(list)
        for run in self._runs:
            cells[run.cell, run.parts].append(run)
        bad = sum(bool(run.violations) for run in self._runs)
        lines = [
            (
                f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Python {platform.python_version()}: {len(cells)} cells, "
                f"{len(self._runs)} runs, {bad} with violations, {time.monotonic() - self._begun:.0f} s"
            ),
            "",
            (
                "| what | parts | runs | seeds | records | repeats on the log | epochs taken | violations | seconds a run "
                "| folded, assessed after |"
            ),
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for (cell, parts), runs in cells.items():
            seeds = ", ".join(run.seed for run in runs) if len(runs) < 4 else f"{runs[0].seed} to {runs[-1].seed}"
            names = ("records", "repeated", "epochs")
            records, repeated, epochs = (sum(run.counts.get(name, 0) for run in runs) for name in names)
            wrong = sum(bool(run.violations) for run in runs)
            mean = sum(run.seconds for run in runs) / len(runs)
            lines.append(
                f"| {cell} | {parts} | {len(runs)} | {seeds} | {records:,} | {repeated:,} | {epochs:,} | {wrong} | {mean:.1f} "
                f"| {_after(runs)} |"
            )
        return "\n".join(lines) + "\n"


def _after(runs: list[Run]) -> str:
    """The longest that it took after the last event, where that was measured."""
    times = [max(run.counts.get(f"{what} after ms", 0) for run in runs) / 1000 for what in ("folded", "assessed")]
    return f"{times[0]:.1f} s, {times[1]:.1f} s" if any(times) else "–"
