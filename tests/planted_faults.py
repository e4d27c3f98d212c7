"""Plants one fault at a time in a copy of the tree and runs the test that should catch it: `python tests/planted_faults.py`.

Words of a fault's name choose some; `--gate` chooses those that take a guard of delivery away (`GATE`), and writes the
table of `docs/reliability.md` into `build/soak/mutation-gate.md`. A suite that lets a planted fault pass proves nothing.
Exits 1 if any fault survives.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SECONDS = 300
QUICKLY = ("-p", "no:cacheprovider", "--hypothesis-profile=planted")
CACHE = Path.home() / ".cache" / "pmsync-tests"
REPORT = ROOT / "build" / "soak" / "mutation-gate.md"


class Fault(NamedTuple):
    """Replace `old` by `new` in `file`; `test` must then fail."""

    name: str
    file: str
    old: str
    new: str
    test: str


MACHINE = "tests/unit/test_pump_machine.py"
PUMP = "tests/unit/test_pump.py"
READER = f"{PUMP} {MACHINE}"
"""Rule by rule first: what only the state machine's chance would find is not found in every run."""
LAWS = "tests/unit/test_laws.py"
AGGREGATOR = "tests/integration/test_aggregator.py"
STORE = "tests/integration/test_store.py"
POSTGRES = "tests/integration/test_postgres.py"
LEDGER = "tests/integration/test_ledger.py"
BUS = "tests/integration/test_embedded_bus.py"
MAIL = "tests/integration/test_mail.py"
CLI = "tests/integration/test_cli.py"
CONFIG = "tests/unit/test_config.py"
KAFKA = "tests/integration/test_kafka_bus.py"
MOVE = "tests/integration/test_move.py"
REBUILD = "tests/integration/test_rebuild.py"
APP = "tests/integration/test_app.py"
HEALTH = "tests/unit/test_health.py"
INTAKE = "tests/integration/test_intake.py"
CAPACITY = "tests/unit/test_capacity.py"
RUNS = "tests/connectors/test_github_runs.py"
DELIVERIES = "tests/connectors/test_github_deliveries.py"
CONSENT = "tests/connectors/test_jira_consent.py"
REGISTRATION = "tests/connectors/test_jira_registration.py"
SIGN_IN = "tests/integration/test_sign_in.py"
BOARDS = "tests/connectors/test_github_boards.py"
HINTED = "tests/acceptance/test_webhooks.py -k mended"
CLEAN_STARTS = "tests/acceptance/test_clean_starts.py -k takes_no_time"
CLOUDEVENTS = "tests/unit/test_cloudevents.py"
SCHEMAS = "tests/unit/test_schemas.py"
PARITY = "tests/acceptance/test_parity_kafka.py"
CHART = "tests/deploy/test_chart.py"
COMPOSE = "tests/deploy/test_compose.py"
EXAMPLE = "docs/examples/pmsync-gitlab/pmsync_gitlab.py"
THIRD_PARTY = "tests/connectors/test_third_party.py"
IMAGE = "tests/deploy/test_image.py"
OUTPUTS = "tests/integration/test_topics_for_others.py"
PEOPLE = "tests/integration/test_people.py"
CALDAV = "tests/connectors/test_caldav.py"
GOOGLE = "tests/connectors/test_google_calendar.py"
GUARD = "tests/connectors/test_guard.py"
BY_HAND = "tests/unit/test_recurrence.py -k rfc"
CRASHES = "tests/acceptance/test_crash_points.py"
FAULTS = (
    Fault(
        "pending notes are not fetched again",
        "connectors/pump.py",
        "        self._publish_pending()\n",
        "",
        READER,
    ),
    Fault(
        "pending notes are not written",
        "connectors/pump.py",
        "            self.ledger.note(self._source, self._epoch, notes)\n",
        "",
        READER,
    ),
    Fault(
        "a listed read is always believed",
        "connectors/pump.py",
        "doubtful = {read.ref for read in page if _is_doubtful(read, known.get(read.ref))}",
        "doubtful: set[Ref] = set()",
        READER,
    ),
    Fault(
        "a doubtful listed read is dropped",
        "connectors/pump.py",
        "        self._fetch(doubtful)\n",
        "",
        READER,
    ),
    Fault(
        "versions follow the clock alone",
        "connectors/pump.py",
        "version = max(last + 1, version_at(self.clock()))",
        "version = version_at(self.clock())",
        READER,
    ),
    Fault(
        "who was told is not compared",
        "connectors/pump.py",
        "return same and all(known.told.get(project) == known.version for project in projects)",
        "return same",
        READER,
    ),
    Fault(
        "what moved on is not fetched for a new mapping",
        "connectors/pump.py",
        "            self._fetch_many(self._live(self.ledger.ever_in(self._source, container)))\n",
        "",
        READER,
    ),
    Fault(
        "an unmapped container is forgotten silently",
        "connectors/pump.py",
        "            self._publish([Read(ref) for ref in refs])\n",
        "            pass\n",
        READER,
    ),
    Fault(
        "a thing out of sight is still shown",
        "connectors/pump.py",
        "if read.content is None or container not in self._routes:",
        "if read.content is None:",
        READER,
    ),
    Fault(
        "what a sweep misses is not asked for",
        "connectors/pump.py",
        "        self._bury_missing(container, sorted(known.keys() - there.keys()), Counter(ref.kind for ref in known))\n",
        "",
        READER,
    ),
    Fault(
        "tombstones go only to present routes",
        "connectors/pump.py",
        "told=dict.fromkeys(told, version),\n                fate=Fate.gone,\n            ),\n            set(told),",
        "told=dict.fromkeys(told, version),\n                fate=Fate.gone,\n            ),\n            set(),",
        READER,
    ),
    Fault(
        "a repeat counts as a change",
        "pmsync/core/project.py",
        "known is None or row > known",
        "known is None or row >= known",
        LAWS,
    ),
    Fault(
        "the last of equal versions wins",
        "pmsync/core/project.py",
        "known is None or row > known",
        "known is None or row[0] >= known[0]",
        LAWS,
    ),
    Fault(
        "the first of equal versions wins",
        "pmsync/core/project.py",
        "known is None or row > known",
        "known is None or row[0] > known[0]",
        LAWS,
    ),
    Fault(
        "the oldest version wins",
        "pmsync/core/project.py",
        "known is None or row > known",
        "known is None or row < known",
        LAWS,
    ),
    Fault(
        "the last of a batch wins",
        "pmsync/core/project.py",
        "            if known is None or row > known:\n",
        "            if True:\n",
        LAWS,
    ),
    Fault(
        "a kept version is not kept",
        "pmsync/core/project.py",
        "    if claim.kind in KEPT and not claim.gone:\n",
        "    if claim.kind in KEPT and not claim.gone and not claim.version % 2:\n",
        LAWS,
    ),
    Fault(
        "offsets that were folded are folded again",
        "pmsync/folding.py",
        "if offset >= folding.next_offset)",
        "if offset >= 0)",
        AGGREGATOR,
    ),
    Fault(
        "the offset can go back",
        "pmsync/folding.py",
        "next_offset = max(folding.next_offset, end)",
        "next_offset = end",
        AGGREGATOR,
    ),
    Fault(
        "the offset is saved in another transaction",
        "pmsync/aggregator.py",
        "            next_offset = fold_into(owned, claims, batch[-1].offset + 1)\n",
        "            next_offset = batch[-1].offset + 1\n            fold_into(owned, claims, owned.next_offset)\n        with self._store.owned(partition, self._epochs[partition]) as owned:\n            owned.save({}, next_offset)\n",
        AGGREGATOR,
    ),
    Fault(
        "the epoch is not checked",
        "pmsync/store/state.py",
        "if found is None or found.epoch != epoch:",
        "if found is None:",
        STORE,
    ),
    Fault(
        "taking a partition keeps its epoch",
        "pmsync/store/state.py",
        '"epoch": partitions.c.epoch + 1}',
        '"epoch": partitions.c.epoch}',
        STORE,
    ),
    Fault(
        "an undecodable record is passed over silently",
        "pmsync/aggregator.py",
        "            self._bus.publish(DEAD_LETTERS, [buried(letter) for letter in letters])\n",
        "",
        AGGREGATOR,
    ),
    Fault(
        "a dead letter is not waited for",
        "pmsync/aggregator.py",
        "            self._bus.publish(DEAD_LETTERS, [buried(letter) for letter in letters])\n",
        '            __import__("threading").Timer(0.5, self._bus.publish, (DEAD_LETTERS, [buried(letter) for letter in letters])).start()\n',
        AGGREGATOR,
    ),
    Fault(
        "half a log is assessed",
        "pmsync/aggregator.py",
        "if offset >= goals[partition]]",
        "if offset >= 0]",
        AGGREGATOR,
    ),
    Fault(
        "the instant of a tick runs back",
        "pmsync/aggregator.py",
        "at = max(now, owned.ticked_at or now)",
        "at = now",
        AGGREGATOR,
    ),
    Fault(
        "time alone is not looked at",
        "pmsync/store/state.py",
        "ripe = or_(due.c.dirty, due.c.next_due <= (micros(now) or 0))",
        "ripe = due.c.dirty",
        AGGREGATOR,
    ),
    Fault(
        "a replaced log is not noticed",
        "pmsync/aggregator.py",
        "    if end < offset:\n",
        "    if end < 0:\n",
        AGGREGATOR,
    ),
    Fault(
        "the cursor moves before its page is published",
        "connectors/pump.py",
        "            asked = self._settle_listed(page)\n",
        "            self._move(container, replace(cursor, since=max((item.time for item in page if item.time), default=cursor.since)))\n            asked = self._settle_listed(page)\n",
        PUMP,
    ),
    Fault(
        "a poll does not reach back",
        "connectors/pump.py",
        "OVERLAP = timedelta(minutes=5)",
        "OVERLAP = timedelta(0)",
        PUMP,
    ),
    Fault(
        "the cursor passes what is not yet listed",
        "connectors/pump.py",
        "since = min(max(times), horizon) - OVERLAP",
        "since = max(times) - OVERLAP",
        PUMP,
    ),
    Fault(
        "the cursor goes back",
        "connectors/pump.py",
        "if since and (cursor.since is None or since > cursor.since):",
        "if since:",
        PUMP,
    ),
    Fault(
        "a sweep that misses everything is believed",
        "connectors/pump.py",
        "_is_much(len(gone), sum(known.values()))",
        "False",
        PUMP,
    ),
    Fault(
        "what goes in bulk of one kind holds up the other kinds",
        "connectors/pump.py",
        "[ref for ref in gone if ref.kind not in doubtful]",
        "[ref for ref in gone if not doubtful]",
        PUMP,
    ),
    Fault(
        "a right that is lost looks like a deletion",
        "connectors/pump.py",
        "*(reader.unseen(container) if isinstance(reader, Partial) else ())",
        "",
        "tests/connectors/test_jira_sprints.py tests/connectors/test_github_shipped.py",
    ),
    Fault(
        "what left the window of workflow runs is for the sweep to doubt",
        "connectors/github_runs.py",
        "        if told == edge or KIND in self.refused(home.container):\n            return []\n",
        "        if told == edge or KIND:\n            return []\n",
        RUNS,
    ),
    Fault(
        "a webhook brings back what left the window of workflow runs",
        "connectors/github_runs.py",
        "        ours = is_ours(home, found, self._edge(home))\n",
        "        ours = is_ours(home, found, EARLIEST)\n",
        RUNS,
    ),
    Fault(
        "where GitHub breaks the workflow runs off is taken for their end",
        "connectors/github_runs.py",
        "            if count < MOST_FOUND or following == wanted:\n",
        "            if count:\n",
        RUNS,
    ),
    Fault(
        "a run of a fork's branch of the same name is one of ours",
        "connectors/github_runs.py",
        'is_here = run.get("head_branch", home.branch) == home.branch and not elsewhere',
        'is_here = run.get("head_branch", home.branch) == home.branch',
        RUNS,
    ),
    Fault(
        "a run that had not ended when it left the newest is forgotten by polls",
        "connectors/github_runs.py",
        "        watched = sorted(running - seen, reverse=True)[:MOST_WATCHED]\n",
        "        watched = list[int]()\n",
        RUNS,
    ),
    Fault(
        "a build is broken since its last failure",
        "pmsync/core/measures/builds.py",
        "        since=min((each.since for each in row), default=None),\n",
        "        since=last.since if last else None,\n",
        "tests/unit/test_builds.py",
    ),
    Fault(
        "a whole day off is one of the project's zone, for capacity",
        "pmsync/core/measures/capacity.py",
        "    zone = ZoneInfo(member.time_zone)\n    known = (",
        "    zone = view.zone\n    known = (",
        CAPACITY,
    ),
    Fault(
        "for capacity a tentative entry is time off",
        "pmsync/core/measures/capacity.py",
        " for each in entry.occurrences if each.busy)\n",
        " for each in entry.occurrences)\n",
        CAPACITY,
    ),
    Fault(
        "what overlaps lowers capacity twice",
        "pmsync/core/measures/capacity.py",
        "        if found and start <= found[-1][1]:\n",
        "        if found and start < found[-1][0]:\n",
        CAPACITY,
    ),
    Fault(
        "a holiday within time off lowers capacity twice",
        "pmsync/core/measures/capacity.py",
        "        left = without(left, each)\n        found.append(_scaled(left, rate))\n",
        "        lost = _scaled(left, rate) - _scaled(without(working(member, day), each), rate)\n        found.append(found[-1] - lost)\n",
        CAPACITY,
    ),
    Fault(
        "time off of nobody lowers everybody's capacity",
        "pmsync/core/measures/capacity.py",
        "    return known[1].meaning is Meaning.time_off and _is_theirs(member, known)\n",
        "    return known[1].meaning is Meaning.time_off\n",
        CAPACITY,
    ),
    Fault(
        "a night has eight hours of capacity whatever the clocks do",
        "pmsync/core/measures/capacity.py",
        "    return _seconds(datetime.combine(day + days * DAY, time(*divmod(rest, 60)), zone))\n",
        "    return _seconds(datetime.combine(day, time(), zone)) + 60 * (1440 * days + rest)\n",
        CAPACITY,
    ),
    Fault(
        "meetings lower capacity unasked",
        "pmsync/core/measures/capacity.py",
        " is not Meaning.meeting or not project.count_meetings:\n",
        " is not Meaning.meeting:\n",
        CAPACITY,
    ),
    Fault(
        "a joiner has no capacity on the first day",
        "pmsync/core/measures/capacity.py",
        "    if (member.joins and day < member.joins)",
        "    if (member.joins and day <= member.joins)",
        CAPACITY,
    ),
    Fault(
        "a ramp of capacity is a day too long",
        "pmsync/core/measures/capacity.py",
        "            if left < 0:\n",
        "            if left <= 0:\n",
        CAPACITY,
    ),
    Fault(
        "a long time off is forgotten, for capacity",
        "pmsync/core/measures/capacity.py",
        "max(bisect(taken, (start, start)) - 1, 0)",
        "bisect(taken, (start, start))",
        CAPACITY,
    ),
    Fault(
        "capacity is told before a calendar is read",
        "pmsync/core/measures/capacity.py",
        "    if missing:\n",
        "    if missing and not view.project.team:\n",
        CAPACITY,
    ),
    Fault(
        "somebody's calendar is the project's, not for capacity alone",
        "pmsync/core/project.py",
        " for each in known if _container(each) not in theirs)\n",
        " for each in known)\n",
        CAPACITY,
    ),
    Fault(
        "more capacity is allocated than there is",
        "pmsync/config.py",
        " if allocated > 1000 else None\n",
        " if allocated > 10000 else None\n",
        CONFIG,
    ),
    Fault(
        "all accounts of a team go into events, not for capacity alone",
        "pmsync/configuration.py",
        " in person.accounts.items() if source in shared",
        " in person.accounts.items()",
        CONFIG,
    ),
    Fault(
        "each person's capacity is exported unasked",
        "pmsync/core/exports.py",
        " if sight.view.project.per_person else ()",
        "",
        "tests/integration/test_team_capacity.py",
    ),
    Fault(
        "no entry of a calendar is free, for capacity",
        "connectors/ics.py",
        ' and _first("TRANSP", properties) != "TRANSPARENT"',
        "",
        "tests/connectors/test_calendar.py",
    ),
    Fault(
        "the past of a workflow run knows what came later",
        "pmsync/core/project.py",
        "        if attempt.ended_at is None or attempt.ended_at <= at\n",
        "        if attempt.ended_at is None or attempt.ended_at\n",
        "tests/unit/test_builds.py tests/unit/test_exports.py",
    ),
    Fault(
        "an organisation's webhooks are asked about other people's repositories",
        "connectors/github_redelivery.py",
        '                yield from self._own_hooks(f"/orgs/{owner}/hooks", owned)\n',
        '                yield from self._own_hooks(f"/orgs/{owner}/hooks")\n',
        DELIVERIES,
    ),
    Fault(
        "trouble with boards keeps the issues from being read",
        "connectors/jira_sprints.py",
        "            if isinstance(error, Retryable) and error.after is not None:\n",
        "            if isinstance(error, Retryable):\n",
        "tests/connectors/test_jira_sprints.py",
    ),
    Fault(
        "a sprint counts what was in another project then",
        "pmsync/core/measures/sprints.py",
        "        return there and (self.thing.source, self.container.value(when)) in shown\n",
        "        return there\n",
        "tests/unit/test_sprints.py",
    ),
    Fault(
        "what was carried over when a sprint was closed is no longer in it",
        "pmsync/core/measures/sprints.py",
        'Stage("closed", ended - CLOSING, ended)',
        'Stage("closed", ended, ended)',
        "tests/unit/test_sprints.py",
    ),
    Fault(
        "a link with an old key leads nowhere",
        "pmsync/core/project.py",
        '    return {content.key, *(str(change.old) for change in content.history if change.field == "key")}\n',
        "    return {content.key}\n",
        "tests/unit/test_view.py",
    ),
    Fault(
        "names of holidays come from the machine",
        "connectors/public_holidays.py",
        "years=years, language=named",
        "years=years, language=language",
        "tests/connectors/test_public_holidays.py",
    ),
    Fault(
        "a sweep is never due again",
        "connectors/pump.py",
        "swept_at is None or abs(now - swept_at) >= every or",
        "swept_at is None or",
        PUMP,
    ),
    Fault(
        "a clock that was set back puts sweeps off",
        "connectors/pump.py",
        "abs(now - swept_at) >= every",
        "now - swept_at >= every",
        PUMP,
    ),
    Fault(
        "the sweep looks at ids only",
        "connectors/pump.py",
        "known is None or (mark.time is not None and mark.time != known.time)",
        "known is None",
        PUMP,
    ),
    Fault(
        "entries are made before the bus has acknowledged",
        "connectors/pump.py",
        '        if events:\n            self.bus.publish(events)\n            self.step(done)\n        if entries:\n            self.ledger.settle(self._source, self._epoch, entries)\n            self.step("settled")\n',
        '        if entries:\n            self.ledger.settle(self._source, self._epoch, entries)\n            self.step("settled")\n        if events:\n            self.bus.publish(events)\n            self.step(done)\n',
        PUMP,
    ),
    Fault(
        "a reader writes without its lease",
        "pmsync/store/ledger.py",
        "return and_(leases.c.source == source, leases.c.epoch == epoch)",
        "return and_(leases.c.source == source, leases.c.epoch >= epoch)",
        LEDGER,
    ),
    Fault(
        "a ledger entry goes back",
        "pmsync/store/ledger.py",
        "if entries[ref].version >= versions.get(ref, 0)}",
        "if entries[ref].version >= 0}",
        LEDGER,
    ),
    Fault(
        "a held message is claimed again",
        "pmsync/store/outbox.py",
        'and_(columns.state == "sending", columns.owner.in_(dead)))',
        'columns.state == "sending", columns.owner.in_(dead))',
        STORE,
    ),
    Fault(
        "a claim is not written",
        "pmsync/store/outbox.py",
        '                db.execute(counted, [{"taken": row.id} for row in run])\n',
        "",
        f"{STORE} -k claim",
    ),
    Fault(
        "a later message overtakes an earlier one",
        "pmsync/store/outbox.py",
        "select(outbox).where(outbox.c.id == head, mine, ",
        "select(outbox).where(mine, ",
        STORE,
    ),
    Fault(
        "a late sender calls back what was sent",
        "pmsync/store/outbox.py",
        '    outbox.c.attempts == bindparam("held_attempts"),\n',
        "",
        f"{STORE} -k too_slow",
    ),
    Fault(
        "a late sender calls back what another one is sending",
        "pmsync/store/outbox.py",
        '    outbox.c.owner == bindparam("held_owner"),\n    outbox.c.attempts == bindparam("held_attempts"),\n',
        "",
        f"{STORE} -k too_slow",
    ),
    Fault(
        "a run goes on behind what is not due",
        "pmsync/store/outbox.py",
        'lambda row: row.next_try <= until or (row.state == "sending" and row.owner in dead)',
        "lambda row: True",
        f"{STORE} -k run",
    ),
    Fault(
        "the waiting messages of a queue are searched for",
        "pmsync/store/tables.py",
        "WAITING = text(\"state IN ('ready', 'sending')\")",
        "WAITING = text(\"state NOT IN ('sent', 'dead')\")",
        f"{STORE} -k index",
    ),
    Fault(
        "the dead are waited for",
        "pmsync/store/outbox.py",
        "return [owner for owner in owners if is_dead(owner)]",
        "return [owner for owner in owners if not owner]",
        STORE,
    ),
    Fault(
        "a commit does not wait for the disk",
        "pmsync/bus/embedded.py",
        "PRAGMA synchronous=FULL",
        "PRAGMA synchronous=NORMAL",
        BUS,
    ),
    Fault(
        "a failed publication leaves its transaction open",
        "pmsync/bus/embedded.py",
        "if self._db.in_transaction:",
        "if False:",
        BUS,
    ),
    Fault(
        "a refused log-in kills the message",
        "pmsync/notify/senders.py",
        '            raise Unreachable(f"the mail server {where} refused the log-in',
        '            raise Undeliverable(f"the mail server {where} refused the log-in',
        MAIL,
    ),
    Fault(
        "a line break gets into a header",
        "pmsync/notify/senders.py",
        'mail["Subject"] = " ".join(message.subject.split())',
        'mail["Subject"] = message.subject',
        MAIL,
    ),
    Fault(
        "a failure ends with nought",
        "pmsync/cli.py",
        "sys.exit(cli.main(standalone_mode=False))",
        "cli.main(standalone_mode=False)",
        CLI,
    ),
    Fault(
        "a formula gets into a spreadsheet",
        "pmsync/export.py",
        'if isinstance(value, str) and value.lstrip(" \\"\'").startswith(_ACTIVE):',
        "if isinstance(value, str) and value.startswith(_ACTIVE):",
        CLI,
    ),
    Fault(
        "a container has no cursor before it is read",
        "connectors/pump.py",
        "for container in sorted(routes.keys() - cursors.keys()):",
        "for container in ():",
        PUMP,
    ),
    Fault(
        "one withheld container stops the others",
        "connectors/pump.py",
        "            except Withheld as problem:\n                self._withheld",
        "            except ZeroDivisionError as problem:\n                self._withheld",
        PUMP,
    ),
    Fault(
        "what moved in bulk is missing",
        "connectors/pump.py",
        " - {read.ref for read in there}\n",
        "\n",
        PUMP,
    ),
    Fault(
        "who may have got what cannot be read any more is forgotten",
        "connectors/pump.py",
        "told={**base.told, **maybe},",
        "told=base.told,",
        PUMP,
    ),
    Fault(
        "another log is published into",
        "pmsync/aggregator.py",
        "    if known and known != (found := bus.identity()):",
        "    if known and not (found := bus.identity()):",
        "tests/integration/test_app.py",
    ),
    Fault(
        "a partition never stops",
        "pmsync/bus/letters.py",
        "            if row >= IN_A_ROW:",
        "            if row < 0:",
        AGGREGATOR,
    ),
    Fault(
        "a connector's fault ends the process",
        "pmsync/app.py",
        "        except Exception as error:\n            # A connector",
        "        except ZeroDivisionError as error:\n            # A connector",
        "tests/integration/test_app.py",
    ),
    Fault(
        "a mapping forgets its beginning",
        "pmsync/configuration.py",
        "before.get(source, {}).get(container, version)",
        "version",
        CONFIG,
    ),
    Fault(
        "a message may be posted twice",
        "pmsync/store/state.py",
        "insert_new(self._db, outbox, posted)",
        "self._db.execute(outbox.insert(), posted)",
        STORE,
    ),
    Fault(
        "a clock that stands still loses the order of messages",
        "pmsync/store/state.py",
        "created_at = max(micros(now) or 0, (last or 0) + 1)",
        "created_at = micros(now) or 0",
        STORE,
    ),
    Fault(
        "who opens a new log with others is refused",
        "pmsync/sqlite.py",
        "if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > patience:",
        "if time.monotonic() > 0:",
        BUS,
    ),
    Fault(
        "two notifiers claim one message",
        "pmsync/store/outbox.py",
        "query.with_for_update(skip_locked=True)",
        "query",
        f"{STORE} -k notifiers_at_once",
    ),
    Fault(
        "a fence that is not locked",
        "pmsync/store/state.py",
        "db.execute(query.with_for_update()).one_or_none()",
        "db.execute(query).one_or_none()",
        POSTGRES,
    ),
    Fault(
        "two readers get one lease",
        "pmsync/store/ledger.py",
        ".where(leases.c.source == source).with_for_update())",
        ".where(leases.c.source == source))",
        f"{STORE} -k lease",
    ),
    Fault(
        "two starters migrate",
        "pmsync/store/engine.py",
        "            _alone(db)\n",
        "",
        f"{STORE} -k migrate_at_once",
    ),
    Fault(
        "a read sees two moments",
        "pmsync/store/engine.py",
        'isolation_level="REPEATABLE READ"',
        'isolation_level="READ COMMITTED"',
        f"{STORE} -k moment",
    ),
    Fault(
        "text is compared by the language of the database",
        "pmsync/store/migrations/versions/0001_begin.py",
        'BYTES = sa.Text(collation="C")',
        "BYTES = sa.Text()",
        f"{STORE} -k bytes",
    ),
    Fault(
        "a NUL reaches PostgreSQL",
        "pmsync/store/tables.py",
        '.replace("\\0", "\\x1b0") if',
        " if",
        f"{STORE} -k every_text",
    ),
    Fault(
        "an escape is mistaken for a NUL",
        "pmsync/store/tables.py",
        'value.replace("\\x1b", "\\x1b1").replace("\\0", "\\x1b0")',
        'value.replace("\\0", "\\x1b0")',
        f"{STORE} -k every_text",
    ),
    Fault(
        "an address gets two person ids",
        "pmsync/store/configuration.py",
        "return _ids(db, wanted)  #",
        'return {**known, **{row["mail"]: row["id"] for row in new}}  #',
        f"{STORE} -k person_id",
    ),
    Fault(
        "an address that nobody vouches for is certain",
        "pmsync/people.py",
        "certain=profile.verified and len(same) == 1",
        "certain=len(same) == 1",
        "tests/unit/test_whose.py",
    ),
    Fault(
        "a suggestion is linked unasked",
        "pmsync/cli.py",
        "        if confirm:\n            stands = app",
        "        if True:\n            stands = app",
        f"{PEOPLE} -k confirmed",
    ),
    Fault(
        "who is forgotten keeps the accounts",
        "pmsync/store/people.py",
        "            db.execute(delete(accounts).where(accounts.c.person == person))\n",
        "",
        f"{PEOPLE} -k forgotten",
    ),
    Fault(
        "who is forgotten keeps the name",
        "pmsync/store/people.py",
        "            db.execute(delete(people).where(people.c.id == person))\n",
        "",
        f"{PEOPLE} -k forgotten",
    ),
    Fault(
        "an account is given to who was forgotten",
        "pmsync/store/people.py",
        "{a: p for a, p in links.items() if p in known}",
        "dict(links)",
        f"{PEOPLE} -k meanwhile",
    ),
    Fault(
        "what is erased stays in the file",
        "pmsync/store/people.py",
        "PRAGMA secure_delete = ON",
        "PRAGMA secure_delete = OFF",
        f"{PEOPLE} -k leaves_the_file",
    ),
    Fault(
        "pages keep the names that they read",
        "pmsync/web/reader.py",
        "        return self._people.owners(accounts) if accounts else {}\n",
        "        kept = self.__dict__.setdefault('kept', {})\n"
        "        kept |= self._people.owners(accounts)\n"
        "        return kept\n",
        f"{PEOPLE} -k on_no_page",
    ),
    Fault(
        "two configurations are mixed",
        "pmsync/store/configuration.py",
        "            replacing(db, configuration)  # two at once would leave a mixture of both\n",
        "",
        f"{STORE} -k configurations",
    ),
    Fault(
        "what a store lost is skipped",
        "pmsync/aggregator.py",
        "            if owned.next_offset < asked:\n",
        "            if False:\n",
        f"{POSTGRES} -k went_back",
    ),
    Fault(
        "a restarted server costs a failure",
        "pmsync/store/engine.py",
        "pool_pre_ping=True",
        "pool_pre_ping=False",
        f"{POSTGRES} -k cut",
    ),
    Fault(
        "a stopped owner holds its partition",
        "pmsync/store/engine.py",
        '        "idle_in_transaction_session_timeout": IDLE_SECONDS,\n',
        "",
        f"{POSTGRES} -k for_ever",
    ),
    Fault(
        "a newer database is migrated",
        "pmsync/store/engine.py",
        "            if known and known > _head():\n                raise",
        "            if False:\n                raise",
        f"{STORE} -k newer",
    ),
    Fault(
        "a password in the file is taken",
        "pmsync/config.py",
        '"store.url" not in places.variables and',
        "False and",
        CONFIG,
    ),
    Fault(
        "Kafka's acknowledgement is not waited for",
        "pmsync/bus/apache_kafka.py",
        "                    each.get(timeout=max(0.0, deadline - time.monotonic()))\n",
        "                    pass\n",
        f"{KAFKA} -k went_down",
    ),
    Fault(
        "a producer that gave up is kept",
        "pmsync/bus/apache_kafka.py",
        "                self._drop(producer)\n                raise\n",
        "                raise\n",
        f"{KAFKA} -k outlasts",
    ),
    Fault(
        "a producer's thread outlives it",
        "pmsync/bus/apache_kafka.py",
        "        producer._sender.force_close()\n",
        "",
        f"{KAFKA} -k dropped",
    ),
    Fault(
        "Kafka chooses the partition",
        "pmsync/bus/apache_kafka.py",
        "producer.send(name, value, record.key.encode(), said, place)",
        "producer.send(name, value, record.key.encode(), said)",
        f"{KAFKA} -k key_decides",
    ),
    Fault(
        "what is less replaces what is greater",
        "pmsync/store/state.py",
        "WHERE (excluded.version, excluded.gone, excluded.body) > ({0}.version, {0}.gone, {0}.body)\n",
        "WHERE true\n",
        f"{STORE} -k greatest",
    ),
    Fault(
        "what is folded during an assessment is not assessed",
        "pmsync/store/state.py",
        '"dirty": due.c.changed != changed',
        '"dirty": False',
        f"{STORE} {AGGREGATOR}",
    ),
    Fault(
        "an instant of another zone stays in its zone",
        "pmsync/core/claims.py",
        "        if kind.in_utc(content):\n",
        "        if True:\n",
        "tests/unit/test_claims.py",
    ),
    Fault(
        "a limit of the vocabulary is not kept by the quick reader",
        "pmsync/core/claims.py",
        'meta["ge"] = least',
        "pass",
        "tests/unit/test_claims.py",
    ),
    Fault(
        "what is nested too deeply ends the worker",
        "pmsync/core/claims.py",
        "(KeyError, ValueError, RecursionError, OverflowError)",
        "(KeyError, ValueError)",
        "tests/unit/test_claims.py",
    ),
    Fault(
        "what another thread leaves is never dropped",
        "pmsync/aggregator.py",
        "            if self._epochs.get(partition) == epoch:\n",
        "            if False:\n",
        AGGREGATOR,
    ),
    Fault(
        "what stands still keeps all from being assessed",
        "pmsync/aggregator.py",
        " - set(self.stopped)\n",
        "\n",
        AGGREGATOR,
    ),
    Fault(
        "a dead member keeps its share",
        "pmsync/bus/embedded.py",
        "seconds > SILENCE_SECONDS or is_dead(name)",
        "seconds > SILENCE_SECONDS",
        BUS,
    ),
    Fault(
        "a silent member keeps its share",
        "pmsync/bus/embedded.py",
        "seconds > SILENCE_SECONDS or is_dead(name)",
        "is_dead(name)",
        BUS,
    ),
    Fault(
        "one partition goes first for ever",
        "pmsync/bus/embedded.py",
        "self._turn = partition + 1",
        "self._turn = 0",
        BUS,
    ),
    Fault(
        "the reader on Kafka goes on where it is",
        "pmsync/bus/apache_kafka.py",
        "            if before.get(place) != offset:\n",
        "            if place not in before:\n",
        f"{KAFKA} -k begins_at_its_offset",
    ),
    Fault(
        "what was removed from Kafka is leapt over",
        "pmsync/bus/apache_kafka.py",
        'auto_offset_reset="none"',
        'auto_offset_reset="earliest"',
        f"{KAFKA} -k leapt_over",
    ),
    Fault(
        "silence of Kafka is an empty log",
        "pmsync/bus/apache_kafka.py",
        "            if self._end(partition) <= offset:\n",
        "            if True:\n",
        f"{KAFKA} -k went_down",
    ),
    Fault(
        "another number of partitions is put up with",
        "pmsync/bus/apache_kafka.py",
        "        if found != self.partitions:\n",
        "        if False:\n",
        f"{KAFKA} -k another_number",
    ),
    Fault(
        "an assignment between two rounds is missed",
        "pmsync/bus/apache_kafka.py",
        "        _ask_again(consumer)\n",
        "",
        f"{KAFKA} -k between_two_rounds",
    ),
    Fault(
        "a client that could not connect tries for ever",
        "pmsync/bus/cluster.py",
        "                    each.close()\n",
        "                    pass\n",
        f"{KAFKA} -k no_thread",
    ),
    Fault(
        "partitions of a leaver are not taken",
        "pmsync/aggregator.py",
        "        if taken := assigned - mine:\n",
        "        if (taken := assigned - mine) and not mine:\n",
        PARITY,
    ),
    Fault(
        "a type breaks its readers",
        "pmsync/core/events.py",
        "    created_at: Instant\n    status: str\n",
        "    created_at: Instant\n    status: str = ''\n",
        f"{SCHEMAS} -k only_grows",
    ),
    Fault(
        "the model takes what the schema refuses",
        "pmsync/core/cloudevents.py",
        "    source: Name\n",
        "    source: Any = None\n",
        f"{SCHEMAS} -k wrong_type",
    ),
    Fault(
        "a batch of events is taken for one",
        "pmsync/core/cloudevents.py",
        "    if media.startswith(_BATCH):",
        "    if False:",
        CLOUDEVENTS,
    ),
    Fault(
        "the data's type is not looked at",
        "pmsync/core/cloudevents.py",
        "    if not re.fullmatch(_JSON, value):",
        "    if False:",
        CLOUDEVENTS,
    ),
    Fault(
        "any text is a trace",
        "pmsync/core/cloudevents.py",
        "return value if isinstance(value, str) and re.fullmatch(_TRACEPARENT, value) else None",
        "return value if isinstance(value, str) else None",
        CLOUDEVENTS,
    ),
    Fault(
        "the type of an envelope need not be that of its data",
        "pmsync/core/events.py",
        "    if type_of(event) != context.type:",
        "    if False:",
        CLOUDEVENTS,
    ),
    Fault(
        "an event is folded wherever it lies",
        "pmsync/folding.py",
        "!= record.partition:",
        "< 0:",
        f"{AGGREGATOR} -k wrong_partition",
    ),
    Fault(
        "a dead letter loses its headers",
        "pmsync/bus/letters.py",
        "        headers=tuple(record.headers),\n",
        "",
        f"{AGGREGATOR} -k keeps_headers",
    ),
    Fault(
        "a replay loses the headers",
        "pmsync/dead_letters.py",
        "[Record(letter.key, letter.raw, letter.headers)]",
        "[Record(letter.key, letter.raw)]",
        f"{AGGREGATOR} -k keeps_headers",
    ),
    Fault(
        "headers given on Kafka are lost",
        "pmsync/bus/apache_kafka.py",
        "list(record.headers) or headers\n",
        "headers\n",
        f"{KAFKA} -k headers_come_back",
    ),
    Fault(
        "an old embedded log gets no headers",
        "pmsync/bus/embedded.py",
        '        db.execute("ALTER TABLE log ADD COLUMN headers TEXT")\n',
        "        pass\n",
        f"{BUS} -k before_headers",
    ),
    Fault(
        "a container is read outside of its own trace",
        "connectors/pump.py",
        "                with self.reading(container):\n",
        "                with nullcontext():\n",
        f"{PUMP} -k read_apart",
    ),
    Fault(
        "what is published has no trace",
        "pmsync/bus/publisher.py",
        "encode(event, current())",
        "encode(event)",
        "tests/integration/test_app.py -k each_read",
    ),
    Fault(
        "a log that lost its beginning is read on",
        "pmsync/aggregator.py",
        "if (begin := bus.begin_offset(EVENTS, partition)) > offset:",
        "if (begin := bus.begin_offset(EVENTS, partition)) > offset + 1000:",
        "tests/integration/test_kafka_topics.py",
    ),
    Fault(
        "a connector's successor starts beside it",
        "deploy/chart/templates/connectors.yaml",
        "    type: Recreate\n",
        "    type: RollingUpdate\n",
        f"{CHART} -k single_reader",
    ),
    Fault(
        "aggregators have no name of their own",
        "deploy/chart/templates/aggregator.yaml",
        ' "member" true',
        "",
        f"{CHART} -k keeps_its_name",
    ),
    Fault(
        "every role sees the tokens of sources",
        "deploy/chart/templates/web.yaml",
        '"secrets" .Values.existingSecrets',
        '"secrets" (concat .Values.existingSecrets (values .Values.connectors.existingSecrets | first | default list))',
        f"{CHART} -k own_secrets",
    ),
    Fault(
        "a change of projects restarts every role",
        "deploy/chart/templates/_helpers.tpl",
        'omit $root.Values.config "projects" "people" | toJson',
        "$root.Values.config | toJson",
        f"{CHART} -k starts_nothing_anew",
    ),
    Fault(
        "the chart sets a variable that pmsync does not know",
        "deploy/chart/templates/_helpers.tpl",
        "  - name: PMSYNC_WEB__PORT\n",
        "  - name: PMSYNC_WEB__POTR\n",
        f"{CHART} -k the_environment",
    ),
    Fault(
        "the schema lets an unknown value pass",
        "deploy/chart/values.schema.json",
        '  "required": ["config"],\n  "additionalProperties": false,\n',
        '  "required": ["config"],\n',
        f"{CHART} -k refused",
    ),
    Fault(
        "compose opens the pages to the network",
        "deploy/compose.yaml",
        '"127.0.0.1:8080:8080"',
        '"8080:8080"',
        COMPOSE,
    ),
    Fault(
        "compose's Kafka wants three brokers for a group",
        "deploy/compose.yaml",
        "      KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR: 1\n",
        "",
        f"{COMPOSE} -k serves_pmsync",
    ),
    Fault(
        "the image takes packages without their hashes",
        "deploy/Dockerfile",
        "install --no-compile --require-hashes -r",
        "install --no-compile -r",
        IMAGE,
    ),
    Fault(
        "the same figures are told again and again",
        "pmsync/outputs.py",
        "        if said.digest() == last:\n",
        "        if False:\n",
        f"{OUTPUTS} -k differ",
    ),
    Fault(
        "the instant of a tick is part of the figures",
        "pmsync/core/outputs.py",
        'self.model_dump_json(exclude={"assessed_at"})',
        "self.model_dump_json()",
        f"tests/unit/test_outputs.py {OUTPUTS} -k digest",
    ),
    Fault(
        "what was told last is forgotten",
        "pmsync/store/state.py",
        ".values(metrics=digest))",
        ".values(metrics=due.c.metrics))",
        f"{OUTPUTS} -k differ",
    ),
    Fault(
        "figures that nobody sent pile up",
        "pmsync/store/state.py",
        '        self._db.execute(delete(outbox).where(*same, outbox.c.state == "ready"))\n',
        "",
        f"{OUTPUTS} -k nobody_has_sent",
    ),
    Fault(
        "a project that is gone keeps its figures",
        "pmsync/aggregator.py",
        "            gone = self._outputs.removed(project, now, look.metrics) if state is None else None\n",
        "            gone = None\n",
        f"{OUTPUTS} -k gone",
    ),
    Fault(
        "what is for others is given up while the log is away",
        "pmsync/notify/topics.py",
        "gives_up=False",
        "gives_up=True",
        f"{OUTPUTS} -k however_long",
    ),
    Fault(
        "one that no log takes holds up its run",
        "pmsync/notify/notifier.py",
        "            if len(run) > 1:  # one of them; each by itself shows which\n",
        "            if False:\n",
        f"{OUTPUTS} -k no_log_takes",
    ),
    Fault(
        "what was published is noted before it is",
        "pmsync/notify/notifier.py",
        "            sender.send(run)\n",
        "            self._outbox.sent(run, keep=manner.keep)\n            sender.send(run)\n",
        OUTPUTS,
    ),
    Fault(
        "what was published is never noted",
        "pmsync/notify/notifier.py",
        "            self._outbox.sent(run, keep=manner.keep)\n",
        "",
        f"{OUTPUTS} -k killed",
    ),
    Fault(
        "two lines of the alert log have one id",
        "pmsync/core/outputs.py",
        'f"{said.project}/{said.fingerprint}/{said.n}@{version_at(said.at)}"',
        'f"{said.project}/{said.fingerprint}@{version_at(said.at)}"',
        "tests/unit/test_outputs.py",
    ),
    Fault(
        "the embedded log keeps what was replaced",
        "pmsync/bus/embedded.py",
        "                if topic in COMPACTED:\n",
        "                if False:\n",
        f"{BUS} -k grow",
    ),
    Fault(
        "the embedded log drops what was not replaced",
        "pmsync/bus/embedded.py",
        '        _REMOVE + " AND key = ?",\n',
        "        _REMOVE + \" AND ? <> ''\",\n",
        f"{BUS} -k newest",
    ),
    Fault(
        "a project that is gone is an empty document on Kafka",
        "pmsync/bus/apache_kafka.py",
        "nothing = None if topic in COMPACTED else b",
        "nothing = b",
        f"{KAFKA} -k ends_a_key",
    ),
    Fault(
        "a rebuild leaves rows that the log does not have",
        "pmsync/store/rebuilds.py",
        "            removed += self._db.execute(delete(state).where(*_surplus(project))).rowcount\n",
        "",
        REBUILD,
    ),
    Fault(
        "a rebuild begins with what a dead one left",
        "pmsync/rebuild.py",
        '        self._store.empty(partition)\n        self._step("emptied")\n',
        '        self._step("emptied")\n',
        f"{REBUILD} -k dead_rebuild",
    ),
    Fault(
        "a rebuild flips before it has folded what the owner has",
        "pmsync/rebuild.py",
        "            unreadable = self._unreadable + self._rest(partition, ours, live, dry_run=dry_run)\n",
        "            unreadable = self._unreadable\n",
        f"{REBUILD} -k goes_on",
    ),
    Fault(
        "a rebuild folds more than its owner has",
        "pmsync/rebuild.py",
        "        end = self._state.offsets()[partition]\n",
        "        end = self._bus.end_offset(EVENTS, partition)\n",
        f"{REBUILD} -k folded_for_it",
    ),
    Fault(
        "two rebuild at once",
        "pmsync/store/rebuilds.py",
        "if held.expires_at > (micros(now) or 0) and",
        "if not held.partition and",
        f"{REBUILD} -k second_of_two",
    ),
    Fault(
        "a rebuild that was taken over goes on",
        "pmsync/store/rebuilds.py",
        "here = and_(rebuilds.c.partition == partition, rebuilds.c.owner == self._owner)",
        "here = rebuilds.c.partition == partition",
        f"{REBUILD} -k taken_over",
    ),
    Fault(
        "a rebuild buries again what was discarded",
        "pmsync/bus/letters.py",
        "new = {letter.id: letter for letter in letters if letter.id not in known}",
        "new = {letter.id: letter for letter in letters}",
        f"{REBUILD} -k discarded",
    ),
    Fault(
        "what was rebuilt is not assessed",
        "pmsync/store/rebuilds.py",
        "        mark_dirty(self._db, self._partition, projects, -edition)  # offsets are the other changes' numbers\n",
        "            unreadable = self._unreadable\n",
        f"{REBUILD} -k assessed_again",
    ),
    Fault(
        "a move forgets what was shown",
        "pmsync/store/moves.py",
        "alert_log, outbox, due",
        "alert_log, outbox",
        f"{MOVE} -k told_again",
    ),
    Fault(
        "a move forgets the last tick",
        "pmsync/store/moves.py",
        "ticked_at = here.scalar(select(func.max(partitions.c.ticked_at))) or 0",
        "ticked_at = 0",
        f"{MOVE} -k told_again",
    ),
    Fault(
        "a moved project keeps its partition",
        "pmsync/store/moves.py",
        "if table is due else row",
        "if not table.columns else row",
        f"{MOVE} -k told_again",
    ),
    Fault(
        "what the target's log has is believed",
        "pmsync/move.py",
        "any((a.key, a.value) != (b.key, b.value) for a, b in zip(found, expected, strict=False))",
        "len(found) > len(expected)",
        f"{MOVE} -k way",
    ),
    Fault(
        "what the target's log has too much is believed",
        "pmsync/move.py",
        "if more := [n for n in ends if ends[n] > places[n]]:",
        "if more := [n for n in ends if ends[n] > places[n] + 99]:",
        f"{MOVE} -k way",
    ),
    Fault(
        "a move appends what is there",
        "pmsync/move.py",
        "missing += records[known:]",
        "missing += records",
        f"{MOVE} -k run_again",
    ),
    Fault(
        "a live installation is moved",
        "pmsync/move.py",
        '        yield from (f"{who}: stop it, or wait until its time has run out" for who in self._from.running())\n',
        "",
        f"{MOVE} -k way",
    ),
    Fault(
        "a log that grows is not noticed",
        "pmsync/move.py",
        "        if _ends(old) != ends:\n",
        "        if len(_ends(old)) != len(ends):\n",
        f"{MOVE} -k grows",
    ),
    Fault(
        "who still works with a moved store is not fenced",
        "pmsync/store/moves.py",
        "            db.execute(update(partitions).values(epoch=partitions.c.epoch + 1))\n",
        "",
        f"{MOVE} -k until_that",
    ),
    Fault(
        "who still reads for a moved store is not fenced",
        "pmsync/store/moves.py",
        "values(epoch=leases.c.epoch + 1, expires_at=0)",
        "values(expires_at=0)",
        f"{MOVE} -k until_that",
    ),
    Fault(
        "a moved store is folded into",
        "pmsync/store/state.py",
        "            refuse_moved(db)  # now",
        "            # now",
        f"{MOVE} -k until_that",
    ),
    Fault(
        "a moved store is published for",
        "pmsync/store/state.py",
        "            refuse_moved(db)\n            insert_new(",
        "            insert_new(",
        f"{MOVE} -k until_that",
    ),
    Fault(
        "a moved store is read for",
        "pmsync/store/ledger.py",
        "            refuse_moved(db)\n            epoch =",
        "            epoch =",
        f"{MOVE} -k until_that",
    ),
    Fault(
        "a moved store takes hints",
        "pmsync/store/ledger.py",
        "            refuse_moved(db)\n            insert =",
        "            insert =",
        f"{MOVE} -k until_that",
    ),
    Fault(
        "a moved store sends",
        "pmsync/store/outbox.py",
        "                refuse_moved(db)\n",
        "",
        f"{MOVE} -k until_that",
    ),
    Fault(
        "a role starts on a moved store",
        "pmsync/service.py",
        "                check_moved(app.store)\n",
        "",
        "tests/acceptance/test_move.py",
    ),
    Fault(
        "a store that is being filled is worked with",
        "pmsync/move.py",
        "        self._into.fill(here, self._old.place)\n",
        "        self._new.store.migrate()\n",
        f"{MOVE} -k until_it",
    ),
    Fault(
        "health: silence counts as health",
        "pmsync/health.py",
        "> SILENT_SECONDS:",
        "> 1e9:",
        HEALTH,
    ),
    Fault(
        "health: every try is logged",
        "pmsync/health.py",
        "            news = reason not in self._said\n",
        "            news = True\n",
        HEALTH,
    ),
    Fault(
        "health: a partition that stands still is no reason",
        "pmsync/app.py",
        "            elif self.health.waits(part, stopped[partition]):\n",
        "            elif True:\n",
        APP,
    ),
    Fault(
        "health: ready before anything was looked at",
        "pmsync/health.py",
        '{STARTING: "it is starting"}',
        "{}",
        f"{HEALTH} {APP}",
    ),
    Fault(
        "health: a round that failed counts as read",
        "pmsync/app.py",
        """        finally:
            self.health.metrics.published""",
        """        finally:
            self.freshness.read(source, self._wall())
            self.health.metrics.published""",
        APP,
    ),
    Fault(
        "health: who runs is not content with newer tables",
        "pmsync/store/engine.py",
        "return None if running else _too_new(known)",
        "return _too_new(known)",
        STORE,
    ),
    Fault(
        "health: a role that starts too early ends",
        "pmsync/service.py",
        "        except (StoreUnavailable, BusUnavailable, ConnectorError) as error:\n",
        "        except ConnectorError as error:\n",
        CLEAN_STARTS,
    ),
    Fault(
        "health: a backlog is folded to its end before a process ends",
        "pmsync/app.py",
        "if name in MAY_END and self._stop.is_set():",
        "if False and self._stop.is_set():",
        "tests/acceptance/test_clean_starts.py -k backlog",
    ),
    Fault(
        "health: the producer takes everything at once",
        "pmsync/bus/apache_kafka.py",
        "if end > begin and size + len(record.value) > WINDOW_BYTES:",
        "if end < begin:",
        f"{KAFKA} -k whole",
    ),
    Fault(
        "health: a file that is not there is tried again and again",
        "pmsync/buses.py",
        "    _check_files(security)\n",
        "",
        "tests/integration/test_kafka_security.py -k files_that_are_wrong",
    ),
    Fault(
        "a zombie's batch is taken",
        "pmsync/store/state.py",
        "if found is None or found.epoch != epoch:",
        "if found is None:",
        f"{CRASHES} -k zombie_aggregator[embedded-C19]",
    ),
    Fault(
        "a kill leaves half a batch",
        "pmsync/aggregator.py",
        "            next_offset = fold_into(owned, claims, batch[-1].offset + 1)\n",
        "            next_offset = batch[-1].offset + 1\n            fold_into(owned, claims, owned.next_offset)\n        with self._store.owned(partition, self._epochs[partition]) as owned:\n            owned.save({}, next_offset)\n",
        f"{CRASHES} -k killed_aggregator[embedded-C15]",
    ),
    Fault(
        "what was under way at a kill stays so",
        "connectors/pump.py",
        "        self._publish_pending()\n",
        "",
        f"{CRASHES} -k what_goes[embedded]",
    ),
    Fault(
        "a torn log is believed",
        "pmsync/bus/embedded.py",
        "            write_ahead(self._db)\n",
        '            self._db.execute("PRAGMA journal_mode=MEMORY")\n',
        f"{CRASHES} -k torn_log",
    ),
    Fault(
        "a hint is struck before it is fetched",
        "connectors/pump.py",
        "                self._publish(self._hinted(noted))\n                self.ledger.heed(self._source, self._epoch, noted)\n",
        "                self.ledger.heed(self._source, self._epoch, noted)\n                self._publish(self._hinted(noted))\n",
        PUMP,
    ),
    Fault(
        "a hint that came again is struck",
        "pmsync/store/ledger.py",
        'for name in ("kind", "id", "at")]',
        'for name in ("kind", "id")]',
        LEDGER,
    ),
    Fault(
        "hints wait for the end of a listing",
        "connectors/pump.py",
        "            asked = self._settle_listed(page)\n            self._take_hints()\n",
        "            asked = self._settle_listed(page)\n",
        PUMP,
    ),
    Fault(
        "hints wait for the end of a sweep",
        "connectors/pump.py",
        "            there |= {mark.ref: mark for mark in page}\n            self._take_hints()\n",
        "            there |= {mark.ref: mark for mark in page}\n",
        PUMP,
    ),
    Fault(
        "hints are believed that much is gone",
        "connectors/pump.py",
        "if not (many and read.ref in missing)]",
        "]",
        PUMP,
    ),
    Fault(
        "a capped source is not rested",
        "connectors/pump.py",
        "                self._rest(len(page) + asked, began)\n",
        "                pass\n",
        PUMP,
    ),
    Fault(
        "what is fetched by id is not rested for",
        "connectors/pump.py",
        "            self._fetch(some)\n            self._rest(len(some), began)\n",
        "            self._fetch(some)\n",
        PUMP,
    ),
    Fault(
        "a rest is beside the time that reading took",
        "connectors/pump.py",
        "        until = began + min(",
        "        until = self.monotonic() + min(",
        PUMP,
    ),
    Fault(
        "a reader rests before its cursor moves",
        "connectors/pump.py",
        "            asked = self._settle_listed(page)\n            self._take_hints()\n",
        "            asked = self._settle_listed(page)\n            if number or cursor.swept_at is None:\n                self._rest(len(page) + asked, began)\n            self._take_hints()\n",
        PUMP,
    ),
    Fault(
        "a poll is rested for",
        "connectors/pump.py",
        "            if number or cursor.swept_at is None:\n",
        "            if True:\n",
        PUMP,
    ),
    Fault(
        "hints wait for the end of a rest",
        "connectors/pump.py",
        "  # every write renews the lease\n            self._take_hints()\n",
        "\n",
        PUMP,
    ),
    Fault(
        "a lease ends while its reader rests",
        "connectors/pump.py",
        "            self.ledger.heed(self._source, self._epoch, {})  # every write renews the lease\n",
        "",
        PUMP,
    ),
    Fault(
        "what came back while it rested is buried",
        "connectors/pump.py",
        " if entries.get(ref) == gone[ref]])",
        "])",
        PUMP,
    ),
    Fault(
        "no source is capped",
        "pmsync/app.py",
        "            things_per_minute=self._settings(reader.name).things_per_minute if reader.name != CONFIGURATION else None,\n",
        "",
        f"{APP} -k capped",
    ),
    Fault(
        "the end waits for a rest",
        "pmsync/app.py",
        "            wait=self._stop.wait,\n",
        "",
        f"{APP} -k capped",
    ),
    Fault(
        "of a page in a minute no time that is left is known",
        "pmsync/cli.py",
        ", speed_estimate_period=2 * LONGEST_WAIT)",
        ")",
        f"{CLI} -k left",
    ),
    Fault(
        "a hint of a container that nobody maps is fetched",
        "connectors/pump.py",
        'if ref in known or each.container in {"", *self._routes}]',
        "]",
        PUMP,
    ),
    Fault(
        "a signature is not looked at",
        "pmsync/web/intake.py",
        "        if secret is not None and not is_signed(secret, body, signature):\n",
        "        if False:\n",
        INTAKE,
    ),
    Fault(
        "SHA-1 signs",
        "connectors/webhooks.py",
        '    "sha512": hashlib.sha512,\n',
        '    "sha512": hashlib.sha512,\n    "sha1": hashlib.sha1,\n',
        "tests/connectors/test_webhooks.py",
    ),
    Fault(
        "a source without a secret takes anything",
        "pmsync/web/intake.py",
        '        raise NotTaken("closed")\n',
        "        return None\n",
        INTAKE,
    ),
    Fault(
        "a webhook is answered before it is kept",
        "pmsync/web/intake.py",
        "                self._keep(source, heard.hints)\n",
        "                __import__('threading').Timer(1, self._keep, (source, heard.hints)).start()\n",
        INTAKE,
    ),
    Fault(
        "what a body held in memory is never given back",
        "pmsync/web/intake.py",
        "            self._at_once -= 1\n",
        "            self._at_once -= 0\n",
        f"{INTAKE} -k forged_bodies",
    ),
    Fault(
        "the loop looks for no hints between its rounds",
        "pmsync/app.py",
        "                    wait = left if source == CONFIGURATION else min(HINT_SECONDS, left)\n",
        "                    wait = left\n",
        "tests/acceptance/test_webhooks.py -k before_the_next_round",
    ),
    Fault(
        "redelivery: what was taken at last is asked for again",
        "connectors/github_deliveries.py",
        "        and not any(each.is_taken for each in tries)\n",
        "        and not tries[0].is_taken\n",
        DELIVERIES,
    ),
    Fault(
        "redelivery: what fails is asked for without end",
        "connectors/github_deliveries.py",
        "        and len(tries) < MOST_ATTEMPTS\n",
        "",
        DELIVERIES,
    ),
    Fault(
        "redelivery: webhooks of others are asked for",
        "connectors/github_redelivery.py",
        " and webhooks.leads_to(url, self._source):\n                        yield Hook(self",
        ":\n                        yield Hook(self",
        DELIVERIES,
    ),
    Fault(
        "redelivery: webhooks that may not be read are a failure",
        "connectors/github_redelivery.py",
        "        with suppress(Withheld):\n            for page in",
        "        with suppress(Missing):\n            for page in",
        DELIVERIES,
    ),
    Fault(
        "redelivery: each time all pages are looked at",
        "connectors/github_redelivery.py",
        "        self._unsettled[hook.path] = missed.since\n",
        "",
        DELIVERIES,
    ),
    Fault(
        "redelivery: its failure keeps a round from reading",
        "pmsync/app.py",
        "        except ConnectorError as error:\n            log.warning(failed",
        "        except KeyError as error:\n            log.warning(failed",
        "tests/integration/test_app.py -k missed_is_asked",
    ),
    Fault(
        "consent: a token is spent before there is room for the next",
        "connectors/jira_consent.py",
        "                _write(new, bytes(ROOM))\n",
        "                pass\n",
        f"{CONSENT} -k cannot_be_replaced",
    ),
    Fault(
        "consent: a token is used before it is kept",
        "connectors/jira_consent.py",
        "                    replace(kept)\n",
        "",
        CONSENT,
    ),
    Fault(
        "consent: each process renews for itself",
        "connectors/jira_consent.py",
        "                if not self._is_good(kept, now):\n",
        "                if True:\n",
        f"{CONSENT} -k was_faster",
    ),
    Fault(
        "consent: who lacks a scope rotates with each poll",
        "connectors/jira_consent.py",
        ' and b"scope" not in response.content[:LOOKED_AT]',
        "",
        f"{CONSENT} -k lacks_a_scope",
    ),
    Fault(
        "consent: what is refused is renewed again and again",
        "connectors/jira_consent.py",
        " and now - kept.issued_at >= LEEWAY\n",
        "\n",
        f"{CONSENT} -k now_and_then",
    ),
    Fault(
        "sign-in: an answer to anything will do",
        "pmsync/sign_in.py",
        '    if not hmac.compare_digest(given.encode(errors="replace"), state.encode()):\n',
        "    if not hmac.compare_digest(state.encode(), state.encode()):\n",
        SIGN_IN,
    ),
    Fault(
        "registration: a webhook is renewed when it is over",
        "connectors/jira_dynamic.py",
        " or hook.until - now < life / 2\n",
        " or hook.until <= now\n",
        REGISTRATION,
    ),
    Fault(
        "registration: webhooks of others are removed",
        "connectors/jira_dynamic.py",
        "    return webhooks.leads_to(hook.url, source) if hook.url else",
        "    return True if hook.url else",
        REGISTRATION,
    ),
    Fault(
        "registration: what is over counts as there",
        "connectors/jira_dynamic.py",
        " and not is_over(each, now)\n",
        "\n",
        REGISTRATION,
    ),
    Fault(
        "registration: an old address is left where a new one is wanted",
        "connectors/jira_dynamic.py",
        "    return Plan(before=_ids(moved), register",
        "    return Plan(register",
        f"{REGISTRATION} -k another_address",
    ),
    Fault(
        "boards: a card that changed last moves the cursor over issues that no page has shown",
        "connectors/github.py",
        "            taken = [each for each in held if is_by(each.read, newest)]\n",
        "            taken, held = held, []\n",
        BOARDS,
    ),
    Fault(
        "boards: a right that is lost blanks dates",
        "connectors/github_boards.py",
        "                if name not in self._known or (isinstance(error, Retryable) and error.after is not None):\n",
        "                if isinstance(error, Retryable):\n",
        BOARDS,
    ),
    Fault(
        "boards: a right that is lost keeps issues from being read",
        "connectors/github_boards.py",
        "                if name not in self._known or (isinstance(error, Retryable) and error.after is not None):\n",
        "                if True:\n",
        BOARDS,
    ),
    Fault(
        "boards: what is missing in one reading is gone",
        "connectors/github_boards.py",
        "            if board.pages == 1 or gone == set() or (gone is not None and gone == missing):\n",
        "            if gone is not None or board.pages == 1:\n",
        BOARDS,
    ),
    Fault(
        "boards: what left one is not noticed",
        "connectors/github_boards.py",
        "            self._differing.setdefault(repository, set()).update(differing)\n",
        "            self._differing.setdefault(repository, set())\n",
        BOARDS,
    ),
    Fault(
        "boards: a status' history with gaps is believed",
        "connectors/github_things.py",
        "lanes[step.lane] != _put((), event.left)",
        "not lanes",
        BOARDS,
    ),
    Fault(
        "sprints: without a history everything was committed",
        "pmsync/core/measures/sprints.py",
        "    began = sprint.starts_at if is_told and stage.state",
        "    began = sprint.starts_at if stage.state",
        "tests/unit/test_sprints.py",
    ),
    Fault(
        "reconcile: what is older here is equal",
        "pmsync/reconcile.py",
        'return "" if known.digest == digest(read.content) else OLD',
        'return ""',
        HINTED,
    ),
    Fault(
        "reconcile: what is gone is not named",
        "pmsync/reconcile.py",
        '        return GONE if is_here else ""\n',
        '        return ""\n',
        HINTED,
    ),
    Fault(
        "reconcile: what a listing shows late is a difference",
        "pmsync/reconcile.py",
        "            if what := _what(reads.get(ref, Read(ref)), entries.get(ref), container):\n",
        "            if what := _what(reads.get(ref, Read(ref)), entries.get(ref), container) or OLD:\n",
        HINTED,
    ),
    Fault(
        "reconcile repairs unasked",
        "pmsync/cli.py",
        "        if repair:\n            for each in found:\n",
        "        if found:\n            for each in found:\n",
        HINTED,
    ),
    Fault(
        "the example pages by number",
        EXAMPLE,
        "(1, set(), last) if since is None or last > since else (page + 1, seen, since)",
        "(page + 1, seen, since)",
        THIRD_PARTY,
    ),
    Fault("the example's errors are fatal", EXAMPLE, " or status >= 500:", ":", THIRD_PARTY),
    Fault(
        "the example tells its token",
        EXAMPLE,
        'f"{what}: {advice}"',
        'f"{what}: {advice} {self._session.headers}"',
        THIRD_PARTY,
    ),
    Fault("the example follows a redirect", EXAMPLE, "allow_redirects=False", "allow_redirects=True", THIRD_PARTY),
    Fault("the example believes half a history", EXAMPLE, "whole = states", "whole = True or states", THIRD_PARTY),
    Fault(
        "only the first address of a host is looked at",
        "connectors/guard.py",
        "    for each in found:\n",
        "    for each in found[:1]:\n",
        GUARD,
    ),
    Fault(
        "a guarded name is looked up again to connect",
        "connectors/guard.py",
        "create_connection((place, self.port)",
        "create_connection((self.host, self.port)",
        GUARD,
    ),
    Fault(
        "an IPv4 address in an IPv6 one is not looked at",
        "connectors/guard.py",
        "return refusal(IPv4Address(int(address) & 0xFFFFFFFF))",
        "return None",
        GUARD,
    ),
    Fault(
        "a guarded request goes by a proxy",
        "connectors/guard.py",
        '{**options, "proxies": None}',
        "options",
        GUARD,
    ),
    Fault(
        "any port is asked because an answer says so",
        "connectors/guard.py",
        "    if port not in PORTS:\n",
        "    if port == 0:\n",
        GUARD,
    ),
    Fault(
        "a redirect to another host is not guarded",
        "connectors/ways.py",
        "(self.own if at_home else self.strange)",
        "self.own",
        GUARD,
    ),
    Fault(
        "a redirect to another host takes the password along",
        "connectors/ways.py",
        "auth=auth if at_home else anonymous",
        "auth=auth",
        "tests/connectors/test_calendar.py",
    ),
    Fault(
        "google: a whole list forgets nothing",
        "connectors/google_calendar.py",
        "merged({} if whole else self.series,",
        "merged(self.series,",
        GOOGLE,
    ),
    Fault(
        "google: a series outlives its deletion",
        "connectors/google_calendar.py",
        "            parts.clear()\n",
        "            parts.pop(each.id, None)\n",
        GOOGLE,
    ),
    Fault(
        "google: a lost place stays lost",
        "connectors/google_calendar.py",
        "answer.status in {400, 410} and",
        "answer.status in {400} and",
        GOOGLE,
    ),
    Fault(
        "google: half the pages count",
        "connectors/google_calendar.py",
        "            listing.events |= {each.id: each for each in map(told, got.items)}\n",
        "            listing.events |= {each.id: each for each in map(told, got.items)}\n            self._kept[container].take(container, listing, False, scope, feed_meter()) if since else None\n",
        GOOGLE,
    ),
    Fault(
        "google: everything is read again",
        "connectors/google_calendar.py",
        "            if parts == self.series.get(name)\n",
        "            if not parts\n",
        GOOGLE,
    ),
    Fault(
        "google: the window of last year",
        "connectors/google_calendar.py",
        "if kept is None or kept.window != scope.window:",
        "if kept is None:",
        GOOGLE,
    ),
    Fault(
        "google: a sweep trusts the list of changes",
        "connectors/google_calendar.py",
        "self._found(container, whole=True)]",
        "self._found(container)]",
        GOOGLE,
    ),
    Fault(
        "google: titles are always asked for",
        "connectors/google_calendar.py",
        "{',' + TITLE if scope.looks_at_titles else ''}",
        ",{TITLE}",
        GOOGLE,
    ),
    Fault(
        "google: a quota is a refusal",
        "connectors/google_calendar.py",
        "if BUSY.intersection(reasons):",
        "if not reasons:",
        GOOGLE,
    ),
    Fault(
        "google: any object is a list",
        "connectors/google_calendar.py",
        '    kind: Literal["calendar#events"]\n',
        '    kind: str = ""\n',
        GOOGLE,
    ),
    Fault(
        "google: no bound on events",
        "connectors/google_calendar.py",
        "    if events > MAX_EVENTS:\n",
        "    if events > 10 * MAX_EVENTS:\n",
        GOOGLE,
    ),
    Fault(
        "google: a line of recurrence may be two",
        "connectors/google_entries.py",
        "        if not _RULE.fullmatch(rule):\n",
        "        if not _RULE.match(rule):\n",
        GOOGLE,
    ),
    Fault(
        "google: series recur by UTC",
        "connectors/google_entries.py",
        "    own = zone if event.recurrence else None\n",
        "    own = None\n",
        GOOGLE,
    ),
    Fault(
        "google: a title is not escaped",
        "connectors/google_entries.py",
        'yield f"SUMMARY:{_escaped(event.summary)}"',
        'yield f"SUMMARY:{event.summary}"',
        GOOGLE,
    ),
    Fault(
        "google: a cancelled occurrence happens",
        "connectors/google_entries.py",
        "    yield f\"STATUS:{event.status.upper() if event.status.isalpha() and event.status.isascii() else 'CONFIRMED'}\"\n",
        '    yield "STATUS:CONFIRMED"\n',
        GOOGLE,
    ),
    Fault(
        "google: a refused token is kept",
        "connectors/grants.py",
        "        if response.status_code == 401:\n            self._until = None\n",
        "        return\n",
        GOOGLE,
    ),
    Fault(
        "google: a token is used to its end and beyond",
        "connectors/grants.py",
        "or now >= self._until - MARGIN:",
        "or now >= self._until + MARGIN:",
        GOOGLE,
    ),
    Fault(
        "guard: an address is judged by another reading than it is connected to",
        "connectors/ways.py",
        '    return str(requests.Request("GET", url).prepare().url)\n',
        "    return url\n",
        "tests/connectors/test_calendar.py -k two_ways",
    ),
    Fault(
        "a list that does not hold the calendar itself is taken for a whole one",
        "connectors/caldav_server.py",
        "        if not listing.found:\n",
        "        if False:\n",
        CALDAV,
    ),
    Fault(
        "a list of changes is taken for a whole one",
        "connectors/caldav.py",
        "left = self.entries.keys() - listing.entries.keys() if whole else listing.gone",
        "left = self.entries.keys() - listing.entries.keys()",
        CALDAV,
    ),
    Fault(
        "the place in the list of changes is not kept",
        "connectors/caldav.py",
        "self.token = listing.token or self.token",
        "self.token = self.token",
        CALDAV,
    ),
    Fault(
        "an entry that changed is not read again",
        "connectors/caldav.py",
        "due=known.due or not same)",
        "due=known.due)",
        CALDAV,
    ),
    Fault(
        "a sweep believes the list of changes",
        "connectors/caldav.py",
        "        if plainly or not kept.follows:\n",
        "        if not kept.follows:\n",
        CALDAV,
    ),
    Fault(
        "an entry at which the server fails fails the calendar",
        "connectors/caldav.py",
        "            if kept.entries[path].strikes < STRIKES:\n",
        "            if True:\n",
        CALDAV,
    ),
    Fault(
        "a list of changes that is cut off is taken for whole",
        "connectors/caldav_server.py",
        "                more = True\n",
        "                more = False\n",
        CALDAV,
    ),
    Fault(
        "nothing said to a beginner is believed",
        "connectors/caldav.py",
        "            if plain.entries:\n",
        "            if not plain:\n",
        CALDAV,
    ),
    Fault(
        "a DTD in an answer is read",
        "connectors/caldav_xml.py",
        "forbid_dtd=True",
        "forbid_dtd=False",
        CALDAV,
    ),
    Fault(
        "an entry on another host is asked for",
        "connectors/caldav_xml.py",
        "same = parts.hostname == here.hostname and",
        "same =",
        CALDAV,
    ),
    Fault(
        "an offset's zone is west instead of east",
        "connectors/ics.py",
        'timezone(-offset if sign == "-" else offset)',
        'timezone(-offset if sign == "+" else offset)',
        BY_HAND,
    ),
    Fault(
        "a change of this and the future changes one",
        "connectors/ics.py",
        '        single.params["RANGE"] = "THISANDFUTURE"\n',
        "        pass\n",
        BY_HAND,
    ),
    Fault(
        "what begins just at UNTIL is left out",
        "connectors/ics.py",
        "moment > _comparable(until, moment.tzinfo)",
        "moment >= _comparable(until, moment.tzinfo)",
        BY_HAND,
    ),
)

GATE = {
    "fence: a stale epoch is refused": "the epoch is not checked",
    "fence: taking a partition raises its epoch": "taking a partition keeps its epoch",
    "fence: the partition's row is locked": "a fence that is not locked",
    "fence, by the judge": "a zombie's batch is taken",
    "pending note before a publication": "pending notes are not written",
    "pending things are fetched again": "pending notes are not fetched again",
    "pending things are fetched again, by the judge": "what was under way at a kill stays so",
    "acknowledgement is waited for": "Kafka's acknowledgement is not waited for",
    "ledger after the acknowledgement": "entries are made before the bus has acknowledged",
    "cursor after the page": "the cursor moves before its page is published",
    "lease's epoch": "a reader writes without its lease",
    "offset check": "offsets that were folded are folded again",
    "offset never goes back": "the offset can go back",
    "rows and offset in one transaction": "the offset is saved in another transaction",
    "rows and offset in one transaction, by the judge": "a kill leaves half a batch",
    "dead letter before the offset": "a dead letter is not waited for",
    "outbox: a claim is written": "a claim is not written",
    "outbox: a claim is locked": "two notifiers claim one message",
    "outbox: a message has one id": "a message may be posted twice",
    "log: synced before it is acknowledged": "a commit does not wait for the disk",
    "log: the store's own": "another log is published into",
    "producer begun anew after a time-out": "a producer that gave up is kept",
}
"""Guards of delivery -> the fault that takes each away."""


class Outcome(NamedTuple):
    """What came of a planted fault: the test that failed (none: it survived), and how long that took."""

    by: str
    seconds: float


def plant(fault: Fault) -> Outcome:
    """Run the test that should fail with the fault in."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(
            ROOT, tree, ignore=shutil.ignore_patterns(".venv", ".git", ".hypothesis", "*cache*", "*.egg-info", "build")
        )
        target = tree / fault.file
        text = target.read_text()
        if text.count(fault.old) != 1:
            raise SystemExit(f"{fault.name}: the code to break is not there once in {fault.file}; mend this table")
        target.write_text(text.replace(fault.old, fault.new))
        begun = time.monotonic()
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", *QUICKLY, *fault.test.split()],
            cwd=tree,
            env={"PYTHONPATH": str(tree), "PATH": "/usr/bin:/bin", "HOME": folder, "PMSYNC_TEST_CACHE": str(CACHE)},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        if run.returncode not in {0, 1}:
            raise SystemExit(f"{fault.name}: the test did not run:\n{run.stdout[-2000:]}{run.stderr[-2000:]}")
        failed = re.search(r"^(?:FAILED|ERROR) (\S+)", run.stdout, re.MULTILINE)
        by = failed.group(1) if failed else fault.test
        return Outcome(by if run.returncode else "", time.monotonic() - begun)


def chosen(words: Sequence[str], *, gate: bool) -> list[Fault]:
    """The faults whose name holds all these words; of the gate's, those alone and in its order."""
    by_name = {fault.name: fault for fault in FAULTS}
    among = [by_name[name] for name in GATE.values()] if gate else FAULTS
    return [fault for fault in among if all(word in fault.name for word in words)]


def table(outcomes: Mapping[str, Outcome]) -> str:
    """The gate's outcomes in Markdown."""
    lines = ["| guard | taken away by | caught by | seconds |", "|---|---|---|---|"]
    for guard, name in GATE.items():
        if found := outcomes.get(name):
            by = f"`{found.by}`" if found.by else "**nothing**"
            lines.append(f"| {guard} | {name} | {by} | {found.seconds:.0f} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Try the faults that the command line chooses."""
    gate = "--gate" in sys.argv
    outcomes: dict[str, Outcome] = {}
    faults = chosen([word for word in sys.argv[1:] if word != "--gate"], gate=gate)
    if not faults:
        print("no fault has a name that holds all these words", file=sys.stderr)
        return 2
    for fault in faults:
        outcomes[fault.name] = found = plant(fault)
        print(
            f"{'caught' if found.by else 'SURVIVED':8}  {fault.name}  ({fault.test}, {found.seconds:.0f} s)", flush=True
        )
    if gate:
        REPORT.parent.mkdir(parents=True, exist_ok=True)
        REPORT.write_text(table(outcomes))
        print(f"written to {REPORT.relative_to(ROOT)}")
    return 0 if all(found.by for found in outcomes.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
