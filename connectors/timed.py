"""One deadline over the whole of an exchange: connecting, asking, and the answer to its last byte.

A time-out bounds a single wait, and who drips lets none of them end: a header a minute, `100 Continue` without end, a trailer
after the last chunk. So whatever is sent or read waits for no longer than what is left of the exchange.

Next on the way of an event: `connectors/ways.py` and `connectors/bounded.py`, whose sessions are of these adapters.
"""

from __future__ import annotations

import io
import math
import socket
import time
from collections.abc import Mapping
from functools import cache, partial
from http.client import HTTPResponse
from typing import Any, ClassVar

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, PoolManager
from urllib3.connection import HTTPConnection

EXCHANGE_SECONDS = 120.0
"""For one request and its answer; one that is led elsewhere begins another. A look-up of a name has the resolver's own bounds."""
PIECE = 16 * 1024
"""Bytes that are sent at once: a record of TLS, each of which has a time-out to itself."""


class _Received(io.RawIOBase):
    """The bytes of an answer, as they come, until the deadline."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: float) -> None:
        super().__init__()
        self._raw, self._sock, self._deadline = raw, sock, deadline
        self._patience = sock.gettimeout()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        _hurry(self._sock, self._patience, self._deadline)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(HTTPResponse):
    """An answer that is read through `_Received`: its status, headers, chunks and trailers too."""

    def __init__(self, deadline: float, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp: Any = io.BufferedReader(_Received(self.fp.detach(), sock, deadline))


class _Timed(HTTPConnection):
    """A connection in an exchange that ends at `deadline`."""

    _deadline = math.inf

    def begin(self) -> None:
        """An exchange begins."""
        self._deadline = time.monotonic() + EXCHANGE_SECONDS
        self.response_class: Any = partial(_Answer, self._deadline)

    def send(self, data: Any) -> None:
        for start in range(0, len(data), PIECE):
            if self.sock is not None:
                patience = self.timeout if isinstance(self.timeout, int | float) else None
                _hurry(self.sock, patience, self._deadline)
            super().send(data[start : start + PIECE])


def _hurry(sock: socket.socket, patience: float | None, deadline: float) -> None:
    """Let the next wait end by the deadline; raises `TimeoutError` where that has passed."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the exchange has taken too long")
    sock.settimeout(min(left, math.inf if patience is None else patience))


@cache
def timed(pool: type[HTTPConnectionPool]) -> type[HTTPConnectionPool]:
    """The same pool, of connections that are timed: one that guards addresses goes on guarding them."""
    if issubclass(pool.ConnectionCls, _Timed):
        return pool
    connection: Any = type(f"Timed{pool.ConnectionCls.__name__}", (_Timed, pool.ConnectionCls), {})

    class Timed(pool):  # type: ignore[misc, valid-type]
        ConnectionCls = connection

        def _get_conn(self, timeout: float | None = None) -> Any:
            found = super()._get_conn(timeout)
            found.begin()
            return found

    return Timed


class TimedAdapter(HTTPAdapter):
    """Sends requests whose exchanges end in time, directly or by a proxy; who waits longer gets the error of a time-out."""

    pools: ClassVar[Mapping[str, type[HTTPConnectionPool]]] = {}
    """By scheme; where there is none, those of urllib3, or of the proxy."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        _have_timed(self.poolmanager, self.pools or self.poolmanager.pool_classes_by_scheme)

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*args, **options)
        _have_timed(manager, manager.pool_classes_by_scheme)
        return manager


def _have_timed(manager: PoolManager, pools: Mapping[str, type[HTTPConnectionPool]]) -> None:
    manager.pool_classes_by_scheme = {scheme: timed(pool) for scheme, pool in pools.items()}  # type: ignore[arg-type]
