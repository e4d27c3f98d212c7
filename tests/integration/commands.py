"""Commands as from a shell, in an installation of their own."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from pmsync.app import App
from pmsync.cli import main
from pmsync.config import load
from pmsync.core.events import CONFIGURATION, Snapshot, Synced, Thing
from tests.unit.builders import JIRA, project

EARLIER = datetime(2026, 3, 10, 12, tzinfo=UTC)


@dataclass
class Said:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str


class Folder:
    """An installation in a folder."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.path, self._monkeypatch, self._capsys = path, monkeypatch, capsys
        self.values: dict[str, Any] = {
            "bus": {"path": str(path / "log.db")},
            "store": {"url": f"sqlite:///{path / 'pmsync.db'}"},
            "notify": {"console": False},
        }

    @property
    def file(self) -> Path:
        return self.path / "pmsync.yaml"

    def run(self, *words: str) -> Said:
        """`pmsync WORDS` as from a shell."""
        self.write()
        self._capsys.readouterr()  # what the test itself did before is not the command's
        self._monkeypatch.setattr(sys, "argv", ["pmsync", "-c", str(self.file), *words])
        with pytest.raises(SystemExit) as end:
            main()
        said = self._capsys.readouterr()
        assert "Traceback" not in said.err
        code = end.value.code
        assert code is None or isinstance(code, int)
        return Said(code or 0, said.out, said.err)

    def write(self) -> None:
        self.file.write_text(yaml.safe_dump(self.values))

    def app(self) -> App:
        self.write()
        return App(load(self.file, {}), lambda: EARLIER)

    def holds(self, *things: tuple[Thing, Any], name: str = "Apollo") -> None:
        """Put things into the store as if they had been read."""
        configured = project().model_copy(update={"name": name, "mapping": {JIRA: {"APO": 1}}})
        synced = Synced(container="APO", mapped={"apollo": 1}, listed=0, published=0, dead=0)
        told = [
            (Thing(CONFIGURATION, "project", "apollo"), configured),
            (Thing(JIRA, "synced", "APO"), synced),
            *things,
        ]
        with closing(self.app()) as app:
            app.publisher.publish([Snapshot(project="apollo", thing=t, version=1, content=c) for t, c in told])
            app.aggregator.take(range(8))
            app.aggregator.catch_up()

    def source(self, name: str, url: str) -> dict[str, Any]:
        auth = {"email": "a@example.com", "token": {"env": "JIRA_TOKEN"}}
        return {"name": name, "kind": "jira", "url": url, "auth": auth}
