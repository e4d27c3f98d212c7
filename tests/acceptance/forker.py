"""Runs `pmsync run --once` in a new process each time, forked from one that has everything imported.

So a real process can be killed at a chosen step, hundreds of times, without paying hundreds of starts. Reads a job per
line (JSON) and answers with how the process ended: 0, or minus the signal that killed it.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from pmsync.app import App
from pmsync.crash import VARIABLE, crash_points
from tests.acceptance.installation import configure


def main() -> None:
    """Serve jobs until the input ends."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _run(json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(job: dict[str, Any]) -> None:
    code = 1
    with suppress(BaseException):
        os.environ.update(job["environment"])
        now = datetime.fromisoformat(job["now"])
        steps = crash_points({VARIABLE: job["crash"]})
        with open(job["messages"], "a", encoding="utf-8") as messages:
            app = App(
                configure(Path(job["folder"]), job["values"]),
                lambda: now,
                wall=lambda: datetime.now(now.tzinfo),
                step=steps,
                write=lambda text: (messages.write(text + "\0"), messages.flush()),
            )
            outcome = app.once()
            app.close()
            code = 0 if not outcome.problems else 3
    os._exit(code)


if __name__ == "__main__":
    main()
