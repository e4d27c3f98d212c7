"""What the connectors share: how long to wait, and by which names containers are known."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.base import Names, Withheld, http_date, retry_after

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "after"),
    [
        (None, None),
        ("", None),
        ("17", 17.0),
        (" 17 ", 17.0),
        ("0", 1.0),
        ("999999999999", 3600.0),
        ("9" * 400, 3600.0),
        ("-3", None),
        ("nan", None),
        ("1.5", None),
        ("²", None),
        ("soon", None),
        ("Mon, 02 Mar 2026 09:01:30 GMT", 90.0),
        ("Mon, 02 Mar 2026 09:01:30", 90.0),
        ("Mon, 02 Mar 2026 10:01:30 +0100", 90.0),
        ("Mon, 02 Mar 2026 08:00:00 GMT", 1.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600.0),
        ("Fri, 31 Dec 9999 23:59:59 -1200", None),
        ("Mon, 02 Mar 2026 09:01:30 +9999999", None),
    ],
)
def test_retry_after(value: str | None, after: float | None) -> None:
    assert retry_after(value, NOW) == after


def test_a_date_without_the_source_s_clock_says_nothing() -> None:
    assert retry_after("Mon, 02 Mar 2026 09:01:30 GMT", None) is None
    assert retry_after("17", None) == 17


DATES = st.from_regex(
    r"\A(Mon, )?[0-9]{1,3} (Jan|Dec|May) [0-9]{1,5} [0-9]{1,3}:[0-9]{1,3}(:[0-9]{1,9})? ?(GMT|[+-][0-9]{1,9})?\Z"
)


@given(st.text(alphabet="0123456789:+-, GMTnaJD()", max_size=40) | DATES)
def test_no_header_is_too_strange(value: str) -> None:
    wait = retry_after(value, NOW)
    assert wait is None or 1 <= wait <= 3600
    when = http_date(value)
    assert when is None or when.tzinfo is UTC


def test_names_are_learnt_and_outlive_renames() -> None:
    names = Names()
    names.learn("1", "old")
    assert names.known() == {"1": "old"}
    names.expect(["new", "other"])
    assert names.known() == {}, "what is not configured any more is forgotten"
    names.learn("1", "new")
    assert list(names.unmet()) == ["other"]
    assert list(names.unmet()) == []
    names.expect(["new", "other"])
    assert list(names.unmet()) == ["other"], "one that is not known is looked up anew each time that it is expected"


def test_looking_up_is_repeated_until_it_ends_well() -> None:
    names = Names()
    names.expect(["a", "b"])
    with suppress(ZeroDivisionError):
        for _ in names.unmet():
            raise ZeroDivisionError
    assert list(names.unmet()) == ["a", "b"]


def test_one_container_cannot_be_known_by_two_names_at_once() -> None:
    names = Names()
    names.expect(["a", "b"])
    names.learn("1", "a")
    with pytest.raises(Withheld, match="b and a are the same"):
        names.learn("1", "b")
    names.learn("1", "a")
    names.expect(["b"])
    names.learn("1", "b")
    assert names.known() == {"1": "b"}
