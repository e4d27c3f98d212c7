"""Serve an ASGI application from a thread of this process: the pages, and the stand-ins of demo and tests."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

START_SECONDS = 20.0
STOP_SECONDS = 5
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what to open where all addresses are served


class CannotListen(Exception):
    """The address to serve at cannot be had."""


@contextmanager
def serve(app: ASGIApp, host: str = "127.0.0.1", port: int = 0, *, dated: bool = True) -> Iterator[str]:
    """Serve `app` while the block runs; yields its base URL. Port 0 takes a free one. Raises `CannotListen`.

    With `dated` every answer says the real time; an app that tells a time of its own turns that off.
    """
    listener = _listen(host, port)
    config = uvicorn.Config(
        app,
        log_level="error",
        lifespan="off",
        ws="none",
        server_header=False,
        date_header=dated,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    server = uvicorn.Server(config)
    started = threading.Event()
    startup = server.startup

    async def announce(sockets: list[socket.socket] | None = None) -> None:
        await startup(sockets=sockets)
        started.set()

    server.startup = announce  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        if not started.wait(START_SECONDS):
            raise RuntimeError("the server did not start within 20 s; is this machine overloaded?")
        yield _url(host, listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(START_SECONDS)
        listener.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        # asyncio sets this only on sockets that were made with an explicit protocol; without it every small answer
        # waits some 40 ms for the other side's delayed acknowledgement. Accepted sockets inherit it.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        raise CannotListen(
            f"cannot serve at {host}:{port}: {error.strerror or error}; stop what listens there, or choose another port"
        ) from error
    return listener


def _url(host: str, port: int) -> str:
    name = ANYWHERE.get(host, host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
