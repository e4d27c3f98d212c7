"""Public holidays, by country and region, as days off of the projects that map them: `DE`, `DE-BE`, `US-CA`.

They are computed by the library `holidays` (https://holidays.readthedocs.io), and nobody is asked. A day once computed
stays, whatever year it is, so that the working days of the past do not change; what a newer version of the library knows
better is found by the next sweep.

Next on the way of an event: `connectors/base.py`, the port; `connectors/pump.py` publishes what is read here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import ClassVar, Literal, Self

from connectors.base import Clock, Read, ReadWhole, Ref, Settings, Withheld
from pmsync.core.events import CalendarEntry, Meaning, Occurrence

KIND = "calendar_entry"
FIRST_YEAR = 2015
AHEAD = 3
"""Years from the present one on, it among them: as far as calendars are read (ADR 6)."""
DAY = timedelta(days=1)


class HolidaySettings(Settings):
    """`language` is that of the names, where the library has them in it."""

    kind: Literal["holidays"] = "holidays"
    language: str = "en_US"


class HolidayConnector(ReadWhole):
    """The single reader of one source of public holidays. A container is a country, or a region of one (ISO 3166)."""

    Settings: ClassVar[type[Settings]] = HolidaySettings

    def __init__(self, settings: HolidaySettings, clock: Clock) -> None:
        self.name = settings.name
        self._language = settings.language
        self._clock = clock
        self._known: dict[tuple[str, int], Mapping[Ref, Read]] = {}

    @classmethod
    def connect(cls, settings: HolidaySettings, clock: Clock) -> Self:
        return cls(settings, clock)

    def now(self) -> datetime:
        return self._clock()

    def _read(self, container: str) -> Mapping[Ref, Read]:
        last = self._clock().year + AHEAD
        if (container, last) not in self._known:
            self._known = {key: reads for key, reads in self._known.items() if key[1] == last}
            days = public_holidays(container, range(FIRST_YEAR, last), self._language)
            self._known[container, last] = {read.ref: read for read in _reads(container, days)}
        return self._known[container, last]


def public_holidays(container: str, years: Sequence[int], language: str) -> Mapping[date, str]:
    """The days off and their names, in order; raises `Withheld` for a country or region that nobody knows."""
    import holidays  # only where a source asks for it: it takes a twentieth of a second

    country, _, region = container.partition("-")
    known = holidays.list_supported_countries(include_aliases=False)
    if country not in known:
        raise Withheld(f"{container}: there is no country {country!r} here; name it by its two letters, as DE or DE-BE")
    if region and region not in known[country]:
        regions = ", ".join(known[country]) or "none"
        raise Withheld(f"{container}: {country} has no region {region!r} here; it has: {regions}")
    # Without a language, or in one that it lacks, the library takes that of the machine: events would change with it.
    place = holidays.country_holidays(country, subdiv=region or None)
    named = language if language in place.supported_languages else place.default_language
    found = holidays.country_holidays(country, subdiv=region or None, years=years, language=named)
    return dict(sorted(found.items()))


def _reads(container: str, days: Mapping[date, str]) -> Iterator[Read]:
    for day, name in days.items():
        entry = CalendarEntry(
            container=container,
            title=name,
            meaning=Meaning.holiday,
            occurrences=(Occurrence(start=day, end=day + DAY),),
        )
        yield Read(Ref(KIND, f"{container}/{day.isoformat()}"), content=entry)
