"""The log: where something broke is told, and what the variables held there is not."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import structlog

from connectors.grants import Grant
from connectors.jira_consent import Kept
from connectors.jira_tokens import PersonalGrant
from pmsync import logs

TOKEN = "very-secret-token"
NOW = datetime(2026, 12, 1, tzinfo=UTC)


class Stream(io.StringIO):
    """What is written to, as a terminal or elsewhere."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def breaks(token: str) -> None:
    kept = {"refresh_token": token, "name": token}
    raise RuntimeError(f"nothing came of {len(kept)} words")


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_trace_holds_lines_and_no_variables(is_terminal: bool) -> None:
    stream = Stream(is_terminal=is_terminal)
    logs.configure(stream, verbose=False)
    try:
        breaks(TOKEN)
    except RuntimeError:
        structlog.get_logger().exception("source.broken", source="jira")
    said = stream.getvalue()
    assert "nothing came of 2 words" in said
    assert "breaks" in said
    assert TOKEN not in said


def test_what_holds_tokens_does_not_show_them() -> None:
    kept = Kept(cloud_id="c", refresh_token=TOKEN, access_token=TOKEN, issued_at=NOW, until=NOW)
    grant = PersonalGrant(access_token=TOKEN, refresh_token=TOKEN, expires_in=60)
    plain = Grant(access_token=TOKEN, expires_in=60)
    assert TOKEN not in f"{kept!r} {kept} {grant!r} {grant} {plain!r}"
