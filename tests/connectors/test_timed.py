"""Who drips is given up by one deadline over the whole exchange, wherever in it the drops fall.

The server drips for ever, each drop long before any single wait would end: the tests pass only if the client goes.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from connectors import github, grants, jira, jira_auth, timed, ways
from connectors.base import ConnectorError, Retryable, SecretRef
from connectors.caldav import CalDavConnector, CalDavSettings
from connectors.calendar import CalendarConnector, CalendarSettings
from connectors.guard import GuardedAdapter
from connectors.timed import TimedAdapter
from connectors.ways import guarded
from tests.connectors.test_guard import certificate

NOW = datetime(2026, 3, 16, 12, tzinfo=UTC)
GUARD_SECONDS = 60
"""After so long the server goes away by itself, so that a test that fails does not hang."""
DROP_SECONDS = 0.02

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
WHERE: dict[str, tuple[bytes, bytes]] = {
    "nothing but a status line that grows": (b"HTTP/1.1 200 O", b"K"),
    "headers": (HEAD + b"X-Long: ", b"x"),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a body": (HEAD + b"Content-Length: 9999999\r\n\r\n", b"x"),
    "a body until the end": (HEAD + b"\r\n", b"x"),
    "chunks": (CHUNKED, b"1\r\nx\r\n"),
    "the size of a chunk": (CHUNKED, b"0"),
    "an extension of a chunk": (CHUNKED + b"1;", b"x"),
    "trailers": (CHUNKED + b"1\r\nx\r\n0\r\n", b"X-Trailer: x\r\n"),
    "a packed body that unpacks to nothing": (
        HEAD + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x08\0\0\0\0\0\0",
        b"n",
    ),
}
"""What comes first, and what then comes again and again."""


@dataclass
class Dripping:
    """A server that answers each visitor with `first`, and then drips until the visitor goes, or, if nobody does, the test
    has failed."""

    first: bytes = b""
    drop: bytes = b"x"
    wrap: Callable[[socket.socket], socket.socket] = lambda plain: plain
    port: int = 0
    gone: list[str] = field(default_factory=list)

    def serve(self, visitor: socket.socket) -> None:
        began = time.monotonic()
        try:
            with self.wrap(visitor) as each:
                webdav = each.recv(65536).startswith(b"PROPFIND")
                each.sendall(self.first.replace(b" 200 ", b" 207 ") if webdav else self.first)
                if not self.drop:
                    each.settimeout(GUARD_SECONDS)
                    assert not each.recv(1)
                    raise ConnectionResetError
                while time.monotonic() - began < GUARD_SECONDS:
                    each.sendall(self.drop)
                    time.sleep(DROP_SECONDS)
                self.gone.append("the server went first")
        except TimeoutError:
            self.gone.append("the server went first")
        except OSError:
            self.gone.append("the client")


@pytest.fixture
def dripping() -> Iterator[Dripping]:
    world, threads = Dripping(), list[threading.Thread]()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        world.port = listener.getsockname()[1]

        def accept() -> None:
            with suppress(OSError):
                while True:
                    visitor, _ = listener.accept()
                    threads.append(threading.Thread(target=world.serve, args=(visitor,)))
                    threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        yield world
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
        for thread in threads:
            thread.join()
    assert set(world.gone) == {"the client"}


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timed, "EXCHANGE_SECONDS", 0.3)


def calendar(url: str, folder: Path) -> None:
    settings = CalendarSettings(name="c", ics=url)
    list(CalendarConnector.connect(settings, lambda: NOW).entries("team"))


def caldav(url: str, folder: Path) -> None:
    list(CalDavConnector.connect(CalDavSettings(name="c", url=url), lambda: NOW).entries("team"))


def of_jira(url: str, folder: Path) -> None:
    auth = jira_auth.JiraAuth(email="a@example.com", token=token(folder))
    jira.JiraConnector.connect(jira.JiraSettings(name="j", url=url, auth=auth), lambda: NOW).now()


def of_github(url: str, folder: Path) -> None:
    settings = github.GitHubSettings(name="g", url=url, auth=github.GitHubAuth(token=token(folder)))
    github.GitHubConnector.connect(settings, lambda: NOW).now()


def grant(url: str, folder: Path) -> None:
    grants.exchange("It", url, {}, grants.Grant, "this (STATUS)")


def token(folder: Path) -> SecretRef:
    (folder / "token").write_text("canary")
    return SecretRef(file=folder / "token")


@pytest.mark.parametrize("read", [calendar, caldav, of_jira, of_github, grant])
@pytest.mark.parametrize("where", ["headers", "interim answers", "a body", "trailers"])
def test_every_connector_gives_up_who_drips(
    dripping: Dripping, tmp_path: Path, read: Callable[[str, Path], None], where: str
) -> None:
    dripping.first, dripping.drop = WHERE[where]
    with pytest.raises(Retryable, match=r"it did not answer in time; check the address, the network and any proxy"):
        read(f"http://127.0.0.1:{dripping.port}/team.ics", tmp_path)


@pytest.mark.parametrize("where", WHERE)
def test_wherever_the_drops_fall(dripping: Dripping, tmp_path: Path, where: str) -> None:
    dripping.first, dripping.drop = WHERE[where]
    with pytest.raises(Retryable, match="it did not answer in time"):
        calendar(f"http://127.0.0.1:{dripping.port}/team.ics", tmp_path)


def test_silence_lasts_no_longer_than_what_is_left(
    dripping: Dripping, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long a single wait may last."""
    monkeypatch.setattr(ways, "READ_SECONDS", 2.0 * GUARD_SECONDS)
    dripping.first, dripping.drop = HEAD, b""
    with pytest.raises(Retryable, match="it did not answer in time"):
        calendar(f"http://127.0.0.1:{dripping.port}/team.ics", tmp_path)


@pytest.mark.parametrize("where", ["headers", "trailers"])
def test_over_tls(dripping: Dripping, tmp_path: Path, where: str) -> None:
    pem, context = certificate(tmp_path, "localhost"), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    dripping.wrap = lambda plain: context.wrap_socket(plain, server_side=True)
    dripping.first, dripping.drop = WHERE[where]
    with session(TimedAdapter) as asking, pytest.raises(requests.RequestException):
        asking.get(f"https://localhost:{dripping.port}/", timeout=30, verify=str(pem))


def test_by_a_proxy(dripping: Dripping) -> None:
    """It drips what it has to say of the tunnel, before there is any connection to the host."""
    dripping.first, dripping.drop = HEAD, b"X-Proxy: x\r\n"
    proxies = {"https": f"http://127.0.0.1:{dripping.port}", "http": f"http://127.0.0.1:{dripping.port}"}
    for url in ("https://example.invalid/", "http://example.invalid/"):
        with session(TimedAdapter) as asking, pytest.raises(requests.RequestException):
            asking.get(url, timeout=30, proxies=proxies)


def test_what_data_named(dripping: Dripping, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.guard.checked", lambda host, port: ["127.0.0.1"])
    dripping.first, dripping.drop = WHERE["interim answers"]
    with guarded() as asking, pytest.raises(requests.RequestException):
        asking.get(f"http://public.example.com:{dripping.port}/", timeout=30)


@pytest.mark.parametrize("adapter", [TimedAdapter, GuardedAdapter])
def test_a_connection_that_is_used_again_has_a_deadline_of_its_own(
    adapter: type[TimedAdapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first exchange's is over when the second begins, by a clock that goes as the test says."""
    monkeypatch.setattr("connectors.guard.checked", lambda host, port: ["127.0.0.1"])
    clock = [1000.0]
    monkeypatch.setattr(timed, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            visitor, _ = listener.accept()
            with visitor:
                for _ in range(2):
                    asked = b""
                    while not asked.endswith(b"ask"):
                        asked += visitor.recv(65536)
                    visitor.sendall(HEAD + b"Content-Length: 2\r\n\r\nhi")

        thread = threading.Thread(target=answer)
        thread.start()
        with session(adapter) as asking:
            for _ in range(2):
                url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
                assert asking.post(url, data=b"ask", timeout=GUARD_SECONDS).text == "hi"
                clock[0] += 1000
        thread.join()


def test_who_does_not_take_what_is_sent() -> None:
    """Nothing is read at the other end, so that what is sent fills every buffer."""
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as listener, session(TimedAdapter) as asking:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        with pytest.raises(requests.RequestException):
            asking.post(url, data=b"x" * (64 << 20), timeout=GUARD_SECONDS)
    assert time.monotonic() - began < GUARD_SECONDS / 2


def session(adapter: type[TimedAdapter]) -> requests.Session:
    found: Any = requests.Session()
    for scheme in ("http://", "https://"):
        found.mount(scheme, adapter())
    return found  # type: ignore[no-any-return]


def test_a_failure_of_another_kind_is_told_as_ever(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectorError, match="it refuses connections"):
        calendar(f"http://127.0.0.1:{port}/team.ics", tmp_path)
