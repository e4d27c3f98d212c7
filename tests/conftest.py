"""What holds for every test: a bare environment, steady property tests, and parts that are absent out loud.

A test that needs a part outside Python asks the fixture `needs` for it: where the part is absent the test is skipped
with the reason, unless PMSYNC_REQUIRE (names with commas between) demands it; then the test fails.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from pmsync.store.engine import Store
from tests import asyncapi_specs, kafka_broker, postgres
from tests.deploy import tools

DEMANDED = "PMSYNC_REQUIRE"

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
# For planted faults: that a fault is caught is enough to know, its smallest example is not asked for.
settings.register_profile("planted", deadline=None, phases=[Phase.explicit, Phase.generate])
settings.load_profile("ci" if os.environ.get("CI") else "default")


def _program(*names: str) -> Callable[[], str | None]:
    return lambda: next(filter(None, map(shutil.which, names)), None)


# part: where it is (None: absent), and what to do about it
PARTS: Mapping[str, tuple[Callable[[], str | None], str]] = {
    "asyncapi": (asyncapi_specs.find, f"install npm, which fetches @asyncapi/specs {asyncapi_specs.VERSION}"),
    "chromium": (_program("chromium", "chromium-browser", "google-chrome"), "install the package chromium"),
    "helm": (tools.find, "run `python3 tests/deploy/tools.py`, which needs go and some minutes, once"),
    "kafka": (kafka_broker.find, "install java and maven, start docker, or set PMSYNC_TEST_KAFKA to HOST:PORT"),
    "postgres": (postgres.place, f"install the package postgresql, or name a server in {postgres.ADDRESS}"),
}


def _demanded() -> frozenset[str]:
    return frozenset(name.strip() for name in os.environ.get(DEMANDED, "").split(",") if name.strip())


def pytest_configure() -> None:
    """Nothing of the caller's pmsync or proxies reaches a test, nor a process that a test starts."""
    if unknown := _demanded() - PARTS.keys():
        raise pytest.UsageError(f"{DEMANDED} names {', '.join(sorted(unknown))}; known are {', '.join(sorted(PARTS))}")
    for name in list(os.environ):
        ours = name.startswith("PMSYNC_") and name not in {DEMANDED, kafka_broker.ADDRESS, postgres.ADDRESS}
        if ours or name.lower().endswith("_proxy"):
            del os.environ[name]


@pytest.fixture(scope="session")
def needs() -> Callable[[str], str]:
    """Says where a part is, as in `needs("chromium")`; skips or fails the test where it is absent."""

    def find(part: str) -> str:
        look, advice = PARTS[part]
        if place := look():
            return place
        reason = f"no {part} here: {advice}"
        if part in _demanded():
            pytest.fail(f"{reason} ({DEMANDED} demands it)", pytrace=False)
        pytest.skip(reason)

    return find


# --- the store, on both databases -------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres_server(needs: Callable[[str], str]) -> Iterator[postgres.Server]:
    """A PostgreSQL for this worker of the tests."""
    with postgres.served(needs("postgres")) as server:
        yield server


@pytest.fixture(scope="session")
def migrated(postgres_server: postgres.Server) -> Iterator[str]:
    """A database with the tables in it, to make others from: faster than to migrate each."""
    name = postgres_server.create()
    with closing(Store(postgres_server.url(name))) as store:
        store.migrate()
    yield name
    postgres_server.drop(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """Which database a test of the store runs on; it runs on each."""
    return str(request.param)


@pytest.fixture
def empty_url(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a database without tables."""
    if database == "sqlite":
        yield f"sqlite:///{tmp_path / 'pmsync.db'}"
        return
    server: postgres.Server = request.getfixturevalue("postgres_server")
    name = server.create()
    yield server.url(name)
    server.drop(name)


@pytest.fixture
def url(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a database with the tables in it, and nothing in them."""
    if database == "sqlite":
        found = f"sqlite:///{tmp_path / 'pmsync.db'}"
        with closing(Store(found)) as store:
            store.migrate()
        yield found
        return
    server: postgres.Server = request.getfixturevalue("postgres_server")
    name = server.create(request.getfixturevalue("migrated"))
    yield server.url(name)
    server.drop(name)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """A store of the test's own."""
    with closing(Store(url)) as store:
        yield store


# --- the log on Kafka ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def broker(needs: Callable[[str], str]) -> Iterator[str]:
    """The address of a Kafka broker that tests share, each with a prefix of its own; nobody stops it."""
    with kafka_broker.running(needs("kafka")) as address:
        yield address


@pytest.fixture
def prefix() -> str:
    """What keeps a test's topics and group apart from those of others on the same broker."""
    return f"test-{uuid.uuid4().hex[:12]}."


@pytest.fixture
def own_broker(needs: Callable[[str], str]) -> Iterator[kafka_broker.Broker]:
    """A broker for one test, which may kill it."""
    needs("kafka")
    if not kafka_broker.has_jars():
        pytest.skip("the Kafka that is here is not ours to kill; with java and maven there would be one")
    with kafka_broker.own() as broker:
        yield broker
