"""Jira: an issue's links to others, and since when and until when each of them stood.

A changelog tells of links that were made and removed, in the words of their type and with the key that the other issue had
then; an issue tells of those that stand now, with present words and keys. All of it is pure.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import NamedTuple

from pmsync.core.events import BLOCKED_BY, Link

BLOCKING = ("is blocked by",)
TOLD = re.compile(r"(?:This (?:issue|work item) )?(\S.*) (\S+)", re.DOTALL)


class Named(NamedTuple):
    """A link as the issue has it: this issue *relation* the issue *key*."""

    relation: str
    key: str


class Step(NamedTuple):
    """What a changelog tells of one link at an instant: that it is gone, or that it was made."""

    at: datetime
    gone: Named | None
    made: Named | None


def relation(words: str, blocking: Collection[str]) -> str:
    """What the words of a link's type, in lower case, say; those that nobody configured stand for themselves."""
    return BLOCKED_BY if words in blocking else words


def told(text: str) -> tuple[str, str] | None:
    """(words, key) in a sentence of a changelog: «This issue is blocked by APO-7»."""
    found = TOLD.fullmatch(text)
    return (found[1], found[2]) if found else None


def links(present: Iterable[Named], steps: Iterable[Step]) -> list[Link]:
    """All that is known of an issue's links: those that stand, what blocks it first; then those that are gone, the last
    one first. One that was made and is neither there nor told to be gone is not shown: this account may not see it."""
    made: list[tuple[Named, datetime]] = []
    gone: list[Link] = []
    for step in steps:
        if step.gone:
            gone.append(Link(**step.gone._asdict(), since=_since(step.gone, made), until=step.at))
        if step.made:
            made.append((step.made, step.at))
    # Those that are told of by their present names come first, so that none of them is taken for another one.
    told_of = {link for link, _ in made}
    sure_first = sorted(set(present), key=lambda link: (link not in told_of, link))
    standing = [Link(**link._asdict(), since=_since(link, made)) for link in sure_first]
    return sorted(standing, key=lambda link: (link.relation != BLOCKED_BY, link.relation, link.key)) + gone[::-1]


def _since(link: Named, made: list[tuple[Named, datetime]]) -> datetime | None:
    """When it was made, which is then accounted for: under its name; else under another key of its project, with the same
    number; else in other words of its type. None where that is not told of one link alone."""
    for likeness in (lambda each: each, lambda each: (each.relation, _number(each)), lambda each: each.key):
        alike = [each for each in made if likeness(each[0]) == likeness(link)]
        if len({each for each, _ in alike}) == 1:
            made.remove(alike[0])
            return alike[0][1]
    return None


def _number(link: Named) -> str:
    return link.key.rpartition("-")[2]
