"""Links of Jira's issues: since when and until when each of them stood, as far as a changelog tells."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.jira_links import Named, Step, links, relation, told
from pmsync.core.events import BLOCKED_BY, Link


def day(number: int) -> datetime:
    return datetime(2026, 3, number, 9, tzinfo=UTC)


def by(key: str) -> Named:
    return Named(BLOCKED_BY, key)


def made(number: int, *found: Named) -> list[Step]:
    return [Step(day(number), None, each) for each in found]


def gone(number: int, *found: Named) -> list[Step]:
    return [Step(day(number), each, None) for each in found]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("This issue is blocked by APO-7", ("is blocked by", "APO-7")),
        ("This work item blocks Z_2-10", ("blocks", "Z_2-10")),
        ("This issue hängt ab von  APO-7", ("hängt ab von ", "APO-7")),
        ("depends on APO-7", ("depends on", "APO-7")),
        ("APO-7", None),
        (" APO-7", None),
        ("", None),
    ],
)
def test_words_of_a_changelog(text: str, found: tuple[str, str] | None) -> None:
    assert told(text) == found


def test_relations() -> None:
    words = ("is blocked by", "blocks", "needs", "relates to")
    assert [relation(each, {"is blocked by", "needs"}) for each in words] == [
        "blocked_by", "blocks", "blocked_by", "relates to",
    ]  # fmt: skip


A, B, RELATED = by("APO-1"), by("APO-2"), Named("relates to", "APO-1")
STORIES: list[tuple[str, Sequence[Named], Sequence[Step], list[tuple[Any, ...]]]] = [
    ("one that stands", [A], made(3, A), [(*A, 3, None)]),
    ("nobody told of it", [A], [], [(*A, None, None)]),
    ("what is gone", [], [*made(3, A), *gone(5, A)], [(*A, 3, 5)]),
    ("nobody told that it was made", [], gone(5, A), [(*A, None, 5)]),
    ("made, removed and made again", [A], [*made(3, A), *gone(4, A), *made(5, A)], [(*A, 5, None), (*A, 3, 4)]),
    ("made twice over", [A], [*made(3, A), *made(4, A), *gone(5, A)], [(*A, 4, None), (*A, 3, 5)]),
    ("neither there nor gone: not to be seen", [], made(3, A), []),
    ("two of one key", [A, RELATED], [*made(3, RELATED), *made(4, A)], [(*A, 4, None), (*RELATED, 3, None)]),
    ("the last one that went comes first", [], [*made(2, A, B), *gone(3, B), *gone(4, A)], [(*A, 2, 4), (*B, 2, 3)]),
    ("the project of the others has a new key", [A, B], made(3, by("OLD-2"), by("OLD-1")), [(*A, 3, None), (*B, 3, None)]),
    ("a new key between the two", [], [*made(3, by("OLD-1")), *gone(5, A)], [(*A, 3, 5)]),
    ("other words of the type", [A], made(3, Named("is stopped by", "APO-1")), [(*A, 3, None)]),
    ("another number is another issue", [A], made(3, B), [(*A, None, None)]),
    ("two that it may be", [A], made(3, by("OLD-1"), by("ZEU-1")), [(*A, None, None)]),
    ("each its own, whatever is alike", [by("NEW-1"), A], made(3, A), [(*A, 3, None), (BLOCKED_BY, "NEW-1", None, None)]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("present", "steps", "expected"), [row[1:] for row in STORIES], ids=[row[0] for row in STORIES]
)
def test_since_when_and_until_when(
    present: Sequence[Named], steps: Sequence[Step], expected: list[tuple[Any, ...]]
) -> None:
    assert links(present, steps) == [
        Link(relation=words, key=key, since=since and day(since), until=until and day(until))
        for words, key, since, until in expected
    ]


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([A, B, RELATED])), max_size=20))
def test_what_is_told_whole_is_right_at_every_instant(moves: list[tuple[bool, Named]]) -> None:
    there: set[Named] = set()
    seen, steps = [there], list[Step]()
    for number, (is_made, link) in enumerate(moves, 1):
        if is_made != (link in there):
            there = there | {link} if is_made else there - {link}
            steps += made(number, link) if is_made else gone(number, link)
        seen.append(there)
    found = links(there, steps)
    for number, then in enumerate(seen[1:], 1):
        assert {Named(each.relation, each.key) for each in found if each.stands(day(number))} == then
