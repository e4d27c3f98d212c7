"""What people read, word by word."""

import unicodedata
from datetime import date, datetime, timedelta

from builders import JIRA, NOW, Item, acknowledgement, at, done, entry, item, milestone, state
from hypothesis import given
from hypothesis import strategies as st

from pmsync.core.alerts import Logged, Transition, alerts, transitions
from pmsync.core.events import Meaning
from pmsync.core.measures.forecast import forecast
from pmsync.core.measures.progress import progress
from pmsync.core.messages import LONGEST, Message, compose, plain
from pmsync.core.project import ProjectState, view
from pmsync.core.rules import episodes
from pmsync.core.rules.episode import likely, percent
from pmsync.core.summary import unread

OLD = at("2025-06-02")


def tell(
    known: ProjectState, log: dict[str, Logged] | None = None, *, first: bool = False, now: datetime = NOW
) -> Message:
    shown = view(known, now)
    forecasts = [forecast(shown, deadline) for deadline in shown.deadlines]
    moves = transitions(log or {}, alerts(episodes(known, now), known.facts), now)
    return compose(known.project, moves, forecasts, progress(shown.items), first=first, now=now, unread=unread(known))


def logged(known: ProjectState, now: datetime = NOW) -> dict[str, Logged]:
    moves: tuple[Transition, ...] = transitions({}, alerts(episodes(known, now), known.facts), now)
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
    assert " late (yesterday: " in text
    assert "  Why: 13 items must be done by then; 60 finished and 1 added in 60 working days" in text
    assert "added in the last week: APO-13; blocked: APO-13 since Thu 12 Mar 2026." in text
    assert "monte_carlo_throughput.v1, 1000 trials from 2025-12-22 to 2026-03-13 (forecast_late, alert " in text
    assert tell(known).subject.startswith("Apollo: Release 2.1 promised Fri 27 Mar 2026: ")


def test_one_thing_is_told_once_per_message() -> None:
    work = [item(f"{n}", created=OLD, milestone="m1") for n in range(12)]
    stuck = item("13", [(at("2026-03-12"), "blocked", True)], milestone="m1")
    other = item("14", [(at("2026-03-12"), "blocked", True)])
    known = state([*steady(), *work, stuck, other], [milestone("m1", "2026-03-27", title="Release 2.1")])
    rules = [episode.rule for episode in episodes(known, NOW) if episode.until is None]
    assert sorted(rules) == ["blocked", "blocked", "forecast_late", "milestone_near"]
    message = tell(known)
    assert message.text.count("Apollo · ") == 2
    assert message.subject.endswith(" (and 1 more)")
    assert "Apollo · APO-14 Item 14: blocked since Thu 12 Mar 2026, for 2 working days." in message.text
    first = tell(known, first=True)
    assert first.text.count("Apollo · ") == 2
    assert first.subject == "Apollo: 1 deadline near, 1 deadline late by forecast, 2 items blocked"


def test_what_to_do_is_said_last_and_only_if_something_is_wrong() -> None:
    known = state([item("1", due_date="2026-03-13")])
    fingerprint = next(iter(logged(known)))
    end = f"\n\nTake one on: pmsync alerts ack {fingerprint[:8]} --by you@example.com\n"
    assert tell(known).text.endswith(end)
    assert tell(known, first=True).text.endswith(end)
    assert "Take one on" not in tell(state([]), first=True).text


def test_a_subject_carries_the_substance() -> None:
    known = state([item("1", milestone="m1")], [milestone("m1", "2026-03-18", title="2.1")])
    assert tell(known).subject == "Apollo: 2.1 due Wed 18 Mar 2026, in 2 working days, 1 item open"
    long = state([item("1", due_date="2026-03-13", title="x" * 150)])
    assert tell(long).subject.endswith("… was due Fri 13 Mar 2026, 1 working day ago, and is still todo")


def test_the_worst_are_the_earliest_of_their_kind() -> None:
    # The earlier it was due, the later it came: `since` would tell them the other way round.
    known = state([item(f"{n}", due_date=f"2026-03-{12 - n:02}", created=at("2026-03-13", n)) for n in range(7)])
    told = tell(known, first=True).text
    assert [line.split()[2] for line in told.splitlines() if line.startswith("Apollo · ")] == [
        f"APO-{n}" for n in (6, 5, 4, 3, 2)
    ]


def test_nothing_is_called_well_while_something_is_unread() -> None:
    known = state([], deadline="2026-06-30")
    part = ProjectState(known.project, {**known.things, "synced": known.things["synced"][1:]}, {}, ())
    assert unread(part) == (f"APO in {JIRA}",)
    message = tell(part, first=True)
    assert "Not read: APO in jira." in message.text
    assert "nothing is wrong" not in message.subject + message.text
    assert "no items yet" not in message.text
    assert message.subject == "Apollo: no alerts; not everything has been read"
    assert "Not read" not in tell(known, first=True).text


def test_a_missed_deadline_is_not_called_resolved() -> None:
    work = [item(f"{n}", created=OLD, milestone="m1") for n in range(40)]
    known = state([*steady(), *work], [milestone("m1", "2026-03-13")])
    message = tell(known, logged(known, at("2026-03-13")))
    assert "Apollo · Release m1, was due Fri 13 Mar 2026, 1 working day ago, 40 items open." in message.text
    assert "Resolved" not in message.text


def test_a_forecast_that_cannot_be_made_any_more_is_not_called_well() -> None:
    work = [item(f"{n}", created=OLD, milestone="m1") for n in range(40)]
    log = logged(state([*steady(), *work], [milestone("m1", "2026-04-24")]))
    message = tell(state(work, [milestone("m1", "2026-04-24")]), log)
    assert "no finished item in the window, so there is no forecast any more\n" in message.text
    assert "no longer late" not in message.text


def test_a_day_that_has_passed_is_not_called_mended() -> None:
    known = state([], [], [entry("d", Meaning.deadline, date(2026, 3, 13), title="Audit")])
    message = tell(known, logged(known, at("2026-03-13")))
    assert message.text.endswith("Resolved\n  Audit: its day has passed\n")


def test_the_first_look_lists_the_deadlines_that_are_not_over() -> None:
    milestones = [
        milestone("m1", "2026-03-27", state="closed", closed_at=at("2026-03-10")),
        milestone("m2", "2026-04-24"),
        milestone("m3", "2026-03-10"),
    ]
    audit = entry("d", Meaning.deadline, date(2026, 4, 1), title="Audit")
    work = [item("1", milestone="m2"), done("2", at("2026-03-09"), milestone="m3"), item("3", milestone="m1")]
    text = tell(state([*steady(), *work], milestones, [audit]), first=True).text
    lines = text.split("Deadlines\n")[1].split("\n\n")[0].splitlines()
    assert lines[0] == "  Audit, promised Wed 1 Apr 2026: no items"
    assert [line.split(",")[0].strip() for line in lines] == ["Audit", "Release m2"]
    assert text.count("P85: done by then in 85 of 100 simulations.") == 1


def test_the_first_look_is_a_summary() -> None:
    late = [item(f"{n:02}", created=OLD, due_date="2026-03-13") for n in range(30)]
    known = state([*steady(), *late], deadline="2026-06-30")
    message = tell(known, first=True)
    assert message.subject == "Apollo: 30 items overdue"
    assert "66 of 96 items done (69 %), 0 in progress, 30 to do." in message.text
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
    assert "  no longer of this project, closed, or with another date or threshold: 1 earlier alert\n" in message.text


def test_long_lists_are_cut_and_say_so() -> None:
    message = tell(state([item(f"{n:02}", due_date="2026-03-13") for n in range(33)]))
    assert message.text.count("Apollo · ") == 20
    assert "  and 13 more" in message.text


def test_what_was_taken_on_is_a_line() -> None:
    known = state([item("1", due_date="2026-03-13")])
    log = logged(known)
    for note, said in (("", ""), ("Bo will\ncall them", ": Bo will call them")):
        fact = acknowledgement(next(iter(log)), NOW, note=note)
        message = tell(state([item("1", due_date="2026-03-13")], facts=[fact]), log)
        assert (message.subject, message.text.split("\n\n")[1]) == (
            "Apollo: 1 acknowledged",
            f"Acknowledged\n  APO-1 Item 1{said}\n",
        )
        assert "ada" not in message.text


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


def test_shares_are_rounded_the_same_everywhere() -> None:
    assert [percent(share) for share in (0.0, 0.004, 0.916667, 0.914, 0.996, 1.0)] == [
        "0 %", "less than 1 %", "92 %", "91 %", "more than 99 %", "100 %",
    ]  # fmt: skip
