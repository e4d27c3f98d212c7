"""`pmsync import`: whole things from files, by the translators that read their source.

A file holds JSON: one document, several one after the other (as `gh api --paginate` prints them), or one on each line. The
documents of all files are taken together, since they explain each other. What a project does not read is left out; what
cannot be read is named and goes nowhere: the file is at hand, and a dead letter would say so of the source.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectors.base import ConnectorError, Read, Settings
from connectors.files import OTHER, Found, Shelves
from pmsync.config import Config, file_kinds

MAX_BYTES = 1024 * 1024 * 1024
"""Of all files of one import together, unpacked: all that is held in memory."""
SUFFIXES = (".json", ".jsonl", ".ndjson")
_SPACE = " \t\r\n\N{BYTE ORDER MARK}"


class ImportRefused(ConnectorError):
    """The files, or what they are to be imported as, cannot be used; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Import:
    """What files came to: the source that they are of, the things of the project's containers, how many are of others
    (by container), what cannot be read, and what else there is to say of them (see `Found`)."""

    source: str
    containers: tuple[str, ...]
    reads: tuple[Read, ...]
    elsewhere: Mapping[str, int]
    problems: tuple[str, ...]
    left: Mapping[str, int]
    lacks: tuple[str, ...]

    @property
    def kinds(self) -> Mapping[str, int]:
        """How many things there are of each kind."""
        return Counter(read.ref.kind for read in self.reads)


def files(paths: Iterable[Path]) -> Iterator[Path]:
    """These files, and those in these directories, in the order of their names."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        inside = [each for each in sorted(path.rglob("*")) if each.name.removesuffix(".gz").endswith(SUFFIXES)]
        if not inside:
            raise ImportRefused(f"{path}: there is no file with the ending {', '.join(SUFFIXES)} in it")
        yield from inside


def documents(paths: Iterable[Path]) -> Iterator[Any]:
    """The documents in these files; raises `ImportRefused`."""
    room = MAX_BYTES
    for path in paths:
        text = _text(path, room)
        room -= len(text)
        yield from _parsed(path, text)


def _text(path: Path, room: int) -> str:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            raw = file.read(room + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ImportRefused(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if len(raw) > room:
        raise ImportRefused(f"{path}: with it there are more than {MAX_BYTES >> 20} MiB; import in several goes")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ImportRefused(f"{path}: is no UTF-8 text (byte {error.start}); JSON is written in UTF-8") from error


def _parsed(path: Path, text: str) -> Iterator[Any]:
    if text.lstrip(_SPACE).startswith("BEGIN:VCALENDAR"):
        raise ImportRefused(f"{path}: a calendar needs no import; name the file as `ics` of a source of kind calendar")
    decoder, at, end = json.JSONDecoder(), 0, len(text)
    while at < end:
        if text[at] in _SPACE:
            at += 1
            continue
        try:
            document, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            line = text.count("\n", 0, getattr(error, "pos", at)) + 1
            raise ImportRefused(f"{path}:{line}: is no JSON ({getattr(error, 'msg', 'nested too deep')})") from error
        yield document


def read(config: Config, project: str, source: str | None, found: Sequence[Any]) -> Import:
    """What these documents come to for a project; raises `ImportRefused`. `source` need only be named where the project
    reads several that the documents may be of."""
    mapped = next((each.sources for each in config.projects if each.key == project), None)
    if mapped is None:
        known = ", ".join(each.key for each in config.projects) or "none"
        raise ImportRefused(f"there is no project {project!r}; known: {known}")
    settings, shelves = _chosen([each for each in config.sources if each.name in mapped], project, source, found)
    containers = mapped[settings.name]
    return _sorted(settings.name, containers, file_kinds()[settings.kind].read(settings, shelves, containers))


def _chosen(
    sources: Sequence[Settings], project: str, wanted: str | None, found: Sequence[Any]
) -> tuple[Settings, Shelves]:
    """The one source that these documents can be of, and they by shape."""
    if wanted is not None:
        sources = [each for each in sources if each.name == wanted]
    if not sources:
        raise ImportRefused(
            f"{project} reads {'no source' if wanted is None else f'nothing from {wanted}'}; name its containers under "
            f"projects: … from: (and add live: false to a source that is never asked)"
        )
    usable = [each for each in sources if each.kind in file_kinds()]
    if not usable:
        raise ImportRefused(
            f"files of the kind {sources[0].kind} cannot be imported; these can: {', '.join(sorted(file_kinds()))}"
        )
    fitting = []
    for each in usable:
        shelves = file_kinds()[each.kind].shelve(found)
        if shelves.keys() - {OTHER}:
            fitting.append((each, shelves))
    if not fitting:
        raise ImportRefused(
            f"nothing in these files is of the kind {' or '.join(sorted({each.kind for each in usable}))}"
        )
    if len(fitting) > 1:
        names = ", ".join(each.name for each, _ in fitting)
        raise ImportRefused(f"the files may be of several sources of {project}: say --source with one of {names}")
    return fitting[0]


def _sorted(source: str, containers: Sequence[str], found: Found) -> Import:
    """Apart: what the project reads, what is of other containers, what cannot be read."""
    ours, elsewhere, problems = list[Read](), Counter[str](), list[str]()
    for read in found.reads:
        if read.content is None:
            problems.append(f"{read.ref.kind} {read.ref.id}: {read.problem}")
        elif read.content.container in containers:
            ours.append(read)
        else:
            elsewhere[read.content.container] += 1
    left = {what: count for what, count in found.left.items() if count}
    return Import(source, tuple(containers), tuple(ours), elsewhere, tuple(problems), left, tuple(found.lacks))


def lines(found: Import, published: int | None) -> Iterator[str]:
    """What there is to say of an import, for people; `published` is None if nothing was to be."""
    things = ", ".join(f"{count} {kind.replace('_', ' ')}s" for kind, count in sorted(found.kinds.items()))
    yield f"{found.source}: {things or 'no things'} of {', '.join(found.containers)}"
    if published is not None:
        yield f"published {published}; the others were known like that, or newer"
    for container, count in sorted(found.elsewhere.items()):
        yield f"left out: {count} of {container}, which the project does not read"
    for what, count in sorted(found.left.items()):
        yield f"left out: {count} {what}"
    for lack in found.lacks:
        yield f"missing: {lack}"
    if published is not None:
        yield "`pmsync run` shows what came of it"


def as_json(found: Import, published: int | None) -> Mapping[str, Any]:
    """The same for programs, version 1."""
    return {
        "schema_version": 1,
        "source": found.source,
        "containers": list(found.containers),
        "things": dict(found.kinds),
        "published": published,
        "elsewhere": dict(found.elsewhere),
        "left": dict(found.left),
        "missing": list(found.lacks),
        "unreadable": list(found.problems),
    }
