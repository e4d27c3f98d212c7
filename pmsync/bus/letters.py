"""Dead letters: what could not be read, with the bytes and the reason, in a topic of their own.

A letter's id is the same whenever the same bytes are met again, and its key is that of what it is about, so all that is
ever said of one letter lies in one partition, in order: that it was buried, and later that it was closed, by people or
because its thing can be read again.
"""

from __future__ import annotations

import base64
import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, TypeAdapter, WithJsonSchema

from connectors.pump import DeadLetter
from pmsync.bus.port import DEAD_LETTERS, Bus, Delivered, Record
from pmsync.core.cloudevents import Traceparent

PAGE = 200
MOST_BYTES = 4 << 20
MOST_HEADERS = 256 << 10
IN_A_ROW, SHARE, WINDOW = 100, 0.05, 1000
"""So many dead records in a row, or more than this share of so many, are no accident."""


Stage = Literal["translate", "fold"]
"""Where it could not be read: on its way from a source, or on its way out of the log."""


def _from_base64(value: object) -> object:
    return base64.b64decode(value) if isinstance(value, str) else value


Base64 = Annotated[
    bytes,
    BeforeValidator(_from_base64),
    PlainSerializer(lambda value: base64.b64encode(value).decode()),
    WithJsonSchema({"type": "string", "contentEncoding": "base64"}),
]


class Buried(BaseModel):
    """Something that could not be read, with its bytes and headers as they came.

    `stage` is where: `translate` on its way from a source, `subject` then being its thing (source/kind/id), or `fold` on
    its way out of the log, `subject` being its place (partition/offset). `id` is the same for the same bytes.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    stage: Stage
    subject: str
    reason: str
    raw: Base64
    headers: tuple[tuple[str, Base64], ...] = ()
    traceparent: Traceparent = None


class Closed(BaseModel):
    """An end of the letter of this id: mended (its thing can be read again), replayed or discarded by people."""

    model_config = ConfigDict(frozen=True)

    id: str
    closed: Literal["mended", "replayed", "discarded"]
    reason: str = ""


class Letter(Buried):
    """A letter and the key of its record: the source of what could not be translated, the project of what could not be
    folded."""

    key: str


_said: TypeAdapter[Closed | Buried] = TypeAdapter(Closed | Buried)


def translation_letter(letter: DeadLetter, traceparent: str | None) -> Letter:
    """Something read from a source that could not be translated."""
    thing = letter.thing
    return Letter(
        key=thing.source,
        id=letter.id,
        stage="translate",
        subject="/".join(thing),
        reason=letter.reason,
        raw=letter.raw,
        traceparent=traceparent,
    )


def fold_letter(record: Delivered, key: str, reason: str, traceparent: str | None) -> Letter:
    """Something in the log that could not be folded; `key` places what is published of it again."""
    # On Kafka every record has a content type, in the embedded log hardly any: the letter is the same.
    said = [(name, value) for name, value in record.headers if name != "content-type"]
    parts = [key.encode(), record.value, *(part for name, value in said for part in (name.encode(), value))]
    return Letter(
        key=key,
        id=hashlib.sha256(b"\0".join(parts)).hexdigest()[:32],
        stage="fold",
        subject=f"{record.partition}/{record.offset}",
        reason=reason,
        raw=record.value,
        headers=tuple(record.headers),
        traceparent=traceparent,
    )


def buried(letter: Letter) -> Record:
    """The record that buries a letter. Of what is larger than any event only the beginning is kept: a record that no log
    takes would be tried for ever."""
    kept, room = [], MOST_HEADERS
    for name, value in letter.headers:
        room -= len(name.encode()) + len(value)
        if room >= 0:
            kept.append((name, value))
    cut = f" (of {len(letter.raw)} bytes the first {MOST_BYTES} are kept)" if len(letter.raw) > MOST_BYTES else ""
    cut += f" (of {len(letter.headers)} headers {len(kept)} are kept)" if room < 0 else ""
    update = {"reason": letter.reason + cut, "raw": letter.raw[:MOST_BYTES], "headers": tuple(kept)}
    return _record(letter.key, letter.model_copy(update=update))


class Burials:
    """Buries what was not buried before: whoever reads a log again meets again what could not be read the first time,
    and what was discarded since must not come back. The topic is looked through once, when a letter is first met."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._known: set[str] | None = None

    def bury(self, letters: Sequence[Letter]) -> None:
        """Bury those of these letters that never were."""
        if self._known is None and letters:
            self._known = {_said.validate_json(record.value).id for record in _records(self._bus)}
        known = self._known or set()
        new = {letter.id: letter for letter in letters if letter.id not in known}
        self._bus.publish(DEAD_LETTERS, [buried(letter) for letter in new.values()])
        known.update(new)


def closed(key: str, letter: str, how: Literal["mended", "replayed", "discarded"], reason: str = "") -> Record:
    """The record that closes the letter of this id and key."""
    return _record(key, Closed(id=letter, closed=how, reason=reason))


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
        said = _said.validate_json(record.value)
        if isinstance(said, Closed):
            found.pop(said.id, None)
        else:
            found[said.id] = Letter(key=record.key, **dict(said))
    return sorted(found.values(), key=lambda letter: (letter.key, letter.subject, letter.id))


def _records(bus: Bus) -> Iterator[Record]:
    for partition in range(bus.partitions):
        offset, end = 0, bus.end_offset(DEAD_LETTERS, partition)
        while offset < end and (page := bus.read(DEAD_LETTERS, partition, offset, PAGE)):
            yield from (Record(each.key, each.value) for each in page)
            offset = page[-1].offset + 1


def _record(key: str, said: Buried | Closed) -> Record:
    return Record(key, said.model_dump_json(exclude={"key"}, exclude_none=True).encode())
