"""Ends the process at a chosen step, as `kill -9` would, so that a test can do so at every one of them.

`PMSYNC_CRASH_AT=settled:3` ends it at the third step of that name, `PMSYNC_CRASH_AT=any:40` at the fortieth of all.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping

VARIABLE = "PMSYNC_CRASH_AT"


def crash_points(environment: Mapping[str, str]) -> Callable[[str], None]:
    """The step function that the environment asks for; does nothing if it asks for none."""
    wanted = environment.get(VARIABLE, "")
    if not wanted:
        return lambda _: None
    name, _, count = wanted.rpartition(":")
    left = int(count)

    def step(here: str) -> None:
        nonlocal left
        if name in {"any", here}:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return step
