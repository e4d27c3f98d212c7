"""`python -m bench.kafka [--events N] [--rounds N]`: pmsync on a real broker, beside others that do the same work.

Every run is a process of its own with a state of its own; the rounds go through all engines in turn, so that a noisy
neighbour meets them alike, and ratios are taken within a round. A broker of its own is started from Kafka's jars.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import islice
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

import altair as alt
import click
import vl_convert
from rich.console import Console

from bench.contestants import CONTESTANTS, PARTITIONS, PEERS
from bench.events import PROJECTS
from bench.report import machine, spread
from bench.stream import records
from pmsync.bus.apache_kafka import KafkaBus
from pmsync.bus.cluster import Cluster
from pmsync.bus.port import EVENTS, Record
from pmsync.bus.topics import Layout, wanted
from pmsync.store.engine import Store
from pmsync.store.state import StateStore
from tests import kafka_broker, postgres

ROOT = Path(__file__).parents[1]
TIME_LIMIT = 3600
BATCH = 1000
SMALL = 100_000
RATE, SECONDS = 100, 60
Figures = dict[str, float]
Runs = dict[str, list[Figures]]


class Bench:
    """A broker, its topics, and runs over them."""

    def __init__(self, address: str, folder: Path, peers: str | None, say: Callable[[str], object]) -> None:
        self.address, self.folder, self.say = address, folder, say
        self._peers = peers
        self._runs = 0
        self._filled: set[str] = set()

    @property
    def engines(self) -> list[str]:
        return [name for name in CONTESTANTS if name not in PEERS or self._peers]

    def topic(self, prefix: str) -> KafkaBus:
        """New topics with this prefix."""
        cluster = Cluster((self.address,))
        layout = Layout(cluster, wanted(PARTITIONS, 1, prefix))
        layout.mend(layout.differences())
        return KafkaBus(cluster, PARTITIONS, prefix=prefix)

    def fill(self, count: int, projects: int = PROJECTS) -> str:
        """Write `count` events into new topics, unless they are there; returns their prefix."""
        prefix = f"bench-{count}-{projects}-"
        if prefix in self._filled:
            return prefix
        self._filled.add(prefix)
        source = records(count, projects)
        with closing(self.topic(prefix)) as bus:
            done = 0
            while batch := list(islice(source, BATCH)):
                bus.publish(EVENTS, batch)
                done += len(batch)
                self.say(f"writing {count:,} events: {done / count:.0%}")
        return prefix

    def run(self, name: str, prefix: str, count: int, store: str = "") -> Figures:
        return self.runs(1, name, prefix, count, store)

    def runs(self, processes: int, name: str, prefix: str, count: int, store: str = "") -> Figures:
        """So many processes that share the work; the figures are those of the one that ended last, memory of the largest."""
        self._runs += 1
        python = self._peers if name in PEERS and self._peers else sys.executable
        started = []
        for n in range(processes):
            folder = self.folder / f"run-{self._runs}-{n}"
            folder.mkdir()
            command = [
                python,
                "-m",
                "bench.contestants",
                name,
                self.address,
                prefix,
                str(count),
                str(folder),
                *([store] if store else []),
            ]
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "PMSYNC_BENCH_MEMBER": f"bench-{n}"}
            started.append(
                subprocess.Popen(
                    command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
                )
            )
        found = []
        for each in started:
            out, error = each.communicate(timeout=TIME_LIMIT)
            if each.returncode:
                raise click.ClickException(f"{name} failed:\n{error[-3000:]}")
            found.append(json.loads(out.splitlines()[-1]))
        slowest = max(found, key=lambda figures: figures["seconds"])
        return {**slowest, "peak_mb": max(figures["peak_mb"] for figures in found)}


def throughput(bench: Bench, count: int, rounds: int) -> Runs:
    """Every engine over the same topic, once in each round."""
    prefix, runs = bench.fill(count), Runs()
    for n in range(rounds):
        for name in bench.engines:
            bench.say(f"round {n + 1} of {rounds}: {name}, {count:,} events …")
            runs.setdefault(name, []).append(bench.run(name, prefix, count))
    return runs


def growth(bench: Bench, large: int) -> Runs:
    """pmsync at two sizes; the smaller one three times."""
    small = bench.fill(SMALL)
    runs = {f"{SMALL}": [bench.run("pmsync", small, SMALL) for _ in range(3)]}
    prefix = bench.fill(large)
    bench.say(f"pmsync, {large:,} events …")
    return {**runs, f"{large}": [bench.run("pmsync", prefix, large)]}


def ceiling(bench: Bench, rounds: int) -> Runs:
    """One project, which is one partition and so one aggregator's, beside 200 of them."""
    prefixes = {f"{projects}": bench.fill(SMALL, projects) for projects in (1, PROJECTS)}
    runs = Runs()
    for n in range(rounds):
        for projects, prefix in prefixes.items():
            bench.say(f"round {n + 1} of {rounds}: {projects} projects, {SMALL:,} events …")
            runs.setdefault(projects, []).append(bench.run("pmsync", prefix, SMALL))
    return runs


def two(bench: Bench, count: int, rounds: int) -> Runs:
    """One process and two of them on PostgreSQL."""
    prefix, runs = bench.fill(count), Runs()
    where = postgres.place()
    if where is None:
        raise click.ClickException("there is no PostgreSQL here; see CONTRIBUTING.md")
    with postgres.served(where) as server:
        for n in range(rounds):
            for processes in (1, 2):
                bench.say(f"round {n + 1} of {rounds}: {processes} on PostgreSQL, {count:,} events …")
                name = server.create()
                url = server.url(name)
                with closing(Store(url)) as store:
                    store.migrate()
                runs.setdefault(f"{processes}", []).append(bench.runs(processes, "pmsync", prefix, count, url))
                server.drop(name)
    return runs


@contextmanager
def aggregator(bench: Bench, prefix: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`pmsync aggregator`, the command; it is killed at the end."""
    config = {
        "bus": {
            "kind": "kafka",
            "bootstrap_servers": bench.address,
            "prefix": prefix,
            "member": "bench",
            "replication": 1,
        },
        "store": {"url": f"sqlite:///{folder / 'pmsync.db'}"},
    }
    (folder / "pmsync.yaml").write_text(json.dumps(config))
    command = [sys.executable, "-m", "pmsync", "-c", str(folder / "pmsync.yaml"), "aggregator"]
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)


def restart(bench: Bench, rounds: int) -> list[float]:
    """Seconds from the start of the command after kill -9 until it has folded what came meanwhile."""
    found = []
    for n in range(rounds):
        bench.say(f"round {n + 1} of {rounds}: kill -9 and restart …")
        folder, prefix = bench.folder / f"restart-{n}", f"restart-{n}-"
        folder.mkdir()
        source = records(2000)
        with closing(bench.topic(prefix)) as bus, closing(Store(f"sqlite:///{folder / 'pmsync.db'}")) as store:
            store.migrate()
            states, told = StateStore(store), 0
            for _ in range(2):
                batch = list(islice(source, BATCH))
                bus.publish(EVENTS, batch)
                told += len(batch)
                began = time.monotonic()
                with aggregator(bench, prefix, folder):
                    while sum(states.offsets().values()) < told:
                        assert time.monotonic() < began + 120, "it does not come back"
                        time.sleep(0.005)
                    seconds = time.monotonic() - began
            found.append(seconds)
    return found


def latency(bench: Bench, rate: int, seconds: int) -> list[float]:
    """Milliseconds from `send` to the commit, of each of so many events a second, with 200 projects and assessment on."""
    folder, prefix = bench.folder / "latency", "latency-"
    folder.mkdir()
    source = records(SMALL)
    sent: dict[tuple[int, int], float] = {}
    with closing(bench.topic(prefix)) as bus:
        first = list(islice(source, SMALL // 2))
        for start in range(0, len(first), BATCH):
            bus.publish(EVENTS, first[start : start + BATCH])
        command = [
            sys.executable,
            "-m",
            "bench.latency",
            bench.address,
            prefix,
            str(len(first)),
            str(rate * seconds),
            str(folder),
        ]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as worker:
            assert worker.stdout
            assert worker.stdout.readline() == "ready\n", "the aggregator did not come up"
            ends = {n: bus.end_offset(EVENTS, n) for n in range(PARTITIONS)}
            began = time.time()
            for n, record in enumerate(islice(source, rate * seconds)):
                bench.say(f"latency at {rate} events/s: {n} of {rate * seconds}")
                time.sleep(max(0.0, began + n / rate - time.time()))
                _send(bus, record, ends, sent)
            out, _ = worker.communicate(timeout=120)
    committed: list[tuple[int, int, float]] = [tuple(each) for each in json.loads(out)]
    by_partition: dict[int, Iterator[tuple[int, float]]] = {}
    for partition in range(PARTITIONS):
        by_partition[partition] = iter([(offset, at) for where, offset, at in committed if where == partition])
    found = []
    last: dict[int, tuple[int, float]] = {}
    for (partition, offset), at in sorted(sent.items()):
        while last.get(partition, (0, 0.0))[0] <= offset:
            last[partition] = next(by_partition[partition])
        found.append((last[partition][1] - at) * 1000)
    return found


def _send(bus: KafkaBus, record: Record, ends: dict[int, int], sent: dict[tuple[int, int], float]) -> None:
    from pmsync.bus.port import partition_of

    partition = partition_of(record.key, PARTITIONS)
    sent[partition, ends[partition]] = time.time()
    ends[partition] += 1
    bus.publish(EVENTS, [record])


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest rank."""
    return sorted(values)[max(1, ceil(share * len(values))) - 1]


def table(found: Mapping[str, Any]) -> list[str]:
    """What was measured, as lines of Markdown."""
    lines: list[str] = []
    if runs := found.get("throughput"):
        lines += [
            "| engine | events/s | CPU s per million | peak MB | pmsync is … times as fast |",
            "|---|---|---|---|---|",
        ]
        for name, each in runs.items():
            rates = [figures["count"] / figures["seconds"] for figures in each]
            ratios = [mine["count"] / mine["seconds"] / rate for mine, rate in zip(runs["pmsync"], rates, strict=True)]
            cpu = [figures["cpu"] / figures["count"] * 1e6 for figures in each]
            lines.append(
                f"| {name} | {spread(rates)} | {spread(cpu)} | {spread([figures['peak_mb'] for figures in each])} | {spread(ratios)} |"
            )
        lines.append("")
    if runs := found.get("growth"):
        small, large = runs
        costs = {size: median(figures["seconds"] / figures["count"] for figures in each) for size, each in runs.items()}
        peaks = {size: max(figures["peak_mb"] for figures in each) for size, each in runs.items()}
        lines.append(
            f"- {int(large):,} events beside {int(small):,}: × {costs[large] / costs[small]:.2f} per event, "
            f"{peaks[large]:.0f} MB beside {peaks[small]:.0f} MB at the peak"
        )
    if runs := found.get("ceiling"):
        ratios = [many["seconds"] / one["seconds"] for one, many in zip(runs["1"], runs[f"{PROJECTS}"], strict=True)]
        rates = [figures["count"] / figures["seconds"] for figures in runs["1"]]
        lines.append(
            f"- one project alone: {spread(rates)} events/s, {spread(ratios)} of the rate of {PROJECTS} projects"
        )
    if runs := found.get("two"):
        ratios = [one["seconds"] / both["seconds"] for one, both in zip(runs["1"], runs["2"], strict=True)]
        lines.append(f"- two processes on PostgreSQL beside one: × {spread(ratios)}")
    if seconds := found.get("restart"):
        lines.append(f"- kill -9, start again, until what came meanwhile is folded: {spread(seconds)} s")
    if waits := found.get("latency"):
        shares = " / ".join(f"{percentile(waits, share):.1f}" for share in (0.5, 0.95, 0.99, 1))
        lines.append(f"- from send to committed state at {RATE} events/s, p50 / p95 / p99 / most: {shares} ms")
    return lines


def picture(runs: Runs) -> str:
    """Events per second and peak memory of each engine, as SVG: medians of the rounds."""
    rows = [
        {
            "engine": name,
            "events per second": round(median(figures["count"] / figures["seconds"] for figures in each)),
            "peak memory, MB": round(median(figures["peak_mb"] for figures in each)),
        }
        for name, each in runs.items()
    ]
    base = alt.Chart(alt.Data(values=rows)).encode(y=alt.Y("engine:N", sort="-x", title=None))
    bars = [
        (
            base.mark_bar().encode(x=f"{name}:Q")
            + base.mark_text(align="left", dx=3).encode(x=f"{name}:Q", text=f"{name}:Q")
        ).properties(width=300, height=110)
        for name in ("events per second", "peak memory, MB")
    ]
    return vl_convert.vegalite_to_svg(alt.hconcat(*bars).to_json())


@click.command()
@click.option("--events", default=1_000_000, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--large", default=5_000_000, show_default=True, help="Events of the one large run.")
@click.option("--peers", help="A Python that has the extra `bench`, for Quix Streams and Bytewax.")
@click.option(
    "--only", multiple=True, type=click.Choice(["throughput", "growth", "ceiling", "two", "restart", "latency"])
)
@click.option("--output", default="build/bench", type=click.Path(path_type=Path), show_default=True)
def main(events: int, rounds: int, large: int, peers: str | None, only: tuple[str, ...], output: Path) -> None:
    """Measure, and write kafka.md and kafka.json."""
    console = Console()
    about = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "python": platform.python_version(),
        "kafka": kafka_broker.VERSION,
        "kafka-python": version("kafka-python"),
        "pmsync": version("pmsync"),
        "machine": machine(),
        "command": " ".join(["python -m bench.kafka", *sys.argv[1:]]),
    }
    output.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    with (
        kafka_broker.own() as broker,
        tempfile.TemporaryDirectory(prefix="pmsync-bench-") as folder,
        console.status("") as status,
    ):
        bench = Bench(broker.address, Path(folder), peers, status.update)
        steps: dict[str, Callable[[], Any]] = {
            "restart": lambda: restart(bench, rounds),
            "latency": lambda: latency(bench, RATE, SECONDS),
            "throughput": lambda: throughput(bench, events, rounds),
            "ceiling": lambda: ceiling(bench, rounds),
            "two": lambda: two(bench, events // 4, rounds),
            "growth": lambda: growth(bench, large),
        }
        for name, step in steps.items():
            if not only or name in only:
                found[name] = step()
                (output / "kafka.json").write_text(json.dumps({**about, **found}, indent=2) + "\n")
    if runs := found.get("throughput"):
        (output / "kafka.svg").write_text(picture(runs))
    page = "\n".join([*(f"- {name}: {value}" for name, value in about.items()), "", *table(found), ""])
    (output / "kafka.md").write_text(page)
    console.print(page, markup=False)


if __name__ == "__main__":
    main()
