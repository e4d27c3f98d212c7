"""Answers that are far too large, or no answers at all: given up in bounded memory, and said in words. Those that never end are in
`test_timed.py`."""

from __future__ import annotations

import gzip
import socketserver
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from connectors import bounded, github, jira, jira_auth
from connectors.base import Connector, ConnectorError, Retryable, SecretRef

NOW = datetime(2026, 3, 16, 12, tzinfo=UTC)
MIB = 1 << 20
WAIT_SECONDS = 30
Send = Callable[[Any], None]


@dataclass
class Server:
    """Answers every request as `status`, `headers` and `send` say; `sent` are the bytes that it got rid of."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    send: Send = lambda _: None
    sent: int = 0
    asked: list[str] = field(default_factory=list)
    broken_off: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def body(self, *parts: bytes) -> None:
        def send(file: Any) -> None:
            for part in parts:
                file.write(part)
                self.sent += len(part)

        self.send = send


@pytest.fixture
def server() -> Iterator[Server]:
    world = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def do_GET(self) -> None:
            world.asked.append(self.headers["Host"])
            self.send_response_only(world.status)
            for name, value in ({"Content-Type": "application/json"} | world.headers).items():
                self.send_header(name, value)
            self.end_headers()
            try:
                world.send(self.wfile)
            except OSError:
                world.broken_off.set()

        def log_message(self, *args: object) -> None:
            pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as listener:
        world.url = f"http://127.0.0.1:{listener.server_address[1]}"
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield world
        listener.shutdown()
        thread.join()


@pytest.fixture(params=["jira", "github"])
def connector(request: pytest.FixtureRequest, server: Server, tmp_path: Path) -> Connector:
    (tmp_path / "token").write_text("canary")
    token = SecretRef(file=tmp_path / "token")
    if request.param == "jira":
        auth = jira_auth.JiraAuth(email="a@example.com", token=token)
        return jira.JiraConnector.connect(jira.JiraSettings(name="j", url=server.url, auth=auth), lambda: NOW)
    auth_of_hub = github.GitHubAuth(token=token)
    settings = github.GitHubSettings(name="g", url=server.url, auth=auth_of_hub)
    return github.GitHubConnector.connect(settings, lambda: NOW)


def test_a_page_of_200_mb_is_broken_off_and_not_held(
    connector: Connector, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "MAX_BYTES", 4 * MIB)
    server.body(*[b"[" + b" " * (MIB - 1)] * 200)
    tracemalloc.start()
    with pytest.raises(
        Retryable, match=r"127\.0\.0\.1 answers with more than 4 MiB, of which nothing was taken; a smaller"
    ):
        connector.now()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert server.broken_off.wait(WAIT_SECONDS)
    # What the two ends of a connection on this host buffer is some MB at most.
    assert server.sent < 40 * MIB
    assert peak < 20 * MIB


@pytest.mark.parametrize("status", [200, 500])
def test_what_unpacks_to_200_mb_is_not_unpacked(
    connector: Connector, server: Server, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(bounded, "MAX_BYTES", 4 * MIB)
    server.status, server.headers = status, {"Content-Encoding": "gzip"}
    server.body(gzip.compress(b" " * (200 * MIB), 1))
    tracemalloc.start()
    with pytest.raises(Retryable, match="more than 4 MiB"):
        connector.now()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * MIB


@pytest.mark.parametrize("body", [b"<!DOCTYPE html><html><body>Sign in</body></html>", b'{"serverTime": "2026-', b""])
def test_what_is_no_json_is_retryable(connector: Connector, server: Server, body: bytes) -> None:
    server.headers = {"Content-Type": "text/html"}
    server.body(body)
    with pytest.raises(Retryable, match="no JSON: it was cut short, or comes from a proxy"):
        connector.now()


def test_what_is_no_gzip_is_retryable(connector: Connector, server: Server) -> None:
    server.headers = {"Content-Encoding": "gzip"}
    server.body(b"{}")
    with pytest.raises(Retryable, match="cannot be read"):
        connector.now()


def test_half_of_what_was_promised_is_retryable(connector: Connector, server: Server) -> None:
    server.headers = {"Content-Length": "9999"}
    server.body(b'{"serverTime": ')
    with pytest.raises(Retryable, match="cannot be read"):
        connector.now()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_to_another_host_is_followed(connector: Connector, server: Server, status: int) -> None:
    server.status = status
    server.headers = {"Location": server.url.replace("127.0.0.1", "localhost") + "/elsewhere"}
    with pytest.raises(ConnectorError, match=r"redirects|answered 30"):
        connector.now()
    assert server.asked
    assert all(host.startswith("127.0.0.1") for host in server.asked)
