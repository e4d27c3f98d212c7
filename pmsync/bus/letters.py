"""Dead letters: what could not be read, with the bytes and the reason, in a topic of their own.

A letter's id is the same whenever the same bytes are met again, and its key is that of what it is about, so all that is
ever said of one letter lies in one partition, in order: that it was buried, and later that it was closed, by people or
because its thing can be read again.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from connectors.pump import DeadLetter
from pmsync.bus.port import DEAD_LETTERS, Bus, Record

PAGE = 200
MOST_BYTES = 4 << 20
IN_A_ROW, SHARE, WINDOW = 100, 0.05, 1000
"""So many dead records in a row, or more than this share of so many, are no accident."""


Stage = Literal["translate", "fold"]
"""Where it could not be read: on its way from a source, or on its way out of the log."""


@dataclass(frozen=True, slots=True)
class Letter:
    """`key` is the source of what could not be translated, the project of what could not be folded."""

    id: str
    key: str
    stage: Stage
    subject: str
    reason: str
    raw: bytes


def translation_letter(letter: DeadLetter) -> Letter:
    """Something read from a source that could not be translated."""
    thing = letter.thing
    return Letter(letter.id, thing.source, "translate", "/".join(thing), letter.reason, letter.raw)


def fold_letter(partition: int, offset: int, key: str, reason: str, raw: bytes) -> Letter:
    """Something in the log that could not be decoded."""
    ident = hashlib.sha256(key.encode() + b"\0" + raw).hexdigest()[:32]
    return Letter(ident, key, "fold", f"{partition}/{offset}", reason, raw)


def buried(letter: Letter) -> Record:
    """The record that buries a letter. Of what is larger than any event only the beginning is kept: a record that no log
    takes would be tried for ever."""
    cut = f" (of {len(letter.raw)} bytes the first {MOST_BYTES} are kept)" if len(letter.raw) > MOST_BYTES else ""
    return _record(
        letter.key,
        id=letter.id,
        stage=letter.stage,
        subject=letter.subject,
        reason=letter.reason + cut,
        raw=base64.b64encode(letter.raw[:MOST_BYTES]).decode(),
    )


def closed(key: str, letter: str, how: Literal["mended", "replayed", "discarded"], reason: str = "") -> Record:
    """The record that closes the letter of this id and key."""
    return _record(key, id=letter, closed=how, reason=reason)


@dataclass(frozen=True, slots=True)
class DeadLimit:
    """Counts what of a partition could not be decoded: to go on past the limit would only bury the rest."""

    row: int = 0
    last: tuple[bool, ...] = ()

    def after(self, dead: Sequence[bool]) -> tuple[DeadLimit, int, str]:
        """The limit after these records, oldest first; how many of them it lets pass, and why not more."""
        row, last = self.row, deque(self.last, maxlen=WINDOW)
        for n, each in enumerate(dead, start=1):
            row = row + 1 if each else 0
            last.append(each)
            if row >= IN_A_ROW:
                return DeadLimit(), n, f"{row} records in a row cannot be decoded"
            if each and len(last) == WINDOW and (count := sum(last)) > SHARE * WINDOW:
                return DeadLimit(), n, f"{count} of its last {len(last)} records cannot be decoded"
        return DeadLimit(row, tuple(last)), len(dead), ""


def open_letters(bus: Bus) -> list[Letter]:
    """The letters that have not been closed since they were last buried, by key and id."""
    found: dict[str, Letter] = {}
    for record in _records(bus):
        said: dict[str, Any] = json.loads(record.value)
        if "closed" in said:
            found.pop(said["id"], None)
        else:
            raw = base64.b64decode(said["raw"])
            found[said["id"]] = Letter(said["id"], record.key, said["stage"], said["subject"], said["reason"], raw)
    return sorted(found.values(), key=lambda letter: (letter.key, letter.subject, letter.id))


def _records(bus: Bus) -> Iterator[Record]:
    for partition in range(bus.partitions):
        offset, end = 0, bus.end_offset(DEAD_LETTERS, partition)
        while offset < end and (page := bus.read(DEAD_LETTERS, partition, offset, PAGE)):
            yield from (Record(each.key, each.value) for each in page)
            offset = page[-1].offset + 1


def _record(key: str, **said: str) -> Record:
    return Record(key, json.dumps(said, ensure_ascii=False).encode())
