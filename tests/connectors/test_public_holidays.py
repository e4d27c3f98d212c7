"""Public holidays: known days of known years, regions, and the source as the pump drives it. Nothing here uses the network."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from connectors.base import Read, Ref, Withheld
from connectors.public_holidays import HolidayConnector, HolidaySettings, public_holidays
from connectors.pump import Pump
from connectors.testing import MemoryBus, MemoryLedger
from pmsync.core.claims import claimed
from pmsync.core.events import CalendarEntry, Meaning, Snapshot, Synced
from pmsync.core.project import fold, load, view
from pmsync.core.workdays import Workdays

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
ROOT = Path(__file__).parents[2]


class Source:
    """A connector, and the clock that it reads."""

    def __init__(self, **settings: Any) -> None:
        self.now = NOW
        configured = HolidaySettings.model_validate({"name": "public", "kind": "holidays"} | settings)
        self.connector = HolidayConnector.connect(configured, lambda: self.now)

    def reads(self, container: str) -> dict[str, Read]:
        (page,) = self.connector.changed(container, None)
        return {read.ref.id.partition("/")[2]: read for read in page}


@pytest.mark.parametrize(
    ("container", "off", "on"),
    [
        # Dates that are fixed by law, and such as move with Easter (5 April 2026) or by rule.
        ("DE", ["2026-01-01", "2026-04-03", "2026-04-06", "2026-05-14", "2026-10-03", "2026-12-25"], ["2026-03-08", "2026-06-04"]),
        ("DE-BE", ["2026-03-08", "2026-05-25"], ["2026-06-04", "2026-11-01"]),
        ("DE-BY", ["2026-06-04", "2026-11-01"], ["2026-03-08"]),
        ("US", ["2026-07-03", "2026-11-26"], ["2026-11-27"]),  # the Fourth is a Saturday
        ("US-CA", ["2026-11-27"], ["2026-10-12"]),
        ("GB-ENG", ["2026-04-06", "2026-08-31", "2026-12-28"], ["2026-08-03"]),  # Boxing Day is a Saturday
        ("GB-SCT", ["2026-08-03"], ["2026-04-06", "2026-08-31"]),
        ("JP", ["2026-05-06"], ["2026-12-25"]),  # in place of a Sunday
    ],
)  # fmt: skip
def test_known_days_of_2026(container: str, off: list[str], on: list[str]) -> None:
    found = Source().reads(container)
    assert [day for day in off if day not in found] == []
    assert [day for day in on if day in found] == []


def test_a_day_is_an_entry_of_its_own() -> None:
    read = Source().reads("DE")["2026-10-03"]
    assert read.ref == Ref("calendar_entry", "DE/2026-10-03")
    entry = read.content
    assert isinstance(entry, CalendarEntry)
    assert (entry.container, entry.title, entry.meaning) == ("DE", "German Unity Day", Meaning.holiday)
    assert [(each.start, each.end) for each in entry.occurrences] == [(date(2026, 10, 3), date(2026, 10, 4))]


def test_names_are_in_the_language_that_is_asked_for() -> None:
    read = Source(language="de").reads("DE")["2026-10-03"]
    assert isinstance(read.content, CalendarEntry)
    assert read.content.title == "Tag der Deutschen Einheit"


def test_names_do_not_come_from_the_machine() -> None:
    code = (
        "from connectors.public_holidays import public_holidays as p\n"
        "for place, language in (('DE', 'en_US'), ('DE', 'en-US'), ('FR', 'de'), ('US-CA', 'xx'), ('GB', 'de')):\n"
        "    print(*p(place, range(2026, 2027), language).values())"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "LANGUAGE": language, "LANG": f"{language}.UTF-8"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for language in ("de_DE", "th", "C")
    }
    assert len(said) == 1


@pytest.mark.parametrize(
    ("container", "says"),
    [
        ("XX", "there is no country 'XX'"),
        ("", "there is no country ''"),
        ("Germany", "by its two letters"),
        ("de", "there is no country 'de'"),
        ("DE-ZZ", "DE has no region 'ZZ' here; it has: BB, BE"),
        ("LU-A", "LU has no region 'A' here; it has: none"),
    ],
)
def test_a_place_that_nobody_knows_is_withheld_and_told(container: str, says: str) -> None:
    source = Source()
    with pytest.raises(Withheld, match=says):
        source.reads(container)
    (line,) = source.connector.check([container, "DE"])
    assert says in line


def test_every_place_can_be_read() -> None:
    import holidays

    places = holidays.list_supported_countries(include_aliases=False)
    assert len(places) > 200
    for country, regions in places.items():
        for place in (country, *(f"{country}-{region}" for region in regions)):
            days = public_holidays(place, range(2025, 2028), "en_US")
            assert list(days) == sorted(days)
            assert len(days) < 3 * 60, place


def test_what_is_read_again_is_not_published_again_and_a_new_year_adds_to_it() -> None:
    source, bus = Source(), MemoryBus()
    pump = Pump(source.connector, MemoryLedger(), bus, lambda: source.now, "me")
    routes = {"DE-BE": {"apollo": 1}}
    pump.sync(routes)
    told = list(bus.events)
    assert len(told) > 100
    pump.sync(routes)
    assert bus.events == told
    source.now = datetime(2027, 1, 1, tzinfo=UTC)
    pump.sync(routes)
    news = [event for event in bus.events[len(told) :] if not isinstance(event.content, Synced)]  # type: ignore[union-attr]
    days = {event.thing.id.partition("/")[2][:4] for event in news if isinstance(event, Snapshot)}
    assert days == {"2029"}, "what was a day off stays one"
    assert all(isinstance(event, Snapshot) for event in news)


def test_a_sweep_and_a_fetch_say_what_the_list_says() -> None:
    source = Source()
    reads = source.reads("US-CA")
    (marks,) = source.connector.sweep("US-CA")
    assert {mark.ref for mark in marks} == {read.ref for read in reads.values()}
    refs = [Ref("calendar_entry", f"US-CA/{day}") for day in ("2026-11-27", "2026-11-28")]
    assert list(source.connector.fetch(refs)) == [reads["2026-11-27"], Read(refs[1])]


def test_they_are_no_working_days_of_the_project() -> None:
    source, bus = Source(), MemoryBus()
    Pump(source.connector, MemoryLedger(), bus, lambda: source.now, "me").sync({"DE-BE": {"apollo": 1}})
    project = {"kind": "project", "key": "apollo", "name": "Apollo", "mapping": {"public": {"DE-BE": 1}}}
    configured = Snapshot.model_validate(
        {"project": "apollo", "thing": ("configuration", "project", "apollo"), "version": 1, "content": project}
    )
    state = load(fold(map(claimed, [configured, *bus.events])))
    assert state is not None
    workdays = Workdays.of(view(state, NOW))
    assert workdays.between(date(2026, 12, 23), date(2026, 12, 28)) == 2  # the 24th and the 28th
    assert not workdays.is_working(date(2026, 12, 25))
