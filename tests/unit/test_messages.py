"""What people read, word by word."""

import unicodedata
from datetime import timedelta

from builders import NOW, Item, acknowledgement, at, done, item, milestone, state
from hypothesis import given
from hypothesis import strategies as st

from pmsync.core.alerts import Logged, Transition, alerts, transitions
from pmsync.core.measures.forecast import forecast
from pmsync.core.measures.progress import progress
from pmsync.core.messages import LONGEST, Message, compose, plain
from pmsync.core.project import ProjectState, view
from pmsync.core.rules import episodes
from pmsync.core.rules.episode import likely

OLD = at("2025-06-02")


def tell(known: ProjectState, log: dict[str, Logged] | None = None, *, first: bool = False) -> Message:
    shown = view(known, NOW)
    forecasts = [forecast(shown, deadline) for deadline in shown.deadlines if deadline.items]
    moves = transitions(log or {}, alerts(episodes(known, NOW), known.facts), NOW)
    return compose(known.project, moves, forecasts, progress(shown.items), first=first, now=NOW)


def logged(known: ProjectState) -> dict[str, Logged]:
    moves: tuple[Transition, ...] = transitions({}, alerts(episodes(known, NOW), known.facts), NOW)
    return {move.fingerprint: Logged(move.n, move.state.value, move.since) for move in moves}


def steady() -> list[Item]:
    days = [NOW.date() - timedelta(days=k) for k in range(1, 95)]
    return [done(f"d{day}", at(day.isoformat()), created=OLD) for day in days if day.weekday() < 5]


def test_a_late_forecast_says_what_by_how_much_why_and_on_what_evidence() -> None:
    work = [item(f"{n}", created=OLD, milestone="m1") for n in range(12)]
    new = item(
        "13", [(at("2026-03-12"), "blocked", True)], created=at("2026-03-12", 9), milestone="m1", url="https://x/13"
    )
    known = state([*steady(), *work, new], [milestone("m1", "2026-03-27", title="Release 2.1")])
    text = tell(known).text
    assert "Apollo · Release 2.1, promised Fri 27 Mar 2026: " in text
    assert "likely on time; P85 is " in text
    assert " late.\n" in text
    assert "  Why: 13 items to finish up to it; 66 finished" not in text
    assert "13 items to finish up to it; 60 finished and 1 added in 60 working days" in text
    assert "added in the last week: APO-13; blocked: APO-13." in text
    assert "monte_carlo_throughput.v1, 1000 trials from 2025-12-22 to 2026-03-13 (forecast_late, alert " in text
    assert text.index("forecast_late") < text.index("Apollo · APO-13 Item 13: blocked for 2 working days.")
    assert "  https://x/13" in text
    assert tell(known).subject == "Apollo: Release 2.1, late by forecast (and 2 more)"


def test_the_first_look_is_a_summary() -> None:
    late = [item(f"{n:02}", created=OLD, due_date="2026-03-13") for n in range(30)]
    known = state([*steady(), *late], deadline="2026-06-30")
    message = tell(known, first=True)
    assert message.subject == "Apollo: 30 items overdue"
    assert "66 of 96 items done (68 %), 0 in progress, 30 to do." in message.text
    assert "The 5 worst:" in message.text
    assert message.text.count("Apollo · ") == 5
    assert "  Apollo, promised Tue 30 Jun 2026: more than 99 % likely on time; P85 is " in message.text


def test_a_first_look_at_nothing() -> None:
    message = tell(state([]), first=True)
    assert message.subject == "Apollo: nothing is wrong"
    assert message.text == "Apollo, Mon 16 Mar 2026: no items yet.\n\nThis is the first look: nothing is wrong.\n"


def test_what_is_mended_is_a_line() -> None:
    before = state([item("1", due_date="2026-03-13")])
    after = state([done("1", at("2026-03-16", 11), due_date="2026-03-13")])
    message = tell(after, logged(before))
    assert message.subject == "Apollo: 1 resolved"
    assert message.text.endswith("Resolved\n  APO-1 Item 1: no longer overdue\n")


def test_a_rung_that_gave_way_is_not_called_mended() -> None:
    known = state([item("1", due_date="2026-03-17")])
    friday = transitions({}, alerts(episodes(known, at("2026-03-13")), []), NOW)
    log = {move.fingerprint: Logged(move.n, move.state.value, move.since) for move in friday}
    message = tell(known, log)
    assert "due Tue 17 Mar 2026, in 1 working day, and still todo." in message.text
    assert "Resolved" not in message.text
    assert len(log) == 1


def test_a_forecast_that_is_well_again_says_where_it_stands() -> None:
    work = [item(f"{n}", created=OLD, milestone="m1") for n in range(40)]
    log = logged(state([*steady(), *work], [milestone("m1", "2026-04-24")]))
    message = tell(state([*steady(), *work[:2]], [milestone("m1", "2026-04-24")]), log)
    assert "  Release m1, promised Fri 24 Apr 2026: more than 99 % likely on time" in message.text
    assert ": no longer late\n" in message.text


def test_what_is_gone_is_counted() -> None:
    message = tell(state([]), {"0" * 16: Logged(1, "firing", NOW)})
    assert "  no longer of this project, or with another date: 1 earlier alert\n" in message.text


def test_long_lists_are_cut_and_say_so() -> None:
    message = tell(state([item(f"{n:02}", due_date="2026-03-13") for n in range(33)]))
    assert message.text.count("Apollo · ") == 20
    assert "  and 13 more" in message.text


def test_what_was_taken_on_is_a_line() -> None:
    known = state([item("1", due_date="2026-03-13")])
    log = logged(known)
    taken = state([item("1", due_date="2026-03-13")], facts=[acknowledgement(next(iter(log)), NOW)])
    message = tell(taken, log)
    assert (message.subject, message.text.split("\n\n")[1]) == (
        "Apollo: 1 acknowledged",
        "Acknowledged\n  APO-1 Item 1\n",
    )


@given(st.text(st.characters(codec="utf-8"), max_size=300))
def test_titles_are_one_line_of_printable_text(text: str) -> None:
    line = plain(text)
    assert len(line) <= LONGEST
    assert not any(unicodedata.category(char) in {"Cc", "Cf", "Zl", "Zp"} for char in line)
    assert line == plain(line)


def test_hostile_titles_stay_on_their_line() -> None:
    title = "Pay\r\n\nResolved\n  all\x1b[2J\u202e\u2028now"
    known = state([item("1", due_date="2026-03-13", title=title)], [], (), (), name="Apollo\nBcc: all")
    message = tell(known)
    assert "APO-1 Pay Resolved all[2J now: was due" in message.text
    assert "\n" not in message.subject
    assert message.subject.startswith("Apollo Bcc: all: APO-1 Pay")


def test_chances_are_never_certain() -> None:
    assert [likely(n) for n in (0, 9, 10, 424, 425, 990, 991, 1000)] == [
        "less than 1 %", "less than 1 %", "1 %", "42 %", "43 %", "99 %", "more than 99 %", "more than 99 %",
    ]  # fmt: skip
