"""Progress now, and the burn-up as the view of each day's end shows it."""

from datetime import date, timedelta

from builders import NOW, START, Item, any_items, at, done, item, state
from hypothesis import given

from pmsync.core.measures.progress import BurnUpPoint, burn_up, named, progress
from pmsync.core.project import view
from pmsync.core.workdays import Workdays

DAYS = [START.date() + timedelta(days=n) for n in range(-1, 74)]


def test_what_was_dropped_is_out_of_scope_and_what_has_no_estimate_is_counted() -> None:
    shown = view(
        state(
            [
                item("1", estimate=1500),
                item("2", [(NOW, "status_category", "in_progress")]),
                done("3", NOW, estimate=2000),
                item("4", [(NOW, "status_category", "dropped")], estimate=9000),
            ]
        ),
        NOW,
    )
    stand = progress(shown.items)
    assert (stand.todo, stand.in_progress, stand.done, stand.dropped) == (1, 1, 1, 1)
    assert (stand.scope, stand.open) == (3, 2)
    assert (stand.estimate, stand.estimate_done, stand.unestimated) == (3500, 2000, 1)


def test_burn_up_follows_moves_reopening_and_estimates() -> None:
    known = state(
        [
            item(
                "1",
                [
                    (at("2026-01-07"), "container", "APO"),
                    (at("2026-01-08"), "status_category", "done"),
                    (at("2026-01-09"), "status_category", "todo"),
                    (at("2026-01-10"), "estimate", 3000),
                    (at("2026-01-11"), "container", "ELSE"),
                ],
                container="ELSE",
                estimate=1000,
            )
        ]
    )
    days = [date(2026, 1, n) for n in range(6, 12)]
    points = burn_up(known, view(known, NOW), days)
    assert [point[1:] for point in points] == [
        (0, 0, 0, 0), (1, 0, 1000, 0), (1, 1, 1000, 1000), (1, 0, 1000, 0), (1, 0, 3000, 0), (0, 0, 0, 0),
    ]  # fmt: skip


@given(any_items())
def test_every_point_equals_the_progress_of_a_view(items: list[Item]) -> None:
    known = state(items, time_zone="America/New_York")
    now = view(known, NOW)
    workdays = Workdays.of(now)
    for point in burn_up(known, now, DAYS[:6] + DAYS[6::9]):
        stand = progress(view(known, min(workdays.deadline(point.day), NOW)).items)
        assert point == BurnUpPoint(point.day, stand.scope, stand.done, stand.estimate, stand.estimate_done)


def test_the_order_of_the_source_stands_above_its_times() -> None:
    moves = [
        (at("2026-01-20"), "status_category", "in_progress"),
        (at("2026-01-10"), "status_category", "done"),
        (at("2026-01-25"), "estimate", 2000),
        (at("2026-01-01"), "estimate", 3000),
    ]
    known = state([item("1", moves)])
    now = view(known, NOW)
    for point in burn_up(known, now, DAYS):
        stand = progress(view(known, min(Workdays.of(now).deadline(point.day), NOW)).items)
        assert point[1:] == (stand.scope, stand.done, stand.estimate, stand.estimate_done), point.day


def test_what_happens_at_the_end_of_a_day_belongs_to_it_as_to_a_view() -> None:
    known = state([done("1", at("2026-01-08", 0))])
    assert [p.done for p in burn_up(known, view(known, NOW), [date(2026, 1, 6), date(2026, 1, 7)])] == [0, 1]


def test_changes_from_before_the_creation_make_no_item() -> None:
    known = state([item("1", [(at("2026-01-06"), "estimate", 1000)], created=at("2026-01-08"))])
    points = burn_up(known, view(known, NOW), [date(2026, 1, n) for n in (6, 7, 8)])
    assert [p.scope for p in points] == [0, 0, 1]


def test_no_point_knows_more_than_its_view() -> None:
    known = state([done("1", at("2026-03-16", 15))])
    assert [p.done for p in burn_up(known, view(known, NOW), [NOW.date(), NOW.date() + timedelta(days=9)])] == [0, 0]


def test_evidence_names_twenty_and_counts_all() -> None:
    shown = view(state([item(str(n)) for n in range(30)]), NOW)
    evidence = named(shown.items)
    assert evidence["count"] == 30
    assert evidence["items"] == sorted(i.key for i in shown.items)[:20]
