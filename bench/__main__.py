"""`python -m bench [--quick]`: what an event and a tick cost, at two sizes, beside a loop that only reads the log.

Each measurement is a process of its own, and the rounds go through all of them in turn, so that a noisy neighbour meets
them alike. Figures are medians with their range; the ratios are taken within a round.
"""

from __future__ import annotations

import json
import platform
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bench.report import Run, Sizes, machine, markdown, rows

ROOT = Path(__file__).parents[1]
ROUNDS = 3
SIZES: Sizes = (10_000, 100_000)
QUICK: Sizes = (2_000, 10_000)
MEASUREMENTS = ("read", "fold", "tick")
TIME_LIMIT = 600
BUDGET = 400
"""Seconds: a round is not begun if it would probably end later."""


@click.command()
@click.option("--quick", is_flag=True, help="A tenth of the events.")
@click.option(
    "--output", default="build/bench", type=click.Path(path_type=Path), show_default=True, help="Folder of the report."
)
def main(quick: bool, output: Path) -> None:
    """Measure, and write benchmark.md and benchmark.json."""
    sizes = QUICK if quick else SIZES
    about = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "pmsync": version("pmsync"),
        "machine": machine(),
        "command": "python -m bench" + " --quick" * quick,
    }
    console = Console()
    with tempfile.TemporaryDirectory(prefix="pmsync-bench-") as folder, console.status("") as status:
        run = measure(Path(folder), sizes, ROUNDS, status.update)
    table = Table("", *(f"{size:,} events" for size in sizes), "growth")
    for row in rows(run, sizes):
        table.add_row(*row)
    console.print(table)
    output.mkdir(parents=True, exist_ok=True)
    (output / "benchmark.json").write_text(json.dumps({**about, "runs": run}, indent=2) + "\n")
    (output / "benchmark.md").write_text(markdown(about, run, sizes))
    console.print(f"written to {output / 'benchmark.md'} and benchmark.json")


def measure(folder: Path, sizes: Sizes, rounds: int, say: Callable[[str], object]) -> Run:
    """Every measurement at every size, once in each round."""
    run: Run = {}
    for size in sizes:
        say(f"writing {size:,} events …")
        run[f"write/{size}"] = [_child("write", folder / f"{size}.db", folder)]
    started = time.monotonic()
    for n in range(rounds):
        spent = time.monotonic() - started
        if n and spent * (n + 1) / n > BUDGET:
            say(f"{n} of {rounds} rounds were all that fits into {BUDGET} seconds")
            break
        for size in sizes:
            store = folder / f"store-{n}-{size}.db"
            for name in MEASUREMENTS:
                say(f"round {n + 1} of {rounds}: {name}, {size:,} events …")
                found = _child(
                    name, folder / f"{size}.db", folder / f"offsets-{n}-{size}.db" if name == "read" else store
                )
                run.setdefault(f"{name}/{size}", []).append(found)
            store.unlink()
    return run


def _child(name: str, log: Path, store: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.measure", name, str(log), str(store)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
    if done.returncode:
        raise click.ClickException(f"{name} failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    main()
