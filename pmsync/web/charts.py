"""The charts of a project as Vega-Lite specifications: values in, a dict out.

Colours are names of the style sheet's custom properties, so that a chart follows light, dark and print by itself; what
stands behind the comma is for renderers without a style sheet. Days are text in UTC, so that no browser's time zone
moves them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple

from pmsync.core.measures.capacity import CapacityWeek
from pmsync.core.measures.forecast import Forecast
from pmsync.core.measures.progress import BurnUpPoint
from pmsync.core.rules.episode import spoken
from pmsync.core.summary import Spent, Week

Spec = dict[str, Any]

INK, MUTED, GRID = "var(--ink, #1d1f21)", "var(--muted, #5c6470)", "var(--line, #d9dde3)"
DONE, CONE, LATE = "var(--done, #0072b2)", "var(--cone, #56b4e9)", "var(--late, #b34700)"
SECONDS = 86400
OLDEST = 20
PROMISED = 3
"""Promised days that are drawn at most."""
HEIGHT = 300
ROW = 15
"""Pixels between the names of upright lines, which stand in rows so that none meets another."""
TODAY = "today"
STRAGGLER = timedelta(days=28)

CONFIG: Mapping[str, Any] = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": MUTED,
        "titleColor": MUTED,
        "titleFontWeight": "normal",
        "gridColor": GRID,
        "domainColor": GRID,
        "tickColor": GRID,
        "labelFontSize": 12,
        "titleFontSize": 12,
    },
    "axisX": {"grid": False, "labelOverlap": True, "labelFlush": True},
    "text": {"fontSize": 12, "color": INK},
}


class Mark(NamedTuple):
    """An upright line at a day, with its name."""

    day: date
    title: str
    color: str


def burn_up(points: Sequence[BurnUpPoint], whole: Forecast, promises: Iterable[tuple[str, date]]) -> Spec:
    """Scope and done over time, then the forecast cone up to the present scope; today and promised days as upright
    lines."""
    alt = _altair()
    rows = [
        {"day": point.day.isoformat(), "on": spoken(point.day), "scope": point.scope, "done": point.done}
        for point in points
    ]
    today = points[-1].day
    marks = [Mark(today, TODAY, MUTED), *(Mark(day, title, LATE) for title, day in list(promises)[:PROMISED])]
    days = [points[0].day, *(mark.day for mark in marks), *finishes(whole, today).values()]
    x = _day(alt, days)
    y = alt.Y("done:Q", title="items", scale=alt.Scale(domain=[0, _headroom(points)]))
    base = alt.Chart(alt.Data(values=rows)).encode(x=x)
    layers = [
        base.mark_area(interpolate="step-after", color=DONE, opacity=0.25).encode(y=y),
        base.mark_line(interpolate="step-after", color=DONE, strokeWidth=2).encode(y="done:Q"),
        base.mark_line(interpolate="step-after", color=INK, strokeWidth=1.5).encode(y="scope:Q"),
        *_cone(alt, points[-1], whole),
        *_uprights(alt, marks, min(days), max(days)),
        _room(alt, min(days), max(days)),
        base.mark_point(opacity=0, size=120).encode(y="done:Q", tooltip=["on:N", "scope:Q", "done:Q"]),
    ]
    return _spec(alt.layer(*layers), HEIGHT, "Burn-up: scope and done by day, with the forecast of what is left")


def throughput(weeks: Sequence[Week]) -> Spec:
    """Items finished per week; the week that is not over is paler."""
    alt = _altair()
    rows = [
        {
            "week": f"{week.first.day} {spoken(week.first).split()[2]}",
            "from": spoken(week.first),
            "items": week.items,
            "opacity": 1.0 if week.whole else 0.45,
        }
        for week in weeks
    ]
    chart = (
        alt.Chart(alt.Data(values=rows))
        .mark_bar(color=DONE)
        .encode(
            x=alt.X("week:N", sort=None, title="week from", axis=alt.Axis(labelAngle=0)),
            y=_count(alt, "items", "items finished"),
            opacity=alt.Opacity("opacity:Q", scale=None),
            tooltip=["from:N", "items:Q"],
        )
    )
    return _spec(chart, 180, "Throughput: items finished per week")


def capacity(weeks: Sequence[CapacityWeek]) -> Spec:
    """The team's hours of each week, and upon them what holidays, time off and meetings take."""
    alt = _altair()
    rows = []
    for week in weeks:
        parts = (
            ("left", week.tally.capacity, DONE),
            ("meetings", week.tally.meetings, CONE),
            ("time off", week.tally.time_off, LATE),
            ("holidays", week.tally.holidays, MUTED),
        )
        for order, (part, seconds, color) in enumerate(parts):
            name = f"{week.first.day} {spoken(week.first).split()[2]}"
            row = {"week": name, "from": spoken(week.first), "part": part, "hours": round(seconds / 3600, 1)}
            rows.append({**row, "color": color, "order": order})
    chart = (
        alt.Chart(alt.Data(values=rows))
        .mark_bar()
        .encode(
            x=alt.X("week:N", sort=None, title="week from", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("hours:Q", title="hours", axis=alt.Axis(tickCount=5), scale=alt.Scale(domainMin=0)),
            color=alt.Color("color:N", scale=None),
            order=alt.Order("order:Q"),
            tooltip=["from:N", "part:N", "hours:Q"],
        )
    )
    return _spec(chart, 180, "Capacity: working hours of the team by week, and what holidays and time off take of them")


def cycle_times(finished: Sequence[Spent], p50: int | None, p85: int | None) -> Spec:
    """One point per finished item: when, and how many days it took; percentiles as lines."""
    alt = _altair()
    dots = (
        alt.Chart(alt.Data(values=_spent(finished)))
        .mark_circle(color=DONE, size=50, opacity=0.6)
        .encode(
            x=_day(alt, [spent.day for spent in finished]),
            y=_count(alt, "days", "days"),
            tooltip=["key:N", "title:N", "on:N", "days:Q"],
        )
    )
    lines = [layer for name, value in (("P50", p50), ("P85", p85)) for layer in _level(alt, name, value)]
    return _spec(alt.layer(dots, *lines), 180, "Cycle time of each finished item, in days")


def ages(started: Sequence[Spent], p85: int | None) -> Spec:
    """How long each item in progress has been so, the oldest first, against what finished items took."""
    alt = _altair()
    bars = (
        alt.Chart(alt.Data(values=_spent(started[:OLDEST])))
        .mark_bar(color=CONE)
        .encode(
            y=alt.Y("key:N", sort=None, title=None, axis=alt.Axis(labelLimit=140, labelColor=INK)),
            x=alt.X("days:Q", title="days in progress", axis=alt.Axis(tickMinStep=1, tickCount=8)),
            tooltip=["key:N", "title:N", "days:Q"],
        )
    )
    layers: list[Any] = [bars]
    if p85 is not None:
        row = alt.Data(values=[{"days": _days(p85), "on": "P85 of cycle time"}])
        layers.append(
            alt.Chart(row).mark_rule(color=LATE, strokeDash=[4, 3]).encode(x="days:Q", tooltip=["on:N", "days:Q"])
        )
    return _spec(alt.layer(*layers), 22 * min(len(started), OLDEST) + 10, "Age of work in progress, in days")


def _cone(alt: Any, last: BurnUpPoint, whole: Forecast) -> list[Any]:
    """From what is done today to the scope: a band between the first and the last date that is drawn, and P85 in it."""
    dates = list(finishes(whole, last.day).items())
    if not dates:
        return []
    today, left = last.day, last.scope - last.done
    days = sorted({today, *(day for _, day in dates)})

    def level(day: date, end: date) -> float:
        return last.done + left * min((day - today).days / max((end - today).days, 1), 1)

    band = [
        {"day": day.isoformat(), "early": level(day, dates[0][1]), "late": level(day, dates[-1][1])} for day in days
    ]
    middle = dict(dates).get("P85", dates[-1][1])
    line = [{"day": today.isoformat(), "done": last.done}, {"day": middle.isoformat(), "done": last.scope}]
    ahead = [{"day": today.isoformat(), "scope": last.scope}, {"day": days[-1].isoformat(), "scope": last.scope}]
    ends = {
        name: [{"day": day.isoformat(), "on": spoken(day), "name": name, "scope": last.scope}] for name, day in dates
    }
    return [
        _lines(alt, band).mark_area(color=CONE, opacity=0.4).encode(y="early:Q", y2="late:Q"),
        _lines(alt, line).mark_line(color=DONE, strokeDash=[5, 3], strokeWidth=1.5).encode(y="done:Q"),
        _lines(alt, ahead).mark_line(color=INK, strokeDash=[2, 3], strokeWidth=1).encode(y="scope:Q"),
        *(
            _lines(alt, end).mark_circle(color=DONE, size=45).encode(y="scope:Q", tooltip=["name:N", "on:N"])
            for end in ends.values()
        ),
        *(
            _lines(alt, end).mark_text(dy=_LIFT[name], color=DONE).encode(y="scope:Q", text="name:N")
            for name, end in ends.items()
        ),
    ]


_LIFT: Mapping[str, int] = {"P50": -11, "P85": 13, "P95": -25}
"""Where the names of the dates stand about the line of the scope: they may be days apart only."""


def finishes(whole: Forecast, today: date) -> Mapping[str, date]:
    """The dates of a forecast that are drawn, in order: those that are known, but P95 only if it is no straggler that
    would squeeze all else."""
    known = {name: day for name, day in (("P50", whole.p50), ("P85", whole.p85), ("P95", whole.p95)) if day}
    if whole.p85 and whole.p95 and whole.p95 - whole.p85 > max(whole.p85 - today, STRAGGLER):
        del known["P95"]
    return known


def _headroom(points: Sequence[BurnUpPoint]) -> int:
    """The top of the scale: half as much again as the scope, where the names of upright lines stand."""
    return max(point.scope for point in points) * 3 // 2 + 1


def _uprights(alt: Any, marks: Iterable[Mark], first: date, last: date) -> list[Any]:
    """Upright lines, each with its name at its left. Earlier ones begin lower, so that no line runs through a name. At
    the left edge, where a name has no room, only today keeps it, at its right."""
    layers = []
    for row, mark in enumerate(sorted(marks, reverse=True)):
        top = 2 + ROW * row
        chart = _lines(alt, [{"day": mark.day.isoformat(), "on": spoken(mark.day), "title": mark.title}])
        rule = chart.mark_rule(color=mark.color, strokeWidth=1.5)
        layers.append(rule.encode(y=alt.value(top), y2=alt.value(HEIGHT), tooltip=["title:N", "on:N"]))
        if mark.day - first > (last - first) / 4:
            layers.append(_name(alt, chart, mark, top, "right"))
        elif mark.title == TODAY:
            layers.append(_name(alt, chart, mark, top, "left"))
    return layers


def _name(alt: Any, chart: Any, mark: Mark, top: int, align: str) -> Any:
    text = chart.mark_text(align=align, baseline="top", dx=4 if align == "left" else -4, limit=150, color=mark.color)
    return text.encode(text="title:N", y=alt.value(top))


def _room(alt: Any, first: date, last: date) -> Any:
    """Room at the right for half a name of the last date."""
    edge = last + max((last - first) / 25, timedelta(days=1))
    return _lines(alt, [{"day": edge.isoformat()}]).mark_point(opacity=0)


def _level(alt: Any, name: str, seconds: int | None) -> list[Any]:
    if seconds is None:
        return []
    row = alt.Chart(alt.Data(values=[{"days": _days(seconds), "name": f"{name} {_days(seconds):g} days"}]))
    text = row.mark_text(align="left", baseline="bottom", dx=2, dy=-2, color=MUTED)
    rule = row.mark_rule(color=MUTED, strokeDash=[4, 3]).encode(y="days:Q", tooltip=["name:N"])
    return [rule, text.encode(y="days:Q", x=alt.value(0), text="name:N")]


def _lines(alt: Any, rows: list[dict[str, Any]]) -> Any:
    return alt.Chart(alt.Data(values=rows)).encode(x=alt.X("day:T"))


def _spent(found: Iterable[Spent]) -> list[dict[str, Any]]:
    return [
        {
            "key": spent.key,
            "title": spent.title,
            "day": spent.day.isoformat(),
            "on": spoken(spent.day),
            "days": _days(spent.seconds),
        }
        for spent in found
    ]


def _days(seconds: int) -> float:
    return round(seconds / SECONDS, 1)


def _day(alt: Any, days: Sequence[date]) -> Any:
    """The axis of days: one tick a day at most, and the year where it would be missed."""
    span = (max(days) - min(days)).days
    ticks = {"tickCount": {"interval": "day", "step": 1}} if span < 14 else {"tickCount": 8}
    form = "%b %Y" if span > 500 else "%-d %b"
    return alt.X("day:T", title=None, scale=alt.Scale(type="utc"), axis=alt.Axis(format=form, **ticks))


def _count(alt: Any, field: str, title: str) -> Any:
    return alt.Y(f"{field}:Q", title=title, axis=alt.Axis(tickMinStep=1, tickCount=5), scale=alt.Scale(domainMin=0))


def _spec(chart: Any, height: int, description: str) -> Spec:
    sized = chart.properties(width="container", height=height, description=description)
    return {**sized.to_dict(), "config": dict(CONFIG), "autosize": {"type": "fit-x", "contains": "padding"}}


def _altair() -> Any:
    # Slow to import, and most commands draw nothing.
    import altair

    return altair
