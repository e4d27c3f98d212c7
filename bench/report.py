"""What was measured, as rows of text: medians with their range, and ratios within a round."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

Run = dict[str, list[dict[str, float]]]
"""measurement/size -> the figures of each round."""
Sizes = tuple[int, int]

RATES = (
    ("read and decode only, events/s", "read"),
    ("log to committed state, events/s", "fold"),
)
TICKS = (
    ("first tick, all projects, s", "first_seconds", ""),
    ("first tick, ms per project", "first_seconds", "first"),
    ("later tick, 1 % of projects changed, s", "later_seconds", ""),
    ("later tick, ms per changed project", "later_seconds", "later"),
)


def rows(run: Run, sizes: Sizes) -> Iterator[tuple[str, str, str, str]]:
    """A label, the figure at each size, and how the cost grows from the first size to the second."""
    yield _row("bytes per event", [_each(run, "write", size, "bytes_per_event") for size in sizes])
    for label, name in RATES:
        costs = [_cost(run, name, size) for size in sizes]
        yield _row(label, [[1 / cost for cost in each] for each in costs], f"{_growth(costs)} per event")
    for label, clock in (
        ("folding / reading only, by the clock", "seconds"),
        ("folding / reading only, by CPU", "cpu"),
    ):
        yield _row(label, [_ratio(run, size, clock) for size in sizes])
    yield from _ticks(run, sizes)
    for name in ("read", "fold", "tick"):
        yield _row(f"peak memory of {name}, MB", [_each(run, name, size, "peak_mb") for size in sizes])


def _ticks(run: Run, sizes: Sizes) -> Iterator[tuple[str, str, str, str]]:
    yield _row("projects", [_each(run, "tick", size, "projects") for size in sizes])
    for label, name, per in TICKS:
        found = [
            [each[name] * 1000 / _projects(each, per) if per else each[name] for each in run[f"tick/{size}"]]
            for size in sizes
        ]
        yield _row(label, found, _growth(found) if per else "")


def _projects(figures: Mapping[str, float], which: str) -> float:
    return figures["projects" if which == "first" else "changed"]


def _each(run: Run, name: str, size: int, figure: str) -> list[float]:
    return [figures[figure] for figures in run[f"{name}/{size}"]]


def _cost(run: Run, name: str, size: int, clock: str = "seconds") -> list[float]:
    """Seconds per event."""
    return [figures[clock] / figures["count"] for figures in run[f"{name}/{size}"]]


def _ratio(run: Run, size: int, clock: str) -> list[float]:
    """How fast folding is beside reading only, round by round."""
    return [
        read / fold for read, fold in zip(_cost(run, "read", size, clock), _cost(run, "fold", size, clock), strict=True)
    ]


def _growth(costs: Sequence[Sequence[float]]) -> str:
    """The cost at the second size over that at the first, which takes a tenth of the events (or a fifth)."""
    small, large = (median(each) for each in costs)
    return f"× {large / small:.2f}"


def _row(label: str, figures: Sequence[Sequence[float]], growth: str = "") -> tuple[str, str, str, str]:
    small, large = (spread(each) for each in figures)
    return label, small, large, growth


def spread(figures: Sequence[float]) -> str:
    """The median, and the range if there is one."""
    low, middle, high = (_short(figure) for figure in (min(figures), median(figures), max(figures)))
    return middle if low == high else f"{middle} [{low}–{high}]"


def _short(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"


def markdown(about: Mapping[str, str], run: Run, sizes: Sizes) -> str:
    """The report as a page."""
    lines = [f"- {name}: {value}" for name, value in about.items()]
    lines += [
        f"- rounds: {len(run[f'fold/{sizes[0]}'])}",
        "",
        f"| | {sizes[0]:,} events | {sizes[1]:,} events | growth |",
        "|---|---|---|---|",
    ]
    lines += [f"| {' | '.join(row)} |" for row in rows(run, sizes)]
    return "\n".join(lines) + "\n"


def machine() -> str:
    """Its cores and memory, not its name."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}"
