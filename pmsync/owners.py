"""Who holds a lease or a claim: a process of a host."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def owner() -> str:
    """The name under which this process holds leases and claims: host, process id and when that process started."""
    return f"{socket.gethostname()}/{os.getpid()}/{_started(os.getpid())}"


def is_dead(name: str) -> bool:
    """Whether an owner ran on this host and no longer does, so that nobody has to wait for what it held to run out."""
    _, _, rest = name.partition("/")
    pid, _, started = rest.partition("/")
    return is_here(name) and pid.isdigit() and _started(int(pid)) != started


def is_here(name: str) -> bool:
    """Whether an owner is, or was, a process of this host."""
    return name.partition("/")[0] == socket.gethostname()


def _started(pid: int) -> str:
    """When a process of this host started, in the kernel's words; empty where there is none (or no /proc to ask)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "" if Path("/proc/self/stat").exists() else _alive(pid)
    return stat.rpartition(")")[2].split()[19]


def _alive(pid: int) -> str:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "gone"
    except PermissionError:
        return ""
    return ""
