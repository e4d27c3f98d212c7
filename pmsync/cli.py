"""The commands; the only place that wires parts together, reads the clock and the environment, and exits.

A newcomer who follows one event from a Jira issue to an alert opens, in this order: `connectors/jira.py`,
`connectors/pump.py`, `pmsync/core/events.py`, `pmsync/aggregator.py`, `pmsync/core/project.py`,
`pmsync/core/rules/__init__.py`. How the parts are put together is `pmsync/app.py`.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import structlog
from rich.console import Console
from rich.progress import Progress, TextColumn

from connectors.base import ConnectorError
from connectors.pump import LeaseLost
from pmsync import answers, dead_letters, doctor, export
from pmsync.app import App, Outcome, Worker
from pmsync.bus.letters import open_letters
from pmsync.bus.port import BusUnavailable
from pmsync.buses import layout, place
from pmsync.config import Config, ConfigError, load
from pmsync.core.events import rfc3339
from pmsync.core.exports import TABLES
from pmsync.crash import crash_points
from pmsync.logs import configure
from pmsync.status import show_status, status_json
from pmsync.store.engine import StoreUnavailable
from pmsync.store.ledger import SqlLedger
from pmsync.store.state import Fenced
from pmsync.web.serve import CannotListen

FAILED, UNUSABLE = 1, 2
"""Exit codes: something failed on the way (the rest was done); the command or the configuration cannot be used."""

LATER = {
    "rebuild": "fold the log again from its beginning",
    "reread": "read a whole source again",
    "move": "carry an embedded installation to Kafka and PostgreSQL",
    "import": "load whole things from files",
    "forecast": "ask what if",
    "backtest": "show how early and how right the warnings would have been",
    "report": "write a status report",
    "rules": "try a rule on the past",
    "calendar": "show what would be read as what",
    "people": "link and forget people",
}
"""Commands of the contract that are not there yet."""


class _Instant(click.ParamType[datetime]):
    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            when = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no instant; write it like 2026-03-31T17:00:00Z", param, ctx)
        return when.replace(tzinfo=when.tzinfo or UTC).astimezone(UTC)


INSTANT = _Instant()
PORT = click.IntRange(0, 65535)


def main() -> None:
    """The entry point: what is expected to go wrong ends in one clear line and an exit code."""
    try:
        # Without its own handling of errors, click returns the code of an `Exit` instead of raising it.
        sys.exit(cli.main(standalone_mode=False))
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        _say(_one_line(error))
        sys.exit(UNUSABLE)
    except ConfigError as error:
        _say(str(error))
        sys.exit(UNUSABLE)
    except (StoreUnavailable, BusUnavailable, ConnectorError, LeaseLost, Fenced, CannotListen) as error:
        _say(str(error))
        sys.exit(FAILED)
    except BrokenPipeError:
        # Whoever read the output has seen enough; Python would complain of it once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except OSError as error:
        _say(
            f"{error.filename or 'the output'} cannot be written or read: {error.strerror}; is there room, and a right to it?"
        )
        sys.exit(FAILED)


def _one_line(error: click.ClickException) -> str:
    """What click says in four lines; which command it was about is the help's to say."""
    if isinstance(error, click.UsageError) and error.ctx and not isinstance(error, click.exceptions.NoArgsIsHelpError):
        return f"{' '.join(error.format_message().split())} (see `{error.ctx.command_path} --help`)"
    return error.format_message()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pmsync")
@click.option(
    "--config", "-c", "path", type=click.Path(path_type=Path), default=Path("pmsync.yaml"), show_default=True,
    envvar="PMSYNC_CONFIG", help="The configuration file.",
)  # fmt: skip
@click.option("--verbose", "-v", is_flag=True, help="Log what is done, not only what goes wrong.")
@click.pass_context
def cli(ctx: click.Context, path: Path, verbose: bool) -> None:
    """Reads Jira, GitHub and calendars; tells which deadline will slip, by how much and why.

    Exit codes: 0 all went well, 1 something failed (the rest was done), 2 the command or configuration cannot be used.
    """
    configure(sys.stderr, verbose=verbose)
    ctx.obj = path


@cli.command()
@click.option("--once", is_flag=True, help="Do everything once, print what came out, and exit.")
@click.option("--json", "as_json", is_flag=True, help="With --once: print it as JSON.")
@click.option("--port", type=PORT, default=8080, show_default=True, help="Where to serve the pages (0: any free port).")
@click.option("--no-browser", is_flag=True, help="Do not open a browser.")
def demo(once: bool, as_json: bool, port: int, no_browser: bool) -> None:
    """A portfolio with a history, in the browser and here; no account, no network."""
    from pmsync.demo import run_demo  # only the demo needs the stand-ins

    run_demo(once=once, as_json=as_json, port=port, browser=not no_browser, now=_now(), wait=_wait_for_signal)


@cli.command()
@click.option("--once", is_flag=True, help="Catch up with every source, assess, deliver, exit.")
@click.option("--now", type=INSTANT, help="With --once: the instant at which everything is assessed.")
@click.option("--no-web", is_flag=True, help="Do not serve the pages.")
@click.option(
    "--accept-missing", multiple=True, metavar="CONTAINER", help="Believe that most of a container was deleted."
)
@click.pass_obj
def run(path: Path, once: bool, now: datetime | None, no_web: bool, accept_missing: tuple[str, ...]) -> None:
    """Everything in one process: connectors, aggregator, notifier, pages."""
    if now and not once:
        raise click.UsageError("--now goes with --once: a worker that goes on needs a clock that goes on")
    if accept_missing and not once:
        raise click.UsageError("--accept-missing goes with --once: what goes missing later must be doubted again")
    config = load(path)
    clock = (lambda: now) if now else _now
    with _progress(once) as progress, _app(config, clock, progress, frozenset(accept_missing)) as app:
        if once:
            _refuse_to_go_back(app.state.ticked_at(), now or _now())
            _report(app.once())
        else:
            _work(app, app.workers(), (config.web.host, config.web.port) if not no_web else None)


@cli.command()
@click.argument("source")
@click.pass_obj
def connector(path: Path, source: str) -> None:
    """Read one source, as a process of its own; its single reader, whoever else is started for it."""
    with _app(load(path), _now) as app:
        if source not in app.sources:
            raise click.UsageError(f"there is no source {source!r}; known: {', '.join(app.sources) or 'none'}")
        _work(app, [app.connector_worker(source)])


@cli.command()
@click.pass_obj
def aggregator(path: Path) -> None:
    """Fold events and assess projects, as a process of its own.

    On Kafka several of them share the partitions; each needs a name of its own (bus.member).
    """
    with _app(load(path), _now) as app:
        _work(app, [app.aggregator_worker()])


@cli.command()
@click.pass_obj
def notifier(path: Path) -> None:
    """Deliver messages, as a process of its own."""
    with _app(load(path), _now) as app:
        _work(app, [app.notifier_worker()])


@cli.command()
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@click.pass_obj
def apply(path: Path, dry_run: bool) -> None:
    """Publish the projects' configuration."""
    with _app(load(path), _now) as app:
        plan = app.plan() if dry_run else app.apply()
    for line in plan.lines:
        click.echo(line)
    click.echo(("would change" if dry_run else "changed") + f": {len(plan.lines)}")


@cli.command()
@click.argument("project", required=False)
@click.option("--as-of", type=INSTANT, help="Show the past: how things stood at an instant.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def status(path: Path, project: str | None, as_of: datetime | None, as_json: bool) -> None:
    """Progress, forecast, deadlines and alerts."""
    now = _now()
    at = _past(as_of, now)
    with _app(load(path), lambda: now) as app:
        states = export.states(app.state, project, past=at < now)
        if as_json:
            click.echo(status_json(states, at))
        else:
            show_status(Console(), states, at)


@cli.command("export")
@click.argument("table", type=click.Choice(sorted(TABLES)), metavar="TABLE")
@click.option("--format", "form", type=click.Choice(sorted(export.FORMATS)), default="ndjson", show_default=True)
@click.option("--project", help="Only this project.")
@click.option("--as-of", type=INSTANT, help="The rows as they stood at an instant.")
@click.option("--now", type=INSTANT, help="The reader's present, for what depends on it.")
@click.option(
    "--output",
    "-o",
    type=click.File("w", encoding="utf-8", lazy=True),
    default="-",
    help="A file; - is standard output.",
)
@click.pass_obj
def export_table(
    path: Path, table: str, form: str, project: str | None, as_of: datetime | None, now: datetime | None, output: Any
) -> None:
    """Write a table: rows of plain values, instants in RFC 3339 UTC."""
    present = now or _now()
    at = _past(as_of, present)
    with _app(load(path), lambda: present) as app:
        for line in export.lines(table, form, export.states(app.state, project, past=at < present), at, present):
            output.write(line)
        output.flush()


@cli.group()
def alerts() -> None:
    """See alerts, and take one on."""


@alerts.command("list")
@click.option("--project", help="Only this project.")
@click.option("--all", "everything", is_flag=True, help="Resolved ones too.")
@click.pass_obj
def alerts_list(path: Path, project: str | None, everything: bool) -> None:
    """What is wrong now, worst first."""
    now = _now()
    with _app(load(path), lambda: now) as app:
        answers.show_alerts(Console(), export.states(app.state, project), now, everything=everything)


@alerts.command()
@click.argument("fingerprint")
@click.option("--by", required=True, metavar="MAIL", help="Who takes it on.")
@click.option("--note", default="", help="A word on it.")
@click.pass_obj
def ack(path: Path, fingerprint: str, by: str, note: str) -> None:
    """Acknowledge an alert (the first characters of its fingerprint will do)."""
    now = _now()
    with _app(load(path), lambda: now) as app:
        states = export.states(app.state, None)
        click.echo(answers.acknowledge(states, app.publisher, app.projects, fingerprint, by, note, now))


@cli.group("dead-letters")
def letters() -> None:
    """See what could not be read, have it tried again, or go on without it."""


@letters.command("list")
@click.pass_obj
def letters_list(path: Path) -> None:
    """What could not be read, and why."""
    with _app(load(path), _now) as app:
        dead_letters.show_letters(Console(), open_letters(app.bus))


@letters.command("show")
@click.argument("letter")
@click.pass_obj
def letters_show(path: Path, letter: str) -> None:
    """One dead letter, with the bytes that came (the first characters of its id will do)."""
    with _app(load(path), _now) as app:
        (found,) = dead_letters.chosen(app.bus, [letter], everything=False)
        click.echo(dead_letters.show_letter(found))


def _choosing(command: Callable[..., None]) -> Callable[..., None]:
    """Lets a command be told which letters it is about."""
    everything = click.option("--all", "everything", is_flag=True, help="All of them.")
    return click.argument("letters", nargs=-1, metavar="[LETTER]...")(everything(command))


@letters.command("replay")
@_choosing
@click.pass_obj
def letters_replay(path: Path, letters: tuple[str, ...], everything: bool) -> None:
    """Have dead letters tried again, after an upgrade or when the source was mended."""
    with _app(load(path), _now) as app:
        app.check_log()
        found = dead_letters.chosen(app.bus, letters, everything=everything)
        click.echo(dead_letters.replay(app.bus, SqlLedger(app.store, _now), found))


@letters.command("discard")
@_choosing
@click.option("--reason", required=True, help="Why they can be done without; it is kept.")
@click.pass_obj
def letters_discard(path: Path, letters: tuple[str, ...], everything: bool, reason: str) -> None:
    """Go on without dead letters."""
    with _app(load(path), _now) as app:
        app.check_log()
        found = dead_letters.chosen(app.bus, letters, everything=everything)
        click.echo(dead_letters.discard(app.bus, found, reason))


@cli.command()
@click.option("--host", help="Default: web.host of the configuration.")
@click.option("--port", type=PORT, help="Default: web.port of the configuration.")
@click.pass_obj
def web(path: Path, host: str | None, port: int | None) -> None:
    """Serve the pages."""
    config = load(path)
    with _app(config, _now) as app, _pages(app, host or config.web.host, config.web.port if port is None else port):
        _wait_for_signal()


@cli.command("doctor")
@click.pass_obj
def doctor_command(path: Path) -> None:
    """Check everything that can be wrong, and say what to do."""
    healthy = True
    for finding in doctor.findings(path, _now):
        click.echo(f"{'ok  ' if finding.ok else 'BAD '} {finding.what}: {finding.words}")
        healthy = healthy and finding.ok
    if not healthy:
        raise click.exceptions.Exit(FAILED)


@cli.group()
def topics() -> None:
    """The topics of a log on Kafka."""


@topics.command("apply")
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@click.pass_obj
def topics_apply(path: Path, dry_run: bool) -> None:
    """Create the topics and set them right; say what differs. Exit code 1 if something cannot be mended."""
    bus = load(path).bus
    found = layout(bus)
    if not found:
        click.echo(f"nothing to do: {place(bus)} has no topics to create")
    for topics in found:
        wrong = topics.differences()
        for each in wrong:
            click.echo(f"{'' if each.is_mendable else 'CANNOT BE MENDED '}{each.topic} {each.words}")
        mendable = [each for each in wrong if each.is_mendable]
        if mendable and not dry_run:
            topics.mend(mendable)
        click.echo(("would change" if dry_run else "changed") + f": {len(mendable)}")
        if len(mendable) < len(wrong):
            raise click.exceptions.Exit(FAILED)


@cli.command("schema")
def schema() -> None:
    """Print the JSON Schema of pmsync.yaml, for editors."""
    from pmsync.config import json_schema

    click.echo(json_schema())


def _later(name: str, does: str) -> click.Command:
    def refuse(**_: object) -> None:
        raise click.ClickException(f"`pmsync {name}` is not there yet: it will {does}")

    return click.Command(
        name,
        callback=refuse,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
        help=f"Not there yet: {does}.",
        short_help="(not there yet)",
        hidden=True,
    )


for _name, _does in LATER.items():
    cli.add_command(_later(_name, _does))
alerts.add_command(_later("snooze", "put an alert off until a time"))


# --- wiring -----------------------------------------------------------------------------------------------------------


def _now() -> datetime:
    return datetime.now(UTC)


@contextmanager
def _app(
    config: Config,
    clock: Callable[[], datetime],
    progress: Callable[[str, str, int], None] = lambda *_: None,
    accept_missing: frozenset[str] = frozenset(),
) -> Iterator[App]:
    app = App(
        config,
        clock,
        wall=_now,
        step=crash_points(os.environ),
        progress=progress,
        write=click.echo,
        accept_missing=accept_missing,
    )
    try:
        yield app
    finally:
        app.close()


@contextmanager
def _progress(wanted: bool) -> Iterator[Callable[[str, str, int], None]]:
    """A line of progress for each container that is being read, where somebody looks on."""
    console = Console(stderr=True)
    if not (wanted and console.is_terminal):
        yield lambda *_: None
        return
    with Progress(TextColumn("{task.description}"), TextColumn("{task.completed} read"), console=console) as bars:
        tasks: dict[str, Any] = {}

        def show(source: str, container: str, read: int) -> None:
            name = f"{source} {container}"
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=None)
            bars.update(tasks[name], completed=read)

        yield show


def _refuse_to_go_back(last: datetime | None, now: datetime) -> None:
    """People have been told of what was wrong at the last assessment: it cannot be assessed as if that were to come."""
    if last and now < last:
        raise click.UsageError(
            f"{rfc3339(now)} lies before the last assessment, at {rfc3339(last)}; to look at the past, use --as-of of "
            "`pmsync status` and `pmsync export`"
        )


def _past(when: datetime | None, now: datetime) -> datetime:
    """The instant to show: `when`, which must not lie in the future, else now."""
    if when and when > now:
        raise click.UsageError(
            f"--as-of {rfc3339(when)} lies in the future; forecasts of it are in what is shown of today"
        )
    return when or now


def _report(outcome: Outcome) -> None:
    click.echo(
        f"published {outcome.published}, unreadable {outcome.dead}, alerts changed {outcome.transitions}, "
        f"messages sent {outcome.delivery.sent}",
        err=True,
    )
    for source, problem in outcome.problems.items():
        _say(f"{source}: {problem}")
    if outcome.problems:
        _say("what was read of it before stays as it was, and all else was done; `pmsync doctor` checks each source")
    undelivered = outcome.delivery.failed + outcome.delivery.dead
    if undelivered:
        _say(f"{undelivered} messages could not be sent; `pmsync doctor` says why")
    if outcome.problems or undelivered:
        raise click.exceptions.Exit(FAILED)


def _work(app: App, workers: Sequence[Worker], pages: tuple[str, int] | None = None) -> None:
    """Until a signal, or until a worker died."""
    with app.running(workers) as stop:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        structlog.get_logger().info("pmsync.started", workers=sorted(worker.name for worker in workers))
        with _pages(app, *pages) if pages else nullcontext():
            stop.wait()
    if app.died:
        raise click.ClickException("a worker died; the log says why")


@contextmanager
def _pages(app: App, host: str, port: int) -> Iterator[str]:
    from pmsync.web.app import create_app
    from pmsync.web.reader import StoreReader
    from pmsync.web.serve import serve

    with serve(create_app(StoreReader(app.state, app.bus.partitions), _now), host, port) as url:
        click.echo(f"pages: {url}", err=True)
        yield url


def _wait_for_signal() -> None:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()


def _say(text: str) -> None:
    for line in text.splitlines():
        click.echo(f"pmsync: {line}", err=True)
