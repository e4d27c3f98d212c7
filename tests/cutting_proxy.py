"""A way to PostgreSQL that breaks at a COMMIT of choice: before the server has it, or before its answer comes back."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

from sqlalchemy.engine import URL, make_url

Side = Literal["before", "after"]


class CuttingProxy:
    """Forwards bytes. `cut` arms it; `has_cut` says whether that commit has come."""

    def __init__(self, server: URL) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._left = 0
        self._side: Side = "before"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.has_cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        host, port = self._listener.getsockname()
        # Encrypted, a COMMIT could not be told from anything else.
        there = self._server.set(host=host, port=port).update_query_dict({"sslmode": "disable"})
        return there.render_as_string(hide_password=False)

    def cut(self, side: Side, commit: int = 1) -> None:
        """Break the connection over which the `commit`-th COMMIT from now goes."""
        with self._lock:
            self._left, self._side, self.has_cut = commit, side, False

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                assert self._server.host
                try:
                    server = socket.create_connection((self._server.host, self._server.port or 5432), timeout=60)
                except OSError:  # it is down just now
                    client.close()
                    continue
                threading.Thread(target=self._there, args=(client, server), daemon=True).start()

    def _there(self, client: socket.socket, server: socket.socket) -> None:
        swallow = threading.Event()
        back = threading.Thread(target=_bring_back, args=(server, client, swallow), daemon=True)
        back.start()
        with client, server, suppress(OSError):
            while data := client.recv(65536):
                cut = self._is_the_one(data)
                if cut and self._side == "before":
                    break
                if cut:
                    swallow.set()
                server.sendall(data)
                if cut:
                    back.join(30)  # until the answer has come: the commit has taken place
                    break
            _hang_up(client, server)
        back.join(30)

    def _is_the_one(self, data: bytes) -> bool:
        with self._lock:
            if self._left == 0 or b"COMMIT\0" not in data:
                return False
            self._left -= 1
            self.has_cut = self._left == 0
            return self.has_cut


def _bring_back(server: socket.socket, client: socket.socket, swallow: threading.Event) -> None:
    with suppress(OSError):
        while data := server.recv(65536):
            if swallow.is_set():
                break
            client.sendall(data)
    if not swallow.is_set():
        _hang_up(client)


def _hang_up(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def cutting_proxy(url: str) -> Iterator[CuttingProxy]:
    """A proxy before the server of this address."""
    proxy = CuttingProxy(make_url(url))
    try:
        yield proxy
    finally:
        proxy.close()
