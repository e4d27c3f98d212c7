"""A real CalDAV server for tests: radicale in a process of its own, on loopback, with a folder that the test gives it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import requests

START_SECONDS = 30.0
STOP_SECONDS = 10.0
USER = "pm"
READY = b"Radicale server ready"
TRIES = 3
QUICKLY = "import os, radicale.__main__; os.fsync = lambda _: None; radicale.__main__.run()"
"""It waits for the disk several times for each entry, which no test needs."""
SETTINGS = """[server]
hosts = 127.0.0.1:{port}
[auth]
type = htpasswd
htpasswd_filename = {folder}/users
htpasswd_encryption = plain
delay = 0
[storage]
filesystem_folder = {folder}
[logging]
level = info
"""


@dataclass(frozen=True)
class Radicale:
    """A server, and what a person does with it: calendars are made in its folder, entries are put over HTTP."""

    url: str
    folder: Path
    password: str

    def add_calendar(self, name: str, entries: Mapping[str, str] | None = None, title: str | None = None) -> None:
        """A calendar whose address ends with `name`, with these entries, which radicale finds when it is asked."""
        calendar = self.place(name)
        calendar.mkdir(parents=True)
        (calendar / ".Radicale.props").write_text(
            json.dumps({"tag": "VCALENDAR", "D:displayname": name if title is None else title})
        )
        for file, text in (entries or {}).items():
            (calendar / file).write_bytes(text.encode())

    def place(self, name: str) -> Path:
        """Where a calendar's files are."""
        return self.folder / "collection-root" / USER / name

    def put(self, calendar: str, file: str, text: str) -> None:
        """Write an entry, as a calendar program does."""
        self._send("PUT", calendar, file, text.encode(), {"Content-Type": "text/calendar; charset=utf-8"})

    def delete(self, calendar: str, file: str) -> None:
        self._send("DELETE", calendar, file)

    def move(self, calendar: str, file: str, to: str) -> None:
        """Put an entry into another calendar."""
        self._send("MOVE", calendar, file, headers={"Destination": self.address(to, file)})

    def address(self, calendar: str, file: str = "") -> str:
        return f"{self.url}/{USER}/{quote(calendar)}/{quote(file)}"

    def _send(
        self, method: str, calendar: str, file: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        answer = requests.request(
            method, self.address(calendar, file), data=body, headers=headers, auth=(USER, self.password), timeout=60
        )
        assert answer.status_code in {200, 201, 204}, f"{method} {file}: {answer.status_code} {answer.text}"


@contextmanager
def running(folder: Path, password: str) -> Iterator[Radicale]:
    """A radicale that is ended by its process id when the block is left."""
    (folder / "users").write_text(f"{USER}:{password}\n")
    (folder / "collection-root" / USER).mkdir(parents=True)
    process, port = _start(folder)
    assert process.stderr is not None
    # What it says later is of no interest, but a pipe that is full would stop it.
    drain = threading.Thread(target=process.stderr.read)
    drain.start()
    try:
        yield Radicale(f"http://127.0.0.1:{port}", folder, password)
    finally:
        _end(process)
        drain.join()
        process.stderr.close()


def _start(folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """It takes no port but one that it is told, which by then may have been taken by somebody else."""
    environment = {name: value for name, value in os.environ.items() if name != "RADICALE_CONFIG"}
    command = [sys.executable, "-c", QUICKLY, "--config", str(folder / "config")]
    said = ""
    for _ in range(TRIES):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port: int = free.getsockname()[1]
        (folder / "config").write_text(SETTINGS.format(folder=folder, port=port))
        process = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, start_new_session=True)
        watch = threading.Timer(START_SECONDS, process.kill)
        watch.start()
        assert process.stderr is not None
        for line in process.stderr:
            said += line.decode(errors="replace")
            if READY in line:
                watch.cancel()
                return process, port
        watch.cancel()
        _end(process)
        process.stderr.close()
    raise AssertionError(f"radicale did not start; it said:\n{said}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_SECONDS)
