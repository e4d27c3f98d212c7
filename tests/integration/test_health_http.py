"""The three addresses over HTTP: answered from memory, whatever is away."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import requests

from pmsync.health import STARTING, Health
from pmsync.web.health import health_app
from pmsync.web.serve import serve

pytestmark = pytest.mark.integration

NOW = datetime(2026, 3, 16, 12, tzinfo=UTC)


def test_the_three_addresses() -> None:
    health = Health(lambda: NOW)
    health.waits("log", "away\nwith two lines")
    with serve(health_app(health)) as url:

        def get(path: str) -> requests.Response:
            return requests.get(f"{url}{path}", timeout=10)

        answers = [(answer.status_code, answer.text) for answer in map(get, ("/healthz", "/readyz"))]
        assert answers == [(200, "ok\n"), (503, "not ready: away with two lines\nnot ready: it is starting\n")]
        health.works(STARTING)
        health.works("log")
        assert (get("/readyz").status_code, get("/readyz").text) == (200, "ready\n")
        answer = get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=")
        assert "pmsync_ready 1.0\n" in answer.text
        assert get("/").status_code == 404
