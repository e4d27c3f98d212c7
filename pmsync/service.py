"""A process that goes on until it is told to end: it starts whatever is there yet, and says meanwhile why it cannot work.

What it needs may come later than it does (a database, a broker, its topics), so that only a configuration that cannot
be right ends it.
"""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import ExitStack
from datetime import datetime

import structlog

from connectors.base import ConnectorError
from connectors.webhooks import Hint
from pmsync.app import CLOSE_SECONDS, App, Stopped, Worker
from pmsync.bus.port import BusUnavailable
from pmsync.config import Config
from pmsync.health import STARTING, Health
from pmsync.store.engine import StoreUnavailable, StoreUnusable
from pmsync.store.moves import StoreMoved, check_moved
from pmsync.web.reader import NOT_YET, Later, StoreReader
from pmsync.web.serve import serve

log = structlog.get_logger()

AGAIN_SECONDS = 1.0, 15.0
"""The first and the longest wait between two tries to start."""
SIGNAL_SECONDS = 0.2
"""How soon a signal is noticed while it starts."""

YOUNG_OBJECTS = 20_000
"""How many new objects make Python look for cycles among them (its own default is 700). A batch holds far more, all of them in
use until it is folded, so that each look finds nothing; what the looks cost was an eighth of folding."""

Open = Callable[[Health, threading.Event], App]
Begin = Callable[[App], Sequence[Worker]]


def work(
    config: Config,
    clock: Callable[[], datetime],
    open_app: Open,
    begin: Begin,
    say: Callable[[str], None],
    pages: tuple[str, int] | None = None,
) -> bool:
    """Until a signal, or until a worker died; returns whether none did. `pages` is where they are served, if at all.

    Raises `CannotListen`, `StoreUnusable` and `StoreMoved`; whatever can mend itself is waited for.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    health = Health(clock)
    with ExitStack() as stack:
        if config.health.port is not None:
            from pmsync.web.health import health_app

            say(f"health: {stack.enter_context(serve(health_app(health), config.health.host, config.health.port))}")
        read, url = Later(), ""
        app: App | None = None

        def keep(source: str, hints: Sequence[Hint]) -> None:
            if app is None:
                raise StoreUnavailable(NOT_YET)
            app.hint(source, hints)

        if pages:
            from pmsync.web.app import create_app
            from pmsync.web.intake import hooks, intake_routes

            intake = intake_routes(hooks(config.sources), keep, health)
            url = stack.enter_context(serve(create_app(read, clock, health, intake=intake), *pages))
        started = _started(open_app, begin, health, stop)
        if started is None:
            return True
        app, workers = started
        settle()
        stack.callback(_close, app)
        read.reader = StoreReader(app.state, app.bus.partitions, app.freshness, app.people)
        if pages:
            say(f"pages: {url}")
        with app.running(workers):
            log.info("pmsync.started", workers=sorted(worker.name for worker in workers))
            stop.wait()
            health.waits("end", "it is ending")
    return not app.died


def settle() -> None:
    """What is loaded by now stays for good: Python's collector need not go through it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)


def _started(
    open_app: Open, begin: Begin, health: Health, stop: threading.Event
) -> tuple[App, Sequence[Worker]] | None:
    """The app and what there is to do, tried until it is there; None if it is time to end before that. A thread does it,
    for a broker that is silent holds its caller for a quarter of a minute."""
    found: Future[tuple[App, Sequence[Worker]] | None] = Future()

    def start() -> None:
        try:
            found.set_result(_tried(open_app, begin, health, stop))
        except BaseException as error:
            found.set_exception(error)

    threading.Thread(target=start, name="start", daemon=True).start()
    while not stop.is_set():
        if wait([found], timeout=SIGNAL_SECONDS).done:
            return found.result()
    return None


def _tried(open_app: Open, begin: Begin, health: Health, stop: threading.Event) -> tuple[App, Sequence[Worker]] | None:
    again, longest = AGAIN_SECONDS
    while not stop.is_set():
        try:
            app = open_app(health, stop)
            try:
                check_moved(app.store)
                return app, begin(app)
            except BaseException:
                app.close()
                raise
        except (StoreUnusable, StoreMoved):
            raise  # to try again will not help
        except Stopped:
            return None
        except (StoreUnavailable, BusUnavailable, ConnectorError) as error:
            if health.waits(STARTING, str(error)):
                log.warning("start.waiting", error=str(error))
        stop.wait(again)
        again = min(longest, 2 * again)
    return None


def _close(app: App) -> None:
    """Give back what is held; what cannot be reached is not waited for long, for it comes free by itself."""
    closer = threading.Thread(target=app.close, name="close", daemon=True)
    closer.start()
    closer.join(CLOSE_SECONDS)
