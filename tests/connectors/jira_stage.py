"""What tests of the Jira connector have in common: a server, and the site that stands on it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors import jira_tokens
from connectors.jira_consent import Kept
from pmsync.standins.atlassian import ACCESS_SECONDS, Atlassian
from pmsync.standins.jira import JiraSite

TOKEN = "a-token-that-nobody-may-see"
T0 = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


class Stage:
    """One server for all tests; each puts its own site on it. `now` is the clock of the sites."""

    def __init__(self) -> None:
        self.now, self.url = T0, ""
        self.site = self.fresh()

    def fresh(self, kind: type[JiraSite] = JiraSite, **options: Any) -> JiraSite:
        self.now = T0 + timedelta(days=30)
        self.site = kind(lambda: self.now, token=TOKEN, **options)
        self.site.add_project("APO", "Apollo")
        self.site.add_project("ZEU", "Zeus")
        return self.site

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.site.app(scope, receive, send)


def lead_to(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Atlassian is at this address now."""
    for name, path in (("GATEWAY", ""), ("TOKENS", "/oauth/token"), ("AUTHORIZE", "/authorize")):
        monkeypatch.setattr(jira_tokens, name, f"{url}{path}")


def keep_consent(path: Path, atlassian: Atlassian, now: datetime, *scopes: str) -> None:
    """As if a person had signed in."""
    pair = atlassian.consented(*scopes)
    until = now + timedelta(seconds=ACCESS_SECONDS)
    kept = Kept(
        cloud_id=atlassian.cloud_id, refresh_token=pair.refresh, access_token=pair.access, issued_at=now, until=until
    )
    path.write_text(kept.model_dump_json())
