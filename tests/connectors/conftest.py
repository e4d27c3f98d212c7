"""The server that the worlds of the contract share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pmsync.standins.server import serve
from tests.connectors.served import Stage


@pytest.fixture(scope="module")
def served() -> Iterator[Stage]:
    stage = Stage()
    with serve(stage) as url:
        stage.url = url
        yield stage
