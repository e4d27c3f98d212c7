"""Runs pmsync in new processes, forked from one that has everything imported.

So real processes can be started, killed, stopped and woken, hundreds of times, without paying hundreds of starts. The
parent's side is `Forker`; the other end (`python -m tests.acceptance.forker`) reads an order per line (JSON), forks, and
answers with the process id, or with how a process ended: its exit code, or minus the signal that killed it.

A job is `once` (`App.once`, with the clock at an instant) or the words of a command (`pmsync aggregator`). Either way the
process notes what was acknowledged to it and what it read (`tests/judge/evidence.py`), and tells SQLite its name.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import kafka  # noqa: F401 - so that no child has to
import psycopg  # noqa: F401
from sqlalchemy import Engine, event

import pmsync.aggregator
import pmsync.app
import pmsync.cli
from pmsync.app import App
from pmsync.bus import apache_kafka  # noqa: F401
from pmsync.bus.port import Delivered, Record
from pmsync.crash import VARIABLE, crash_points
from tests.acceptance.installation import configure
from tests.judge.evidence import WRITER, Notes

ROOT = Path(__file__).parents[2]
TICK_SECONDS = 0.05
BATCH = 25
"""Small, so that a short log has many batches."""


# --- the parent's side ------------------------------------------------------------------------------------------------


@dataclass
class Process:
    """A process that the forker started."""

    pid: int
    writer: str
    forker: Forker
    code: int | None = None

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self, seconds: float) -> int:
        """How it ended; it must end by then."""
        code = self.ended(seconds)
        assert code is not None, f"{self.writer} did not end within {seconds:g} s"
        return code

    def ended(self, seconds: float = 0.0) -> int | None:
        """How it ended; None if it is still running by then."""
        if self.code is None:
            self.code = self.forker.order({"wait": self.pid, "seconds": seconds})
        return self.code

    def is_stopped(self) -> bool:
        """Whether SIGSTOP holds it."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def close(self) -> None:
        if self.ended() is None:
            self.send(signal.SIGKILL)
            self.wait(10)


class Forker:
    """Starts processes. One thread at a time."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.acceptance.forker"]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def order(self, order: Mapping[str, Any]) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, job: Mapping[str, Any]) -> Process:
        return Process(int(self.order({"start": job})), str(job["writer"]), self)

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


# --- the other end ----------------------------------------------------------------------------------------------------


def main() -> None:
    """Serve orders until the input ends."""
    for line in sys.stdin:
        order = json.loads(line)
        if job := order.get("start"):
            child = os.fork()
            if child == 0:
                _run(job)
            print(child, flush=True)
        else:
            print(json.dumps(_wait(order["wait"], order["seconds"])), flush=True)


def _wait(pid: int, seconds: float) -> int | None:
    deadline = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.005)


def _run(job: dict[str, Any]) -> None:
    code = 1
    with suppress(BaseException):
        os.environ.update(job.get("environment", {}))
        with open(Path(job["folder"]) / f"{job['writer']}.log", "ab", buffering=0) as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        os.close(0)
        event.listen(Engine, "connect", lambda connection, _: _tell_name(connection, job["writer"]))
        code = _command(job, job["words"]) if "words" in job else _once(job)
    os._exit(code)


def _once(job: Mapping[str, Any]) -> int:
    now = datetime.fromisoformat(job["now"])
    steps = crash_points({VARIABLE: job["crash"]})
    with open(job["messages"], "a", encoding="utf-8") as messages:
        app = NotedApp(
            configure(Path(job["folder"]), job["values"]),
            lambda: now,
            step=steps,
            write=lambda text: (messages.write(text + "\0"), messages.flush()),
            notes=_notes(job),
            counting=bool(job.get("counting")),
        )
        outcome = app.once()
        app.close()
        for source, problem in outcome.problems.items():
            print(f"{source}: {problem}", flush=True)
        return 0 if not outcome.problems else 3


def _command(job: Mapping[str, Any], words: Sequence[str]) -> int:
    """The command itself, as `pmsync` runs it, but for its clock, which stands still at `now`, and small batches."""
    now = datetime.fromisoformat(job["now"])

    def app(config: Any, _: Any, **rest: Any) -> App:
        return NotedApp(config, lambda: now, notes=_notes(job), counting=bool(job.get("counting")), **rest)

    pmsync.cli.App = app  # type: ignore[misc,assignment]
    pmsync.app.TICK_SECONDS = TICK_SECONDS
    pmsync.aggregator.BATCH = job.get("batch", BATCH)
    sys.argv = ["pmsync", *words]
    try:
        pmsync.cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


class NotedApp(App):
    """An app that notes what was acknowledged to it, what it read and, if `counting`, which steps it passed."""

    def __init__(
        self, *args: Any, notes: Notes, counting: bool = False, step: Any = lambda _: None, **rest: Any
    ) -> None:
        def noted(name: str) -> None:
            notes.passed(name)
            step(name)

        super().__init__(*args, step=noted if counting else step, **rest)
        publish, poll = self.bus.publish, self.bus.poll

        def publish_noted(topic: str, records: Sequence[Record]) -> None:
            publish(topic, records)
            notes.acknowledged(topic, records)

        def poll_noted(offsets: Mapping[int, int], limit: int, wait: float) -> Mapping[int, Sequence[Delivered]]:
            found = poll(offsets, limit, wait)
            for records in found.values():
                notes.read(records)
            return found

        self.bus.publish, self.bus.poll = publish_noted, poll_noted  # type: ignore[method-assign]


def _notes(job: Mapping[str, Any]) -> Notes:
    return Notes(Path(job["folder"]) / "notes", job["writer"])


def _tell_name(connection: Any, name: str) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.create_function(WRITER, 0, lambda: name)


if __name__ == "__main__":
    main()
