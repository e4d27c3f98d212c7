"""`pmsync run` as operations start it: a process that reads, shows pages, and ends when it is told to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import yaml

from pmsync.standins.portfolio import TOKENS
from tests.acceptance.small_world import CHAPTERS, SmallWorld

SECONDS = 60.0
DRAIN_SECONDS = 25


@contextmanager
def running(folder: Path, values: dict[str, Any]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`pmsync run` in a process of its own; yields it and the address of its pages."""
    places = {"bus": {"path": str(folder / "log.db")}, "store": {"url": f"sqlite:///{folder / 'pmsync.db'}"}}
    config = folder / "pmsync.yaml"
    config.write_text(yaml.safe_dump({**values, **places, "web": {"port": 0}, "poll": {"every_seconds": 1}}))
    command = [sys.executable, "-m", "pmsync", "-c", str(config), "run"]
    environment = {**os.environ, **TOKENS}
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        killer = threading.Timer(SECONDS, process.kill)  # a process that hangs fails the test, and does not hang it
        killer.start()
        try:
            assert process.stderr
            url = next(line.split()[-1] for line in process.stderr if line.startswith("pages: "))
            yield process, url
        finally:
            killer.cancel()
            process.kill()


def projects(url: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{url}/api/v1/projects", timeout=10) as answer:
        return list(json.load(answer)["projects"])


@pytest.mark.acceptance
def test_it_reads_shows_and_ends_when_told(tmp_path: Path) -> None:
    world = SmallWorld()
    world.time = CHAPTERS[2]
    with world.served() as values, running(tmp_path, values) as (process, url):
        wait = threading.Event()
        found: list[dict[str, Any]] = []
        for _ in range(int(SECONDS / 0.2)):
            found = projects(url)
            if found and all(not project["not_read"] for project in found):
                break
            wait.wait(0.2)
        assert {project["key"] for project in found} == {"apollo", "beacon"}
        assert not any(project["not_read"] for project in found)
        assert process.stdout
        subjects = (line for line in process.stdout if line.startswith(("apollo:", "beacon:")))
        told = list(islice(subjects, 2))
        process.send_signal(signal.SIGTERM)
        assert process.wait(DRAIN_SECONDS) == 0
        told += subjects
        assert sorted(line.split(":")[0] for line in told) == ["apollo", "beacon"], "one first message for each"
