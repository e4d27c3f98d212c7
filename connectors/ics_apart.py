"""Entries are read in a process apart, which the system stops where one takes too much time or memory.

The meters in `connectors/ics.py` bound what we know to be costly, so that a bad entry loses only itself. They are counted by
the code that they bound; what a library does between two of its steps they cannot see. So the last word is the kernel's:
limits of CPU time and memory on a process that does nothing else, and a deadline for its answers. It is given no
secret, and ends by itself when it is not needed. ADR 32 says what this costs.

Next on the way of an event: `connectors/calendar.py`, `connectors/caldav.py` and `connectors/google_calendar.py`, which hand on
what comes back.
"""

from __future__ import annotations

import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Literal
from weakref import finalize

from pydantic import BaseModel, ConfigDict

from connectors.base import ConnectorError, Read, Ref, Retryable, Withheld
from connectors.ics import FEED_STEPS, Meter, Scope, feed_meter, read_feed
from pmsync.core.events import CalendarEntry

CPU_SECONDS = 60
"""Of one body. What the meters let pass takes half of it at worst."""
MEMORY = 384 * 1024 * 1024
"""Bytes of address space, libraries included: with the connector itself within the 512 MiB that the chart gives it."""
ANSWER_SECONDS = 240.0
"""Until the next answer is there, by the clock: only a machine that is much too busy, or stopped, comes to it."""
IDLE_SECONDS = 60.0
"""After which the process ends by itself; half of it later, a new one is started rather than a race run."""
GIVEN_UP_STEPS = FEED_STEPS // 3 + 1
"""What a body counts for that was given up: after three of them a reading in pieces is over."""
MAX_BODY = 16 * 1024 * 1024
LASTING_REQUESTS = 5000
"""After which there is a new process, whatever a library may have kept in the old one."""
MAX_ANSWER = 64 * 1024 * 1024
HEADER = 8
OUT_OF_MEMORY = 77
"""How the process ends where its memory is spent; what is left of it could not be trusted with the next body."""
CRASHES = frozenset({-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGFPE, -signal.SIGILL})
"""Ends that a body brought about, and would again. Any other says nothing of it: a machine that is out of memory, somebody's
will, or a pmsync that was replaced while its worker runs."""
KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONTZPATH", "SYSTEMROOT")
"""All of the environment that it gets, besides where the modules are: secrets are in the rest."""


class GivenUp(Withheld):
    """One body cannot be read within its bounds, now or later. The message names no container: it may be one entry of many."""


def too_much(what: str) -> GivenUp:
    """That a body takes more than it may, and what to do."""
    return GivenUp(
        f"to read it takes more than {what}, which nothing does that people write; ask its author what it is, or take it out where "
        "it is kept. It is tried again when it changes"
    )


class Unable(Retryable):
    """The machine has no time or no process to read a body, which says nothing of the body."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    content: CalendarEntry | None = None
    problem: str | None = None
    raw: str = ""


_REFUSALS: Mapping[str, type[ConnectorError]] = {"retryable": Retryable, "withheld": Withheld, "given up": GivenUp}


class _Answer(BaseModel):
    """What came of a body: its entries, or why it was not read as a whole; and how many steps the reading has left."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    entries: tuple[_Entry, ...] = ()
    refused: Literal["retryable", "withheld", "given up"] | None = None
    why: str = ""
    left: int


# ---- in the worker ----


class Chamber:
    """The process apart, as the worker sees it: one at a time, started when it is needed."""

    def __init__(self, limit: int = CPU_SECONDS, memory: int = MEMORY, seconds: float = ANSWER_SECONDS) -> None:
        self._limits = limit, memory
        self._seconds = seconds
        self._lock = Lock()
        self._child: _Child | None = None

    def read(self, body: bytes, scope: Scope, meter: Meter | None = None) -> Sequence[Read]:
        """`read_feed`, bounded. Raises what that does, `GivenUp` where a body takes too much, and `Unable`."""
        meter = meter or feed_meter()
        if len(body) > MAX_BODY:
            raise too_much(f"{MAX_BODY >> 20} MiB")
        with self._lock:
            child = self._take(scope.container)
            try:
                child.ask(pickle.dumps((body, scope, meter.left)), self._seconds)
                answer = _Answer.model_validate_json(child.answer(self._seconds))
            except (OSError, EOFError, ValueError) as error:
                meter.left -= GIVEN_UP_STEPS
                raise self._given_up(child, scope.container, error) from None
            self._child = child
        meter.left = answer.left
        if answer.refused:
            raise _REFUSALS[answer.refused](answer.why)
        return [
            Read(Ref("calendar_entry", each.id), None, each.content, each.problem, each.raw.encode())
            for each in answer.entries
        ]

    def end(self) -> None:
        """End the process, if there is one; the next body has a new one."""
        with self._lock:
            if self._child is not None:
                self._child.end()
            self._child = None

    def _take(self, container: str) -> _Child:
        """A process that is there and will stay. It is given back by who had all answers of it."""
        child, self._child = self._child, None
        if child is not None and child.lasts():
            return child
        if child is not None:
            child.end()
        try:
            return _Child(*self._limits, self._seconds)
        except (OSError, EOFError) as error:
            raise Unable(
                f"{container}: no process could be started to read it ({type(error).__name__}); is the machine out of memory?"
            ) from None

    def _given_up(self, child: _Child, container: str, error: Exception) -> GivenUp:
        """Why the process did not answer. Raises `Unable` where that says nothing of the body."""
        code = child.end()
        if isinstance(error, TimeoutError):
            raise Unable(f"{container}: it was not read within {self._seconds:.0f} s; is the machine overloaded?")
        if isinstance(error, ValueError):
            return too_much(f"an answer may have ({type(error).__name__})")
        limit, memory = self._limits
        ours = {-signal.SIGXCPU: f"{limit} s of CPU time", OUT_OF_MEMORY: f"{memory >> 20} MiB of memory"}
        if code not in ours and code not in CRASHES:
            raise Unable(
                f"{container}: the process that read it ended with {code}, which says nothing of it; is the machine out of memory, "
                "or was pmsync replaced while it runs? Then start it again"
            )
        return too_much(ours.get(code, f"a process may have (it ended with {code})"))


CHAMBER = Chamber()
"""In which all calendars of this process are read, one after the other."""


class _Child:
    """One process, and the socket to it. Raises `OSError` or `EOFError` where it does not come to its first word."""

    def __init__(self, limit: int, memory: int, seconds: float) -> None:
        ours, theirs = socket.socketpair()
        environment = {name: os.environ[name] for name in KEPT if name in os.environ}
        with theirs:
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", "-m", "connectors.ics_apart", str(limit), str(memory)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # a warning could hold text of the feed
                env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
            )
        self._socket, self._process = ours, process
        self._end = finalize(self, _stop, process, ours)
        self._asked, self._used = 0, time.monotonic()
        try:
            self.answer(seconds)
        except BaseException:
            self._end()
            raise

    def lasts(self) -> bool:
        fresh = time.monotonic() < self._used + IDLE_SECONDS / 2
        return fresh and self._asked < LASTING_REQUESTS and self._process.poll() is None

    def ask(self, request: bytes, seconds: float) -> None:
        self._asked += 1
        self._socket.settimeout(seconds)
        _send(self._socket, request)

    def answer(self, seconds: float) -> bytearray:
        whole = _message(self._socket, MAX_ANSWER, time.monotonic() + seconds)
        self._used = time.monotonic()
        return whole

    def end(self) -> int:
        """End it, whatever it does; how it ended."""
        self._socket.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1)  # it may be ending by itself, and then says of what
        self._end()
        code: int = self._process.returncode
        return code


def _stop(process: subprocess.Popen[bytes], ours: socket.socket) -> None:
    ours.close()
    process.kill()
    process.wait()


# ---- in the process apart ----


def main(limit: int, memory: int) -> None:
    """Say that it is there, and answer until nothing is asked any more."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(ValueError, OSError):  # macOS has no such limit, and a lower one that is there already stays
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(
            "1000"
        )  # if the machine is out of memory, it goes before the worker
    asked = socket.socket(fileno=os.dup(0))
    _send(asked, b"")
    while True:
        try:
            request = _message(asked, 2 * MAX_BODY, time.monotonic() + IDLE_SECONDS)
        except (OSError, EOFError):
            return
        body, scope, left = pickle.loads(request)  # noqa: S301 — the worker wrote it
        del request
        asked.settimeout(None)  # who asked has a deadline, and closes
        _allow(limit)
        _send(asked, _answer(body, scope, left).model_dump_json().encode())


def _allow(limit: int) -> None:
    """So many seconds of CPU time from now on; the kernel stops what goes beyond."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(used.ru_utime + used.ru_stime) + 1 + limit
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _answer(body: bytes, scope: Scope, left: int) -> _Answer:
    meter = feed_meter()
    meter.left = left
    try:
        entries = tuple(_entry(read) for read in read_feed(body, scope, meter))
    except Retryable as error:
        return _Answer(refused="retryable", why=str(error), left=meter.left)
    except Withheld as error:
        return _Answer(refused="withheld", why=str(error), left=meter.left)
    except MemoryError:
        raise
    except Exception as error:
        why = (
            f"pmsync fails at it ({type(error).__name__}); please report what it is. It is tried again when it changes"
        )
        return _Answer(refused="given up", why=why, left=meter.left)
    return _Answer(entries=entries, left=meter.left)


def _entry(read: Read) -> _Entry:
    content = read.content if isinstance(read.content, CalendarEntry) else None
    return _Entry(id=read.ref.id, content=content, problem=read.problem, raw=read.raw.decode())


# ---- between them ----


def _send(to: socket.socket, message: bytes) -> None:
    to.sendall(len(message).to_bytes(HEADER) + message)


def _message(of: socket.socket, at_most: int, deadline: float) -> bytearray:
    """The next message; raises `EOFError` where there is none any more, `ValueError` where it is too long."""
    size = int.from_bytes(_received(of, HEADER, deadline))
    if size > at_most:
        raise ValueError
    return _received(of, size, deadline)


def _received(of: socket.socket, size: int, deadline: float) -> bytearray:
    whole = bytearray()
    while len(whole) < size:
        of.settimeout(max(0.001, deadline - time.monotonic()))
        if not (some := of.recv(min(size - len(whole), 1 << 20))):
            raise EOFError
        whole += some
    return whole


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), int(sys.argv[2]))
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
