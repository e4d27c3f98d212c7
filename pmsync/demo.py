"""The demo: the stand-ins' portfolio, read by the real connectors over HTTP, through the log and the aggregator, to the
pages and a delivered message. Nothing but the sources is pretended."""

from __future__ import annotations

import json
import tempfile
import time
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import click
from rich.console import Console

from connectors.pump import Progress
from pmsync.app import App, Outcome
from pmsync.config import Config
from pmsync.core.project import ProjectState
from pmsync.core.summary import summary, worst_first
from pmsync.export import states
from pmsync.health import STARTING
from pmsync.standins.portfolio import Portfolio
from pmsync.status import show_status, status_json
from pmsync.web.app import create_app
from pmsync.web.reader import StoreReader
from pmsync.web.serve import serve


def run_demo(*, once: bool, as_json: bool, port: int, browser: bool, now: datetime, wait: Callable[[], None]) -> None:
    """Read the portfolio and show it; with `once`, print what came out and return."""
    console = Console(stderr=True)
    started = time.monotonic()
    messages: list[str] = []
    with _installation(now) as (config, _):
        app = App(config, lambda: now, progress=_progress(console, quiet=as_json), write=messages.append)
        try:
            outcome = app.once()
            found = states(app.state, None)
            if as_json:
                click.echo(report(found, outcome, now))
            else:
                _show(console, found, outcome, messages, now, time.monotonic() - started)
            if not once:
                app.health.works(STARTING)
                with serve(
                    create_app(
                        StoreReader(app.state, app.bus.partitions, app.freshness, app.people), lambda: now, app.health
                    ),
                    "127.0.0.1",
                    port,
                ) as url:
                    console.print(f"\n[bold]The portfolio: {url}[/]   (Ctrl-C ends the demo)")
                    if browser:
                        webbrowser.open(url)
                    wait()
        finally:
            app.close()


def report(found: Sequence[ProjectState], outcome: Outcome, now: datetime) -> str:
    """What the demo did, as JSON."""
    told = {
        "published": outcome.published,
        "unreadable": outcome.dead,
        "transitions": outcome.transitions,
        "delivered": outcome.delivery.sent,
        "problems": outcome.problems,
    }
    return json.dumps({**told, **json.loads(status_json(found, now))}, indent=2, ensure_ascii=False)


@contextmanager
def _installation(now: datetime) -> Iterator[tuple[Config, Portfolio]]:
    """The stand-ins, and a configuration in a temporary folder that reads them."""
    portfolio = Portfolio(now, lambda: now)
    with tempfile.TemporaryDirectory(prefix="pmsync-demo-") as folder, portfolio.served() as values:
        places = {
            "bus": {"path": str(Path(folder) / "log.db")},
            "store": {"url": f"sqlite:///{Path(folder) / 'pmsync.db'}"},
        }
        yield Config.model_validate({**values, **places}), portfolio


def _progress(console: Console, *, quiet: bool) -> Progress | None:
    if quiet:
        return None
    seen: set[tuple[str, str]] = set()

    def show(source: str, container: str, _read: int, _total: int | None) -> None:
        if (source, container) not in seen:
            seen.add((source, container))
            console.print(f"  reading {container} from {source} …", highlight=False)

    return show


def _show(
    console: Console,
    found: Sequence[ProjectState],
    outcome: Outcome,
    messages: list[str],
    now: datetime,
    seconds: float,
) -> None:
    worst = min((summary(state, now) for state in found), key=worst_first).project.name
    click.echo(
        f"\nRead {outcome.published} things from four sources in {seconds:.0f} s: {outcome.transitions} alerts, "
        f"{outcome.delivery.sent} messages delivered. The one about {worst}:\n"
    )
    told = next((text for text in messages if text.startswith(worst)), "(none)")
    click.echo("\n".join(f"  | {line}" for line in told.splitlines()))
    click.echo()
    show_status(Console(), found, now)
    for problem in outcome.problems.values():
        console.print(problem, style="red", markup=False)
