"""What tests of many processes share: the forker, and the parts on which installations are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from tests.acceptance.forker import Forker
from tests.acceptance.site import Parts, RealParts
from tests.acceptance.tally import Tally


@pytest.fixture(scope="module")
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """Counts the runs of a file; in a soak the table is kept."""
    found = Tally(request.module.__name__.rpartition(".test_")[2].replace("_", "-"))
    yield found
    found.close(keep=request.config.getoption("-m") == "soak")


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    with closing(Forker()) as found:
        yield found


@pytest.fixture(scope="module")
def embedded(forker: Forker, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return Parts(tmp_path_factory.mktemp("embedded"), forker)


@pytest.fixture(scope="module")
def real_on(
    request: pytest.FixtureRequest, forker: Forker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], RealParts]]:
    """Real parts on a broker of choice."""
    with ExitStack() as stack:

        def make(broker: str) -> RealParts:
            server = request.getfixturevalue("postgres_server")
            return stack.enter_context(closing(RealParts(tmp_path_factory.mktemp("real"), forker, broker, server)))

        yield make


@pytest.fixture(scope="module")
def real(broker: str, real_on: Callable[[str], RealParts]) -> RealParts:
    """Kafka and PostgreSQL as tests share them."""
    return real_on(broker)
