"""The Monte Carlo simulation behind a forecast: in which step each share of the trials has arrived.

The only module that needs numpy. It is loaded when the first forecast is made, since a worker that starts again has events
to fold before it has anything to forecast.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

TRIALS = 1000
BLOCK = 32
QUANTILES = (500, 850, 950)


class Arrival(NamedTuple):
    """On which step each share of `QUANTILES` has arrived (the nearest rank), and how many of a thousand in time."""

    steps: tuple[int, ...]
    on_time: int | None


@lru_cache(maxsize=20_000)
def arrival(net: tuple[int, ...], target: int, start: int, steps: int, in_time: int | None) -> Arrival:
    """Remembered, since a rule that looks back asks the same of the same past days at every tick."""
    taken = simulate(net, target, start, steps, in_time or 0)
    on_time = None if in_time is None else int((taken <= in_time).sum()) * 1000 // TRIALS
    return Arrival(tuple(nearest_rank(taken, share) for share in QUANTILES), on_time)


def nearest_rank(values: NDArray[np.int64], share: int) -> int:
    """The smallest value that `share` of a thousand do not exceed."""
    return int(np.sort(values)[-(-share * len(values) // 1000) - 1])


def simulate(net: Sequence[int], target: int, start: int, steps: int, needed: int = 0) -> NDArray[np.int64]:
    """Per trial, on which step the sum of draws from `net` first reaches `target` (steps + 1: never within `steps`).

    All trials draw on every step, whether they have arrived or not: so a draw depends on its trial and step alone. It
    stops when nobody asks for more: after `needed` steps, and once the last quantile is known.
    """
    source, days = np.random.PCG64(start), np.array(net, np.int64)
    level = np.zeros(TRIALS, np.int64)
    taken = np.full(TRIALS, steps + 1, np.int64)
    enough = TRIALS * QUANTILES[-1] // 1000
    for first in range(0, steps, BLOCK):
        paths = _draws(source, days)
        for n in range(BLOCK):
            # Row by row: five times as fast as numpy's cumsum along this axis.
            level = np.add(level, paths[n], out=paths[n])
        arrived = np.flatnonzero((paths.max(axis=0) >= target) & (taken > steps))
        if arrived.size:
            reached = paths[:, arrived] >= target
            taken[arrived] = np.minimum(first + 1 + reached.argmax(axis=0), steps + 1)
        if first + BLOCK >= needed and (taken <= steps).sum() >= enough:
            break
    return taken


def _draws(source: np.random.PCG64, net: NDArray[np.int64]) -> NDArray[np.int64]:
    """A block of draws from `net`, a row for each step. Raw bits, whose stream no version of numpy changes; 16 bits of
    chance make one day of a window at most a thousandth likelier than another."""
    bits = source.random_raw(BLOCK * TRIALS // 4).view(np.uint16)
    return net.take((bits.astype(np.uint32) * len(net)) >> 16, mode="clip").reshape(BLOCK, TRIALS)
