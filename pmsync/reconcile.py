"""`pmsync reconcile`: proves that what is here of a source is complete, or names each difference.

A container is counted at the source, by the same cheap listing as a sweep, and here, by the ledger. What seems to differ is
then fetched by id, since listings lag and things move: only what differs by id is called a difference. Nothing is written,
unless `repair` asks the reader of the source to fetch what differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from connectors.base import Mark, Naming, Read, Reader, Ref
from connectors.pump import PAGE, WHOLE, Entry, Fate, Ledger, seen
from connectors.webhooks import Hint
from pmsync.core.events import digest

MOST_NAMED = 1000
"""So many suspects of a container are fetched by id; of the others only their number is said."""

MISSING, GONE, OLD = "missing here", "gone at the source", "older here"


class Difference(NamedTuple):
    """A thing that is not the same at the source and here. `name` is its source's own."""

    ref: Ref
    name: str
    what: str


class Reconciliation(NamedTuple):
    """What was found of a container: how many things its source lists, how many are here, how many of these cannot be
    read, what differs, and how many suspects were too many to be looked at one by one."""

    container: str
    listed: int
    here: int
    dead: int
    differences: tuple[Difference, ...]
    unchecked: int

    @property
    def is_equal(self) -> bool:
        return not self.differences and not self.unchecked


def reconcile(
    reader: Reader, ledger: Ledger, containers: Sequence[str], counted: Callable[[str, int], None] = lambda *_: None
) -> Iterator[Reconciliation]:
    """Container by container. `counted` is told (container, things listed so far). Raises what the reader raises."""
    if isinstance(reader, Naming):
        reader.expect(containers)
    for container in containers:
        yield _container(reader, ledger, container, counted)


def repair(ledger: Ledger, source: str, found: Reconciliation) -> None:
    """Have the reader of the source fetch what differs; the whole container, if more seems to than was looked at."""
    whole = [Hint(Ref(WHOLE, found.container))] if found.unchecked else []
    ledger.hint(source, [*whole, *(Hint(each.ref, found.container) for each in found.differences)])


def _container(reader: Reader, ledger: Ledger, container: str, counted: Callable[[str, int], None]) -> Reconciliation:
    there: dict[Ref, Mark] = {}
    for page in reader.sweep(container):
        there |= {mark.ref: mark for mark in page}
        counted(container, len(there))
    # After the listing: what was read meanwhile is here already.
    known = seen(reader, container, ledger.in_container(reader.name, container))
    suspects = sorted(
        {ref for ref, mark in there.items() if _differs(mark, known.get(ref))} | (known.keys() - there.keys())
    )
    differences = tuple(_differences(reader, ledger, container, suspects[:MOST_NAMED]))
    dead = sum(entry.fate is Fate.dead for entry in known.values())
    return Reconciliation(container, len(there), len(known), dead, differences, len(suspects[MOST_NAMED:]))


def _differs(mark: Mark, known: Entry | None) -> bool:
    return known is None or (mark.time is not None and mark.time != known.time)


def _differences(reader: Reader, ledger: Ledger, container: str, suspects: Sequence[Ref]) -> Iterator[Difference]:
    waiting = iter(suspects)
    while some := list(islice(waiting, PAGE)):
        reads = {read.ref: read for read in reader.fetch(some)}
        entries = ledger.entries(reader.name, some)  # as they are now: a worker may have read them in the meantime
        for ref in some:
            if what := _what(reads.get(ref, Read(ref)), entries.get(ref), container):
                yield Difference(ref, _name(reads.get(ref)), what)


def _what(read: Read, known: Entry | None, container: str) -> str:
    """How a thing by id differs from what the ledger knows of it; empty if it does not."""
    is_here = known is not None and known.fate is not Fate.gone and known.container == container
    if read.problem is not None:  # there and unreadable: that is a dead letter, which is no difference
        return "" if is_here else MISSING
    if read.content is None or read.content.container != container:
        return GONE if is_here else ""
    if known is None or not is_here:
        return MISSING
    return "" if known.digest == digest(read.content) else OLD


def _name(read: Read | None) -> str:
    content = read.content if read else None
    return " ".join(str(getattr(content, part, None) or "") for part in ("key", "title")).strip()


def as_json(source: str, found: Sequence[Reconciliation]) -> Mapping[str, Any]:
    """The report for programs, version 1."""
    return {
        "schema_version": 1,
        "source": source,
        "containers": [
            {
                "container": each.container,
                "listed": each.listed,
                "here": each.here,
                "unreadable": each.dead,
                "differences": [
                    {"kind": one.ref.kind, "id": one.ref.id, "name": one.name, "what": one.what}
                    for one in each.differences
                ],
                "unchecked": each.unchecked,
            }
            for each in found
        ],
    }
