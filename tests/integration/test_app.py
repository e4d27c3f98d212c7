"""The parts put together: what one source does must not stop the others, nor hold up the end."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from connectors.base import Mark, Read, Reader, Ref, Retryable
from pmsync import app as application
from pmsync.app import LONGEST_SECONDS, App
from pmsync.bus.port import EVENTS, BusUnavailable, Record
from pmsync.config import Config
from pmsync.core.events import Milestone

pytestmark = pytest.mark.integration

NOW = datetime(2026, 3, 16, 12, tzinfo=UTC)
SECONDS = 20.0


class Source:
    """A source of milestones; `pages` are how many it has, `error` what it ends with."""

    def __init__(self, name: str, pages: int = 1, error: Exception | None = None) -> None:
        self.name, self.pages, self.error = name, pages, error
        self.read = threading.Event()
        self.listed = 0

    def now(self) -> datetime:
        return NOW

    def changed(self, container: str, since: datetime | None) -> Iterator[Sequence[Read]]:
        for n in range(1, self.pages + 1):
            self.listed = n
            self.read.set()
            title = f"Release {n}"
            ref = Ref("milestone", str(n))
            yield [Read(ref, NOW, Milestone(key=ref.id, container=container, title=title))]
        if self.error:
            raise self.error

    def sweep(self, container: str) -> Iterator[Sequence[Mark]]:
        yield [Mark(Ref("milestone", str(n)), NOW) for n in range(1, self.pages + 1)]

    def fetch(self, refs: Sequence[Ref]) -> Iterator[Read]:
        return (Read(ref) for ref in refs)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An app whose sources are these readers, each mapped to a project of its own."""

    def make(*sources: Source) -> App:
        known: dict[str, Reader] = {source.name: source for source in sources}
        values = {
            "bus": {"path": str(tmp_path / "log.db")},
            "store": {"url": f"sqlite:///{tmp_path / 'pmsync.db'}"},
            "notify": {"console": False},
            "sources": [{"name": name, "kind": "calendar", "ics": "unused.ics"} for name in known],
            "projects": [{"key": f"p-{name}", "from": {name: ["team"]}} for name in known],
        }
        connect = App._connect
        monkeypatch.setattr(App, "_connect", lambda self, name: known.get(name) or connect(self, name))
        return App(Config.model_validate(values), lambda: NOW)

    return make


def test_a_connector_that_breaks_its_promise_stops_nobody_else(install: Any) -> None:
    """It may raise two errors; whatever else comes of it is said, with its trace in the log, and the rest goes on."""
    with closing(install(Source("odd", error=OverflowError("date value out of range")), Source("sound"))) as app:
        with capture_logs() as logged:
            outcome = app.once()
        assert outcome.problems == {"odd": "odd: its connector failed (OverflowError); the log says where"}
        assert [line["event"] for line in logged] == ["source.broken"]
        (row,) = [row for key, row in app.state.rows("p-sound").items() if (key.kind, key.at) == ("milestone", 0)]
        assert "Release 1" in row.body


def test_the_end_does_not_wait_for_a_long_read(install: Any) -> None:
    source = Source("long", pages=10**9)
    with closing(install(source)) as app:
        with app.running(app.workers()):
            assert source.read.wait(SECONDS)
        assert not [thread for thread in threading.enumerate() if thread.name == "long"]
    assert source.listed < 10**9


def test_nothing_is_published_into_another_log(install: Any, tmp_path: Path) -> None:
    """A mistaken bus.path: it would be entered in the ledger, and missing for ever once the path is mended."""
    source = Source("team")
    with closing(install(source)) as app:
        app.once()
        right = app.config
    wrong = right.model_copy(update={"bus": right.bus.model_copy(update={"path": tmp_path / "other.db"})})
    for longer in (False, True):
        with closing(App(wrong, lambda: NOW)) as app:
            if longer:
                app.bus.publish(EVENTS, [Record(f"p-{n}", b"") for n in range(200)])
            for act in (app.apply, app.once, lambda: app.publisher, app.check_log):
                with pytest.raises(BusUnavailable, match="is not the one that the store is built from"):
                    act()
    source.pages = 2
    with closing(App(right, lambda: NOW)) as app:
        assert app.once().published == 2  # the new thing, and the container's count
        assert {key.id for key in app.state.rows("p-team") if key.kind == "milestone"} == {"1", "2"}


def test_a_store_that_was_lost_is_built_from_its_log(install: Any, tmp_path: Path) -> None:
    with closing(install(Source("team"))) as app:
        app.once()
        config = app.config
    for path in tmp_path.glob("pmsync.db*"):
        path.unlink()
    with closing(App(config, lambda: NOW)) as app:
        app.check_log()
        app.aggregator.take(range(8))
        assert app.aggregator.catch_up()
        assert app.state.rows("p-team")


@pytest.mark.parametrize("asked", [1e10, 7200.0])
def test_no_source_is_left_alone_for_years(asked: float) -> None:
    assert application._pause(Retryable("busy", asked), 1) == LONGEST_SECONDS
