"""Plants one fault at a time in a copy of the tree and runs the test that should catch it: `python tests/planted_faults.py`.

A suite that lets a planted fault pass proves nothing. Exits 1 if any fault survives.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SECONDS = 300
QUICKLY = ("-p", "no:cacheprovider", "--hypothesis-profile=planted")
CACHE = Path.home() / ".cache" / "pmsync-tests"


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
PARITY = "tests/acceptance/test_parity_kafka.py"
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
        "            self._fetch(self._live(self.ledger.ever_in(self._source, container)))\n",
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
        "        self._bury_missing(container, sorted(known.keys() - there.keys()), len(known))\n",
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
        "a batch forgets its own rows",
        "pmsync/core/project.py",
        "known = changed.get(key) or rows.get(key)",
        "known = rows.get(key)",
        LAWS,
    ),
    Fault(
        "a kept version is not kept",
        "pmsync/core/project.py",
        "            if thing.kind in KEPT:\n",
        "            if thing.kind in KEPT and not version % 2:\n",
        LAWS,
    ),
    Fault(
        "offsets that were folded are folded again",
        "pmsync/aggregator.py",
        "if offset >= owned.next_offset]",
        "if offset >= 0]",
        AGGREGATOR,
    ),
    Fault(
        "the offset can go back",
        "pmsync/aggregator.py",
        "next_offset = max(owned.next_offset, batch[-1].offset + 1)",
        "next_offset = batch[-1].offset + 1",
        AGGREGATOR,
    ),
    Fault(
        "the offset is saved in another transaction",
        "pmsync/aggregator.py",
        "            owned.save(fold(known, fresh), next_offset)\n",
        "            owned.save(fold(known, fresh), owned.next_offset)\n        with self._store.owned(partition, self._epochs[partition]) as owned:\n            owned.save({}, next_offset)\n",
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
        "            self._bus.publish(DEAD_LETTERS, letters)\n",
        "",
        AGGREGATOR,
    ),
    Fault(
        "half a log is assessed",
        "pmsync/aggregator.py",
        "if self._offsets[partition] < self._bus.end_offset(EVENTS, partition):",
        "if False:",
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
        "            self._settle_listed(page)\n            read += len(page)\n",
        "            self._move(container, replace(cursor, since=max(item.time for item in page if item.time)))\n            self._settle_listed(page)\n            read += len(page)\n",
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
        "        self._doubt_bulk(container, len(gone), known)\n",
        "",
        PUMP,
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
        '        if events:\n            self.bus.publish(events)\n            self.step("published")\n        if entries:\n            self.ledger.settle(self._source, self._epoch, entries)\n            self.step("settled")\n',
        '        if entries:\n            self.ledger.settle(self._source, self._epoch, entries)\n            self.step("settled")\n        if events:\n            self.bus.publish(events)\n            self.step("published")\n',
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
        'ripe = or_(outbox.c.next_try <= (micros(now) or 0), and_(outbox.c.state == "sending", outbox.c.owner.in_(dead)))',
        'ripe = or_(outbox.c.next_try <= (micros(now) or 0), outbox.c.state == "sending", outbox.c.owner.in_(dead))',
        STORE,
    ),
    Fault(
        "a claim is not written",
        "pmsync/store/outbox.py",
        "            db.execute(update(outbox).where(outbox.c.id == row.id).values(claim))\n",
        "",
        f"{STORE} -k claim",
    ),
    Fault(
        "a later message overtakes an earlier one",
        "pmsync/store/outbox.py",
        "and_(queue.c.id == outbox.c.id, queue.c.place == 1)",
        "queue.c.id == outbox.c.id",
        STORE,
    ),
    Fault(
        "a late sender calls back what was sent",
        "pmsync/store/outbox.py",
        'mine = and_(outbox.c.id == ident, outbox.c.state == "sending")',
        "mine = and_(outbox.c.id == ident)",
        STORE,
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
        "- {read.ref for read in there})",
        ")",
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
        "        .with_for_update(of=outbox, skip_locked=True)\n",
        "",
        STORE,
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
        '.replace("\\0", "\\x1b0")\n',
        "\n",
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
        "two configurations are mixed",
        "pmsync/store/configuration.py",
        "            replacing(db, configuration)  # two at once would leave a mixture of both\n",
        "",
        f"{STORE} -k configurations",
    ),
    Fault(
        "what a store lost is skipped",
        "pmsync/aggregator.py",
        "if owned.next_offset >= self._offsets[partition]:",
        "if owned.next_offset >= 0:",
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
        "Kafka chooses the partition",
        "pmsync/bus/apache_kafka.py",
        "name, record.value, record.key.encode(), headers, partition_of(record.key, self.partitions)",
        "name, record.value, record.key.encode(), headers",
        f"{KAFKA} -k key_decides",
    ),
    Fault(
        "the reader on Kafka goes on where it is",
        "pmsync/bus/apache_kafka.py",
        "            if self._place != (partition, offset):\n",
        "            if self._place is None or self._place[0] != partition:\n",
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
        "                _ask_again(consumer)\n",
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
        "a log that lost its beginning is read on",
        "pmsync/aggregator.py",
        "if (begin := bus.begin_offset(EVENTS, partition)) > offset:",
        "if (begin := bus.begin_offset(EVENTS, partition)) > offset + 1000:",
        "tests/integration/test_kafka_topics.py",
    ),
)


def survives(fault: Fault) -> bool:
    """Whether the test passes although the fault is in."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(
            ROOT, tree, ignore=shutil.ignore_patterns(".venv", ".git", ".hypothesis", "*cache*", "*.egg-info")
        )
        target = tree / fault.file
        text = target.read_text()
        if text.count(fault.old) != 1:
            raise SystemExit(f"{fault.name}: the code to break is not there once in {fault.file}; mend this table")
        target.write_text(text.replace(fault.old, fault.new))
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
        return run.returncode == 0


def main() -> int:
    """Try every fault whose name holds the words given on the command line."""
    survivors = 0
    for fault in FAULTS:
        if all(word in fault.name for word in sys.argv[1:]):
            alive = survives(fault)
            survivors += alive
            print(f"{'SURVIVED' if alive else 'caught':8}  {fault.name}  ({fault.test})", flush=True)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
