"""What a source's answers are to pmsync when they come in files: whole things, as if they had been asked for.

A connector whose source can be read that way says in a `Files`, found by the entry-point group `pmsync.files` under its
kind, what its documents look like and how they become things. Nothing here reads a file or asks a source.

Next on the way of an event: `connectors/pump.py`, which publishes what is newer than what is known.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors.base import Read

OTHER = "other"
"""Where documents are put that have none of the known shapes."""

Shelves = Mapping[str, Sequence[Any]]
"""shape -> the documents of that shape, in the order in which they came."""


@dataclass(slots=True)
class Found:
    """What documents came to: the things read, of what there was more that is left alone (by what it is), and what the
    files lack, each in words that say what to add."""

    reads: list[Read] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)
    lacks: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Files:
    """How a source's documents are told apart and read.

    `shapes`: name -> whether a JSON object has it. `envelopes` are the keys under which answers list what they are about.
    `read` is given the source's settings, the documents by shape, and the configured names of the containers.
    """

    shapes: Mapping[str, Callable[[Mapping[str, Any]], bool]]
    envelopes: Sequence[str]
    read: Callable[[Any, Shelves, Collection[str]], Found]

    def shelve(self, documents: Iterable[Any]) -> Shelves:
        """The objects in these documents by their shape; in `OTHER` those that have none."""
        shelves = defaultdict[str, list[Any]](list)
        for document in documents:
            for each in self._objects(document):
                fitting = [shape for shape, fits in self.shapes.items() if fits(each)]
                for shape in fitting or [] if self._is_envelope(each) else fitting or [OTHER]:
                    shelves[shape].append(each)
        return shelves

    def _objects(self, document: Any) -> Iterator[Mapping[str, Any]]:
        """The objects that a document is, lists, or wraps. Nesting is followed no deeper than answers have it."""
        waiting = [document]
        for _ in range(DEEPEST):
            inner: list[Any] = []
            for each in waiting:
                if isinstance(each, list):
                    inner += each
                elif isinstance(each, dict):
                    yield each
                    inner += [each[key] for key in self.envelopes if isinstance(each.get(key), list)]
            waiting = inner

    def _is_envelope(self, each: Mapping[str, Any]) -> bool:
        return any(isinstance(each.get(key), list) for key in self.envelopes)


DEEPEST = 6
"""Pages in a list, each an envelope of a list, and to spare."""


def has(*keys: str) -> Callable[[Mapping[str, Any]], bool]:
    """The shape of what has all of these keys."""
    return lambda each: all(key in each for key in keys)
