"""What people do with dead letters on the command line: look, have them tried again, or go on without them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from connectors.base import Ref
from connectors.pump import Ledger
from pmsync.bus.letters import Letter, closed, open_letters
from pmsync.bus.port import DEAD_LETTERS, EVENTS, Bus, Record

SHOWN = 8
"""Characters of an id that tell letters apart for people."""


def show_letters(console: Console, letters: Sequence[Letter]) -> None:
    """A table of the open letters."""
    table = Table("letter", "stage", "of", "what", "reason", box=None)
    for letter in letters:
        table.add_row(letter.id[:SHOWN], letter.stage, *map(escape, (letter.key, letter.subject, letter.reason)))
    console.print(table if letters else "no dead letters")


def show_letter(letter: Letter) -> str:
    """One letter with what came, as far as it is text."""
    said = {
        "letter": letter.id,
        "stage": letter.stage,
        "of": letter.key,
        "what": letter.subject,
        "reason": letter.reason,
    }
    if letter.traceparent:
        said["traceparent"] = letter.traceparent
    said |= {f"header {name}": _text(value) for name, value in letter.headers}
    said["bytes"] = str(len(letter.raw))
    return "\n".join([*(f"{name}: {value}" for name, value in said.items()), "", _text(letter.raw)])


def _text(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")


def chosen(bus: Bus, beginnings: Sequence[str], *, everything: bool) -> list[Letter]:
    """The open letters whose ids begin so; each beginning must be that of one letter."""
    letters = open_letters(bus)
    if everything:
        return letters
    found = []
    for beginning in beginnings:
        matching = [letter for letter in letters if letter.id.startswith(beginning)]
        if len(matching) != 1:
            known = f"{len(matching)} dead letters have" if matching else "no dead letter has"
            raise click.UsageError(f"{known} an id that begins with {beginning!r}; see `pmsync dead-letters list`")
        found += matching
    if not found:
        raise click.UsageError("name the letters by the beginning of their ids, or say --all")
    return found


def replay(bus: Bus, ledger: Ledger, letters: Sequence[Letter]) -> str:
    """Have letters tried again: what came from a source is fetched by id in its reader's next round, what was in the log
    is put at its end. Whatever still cannot be read is buried again."""
    for letter in letters:
        if letter.stage == "fold":
            bus.publish(EVENTS, [Record(letter.key, letter.raw, letter.headers)])
        else:
            ledger.ask(letter.key, [_ref(letter)])
        # Last: a kill before it has the letter tried once more, which changes nothing.
        bus.publish(DEAD_LETTERS, [closed(letter.key, letter.id, "replayed")])
    stages = Counter(letter.stage for letter in letters)
    return (
        f"{stages['translate']} will be fetched from their sources and {stages['fold']} folded again, at the next round "
        "of `pmsync run`"
    )


def discard(bus: Bus, letters: Sequence[Letter], reason: str) -> str:
    """Go on without letters. The record of it stays in the log, with the reason."""
    bus.publish(DEAD_LETTERS, [closed(letter.key, letter.id, "discarded", reason) for letter in letters])
    return f"discarded {len(letters)}: {reason}"


def _ref(letter: Letter) -> Ref:
    _, kind, ident = letter.subject.split("/", 2)
    return Ref(kind, ident)
