"""The charts' specifications: Vega-Lite accepts and draws them, and they carry the values that they were given."""

import re
from collections.abc import Iterator
from datetime import date
from html import unescape
from itertools import pairwise
from typing import Any

import pytest
import vl_convert

from pmsync.core.events import Thing
from pmsync.core.measures.capacity import CapacityWeek, Tally
from pmsync.core.measures.forecast import Forecast
from pmsync.core.measures.progress import BurnUpPoint
from pmsync.core.summary import Spent, Week
from pmsync.web import charts

POINTS = (BurnUpPoint(date(2026, 11, 20), 9, 3, 0, 0), BurnUpPoint(date(2026, 11, 24), 10, 4, 0, 0))
PROMISES = (("Release <b>", date(2026, 12, 4)),)
SPENT = (Spent("APO-1", "One", date(2026, 11, 20), 3 * 86400), Spent("APO-2", "Two", date(2026, 11, 23), 43200))
WEEKS = (Week(date(2026, 11, 16), 5, True), Week(date(2026, 11, 23), 2, False))


def outlook(p50: date | None, p85: date | None, p95: date | None) -> Forecast:
    return Forecast(Thing("configuration", "project", "p"), "P", None, p50, p85, p95, None, "", {})


WORK = (
    CapacityWeek(date(2026, 11, 16), Tally(144000, 28800, 14400, 0)),
    CapacityWeek(date(2026, 11, 23), Tally(144000, 0, 0, 5400)),
)
WHOLE = outlook(date(2026, 12, 1), date(2026, 12, 8), date(2026, 12, 15))
SPECS = {
    "burn_up": charts.burn_up(POINTS, WHOLE, PROMISES),
    "burn_up without P95": charts.burn_up(POINTS, outlook(date(2026, 12, 1), date(2026, 12, 8), None), ()),
    "burn_up without forecast": charts.burn_up(POINTS, outlook(None, None, None), ()),
    "burn_up with close promises": charts.burn_up(POINTS, WHOLE, [(n, date(2026, 12, 4)) for n in "ABCD"]),
    "burn_up of one day": charts.burn_up(POINTS[:1], WHOLE, ()),
    "throughput": charts.throughput(WEEKS),
    "cycle_times": charts.cycle_times(SPENT, 43200, 3 * 86400),
    "cycle_times without percentiles": charts.cycle_times(SPENT[:1], None, None),
    "capacity": charts.capacity(WORK),
    "ages": charts.ages(SPENT, 86400),
    "ages without percentile": charts.ages(SPENT, None),
}


def rows(spec: Any) -> Iterator[dict[str, Any]]:
    """Every row of data in a specification, wherever it stands."""
    if isinstance(spec, dict):
        if isinstance(spec.get("data"), dict):
            yield from spec["data"].get("values", [])
        for found in spec.get("datasets", {}).values():
            yield from found
        for layer in spec.get("layer", []):
            yield from rows(layer)


@pytest.mark.parametrize("name", SPECS)
def test_vega_lite_draws_it_without_a_word(name: str) -> None:
    svg = vl_convert.vegalite_to_svg({**SPECS[name], "width": 600}, allowed_base_urls=[])
    assert svg.count("<path") > 3
    assert "NaN" not in svg
    assert "var(--" in svg


def test_the_burn_up_carries_scope_done_and_the_cone() -> None:
    found = list(rows(SPECS["burn_up"]))
    days = [(row["day"], row["scope"], row["done"]) for row in found if "scope" in row and "done" in row]
    assert days[:2] == [("2026-11-20", 9, 3), ("2026-11-24", 10, 4)]
    band = [(row["day"], row["early"], round(row["late"], 3)) for row in found if "early" in row]
    assert band == [("2026-11-24", 4, 4), ("2026-12-01", 10, 6), ("2026-12-08", 10, 8), ("2026-12-15", 10, 10)]
    assert {"day": "2026-12-04", "on": "Fri 4 Dec 2026", "title": "Release <b>"} in found
    assert {"day": "2026-11-24", "on": "Tue 24 Nov 2026", "title": "today"} in found
    assert {row["name"] for row in found if "name" in row} == {"P50", "P85", "P95"}


def texts(name: str) -> list[tuple[str, float]]:
    """What is written in a chart, and how high."""
    svg = vl_convert.vegalite_to_svg({**SPECS[name], "width": 600}, allowed_base_urls=[])
    found = re.findall(r"<text [^>]*translate\([-\d.]+,([-\d.]+)\)[^>]*>([^<]+)</text>", svg)
    return [(unescape(text), float(y)) for y, text in found]


def test_today_and_the_dates_of_the_forecast_are_named() -> None:
    assert {"today", "P50", "P85", "P95", "Release <b>"} <= {text for text, _ in texts("burn_up")}
    assert {"P50", "P85", "P95"}.isdisjoint(text for text, _ in texts("burn_up without forecast"))


def test_names_of_promised_days_do_not_meet() -> None:
    heights = {text: y for text, y in texts("burn_up with close promises") if text in {"today", "A", "B", "C", "D"}}
    assert list(heights) == ["C", "B", "A", "today"]
    assert all(b - a >= 14 for a, b in pairwise(heights.values()))
    (rules,) = [[row for row in rows(SPECS["burn_up with close promises"]) if row.get("title") == "D"]]
    assert not rules, "a fourth would find no room"


def test_one_straggler_does_not_squeeze_the_chart() -> None:
    today = POINTS[-1].day
    far = outlook(date(2026, 12, 1), date(2026, 12, 8), date(2027, 6, 1))
    assert charts.finishes(WHOLE, today) == {"P50": WHOLE.p50, "P85": WHOLE.p85, "P95": WHOLE.p95}
    assert charts.finishes(far, today) == {"P50": far.p50, "P85": far.p85}
    assert max(row["day"] for row in rows(charts.burn_up(POINTS, far, ())) if "day" in row) < "2026-12-20"


def test_without_a_forecast_there_is_no_cone() -> None:
    assert not [row for row in rows(SPECS["burn_up without forecast"]) if "early" in row or "name" in row]


def test_the_present_week_is_paler() -> None:
    found = [(row["week"], row["items"], row["opacity"]) for row in rows(SPECS["throughput"])]
    assert found == [("16 Nov", 5, 1.0), ("23 Nov", 2, 0.45)]


def test_capacity_is_drawn_with_what_is_taken_of_it() -> None:
    found = [(row["week"], row["part"], row["hours"]) for row in rows(SPECS["capacity"])]
    assert found == [
        ("16 Nov", "left", 28), ("16 Nov", "meetings", 0), ("16 Nov", "time off", 4), ("16 Nov", "holidays", 8),
        ("23 Nov", "left", 38.5), ("23 Nov", "meetings", 1.5), ("23 Nov", "time off", 0), ("23 Nov", "holidays", 0),
    ]  # fmt: skip


def test_times_are_in_days() -> None:
    assert [row["days"] for row in rows(SPECS["cycle_times"]) if "key" in row] == [3.0, 0.5]
    assert {row["name"] for row in rows(SPECS["cycle_times"]) if "name" in row} == {"P50 0.5 days", "P85 3 days"}
    assert [row["days"] for row in rows(SPECS["ages"])] == [3.0, 0.5, 1.0]


def test_only_the_oldest_are_drawn() -> None:
    many = [Spent(f"APO-{n}", "", date(2026, 11, 24), 86400 * (100 - n)) for n in range(60)]
    assert [row["key"] for row in rows(charts.ages(many, None))] == [f"APO-{n}" for n in range(charts.OLDEST)]
