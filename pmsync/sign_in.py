"""Signing in to a source by a person's consent: where the person comes back to, and whether it is the answer to what was
asked.

The browser is sent to an address of this machine, where one request is waited for, and not for long; or the person pastes
where it was sent to. Either holds a code that is good once, with the state that was given along.
"""

from __future__ import annotations

import hmac
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer
from urllib.parse import parse_qs, urlsplit

from connectors.base import Fatal

CALLBACK = "http://localhost:8765/callback"
WAIT_SECONDS = 300.0
"""For a person to read what they consent to."""
REQUEST_SECONDS = 5.0
"""For a request to come in full, and its answer to go."""
MOST_REQUESTS = 50
"""Browsers ask for icons, too."""
LOOPBACK = frozenset({"localhost", "127.0.0.1"})
LONGEST = 16_384
"""Characters of an answer."""
HEARD = b"<!doctype html><title>pmsync</title><p>pmsync has heard. What came of it is where it was started; close this page."


def code_of(answer: str, state: str) -> str:
    """The code in the address that the browser was sent to, if it is the answer to what was asked with this state. Raises
    `Fatal`."""
    given, code, error = _told(answer)
    if not given:
        raise Fatal("that is no answer: paste the whole address that the browser was sent to, with its code and state")
    if not _same(given, state):
        raise Fatal("that answers another question (its state differs), so its code was not used; sign in once more")
    if error or not code:
        why = error if re.fullmatch("[a-z_]{1,40}", error) else "no code"
        raise Fatal(f"there is no consent ({why}); sign in once more, and accept")
    return code


def _told(answer: str) -> tuple[str, str, str]:
    """The state, the code and the error in an address; empty where there is none."""
    try:
        found = parse_qs(urlsplit(answer.strip()).query, max_num_fields=20) if len(answer) <= LONGEST else {}
    except ValueError:
        found = {}
    state, code, error = (found.get(name, [""])[0] for name in ("state", "code", "error"))
    return state, code, error


def _same(given: str, state: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), state.encode())


@contextmanager
def listening(callback: str, state: str) -> Iterator[_Listener]:
    """Where a loopback address leads to, while the block runs. Raises `Fatal` where it cannot be had."""
    found = _loopback(callback)
    if found is None:
        raise Fatal(
            f"{callback} does not lead to this machine; with --code you paste where the browser was sent to, or give "
            f"--callback {CALLBACK}, as the app has it"
        )
    try:
        listener = _Listener(*found, state)
    except OSError as error:
        raise Fatal(
            f"{callback} cannot be listened at: {error.strerror}; sign in with --code, or with a --callback at another port, "
            "as the app has it"
        ) from None
    try:
        yield listener
    finally:
        listener.server_close()


def _loopback(url: str) -> tuple[str, int] | None:
    """The path and the port of an address of this machine."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    return (parts.path or "/", port) if parts.scheme == "http" and parts.hostname in LOOPBACK and port else None


class _Listener(TCPServer):
    """Hears one request, at one path with one state; whatever else comes is not found, and ends no waiting."""

    allow_reuse_address = True
    request_seconds = REQUEST_SECONDS

    def __init__(self, path: str, port: int, state: str) -> None:
        self.path = path
        self.state = state
        self.answer = ""
        super().__init__(("127.0.0.1", port), _Handler)

    def wait(self, seconds: float = WAIT_SECONDS) -> str:
        """Where the browser was sent to. Raises `Fatal` if nobody comes."""
        deadline = time.monotonic() + seconds
        for _ in range(MOST_REQUESTS):
            self.timeout = deadline - time.monotonic()
            if self.timeout <= 0:
                break
            self.handle_request()
            if self.answer:
                return self.answer
        raise Fatal(f"no answer came within {seconds:.0f} s; sign in once more, or with --code")

    def handle_error(self, request: object, client_address: object) -> None:
        """A broken request is no answer, and not worth a word."""


class _Handler(BaseHTTPRequestHandler):
    server: _Listener

    def setup(self) -> None:
        """A time-out of the socket would begin anew with every byte; this one is over all of them."""
        super().setup()
        self._end = threading.Timer(self.server.request_seconds, self._cut)
        self._end.daemon = True
        self._end.start()

    def _cut(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def finish(self) -> None:
        self._end.cancel()
        super().finish()

    def do_GET(self) -> None:
        is_it = self.path.partition("?")[0] == self.server.path and _same(_told(self.path)[0], self.server.state)
        if is_it:
            self.server.answer = self.path
        self.send_response(200 if is_it else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        self.wfile.write(HEARD if is_it else b"")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
        """Nothing: the code is in the address."""
