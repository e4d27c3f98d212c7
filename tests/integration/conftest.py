"""What tests of commands have in common."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.integration.commands import Folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Folder]:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("JIRA_TOKEN", "hunter2")
    yield Folder(tmp_path, monkeypatch, capsys)
    structlog.reset_defaults()
