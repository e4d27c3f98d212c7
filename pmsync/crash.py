"""Ends the process at a chosen step, as `kill -9` would, so that a test can do so at every one of them.

`PMSYNC_CRASH_AT=C4:3` ends it when it passes crash point C4 for the third time, `settled:3` at the third step of that
name, `any:40` at the fortieth of all. Some points stop the process (C20) or ask it to end (C25) instead.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping
from typing import NamedTuple

VARIABLE = "PMSYNC_CRASH_AT"
ANY = "any"


class Point(NamedTuple):
    """A place on the way of an event where a process may end. `steps` are the names by which the code passes it; where
    there are none, a test makes the fault from outside."""

    role: str
    steps: tuple[str, ...]
    where: str
    must_hold: str
    sends: signal.Signals = signal.SIGKILL


POINTS: Mapping[str, Point] = {
    "C1": Point("connector", ("leased",), "after the lease, before anything is fetched", "another reader goes on"),
    "C2": Point("connector", ("fetched", "noted"), "fetched, or noted as pending, before it is sent", "fetched again"),
    "C3": Point("connector", ("sent",), "after some of the sends, none waited for", "sent again; repeats change nothing"),
    "C4": Point("connector", ("published",), "all acknowledged, before ledger and cursor", "fetched again by id"),
    "C5": Point("connector", ("before the cursor", "after the cursor"), "around the cursor's commit", "listed again"),
    "C6": Point("web", ("verified",), "webhook verified, before its hints are kept", "no 2xx, so it comes again"),
    "C7": Point("web", ("kept",), "its hints kept, before the 202", "it comes again; repeats change nothing"),
    "C8": Point("web", (), "after the 202, before anything is fetched", "its hints are there"),
    "C9": Point("connector", ("republished",), "what was asked for is published, before it is struck", "once more"),
    "C10": Point("aggregator", ("assigned",), "assigned, before the epoch is taken", "nothing was written"),
    "C11": Point("aggregator", ("taken",), "after the epoch, before it is read", "the next owner takes a higher epoch"),
    "C12": Point("aggregator", ("read",), "read, before the transaction", "read again"),
    "C13": Point("aggregator", ("begun",), "in the transaction, before the fold", "rolled back"),
    "C14": Point("aggregator", ("compared",), "assessed, before alert log and outbox are written", "assessed again"),
    "C15": Point("aggregator", ("folded",), "after all writes, before COMMIT", "rolled back"),
    "C16": Point("aggregator", ("committed",), "COMMIT sent, its answer lost", "the store is asked where it stands"),
    "C17": Point("aggregator", ("caught up",), "after COMMIT, before the log is told of the offset", "not read again"),
    "C18": Point("aggregator", ("buried",), "dead letter acknowledged, before the offset moves", "buried twice, as one"),
    "C19": Point(
        "aggregator", ("read",), "partitions go to another one with a batch at hand", "the new owner's counts",
        signal.SIGSTOP,
    ),
    "C20": Point(
        "aggregator", ("folded",), "stopped in the transaction past all time-outs, then woken", "it writes nothing",
        signal.SIGSTOP,
    ),
    "C21": Point("notifier", ("claimed",), "a message claimed, before it is sent", "sent once more, counted"),
    "C22": Point("notifier", ("delivered",), "sent, before that is noted", "sent once more, counted"),
    "C23": Point("aggregator", ("assessed",), "a tick assessed, before COMMIT", "assessed again"),
    "C24": Point("store", ("migrating",), "half-way through a migration", "the old tables or the new ones, whole"),
    "C25": Point("aggregator", (ANY,), "asked to end (SIGTERM)", "ends with 0 in time; nothing is done twice",
                 signal.SIGTERM),
    "C26": Point("log", (), "the embedded log torn at its end by a power loss", "what was acknowledged is there"),
}  # fmt: skip
"""The crash points by name. What must hold of all of them is in `docs/reliability.md`."""


def crash_points(environment: Mapping[str, str]) -> Callable[[str], None]:
    """The step function that the environment asks for; does nothing if it asks for none. Raises `ValueError` for what is
    no point."""
    wanted = environment.get(VARIABLE, "")
    if not wanted:
        return lambda _: None
    name, colon, count = wanted.rpartition(":")
    point = POINTS.get(name, Point("", (name,), "", ""))
    if not (name and colon and count.isdigit() and point.steps):
        known = ", ".join(each for each, point in POINTS.items() if point.steps)
        raise ValueError(
            f"{VARIABLE}={wanted} names no step; write NAME:COUNT, where NAME is a step, {ANY}, or {known}"
        )
    left = int(count)
    lock = threading.Lock()  # of several workers' threads each counts

    def step(here: str) -> None:
        nonlocal left
        if here in point.steps or ANY in point.steps:
            with lock:
                left -= 1
                reached = left == 0
            if reached and point.sends is signal.SIGTERM:
                os.kill(os.getpid(), point.sends)
            elif reached:
                # To this very thread: sent to the process, SIGSTOP lets it run on for a moment, past the step.
                signal.pthread_kill(threading.get_ident(), point.sends)

    return step
