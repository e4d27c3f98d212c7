"""Answers that are asked for again and again: kept, so that the next request can be a conditional one (RFC 9110, 13.1).

A source that says "not modified" sends no body, and some do not count it: to GitHub such an answer costs no quota.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

MOST_BYTES = 16 * 1024 * 1024
"""Of all bodies that are kept; those that were wanted longest ago go first."""


class Kept(NamedTuple):
    """An answer: its headers (names in lower case), its body, and the validator by which to ask whether it still holds."""

    headers: Mapping[str, str]
    text: str
    etag: str


class Answers:
    """The last answer to each request, within bounds."""

    def __init__(self) -> None:
        self._kept = OrderedDict[str, Kept]()
        self._bytes = 0

    def get(self, request: str) -> Kept | None:
        """What was answered last."""
        if request in self._kept:
            self._kept.move_to_end(request)
        return self._kept.get(request)

    def keep(self, request: str, headers: Mapping[str, str], text: str) -> None:
        """Remember an answer that has a validator."""
        self._drop(request)
        if (etag := headers.get("etag")) and len(text) <= MOST_BYTES:
            self._kept[request] = Kept(dict(headers), text, etag)
            self._bytes += len(text)
        while self._bytes > MOST_BYTES:
            self._drop(next(iter(self._kept)))

    def _drop(self, request: str) -> None:
        if known := self._kept.pop(request, None):
            self._bytes -= len(known.text)
