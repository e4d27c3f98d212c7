"""What the worlds of `connectors/testing.py` have in common where a source is served over HTTP."""

from __future__ import annotations

from abc import abstractmethod
from datetime import datetime
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from connectors.base import Connector
from connectors.testing import ConnectorContract

TOKEN = "canary-7c1e94f0b2"
IMPATIENT = 1
"""Seconds that a connector waits for a source that never answers."""


class Stage:
    """One server for all tests; each puts its own source on it. `silent`: the next request gets no answer."""

    url: str
    app: ASGIApp
    silent = False
    seen = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen += 1
        if not self.silent:
            await self.app(scope, receive, send)
            return
        self.silent = False
        while (await receive())["type"] != "http.disconnect":
            pass


class Served(ConnectorContract):
    """What the worlds have in common: a server, a clock, a file with the token."""

    @pytest.fixture(autouse=True)
    def _world(self, served: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stage, self.folder, self.monkeypatch = served, tmp_path, monkeypatch
        self.time = self.start
        served.silent, served.seen = False, 0
        served.app = self.build()

    @abstractmethod
    def build(self) -> ASGIApp:
        """The source, anew."""

    @abstractmethod
    def open(self, secret: dict[str, Path]) -> Connector:
        """A connector whose token is in this file."""

    def connect(self) -> Connector:
        return self.open(self.secret("token", TOKEN))

    def wrong_credentials(self) -> Connector:
        return self.open(self.secret("wrong", f"{TOKEN}-wrong"))

    def secret(self, name: str, text: str) -> dict[str, Path]:
        (self.folder / name).write_text(text)
        return {"file": self.folder / name}

    def set_time(self, at: datetime) -> None:
        self.time = at

    def requests(self) -> int:
        return self.stage.seen
