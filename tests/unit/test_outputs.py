"""What the log tells others: it agrees with the exports, has one id per thing said, and never grows beyond a record."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from builders import NOW, acknowledgement, at, done, item, milestone, state
from hypothesis import given
from hypothesis import strategies as st

from pmsync.core.alerts import AlertState, Logged, Transition, alerts, transitions
from pmsync.core.exports import TABLES, rows, sight
from pmsync.core.outputs import (
    LONGEST,
    AlertTransition,
    DeadlineMetrics,
    ProjectMetrics,
    encode_metrics,
    encode_transition,
    metrics,
    transition,
)
from pmsync.core.project import ProjectState
from pmsync.core.rules import episodes

MINUTE = timedelta(minutes=1)
LATE = state(
    [
        item("1", due_date="2026-03-02", estimate=2500, milestone="m1"),
        item("2", [(at("2026-02-02"), "blocked", True)], milestone="m1"),
        *(done(f"d{n}", at("2026-02-10") + n * timedelta(days=1), estimate=1000, milestone="m1") for n in range(5)),
    ],
    [milestone("m1", "2026-03-20"), milestone("m2")],
)


def measured(known: ProjectState, when: Any = NOW) -> ProjectMetrics:
    return metrics(sight(known, when), alerts(episodes(known, when), known.facts))


def moves(known: ProjectState, when: Any = NOW, **logged: Logged) -> list[Transition]:
    return list(transitions(logged, alerts(episodes(known, when), known.facts), when))


# --- metrics ----------------------------------------------------------------------------------------------------------


def test_figures_are_those_of_the_exports() -> None:
    said = json.loads(encode_metrics(measured(LATE))[1])["data"]
    (figures,) = rows("projects", LATE, NOW, NOW)
    deadlines = list(rows("milestones", LATE, NOW, NOW))
    assert {name: said[name] for name in figures.keys() & said.keys()} == {
        name: figures[name] for name in figures.keys() & said.keys()
    }
    assert [{**row, **told} for row, told in zip(deadlines, said["deadlines"], strict=True)] == deadlines
    assert said["scope"] == 7
    assert said["estimate"] == 7.5
    assert said["deadlines"][0]["on_time"] is not None


@pytest.mark.parametrize(
    ("model", "table", "own"),
    [
        (ProjectMetrics, "projects", {"assessed_at", "unread", "alerts", "deadlines"}),
        (DeadlineMetrics, "milestones", set()),
    ],
)
def test_a_name_means_what_the_column_of_this_name_means(model: Any, table: str, own: set[str]) -> None:
    assert set(model.model_fields) - own <= set(TABLES[table])


def test_open_alerts_are_counted_and_resolved_ones_are_not() -> None:
    fingerprint = next(e.fingerprint for e in episodes(LATE, NOW) if e.rule == "overdue")
    taken = replace(LATE, facts=(acknowledgement(fingerprint, NOW - MINUTE),))
    before, after = measured(LATE).alerts, measured(taken).alerts
    open_now = [e.severity for e in episodes(LATE, NOW) if e.until is None]
    assert {severity: counts.firing for severity, counts in before.items()} == {
        severity: open_now.count(severity) for severity in ("critical", "warning", "info")
    }
    assert sum(counts.acknowledged for counts in after.values()) == 1
    assert sum(counts.firing for counts in after.values()) == len(open_now) - 1


def test_what_is_not_read_is_named() -> None:
    known = state([item("1")], mapping={"jira": {"APO": 1}})
    assert measured(known).unread == ()
    unread = replace(known, things={**known.things, "synced": []})
    assert [(each.source, each.container) for each in measured(unread).unread] == [("jira", "APO")]
    assert measured(unread).scope == 0


def test_what_stays_the_same_has_the_same_digest_whenever_it_is_looked_at() -> None:
    one, later = measured(LATE), measured(LATE, NOW + MINUTE)
    assert one.assessed_at != later.assessed_at
    assert one.digest() == later.digest()
    assert encode_metrics(one)[0] != encode_metrics(later)[0]
    other = measured(state([item("1")]))
    assert other.digest() != one.digest()
    assert encode_metrics(one) == encode_metrics(measured(LATE))


def test_metrics_are_a_cloudevent_of_the_project() -> None:
    ident, raw = encode_metrics(measured(LATE))
    envelope = json.loads(raw)
    data = envelope.pop("data")
    assert envelope == {
        "specversion": "1.0", "id": ident, "source": "/projects/apollo", "subject": "apollo", "type": "pmsync.metrics.v1",
        "time": "2026-03-16T12:00:00Z", "datacontenttype": "application/json", "partitionkey": "apollo",
    }  # fmt: skip
    assert ProjectMetrics.model_validate(data) == measured(LATE)


def test_who_knows_an_older_version_reads_a_newer_one() -> None:
    data = json.loads(encode_metrics(measured(LATE))[1])["data"]
    assert ProjectMetrics.model_validate({**data, "newer": 1}) == measured(LATE)


# --- transitions ------------------------------------------------------------------------------------------------------


def test_a_transition_carries_what_the_alert_says() -> None:
    found = {move.alert.episode.rule: move for move in moves(LATE) if move.alert}
    ident, raw = encode_transition(transition("apollo", found["overdue"]))
    envelope = json.loads(raw)
    data = envelope.pop("data")
    (exported,) = (row for row in rows("alerts", LATE, NOW, NOW) if row["rule"] == "overdue")
    shared = data.keys() & exported.keys()
    assert shared >= {
        "fingerprint",
        "project",
        "state",
        "since",
        "rule",
        "subject",
        "key",
        "title",
        "severity",
        "evidence",
    }
    assert {name: data[name] for name in shared} == {name: exported[name] for name in shared}
    assert (data["n"], data["at"]) == (1, "2026-03-16T12:00:00Z")
    assert envelope == {
        "specversion": "1.0", "id": ident, "source": "/projects/apollo", "subject": data["fingerprint"],
        "type": "pmsync.alert.v1", "time": data["at"], "datacontenttype": "application/json", "partitionkey": "apollo",
    }  # fmt: skip


def test_who_took_it_on_and_what_they_wrote_is_not_told() -> None:
    fingerprint = moves(LATE)[0].fingerprint
    taken = replace(LATE, facts=(acknowledgement(fingerprint, NOW - MINUTE, by="ada", note="seen by me"),))
    move = next(move for move in moves(taken) if move.fingerprint == fingerprint)
    assert move.state is AlertState.acknowledged
    raw = encode_transition(transition("apollo", move))[1]
    assert b"ada" not in raw
    assert b"seen by me" not in raw


def test_what_is_gone_is_resolved_by_its_fingerprint_alone() -> None:
    (move,) = (m for m in moves(state(), f=Logged(3, "firing", at("2026-03-02"))) if m.alert is None)
    said = transition("apollo", move)
    assert (said.fingerprint, said.n, said.state, said.rule, said.evidence) == ("f", 4, AlertState.resolved, None, None)
    assert AlertTransition.model_validate(json.loads(encode_transition(said)[1])["data"]) == said


def test_each_line_of_the_alert_log_has_an_id_of_its_own() -> None:
    first, again = Logged(1, "firing", at("2026-03-02")), Logged(3, "firing", at("2026-03-02"))
    lines = [
        transition(project, move)
        for project in ("apollo", "beacon")
        for when in (NOW, NOW + MINUTE)
        for logged in (first, again)
        for move in moves(state(), when, f=logged)
    ]
    assert len({encode_transition(line)[0] for line in lines}) == len(lines) == 8
    assert encode_transition(lines[0])[0] == encode_transition(lines[0].model_copy())[0]


# --- what anyone may write --------------------------------------------------------------------------------------------


@given(st.text(max_size=3 * LONGEST))
def test_no_title_makes_a_message_large_or_breaks_it(title: str) -> None:
    known = state([item("1", due_date="2026-03-02", title=title, milestone="m1")], [milestone("m1", title=title)])
    said = measured(known)
    assert all(len(deadline.title) <= LONGEST for deadline in said.deadlines)
    assert ProjectMetrics.model_validate(json.loads(encode_metrics(said)[1])["data"]) == said
    for move in moves(known):
        told = transition("apollo", move)
        assert len(told.title or "") <= LONGEST
        assert len(encode_transition(told)[1]) < 20 * LONGEST
