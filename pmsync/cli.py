"""The commands; the only place that wires parts together, reads the clock and the environment, and exits.

A newcomer who follows one event from a Jira issue to an alert opens, in this order: `connectors/jira.py`,
`connectors/pump.py`, `pmsync/core/events.py`, `pmsync/aggregator.py`, `pmsync/core/project.py`,
`pmsync/core/rules/__init__.py`. How the parts are put together is `pmsync/app.py`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import webbrowser
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from connectors.base import LONGEST_WAIT, Accounts, Calendars, ConnectorError, Consenting, Ref
from connectors.pump import WHOLE, LeaseLost
from connectors.pump import Progress as Pumping
from connectors.webhooks import Hint
from pmsync import answers, dead_letters, doctor, export, importing, preview
from pmsync import people as persons
from pmsync import reconcile as reconciling
from pmsync.app import App, Outcome
from pmsync.bus.letters import open_letters
from pmsync.bus.port import BusUnavailable
from pmsync.buses import layout, place
from pmsync.config import Config, ConfigError, connector_kinds, load
from pmsync.core.events import rfc3339
from pmsync.core.exports import TABLES
from pmsync.core.measures.capacity import MOST_WEEKS, WEEKS
from pmsync.core.people import Account
from pmsync.core.project import local_day
from pmsync.core.rules.episode import counted
from pmsync.crash import crash_points
from pmsync.health import Health
from pmsync.logs import configure
from pmsync.move import Move, MoveRefused, opened
from pmsync.owners import owner
from pmsync.rebuild import Rebuild, Rebuilt
from pmsync.service import Begin, work
from pmsync.sign_in import CALLBACK, code_of, listening
from pmsync.status import capacity_json, show_capacity, show_status, status_json
from pmsync.store.engine import StoreUnavailable, StoreUnusable
from pmsync.store.moves import AWAY, MoveStore
from pmsync.store.people import How, Person
from pmsync.store.rebuilds import RebuildRefused, RebuildStore
from pmsync.store.state import Fenced
from pmsync.web.serve import CannotListen

FAILED, UNUSABLE = 1, 2
"""Exit codes: something failed on the way (the rest was done); the command or the configuration cannot be used."""

LATER = {
    "forecast": "ask what if",
    "backtest": "show how early and how right the warnings would have been",
    "report": "write a status report",
    "rules": "try a rule on the past",
}
"""Commands of the contract that are not there yet."""


EXPECTED = (
    StoreUnavailable, BusUnavailable, ConnectorError, LeaseLost, Fenced, CannotListen, RebuildRefused, MoveRefused
)  # fmt: skip
"""What is expected to go wrong: said in one line, exit code 1."""


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
    except (ConfigError, StoreUnusable, persons.PersonUnknown) as error:
        _say(str(error))
        sys.exit(UNUSABLE)
    except EXPECTED as error:
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
    if not once:
        _work(config, App.workers, None if no_web else (config.web.host, config.web.port))
        return
    clock = (lambda: now) if now else _now
    with _progress() as progress, _app(config, clock, progress, frozenset(accept_missing)) as app:
        _refuse_to_go_back(app.state.ticked_at(), now or _now())
        _report(app.once())


@cli.command()
@click.argument("source")
@click.pass_obj
def connector(path: Path, source: str) -> None:
    """Read one source, as a process of its own; its single reader, whoever else is started for it."""
    _work(_with_source(path, source), lambda app: [app.connector_worker(source)])


@cli.command("sign-in")
@click.argument("source")
@click.option("--callback", default=CALLBACK, show_default=True, help="The callback URL, as the app has it.")
@click.option(
    "--code", "by_hand", is_flag=True, help="Paste where the browser was sent to, as on a machine without one."
)
@click.option("--no-browser", is_flag=True, help="Do not open a browser.")
@click.pass_obj
def sign_in(path: Path, source: str, callback: str, by_hand: bool, no_browser: bool) -> None:
    """Let pmsync read a source by your consent (OAuth 2.0), as yourself.

    You are sent to the source, where you see what pmsync asks for. What you consent to is kept in the file that `auth` of
    the source names.
    """
    config = _with_source(path, source)
    settings = next(each for each in config.sources if each.name == source)
    kind: object = connector_kinds()[settings.kind]
    if not isinstance(kind, Consenting):
        raise click.UsageError(
            f"{source} ({settings.kind}) is not read by a person's consent; its `auth` is all it needs"
        )
    consent = kind.consent(settings, callback, _now)
    invitation = f"Open this, and accept:\n\n{consent.address}\n"
    if by_hand:
        click.echo(invitation)
        answer = click.prompt("Where the browser was sent to (the whole address; it is not shown)", hide_input=True)
    else:
        with listening(callback, consent.state) as listener:
            click.echo(invitation)
            if not no_browser:
                webbrowser.open(consent.address)
            answer = listener.wait()
    for line in consent.accept(code_of(answer, consent.state)):
        click.echo(line)
    click.echo("next: `pmsync doctor`; a worker that runs takes it up within a minute, if it reads this site already")


@cli.command()
@click.argument("source")
@click.option("--container", "containers", multiple=True, metavar="CONTAINER", help="Only this one (may be repeated).")
@click.option("--repair", is_flag=True, help="Have the worker of this source fetch what differs.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def reconcile(path: Path, source: str, containers: tuple[str, ...], repair: bool, as_json: bool) -> None:
    """Prove that what is here of a source is complete: counted there, counted here, each difference by name.

    It asks the source, beside the worker that reads it, and changes nothing. Exit code 1 if anything differs.
    """
    with _app(_with_source(path, source), _now) as app, _progress() as progress:
        chosen = _containers(app, source, containers)

        def counted(container: str, listed: int) -> None:
            if progress:
                progress(source, container, listed, None)

        found = list(reconciling.reconcile(app.reader(source), app.ledger, chosen, counted))
        if repair:
            for each in found:
                reconciling.repair(app.ledger, source, each)
    if as_json:
        click.echo(json.dumps(reconciling.as_json(source, found), indent=2, ensure_ascii=False))
    else:
        for each in found:
            click.echo(_reconciled(each))
    if different := [each for each in found if not each.is_equal]:
        _say(_advice(source, different, repair))
        raise click.exceptions.Exit(FAILED)


def _reconciled(found: reconciling.Reconciliation) -> str:
    differs = len(found.differences) + found.unchecked
    lines = [
        f"{found.container}: {found.listed} at the source, {found.here} here"
        + (f" ({found.dead} of them unreadable)" if found.dead else "")
        + f", {differs} differences" * bool(differs)
        + ", equal" * (not differs)
    ]
    lines += [f"  {each.what}: {each.ref.kind} {each.ref.id} {each.name}".rstrip() for each in found.differences]
    if found.unchecked:
        lines.append(f"  and {found.unchecked} more that seem to differ, not looked at one by one")
    return "\n".join(lines)


def _advice(source: str, different: Sequence[reconciling.Reconciliation], repair: bool) -> str:
    where = ", ".join(each.container for each in different)
    if repair:
        return (
            f"{where}: what differs will be fetched within seconds by the worker that reads {source}; look again then"
        )
    return f"{where}: not the same; the next sweep mends that, and --repair has it mended now"


@cli.command()
@click.argument("source")
@click.option("--container", "containers", multiple=True, metavar="CONTAINER", help="Only this one (may be repeated).")
@click.option("--dry-run", is_flag=True, help="Only say what would be read.")
@click.pass_obj
def reread(path: Path, source: str, containers: tuple[str, ...], dry_run: bool) -> None:
    """Have a source read again from its beginning, as after an upgrade that reads more of it.

    Its worker does so with its next round. What is the same is not published again, and nothing is told twice; what
    happens meanwhile does not wait if the source sends webhooks.
    """
    with _app(_with_source(path, source), _now) as app:
        known = app.containers(source)
        if unknown := sorted(set(containers) - known.keys()):
            raise click.UsageError(
                f"{source} has no container {unknown[0]!r}; known: {', '.join(sorted(known)) or 'none'}"
            )
        chosen = sorted(containers or known)
        for container in chosen:
            click.echo(f"{container}: {known[container]} things known")
        if not dry_run:
            app.ledger.hint(source, [Hint(Ref(WHOLE, container)) for container in chosen])
        said = "would be read again" if dry_run else "will be read again with the next round of the worker that reads"
        click.echo(f"{len(chosen)} of {len(known)} containers {said}{'' if dry_run else f' {source}'}", err=True)


@cli.command("import")
@click.argument("paths", type=click.Path(path_type=Path, exists=True), metavar="FILE…", nargs=-1, required=True)
@click.option("--project", required=True, help="Whose containers are wanted.")
@click.option("--source", help="Which source the files are of, where the project reads several of a kind.")
@click.option("--dry-run", is_flag=True, help="Only say what would be read.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def import_files(
    path: Path, paths: tuple[Path, ...], project: str, source: str | None, dry_run: bool, as_json: bool
) -> None:
    """Load whole things from files: answers of Jira's and GitHub's REST APIs as JSON, also compressed, or directories of
    them.

    What is known to be newer stays; nothing is removed. To do while no worker reads the source. Exit code 1 if anything
    in the files cannot be read.
    """
    config = load(path)
    found = importing.read(config, project, source, list(importing.documents(importing.files(paths))))
    published = None
    if not dry_run:
        with _progress() as progress, _app(config, _now, progress) as app:
            app.apply()
            published = app.take(found.source, found.reads, found.containers).published
    if as_json:
        click.echo(json.dumps(importing.as_json(found, published), indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(importing.lines(found, published)))
    for problem in found.problems:
        _say(problem)
    if found.problems:
        raise click.exceptions.Exit(FAILED)


@cli.command()
@click.pass_obj
def aggregator(path: Path) -> None:
    """Fold events and assess projects, as a process of its own.

    Several of them share the partitions; on Kafka each needs a name of its own (bus.member).
    """
    _work(load(path), lambda app: app.aggregator_workers())


@cli.command()
@click.pass_obj
def notifier(path: Path) -> None:
    """Deliver messages, as a process of its own."""
    _work(load(path), lambda app: [app.notifier_worker()])


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
        stale = {} if at < now else app.freshness.stale(now)
        if as_json:
            click.echo(status_json(states, at, stale))
        else:
            show_status(Console(), states, at, stale)


@cli.command("capacity")
@click.argument("project", required=False)
@click.option(
    "--weeks", type=click.IntRange(1, MOST_WEEKS), default=WEEKS, show_default=True, help="How many, this one too."
)
@click.option("--as-of", type=INSTANT, help="Show the past: what was ahead at an instant.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, by day too.")
@click.pass_obj
def team_capacity(path: Path, project: str | None, weeks: int, as_of: datetime | None, as_json: bool) -> None:
    """The team's working hours ahead: what is left of them by week, and what holidays, time off and meetings take. From
    today on; the team as a whole."""
    now = _now()
    at = _past(as_of, now)
    with _app(load(path), lambda: now) as app:
        states = export.states(app.state, project, past=at < now)
    if as_json:
        click.echo(capacity_json(states, at, weeks))
    else:
        show_capacity(Console(), states, at, weeks)


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


@cli.group()
def calendar() -> None:
    """See what calendars are read as."""


@calendar.command("preview")
@click.argument("source")
@click.option("--container", "containers", multiple=True, metavar="CONTAINER", help="Only this one (may be repeated).")
@click.option("--days", type=click.IntRange(1, 1000), default=90, show_default=True, help="How far to look ahead.")
@click.option("--titles", is_flag=True, help="Show titles, whether or not they are read otherwise.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def calendar_preview(
    path: Path, source: str, containers: tuple[str, ...], days: int, titles: bool, as_json: bool
) -> None:
    """Show what a calendar's entries would be read as, before anything rests on it: which are deadlines, days off,
    meetings. The source is asked; nothing is kept."""
    config = _with_source(path, source)
    projects = [project for project in config.projects if source in project.sources]
    settings = next(each for each in config.sources if each.name == source)
    named = getattr(settings, "ics", getattr(settings, "calendars", {}))  # a calendar need not be of a project yet
    known = config.mapped(source)
    chosen = _chosen(source, known | (set(named) if isinstance(named, Mapping) else set()), containers)
    if titles and "titles" in type(settings).model_fields:
        settings = settings.model_copy(update={"titles": True})
    reader = connector_kinds()[settings.kind].connect(settings, _now)
    if not isinstance(reader, Calendars):
        raise click.UsageError(
            f"{source} is no calendar; `pmsync run --once` and `pmsync status` show what is read of it"
        )
    zone = ZoneInfo(projects[0].time_zone if projects else "UTC")
    found = preview.preview(reader, chosen, local_day(_now(), zone), days, zone)
    if as_json:
        click.echo(json.dumps(preview.as_json(source, found), indent=2, ensure_ascii=False))
    else:
        preview.show(Console(), found, zone)


@cli.group()
def people() -> None:
    """See whose the accounts of the sources are, say so, and forget a person."""


@people.command("list")
@click.pass_obj
def people_list(path: Path) -> None:
    """Everybody who is known here, with names and mail addresses."""
    with _app(load(path), _now) as app:
        persons.show_people(Console(), app.people.people())


@people.command("suggest")
@click.option("--source", "wanted", multiple=True, metavar="SOURCE", help="Only this one (may be repeated).")
@click.option("--confirm", is_flag=True, help="Link the accounts whose address the source vouches for.")
@click.pass_obj
def people_suggest(path: Path, wanted: tuple[str, ...], confirm: bool) -> None:
    """Ask the sources whose the accounts are that are nobody's yet, and say who of the people here that may be.

    What a source tells is shown, and kept nowhere. Nothing is linked but by --confirm, and nothing by a name. Exit code 1
    if a source could not be asked.
    """
    config = load(path)
    if unknown := sorted(set(wanted).difference(config.source_names)):
        raise click.UsageError(f"there is no source {unknown[0]!r}; known: {', '.join(config.source_names) or 'none'}")
    with _app(config, _now) as app, _bars() as progress:
        known = app.people.people()
        unlinked = persons.unlinked(export.states(app.state, None), known)
        found, failed = list[persons.Suggestion](), False
        for source in wanted or config.source_names:
            if not unlinked.get(source):
                continue
            try:
                found += _suggested(app, source, unlinked[source], known, progress)
            except ConnectorError as error:
                _say(f"{source}: {error}")
                failed = True
        persons.show_suggestions(Console(), found)
        certain = {each.account: each.person.id for each in found if each.certain}
        if confirm:
            stands = app.people.link(certain, How.mail, _now())
            certain = {account: link.person for account, link in stands.items() if link.how is How.mail}
    click.echo(
        f"{counted(len(certain), 'account')} {'linked' if confirm else 'would be linked by --confirm'}; "
        f"{len({each.account for each in found} - certain.keys())} to be looked at: `pmsync people link SOURCE ACCOUNT PERSON`",
        err=True,
    )
    if failed:
        raise click.exceptions.Exit(FAILED)


def _suggested(
    app: App, source: str, unlinked: Sequence[str], known: Sequence[Person], progress: Callable[[str, int, int], None]
) -> list[persons.Suggestion]:
    """Who the accounts of a source may be; what is not told of them is said."""
    if source not in app.sources:
        _say(f"{source}: is not asked (live: false); {counted(len(unlinked), 'account')} without a person")
        return []
    reader = app.reader(source)
    if not isinstance(reader, Accounts):
        _say(
            f"{source}: its connector cannot ask whose accounts are; {counted(len(unlinked), 'account')} without a person"
        )
        return []
    answer = persons.ask(reader, unlinked, lambda done, of: progress(source, done, of))
    if answer.silent:
        _say(f"{source}: nothing is told of {answer.silent} of {counted(answer.asked, 'account')}")
    if answer.left:
        _say(f"{source}: {counted(answer.left, 'account')} more were not asked for this time; link some and look again")
    return persons.suggestions(source, answer.profiles, known)


@people.command("link")
@click.argument("source")
@click.argument("account")
@click.argument("who", metavar="PERSON|MAIL")
@click.pass_obj
def people_link(path: Path, source: str, account: str, who: str) -> None:
    """Say whose an account is, by its id at the source."""
    config = load(path)
    if source not in config.source_names:
        raise click.UsageError(f"there is no source {source!r}; known: {', '.join(config.source_names) or 'none'}")
    with _app(config, _now) as app:
        person, wanted = persons.named(app.people.people(), who), Account(source, account)
        stands = app.people.link({wanted: person.id}, How.confirmed, _now()).get(wanted)
    if stands is None or stands.person != person.id:
        whose = f"is {stands.person}'s already, by {stands.how.value}" if stands else "has nobody to belong to any more"
        raise click.UsageError(f"{source}/{account} {whose}; `pmsync people unlink` takes it from them")
    click.echo(f"{source}/{account} is {person.id}'s, by {stands.how.value}")


@people.command("unlink")
@click.argument("source")
@click.argument("account")
@click.pass_obj
def people_unlink(path: Path, source: str, account: str) -> None:
    """Have an account be nobody's."""
    with _app(load(path), _now) as app:
        wanted = Account(source, account)
        if not app.people.unlink(wanted):
            raise click.UsageError(
                f"pmsync.yaml says whose {source}/{account} is; take it out there, and `pmsync apply`"
                if app.people.linked([wanted])
                else f"{source}/{account} is nobody's; `pmsync people list` shows all that are somebody's"
            )
    click.echo(f"{source}/{account} is nobody's any more")


@people.command("forget")
@click.argument("who", metavar="PERSON|MAIL")
@click.option("--dry-run", is_flag=True, help="Only say what would be reached.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def people_forget(path: Path, who: str, dry_run: bool, yes: bool) -> None:
    """Erase a person: name, mail address, and which accounts are theirs."""
    config = load(path)
    with _app(config, _now) as app:
        person = persons.named(app.people.people(), who)
        for line in persons.reach(person, app.projects.projects().values(), app.people.waiting(person.id)):
            click.echo(line)
        if places := persons.still_named(config, person.mail):
            _say(
                f"{path} still has this address ({', '.join(places)}): the next `pmsync apply` or start of `pmsync run` would "
                "bring the person back, under a new id; take it out first, and have that applied"
            )
        if dry_run:
            return
        if not yes:
            click.confirm("Erase them for good?", abort=True, err=True)
        app.people.forget(person.id)
        click.echo(f"{person.id} is forgotten")
        if not app.people.is_scrubbed():
            _say(
                "the database shows nothing of them any more, but its files may hold it for a while: docs/operations.md says "
                "how long, and what to do about backups"
            )


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
        click.echo(dead_letters.replay(app.bus, app.ledger, found))


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
    _work(config, lambda _: [], (host or config.web.host, config.web.port if port is None else port))


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


@cli.command()
@click.option("--partition", "wanted", type=click.IntRange(0), multiple=True, help="Only this one; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Fold and compare, and leave the state as it is.")
@click.pass_obj
def rebuild(path: Path, wanted: tuple[int, ...], dry_run: bool) -> None:
    """Fold the log again from its beginning, beside whatever runs; nothing is told again."""
    with _app(load(path), _now) as app, _bars() as progress:
        partitions = sorted(set(wanted)) or range(app.bus.partitions)
        if unknown := [n for n in partitions if n >= app.bus.partitions]:
            raise click.UsageError(f"there is no partition {unknown[0]}; they are 0 to {app.bus.partitions - 1}")
        app.check_log()
        store = RebuildStore(app.store, owner(), app.store.now)
        work = Rebuild(
            app.bus, app.state, store, crash_points(os.environ), lambda n, *at: progress(f"partition {n}", *at)
        )
        for rebuilt in work.run(partitions, dry_run=dry_run):
            click.echo(_rebuilt(rebuilt, dry_run=dry_run))


def _rebuilt(rebuilt: Rebuilt, *, dry_run: bool) -> str:
    """What became of a partition, in a line."""
    if rebuilt.edition is None:
        return f"partition {rebuilt.partition}: nothing of it was ever folded"
    written, removed = rebuilt.difference
    would = "would be " if dry_run else ""
    dead = f", {rebuilt.unreadable} cannot be decoded (`pmsync dead-letters list`)" if rebuilt.unreadable else ""
    return (
        f"partition {rebuilt.partition}: {rebuilt.records} records folded{dead}; rows {would}written {written}, "
        f"removed {removed}; edition {rebuilt.edition}"
    )


@cli.command()
@click.option("--to", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="The new configuration.")
@click.option("--dry-run", is_flag=True, help="Only say what would be carried, and what stands in the way.")
@click.option("--undo", is_flag=True, help="Let this installation, which was moved, be started again.")
@click.pass_obj
def move(path: Path, to: Path | None, dry_run: bool, undo: bool) -> None:
    """Carry this installation to another log and another store, while nothing of it runs.

    Both configurations must name the same sources and projects. Run it again if it was ended on the way.
    """
    if undo == bool(to):
        raise click.UsageError("say either --to FILE or --undo")
    with opened(load(path)) as old:
        old.store.migrate()
        if not to:
            click.echo(_come_back(MoveStore(old.store, old.store.now)))
            return
        with opened(load(to)) as new, _bars() as progress:
            work = Move(old, new, owner(), old.store.now, crash_points(os.environ), progress)
            for line in work.look() if dry_run else work.run():
                click.echo(line)


def _come_back(store: MoveStore) -> str:
    note = store.note()
    if note is None or note.role not in AWAY:
        raise click.UsageError("this installation was not moved away: there is nothing to undo")
    store.come_back()
    return f"it may be started again; what {note.place} has read and told since is not known here: never start both"


@cli.command("schema")
@click.argument("of", type=click.Choice(["config", "events", "asyncapi"]), default="config")
def schema(of: str) -> None:
    """Print a schema: of the configuration (the default, for editors), of the events on the log, or of all its topics
    (an AsyncAPI document)."""
    from pmsync import schemas
    from pmsync.config import json_schema

    printed = {"config": json_schema, "events": schemas.events_schema, "asyncapi": schemas.asyncapi}
    click.echo(printed[of]())


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


def _with_source(path: Path, source: str) -> Config:
    """The configuration, which has to have this source."""
    config = load(path)
    if source not in config.source_names:
        raise click.UsageError(f"there is no source {source!r}; known: {', '.join(config.source_names) or 'none'}")
    if source not in config.live_sources:
        raise click.UsageError(f"{source} is not asked (live: false); what is known of it comes with `pmsync import`")
    return config


def _containers(app: App, source: str, wanted: Collection[str]) -> Sequence[str]:
    """These containers of a source, or all that it has."""
    return _chosen(source, app.containers(source).keys(), wanted)


def _chosen(source: str, known: Collection[str], wanted: Collection[str]) -> Sequence[str]:
    if unknown := sorted(set(wanted).difference(known)):
        raise click.UsageError(f"{source} has no container {unknown[0]!r}; known: {', '.join(sorted(known)) or 'none'}")
    return sorted(set(wanted) or known)


def _now() -> datetime:
    return datetime.now(UTC)


def _open(config: Config, clock: Callable[[], datetime], **options: Any) -> App:
    return App(config, clock, step=crash_points(os.environ), write=click.echo, **options)


@contextmanager
def _app(
    config: Config,
    clock: Callable[[], datetime],
    progress: Pumping | None = None,
    accept_missing: frozenset[str] = frozenset(),
) -> Iterator[App]:
    app = _open(config, clock, progress=progress, accept_missing=accept_missing)
    try:
        yield app
    finally:
        app.close()


@contextmanager
def _progress() -> Iterator[Pumping | None]:
    """A bar for each container that is being read, with the time that is left, where somebody looks on."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed} read"), TimeRemainingColumn()
    # How fast it goes is told by what came in this time: two pages at least, though a source may be rested for an hour.
    with Progress(*columns, console=console, speed_estimate_period=2 * LONGEST_WAIT) as bars:
        tasks: dict[str, Any] = {}

        def show(source: str, container: str, read: int, total: int | None) -> None:
            name = f"{source} {container}"
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=None)
            bars.update(tasks[name], completed=read, total=total and max(total, read))

        yield show


@contextmanager
def _bars() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each name, where somebody looks on: how much of how much is done."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda *_: None
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=console, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def show(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name)
            bars.update(tasks[name], completed=done, total=total)

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


def _work(config: Config, begin: Begin, pages: tuple[str, int] | None = None) -> None:
    """Until a signal, or until a worker died."""

    def open_app(health: Health, stop: threading.Event) -> App:
        return _open(config, _now, health=health, stop=stop)

    if not work(config, _now, open_app, begin, lambda line: click.echo(line, err=True), pages):
        raise click.ClickException("a worker died; the log says why")


def _wait_for_signal() -> None:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()


def _say(text: str) -> None:
    for line in text.splitlines():
        click.echo(f"pmsync: {line}", err=True)
