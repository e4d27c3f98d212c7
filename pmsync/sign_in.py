"""Signing in to a source by a person's consent: where the person comes back to, and whether it is the answer to what was
asked.

The browser is sent to an address of this machine, where one request is waited for, and not for long; or the person pastes
where it was sent to. Either holds a code that is good once, with the state that was given along.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer
from urllib.parse import parse_qs, urlsplit

from connectors.base import Fatal

CALLBACK = "http://localhost:8765/callback"
WAIT_SECONDS = 300.0
"""For a person to read what they consent to."""
REQUEST_SECONDS = 5.0
"""For a request to come in full."""
MOST_REQUESTS = 50
"""Browsers ask for icons, too."""
LOOPBACK = frozenset({"localhost", "127.0.0.1"})
LONGEST = 16_384
"""Characters of an answer."""
HEARD = b"<!doctype html><title>pmsync</title><p>pmsync has heard. What came of it is where it was started; close this page."


def code_of(answer: str, state: str) -> str:
    """The code in the address that the browser was sent to, if it is the answer to what was asked with this state. Raises
    `Fatal`."""
    try:
        found = parse_qs(urlsplit(answer.strip()).query, max_num_fields=20) if len(answer) <= LONGEST else {}
    except ValueError:
        found = {}
    given, code, error = (found.get(name, [""])[0] for name in ("state", "code", "error"))
    if not given:
        raise Fatal("that is no answer: paste the whole address that the browser was sent to, with its code and state")
    if not hmac.compare_digest(given.encode(errors="replace"), state.encode()):
        raise Fatal("that answers another question (its state differs), so its code was not used; sign in once more")
    if error or not code:
        why = error if re.fullmatch("[a-z_]{1,40}", error) else "no code"
        raise Fatal(f"there is no consent ({why}); sign in once more, and accept")
    return code


@contextmanager
def listening(callback: str) -> Iterator[_Listener]:
    """Where a loopback address leads to, while the block runs. Raises `Fatal` where it cannot be had."""
    parts, port = urlsplit(callback), _port(callback)
    if parts.scheme != "http" or parts.hostname not in LOOPBACK or not port:
        raise Fatal(
            f"{callback} does not lead to this machine; with --code you paste where the browser was sent to, or give "
            f"--callback {CALLBACK}, as the app has it"
        )
    try:
        listener = _Listener(parts.path or "/", port)
    except OSError as error:
        raise Fatal(
            f"{callback} cannot be listened at: {error.strerror}; sign in with --code, or with a --callback at another port, "
            "as the app has it"
        ) from None
    try:
        yield listener
    finally:
        listener.server_close()


def _port(url: str) -> int | None:
    try:
        return urlsplit(url).port
    except ValueError:
        return None


class _Listener(TCPServer):
    """Hears one request at one path; whatever else comes is not found."""

    allow_reuse_address = True

    def __init__(self, path: str, port: int) -> None:
        self.path = path
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
    timeout = REQUEST_SECONDS

    def do_GET(self) -> None:
        is_it = urlsplit(self.path).path == self.server.path
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
