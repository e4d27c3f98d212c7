"""Feeds that mean harm, built by functions, each with what has to become of it; `bench/hostile.py` measures them and
`tests/connectors/test_hostile_feeds.py` holds the reader to the last column.

Each has a sound entry first, which has to be read whatever follows, unless the feed is refused as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Literal, NamedTuple

MB = 1024 * 1024
NEIGHBOUR = "UID:neighbour\r\nDTSTART:20260105T100000Z"
START = "DTSTART:20260105T100000Z"
SIXTY = ",".join(map(str, range(60)))

Ends = Literal["read", "refused", "a problem"]


class Hostile(NamedTuple):
    """One feed, and what becomes of it: it is read, within its bounds; its entry is a problem, which says `why`; or the whole
    feed is refused."""

    name: str
    build: Callable[[], bytes]
    ends: Ends
    why: str = ""


def component(kind: str, *lines: str) -> str:
    return "\r\n".join((f"BEGIN:{kind}", *lines, f"END:{kind}", ""))


def feed(*components: str) -> bytes:
    return component("VCALENDAR", component("VEVENT", NEIGHBOUR) + "".join(components).rstrip("\r\n")).encode()


def entry(*lines: str, uid: str = "bad") -> str:
    return component("VEVENT", f"UID:{uid}", *lines)


def one(name: str, lines: Iterable[str] | Callable[[], Iterable[str]], ends: Ends, why: str = "") -> Hostile:
    """A feed with one bad entry."""
    return Hostile(name, lambda: feed(entry(*(lines() if callable(lines) else lines))), ends, why)


def rule(text: str, ends: Ends, why: str = "", start: str = START, name: str = "") -> Hostile:
    return one(name or f"{text[:60]}{' …' * (len(text) > 60)}", (start, f"RRULE:{text}"), ends, why)


def dates(count: int, year: int = 2026) -> Iterable[str]:
    """So many different instants, five minutes apart."""
    every = (
        f"{year:04}{month:02}{day:02}T{hour:02}{minute:02}00"
        for month in range(1, 13)
        for day in range(1, 29)
        for hour in range(24)
        for minute in range(60)
    )
    return islice(every, count)


def listed(name: str, count: int, each: int = 1000, year: int = 2026, suffix: str = "Z") -> Iterable[str]:
    """Instants in lines of so many."""
    found = [moment + suffix for moment in dates(count, year)]
    return [f"{name}:{','.join(found[n : n + each])}" for n in range(0, count, each)]


def many(count: int, *lines: str) -> str:
    return "".join(entry(*lines, uid=f"bad-{n}") for n in range(count))


def zone(name: str, *lines: str) -> str:
    return component("VTIMEZONE", f"TZID:{name}", *lines)


def observance(rule: str, start: str = "19700101T000000", offset: str = "+0100", more: Iterable[str] = ()) -> str:
    lines = (f"DTSTART:{start}", "TZOFFSETFROM:+0000", f"TZOFFSETTO:{offset}", *more)
    return component("STANDARD", *lines, *([f"RRULE:{rule}"] if rule else [])).rstrip()


def zoned(name: str, *lines: str, moment: str = "20260105T100000") -> bytes:
    """A feed with a zone, and an entry in it."""
    return feed(zone(name, *lines), entry(f"DTSTART;TZID={name}:{moment}"))


def storm(count: int, *lines: str, how: str = "", core: str = "FREQ=HOURLY") -> bytes:
    """A series and so many exceptions from it."""
    overrides = (
        entry(f"RECURRENCE-ID{how}:{moment}Z", f"DTSTART:{moment}Z", *lines)
        for moment in islice(dates(60 * count), 0, None, 60)
    )
    return feed(entry("DTSTART:20260101T000000Z", f"RRULE:{core}", "SEQUENCE:5"), *overrides)


STEPS = "RRULE needs too many steps"
UNKNOWN = "is unknown"
YEAR_1 = "DTSTART:00010101T000000"
NEVER = "FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=30"
DATE = "is no valid date, time or duration"

RULES = (
    rule("FREQ=SECONDLY", "a problem", "FREQ that is not supported"),
    rule("FREQ=MINUTELY;COUNT=2", "a problem", "FREQ that is not supported"),
    rule("FREQ=DAILY;INTERVAL=0", "a problem", "INTERVAL outside 1 to 10000"),
    rule("FREQ=DAILY;INTERVAL=-1", "a problem", "INTERVAL outside 1 to 10000"),
    rule(f"FREQ=DAILY;INTERVAL=1{'0' * 5000}", "a problem", "INTERVAL outside 1 to 10000"),
    rule("FREQ=DAILY;COUNT=999999999", "read"),
    rule("FREQ=HOURLY;COUNT=999999999", "read"),
    rule("FREQ=DAILY;COUNT=-5", "a problem", "cannot be expanded"),
    rule("FREQ=DAILY;COUNT=0", "read"),
    rule("FREQ=DAILY;UNTIL=99991231T235959Z", "read"),
    rule("FREQ=DAILY;UNTIL=00010101T000000Z", "read"),
    rule("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", "read"),
    rule("FREQ=MONTHLY;BYMONTH=4;BYMONTHDAY=31", "read"),
    rule("FREQ=YEARLY;BYWEEKNO=53;BYMONTH=6", "read"),
    rule("FREQ=YEARLY;BYYEARDAY=366;BYMONTH=1", "read"),
    rule("FREQ=YEARLY;INTERVAL=9999;BYMONTH=2;BYMONTHDAY=29", "read"),
    rule("FREQ=DAILY;BYSETPOS=366", "read"),
    rule("FREQ=YEARLY;BYSETPOS=" + ",".join(map(str, range(1, 33))), "a problem", "more than 31 BYSETPOS"),
    rule(NEVER, "a problem", STEPS, start=YEAR_1, name="each hour of 30 February since the year 1"),
    rule("FREQ=DAILY", "a problem", STEPS, start=YEAR_1, name="each day since the year 1"),
    rule("FREQ=DAILY", "read", start="DTSTART:99991231T235959Z", name="each day from the last one on"),
    rule(f"FREQ=HOURLY;BYMINUTE={SIXTY};BYSECOND={SIXTY};BYSETPOS=-366", "a problem", STEPS),
    rule(f"{NEVER};BYMINUTE={SIXTY};BYSECOND={SIXTY}", "a problem", STEPS, name="3600 times an hour on 30 February"),
    rule(f"FREQ=DAILY;BYMINUTE={SIXTY};BYSECOND={SIXTY}", "read", name="3600 times each day"),
    rule(f"FREQ=DAILY;BYHOUR={'1,' * 200}1;BYMINUTE={SIXTY}", "a problem", "more than 10000 combinations"),
    rule("FREQ=MONTHLY;BYDAY=" + ",".join(f"{n % 53 + 1}MO" for n in range(9000)), "a problem", "cannot be expanded"),
    rule("FREQ=DAILY;INTERVAL=31;BYMONTHDAY=" + ",".join(["30"] * 9000), "read"),
    rule("FREQ=DAILY;BYYEARDAY=" + ",".join(["366"] * 9000), "read"),
    rule("FREQ=DAILY;FREQ=DAILY", "a problem", "names a part twice"),
    rule("FREQ=DAILY;BYDAY=XX", "a problem", "RRULE"),
    one("EXRULE", (START, "RRULE:FREQ=DAILY", "EXRULE:FREQ=DAILY"), "a problem", "EXRULE is not supported"),
    one("200 rules in one entry", (START, *["RRULE:FREQ=DAILY"] * 200), "a problem", "RRULE is there more than 20 times"),
    Hostile("400 entries that spend all steps", lambda: feed(many(400, YEAR_1, f"RRULE:{NEVER}")), "a problem", "together"),
    Hostile("5000 entries, each hour for ever", lambda: feed(many(5000, START, "RRULE:FREQ=HOURLY")), "a problem", "together"),
    Hostile(
        "4000 entries with 5 rules of 3600 times each",
        lambda: feed(many(4000, START, *[f"RRULE:FREQ=YEARLY;BYMINUTE={SIXTY};BYSECOND={SIXTY}"] * 5)), "a problem", "together",
    ),
)  # fmt: skip

DATES = (
    one("100,000 RDATE in a line", lambda: (START, *listed("RDATE", 100_000, 100_000)), "a problem", "longer than"),
    one("100,000 RDATE in lines", lambda: (START, *listed("RDATE", 100_000)), "a problem", "more than 10000 values"),
    one("100,000 EXDATE in lines", lambda: (START, "RRULE:FREQ=DAILY", *listed("EXDATE", 100_000)), "a problem", "more than 10000 values"),
    Hostile("50 times 10,000 RDATE", lambda: feed(many(50, START, *listed("RDATE", 10_000))), "a problem", "together"),
    Hostile("50 times 10,000 EXDATE", lambda: feed(many(50, START, "RRULE:FREQ=HOURLY", *listed("EXDATE", 10_000))), "a problem", "together"),
    one("a period of 10^9 weeks", (START, "RDATE;VALUE=PERIOD:20260106T100000Z/P999999999W"), "a problem"),
    one("a duration of 10^9 weeks", (START, "DURATION:P1000000000W"), "a problem", DATE),
    one("a duration of 5000 digits", (START, f"DURATION:P{'9' * 5000}D"), "a problem"),
    one("a duration of minus a week", (START, "DURATION:-P1W"), "read"),
    one("an end before its start", (START, "DTEND:19700101T000000Z"), "read"),
    one("an end in the year 9999", (START, "DTEND:99991231T235959Z", "RRULE:FREQ=DAILY"), "a problem", "cannot be expanded"),
    one("27 years, each day again", (START, "DURATION:P9999D", "RRULE:FREQ=DAILY"), "read"),
    one("the year 0", ("DTSTART:00000101T000000Z",), "a problem", DATE),
    one("the year 1", ("DTSTART:00010101T000000Z",), "read"),
    one("the year 9999", ("DTSTART;VALUE=DATE:99991231",), "a problem", "cannot be expanded"),
    one("the year 9999 in a zone", ("DTSTART;TZID=Europe/Berlin:99991231T000000",), "a problem", "beyond the year 2500"),
    one("32 January", ("DTSTART;VALUE=DATE:20260132",), "a problem", DATE),
)  # fmt: skip

TEXT = (
    one("a line of 10 MB", lambda: (START, "SUMMARY:" + "x" * (9 * MB)), "a problem", "SUMMARY is longer than"),
    one("a line of 10 MB that is no property", lambda: (START, "x" * (9 * MB)), "read"),
    one("base64 of 10 MB", lambda: (START, "ATTACH;ENCODING=BASE64;VALUE=BINARY:" + "QUJD" * (9 * MB // 4)), "read"),
    one("a fold after each character", lambda: (START, "DESCRIPTION:" + "x\r\n " * 900_000), "refused", "lines"),
    one("folds in folds", (START, "SUMMARY:x\r\n \r\n \r\n\t\r\n  y"), "read"),
    Hostile("folds that cut characters", lambda: feed(entry(START, "SUMMARY:")).replace(b"SUMMARY:", b"SUMMARY:\xc3\r\n \xa4" * 1000), "read"),
    one("a quote of 60 kB", (f'DTSTART;X="{"y" * 60_000}:20260105T100000Z',), "a problem", "DTSTART is no valid content line"),
    one("20,000 parameters", ("DTSTART" + ";X=1" * 15_000 + ":20260105T100000Z",), "read"),
    one("20,000 quoted parameters", ("DTSTART" + ';X="1"' * 10_000 + ":20260105T100000Z",), "read"),
    Hostile("150 lines of 60 kB of quotes", lambda: feed(many(150, "DTSTART;" + '"' * 60_000 + ":20260105T100000Z")), "a problem", "no valid content line"),
    one("quoted-printable", (START, "SUMMARY;ENCODING=QUOTED-PRINTABLE:" + "=3D" * 20_000), "read"),
    one("60,000 backslashes", (START, "SUMMARY:" + "\\" * 60_000), "read"),
    one("30,000 categories", (START, "CATEGORIES:" + "a," * 30_000), "read"),
    Hostile("no UTF-8", lambda: feed(entry(START, "SUMMARY:x")).replace(b":x", b":" + b"\xff\xfe\x80" * MB), "a problem", "SUMMARY is longer"),
    Hostile("NULs between all characters", lambda: feed(entry(START)).decode().encode("utf-16-le"), "refused", "no calendar"),
    one("NULs in a date", ("DTSTART:2026\x000105T100000Z",), "a problem", DATE),
    one("NULs in a name", (START, "SUMM\x00ARY:x"), "read"),
    Hostile("lines that end with CR alone", lambda: feed(entry(START)).replace(b"\r\n", b"\r"), "read"),
    Hostile("lines that end with LF, CR, CR LF in turn", lambda: feed(entry(START)).replace(b"\r\n", b"\n\r\r\n"), "read"),
    Hostile("UTF-16 with a BOM", lambda: feed(entry(START)).decode().encode("utf-16"), "refused", "no calendar"),
    Hostile("two BOMs", lambda: b"\xef\xbb\xbf\xef\xbb\xbf" + feed(entry(START)), "refused", "no calendar"),
    Hostile("10 MB of blank lines", lambda: feed(entry(START)).replace(b"END:VCALENDAR", b"\r\n" * (4 * MB) + b"END:VCALENDAR"), "refused", "lines"),
    Hostile("10 MB of lines of two letters", lambda: feed(entry(START, *["ab"] * 2_400_000)), "refused", "lines"),
    Hostile("700,000 lines of ten letters", lambda: feed(entry(START, *["abcd:fghij"] * 700_000)).replace(b"\r\n", b"\n"), "read"),
    Hostile("nothing", lambda: b"", "refused", "no calendar"),
    Hostile("a web page", lambda: b"<html>" * MB, "refused", "web page"),
)  # fmt: skip

COMPONENTS = (
    Hostile("200,000 components", lambda: feed(many(200_000)).replace(b"\r\n", b"\n"), "refused", "more than 20000 components"),
    Hostile("19,000 entries", lambda: feed(many(19_000, START)), "read"),
    Hostile("19,000 entries that cannot be read", lambda: feed(many(19_000, "DTSTART:x")), "a problem", DATE),
    Hostile("components in components, 19,000 deep", lambda: feed(entry(START, *["BEGIN:X"] * 19_000, *["END:X"] * 19_000)), "read"),
    Hostile("components in components, 100,000 deep", lambda: feed(entry(START, *["BEGIN:X"] * 100_000)), "refused", "more than 20000 components"),
    Hostile("100,000 ends without a beginning", lambda: feed(entry(START), "END:VEVENT\r\n" * 100_000), "read"),
    Hostile("10,000 entries without an end", lambda: feed(f"BEGIN:VEVENT\r\n{START}\r\n" * 10_000), "a problem", "it has no END"),
    Hostile("5000 calendars in each other", lambda: b"BEGIN:VCALENDAR\r\n" * 5000 + feed(entry(START)) + b"END:VCALENDAR\r\n" * 5000, "read"),
    Hostile("cut off", lambda: feed(entry(START))[:-20], "refused", "cut off"),
    Hostile("10,000 entries of one UID", lambda: feed(entry(START) * 10_000), "read"),
    Hostile("a UID of 9 MB", lambda: feed(entry(START, uid="u" * (9 * MB))), "a problem", "UID is longer than"),
    Hostile("10,000 entries without a UID", lambda: feed(component("VEVENT", START, "SUMMARY:x") * 10_000), "read"),
    Hostile("a UID that would leave its calendar", lambda: feed(entry(START, uid="../../other/neighbour")), "read"),
    Hostile("10,000 exceptions", lambda: storm(8000), "read"),
    Hostile("8000 changes that go on", lambda: storm(8000, how=";RANGE=THISANDFUTURE"), "read"),
    Hostile("8000 exceptions with rules of their own", lambda: storm(8000, "RRULE:FREQ=DAILY", "SEQUENCE:1"), "read"),
    Hostile(
        "5000 exceptions with rules, from 9000 dates",
        lambda: feed(
            entry(START, *listed("RDATE", 9000), "SEQUENCE:5"),
            *(entry(f"RECURRENCE-ID:{at}Z", f"DTSTART:{at}Z", "RRULE:FREQ=DAILY", "SEQUENCE:1") for at in dates(5000, 2027)),
        ), "a problem", STEPS,
    ),
    Hostile("10,000 times the same exception", lambda: feed(entry(START, "RRULE:FREQ=DAILY"), entry(START, "RECURRENCE-ID:20260105T100000Z") * 10_000), "read"),
    one("a sequence of 60,000 digits", (START, "SEQUENCE:" + "9" * 60_000), "read"),
)  # fmt: skip

SHORT = "FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU"
ZONES = (
    one("a zone that nobody knows", ("DTSTART;TZID=Mars/Crater:20260105T100000",), "a problem", UNKNOWN),
    one("a zone that is a path", ("DTSTART;TZID=../../../etc/passwd:20260105T100000",), "a problem", UNKNOWN),
    one("a zone of 30,000 pieces", ("DTSTART;TZID=" + "/a" * 30_000 + ":20260105T100000",), "a problem", UNKNOWN),
    Hostile(
        "19,000 zones that nobody knows",
        lambda: feed(*(entry(f"DTSTART;TZID=/X/Y/Z/N{n}:20260105T100000", uid=f"bad-{n}") for n in range(19_000))), "a problem", UNKNOWN,
    ),
    Hostile("a zone that turns each second", lambda: zoned("Z", observance("FREQ=SECONDLY")), "a problem", UNKNOWN),
    Hostile("a zone that turns each day", lambda: zoned("Z", observance("FREQ=DAILY")), "a problem", UNKNOWN),
    Hostile("a zone that turns on 30 February", lambda: zoned("Z", observance("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30")), "a problem", UNKNOWN),
    Hostile("a zone of 41 rules", lambda: zoned("Z", *[observance(SHORT)] * 41), "a problem", UNKNOWN),
    Hostile("a rule of a zone with 9000 weekdays", lambda: zoned("Z", observance("FREQ=YEARLY;BYDAY=" + ",".join(["1MO"] * 9000))), "a problem", UNKNOWN),
    Hostile("a zone of 9 MB", lambda: zoned("Z", observance("", more=["X-A:b"] * 300_000)), "a problem", UNKNOWN),
    Hostile("a zone with 100,000 dates", lambda: zoned("Z", observance("", more=listed("RDATE", 100_000, suffix=""))), "a problem", UNKNOWN),
    Hostile("a zone in a zone in a zone, 5000 deep", lambda: zoned("Z", *["BEGIN:STANDARD"] * 5000, *["END:STANDARD"] * 5000), "a problem", UNKNOWN),
    Hostile("a zone that is in itself", lambda: zoned("Z", observance(SHORT).replace("DTSTART:", "DTSTART;TZID=Z:")), "a problem", UNKNOWN),
    Hostile("two zones of one name", lambda: feed(zone("Z", observance("")), zone("Z", observance("", offset="-0500")), entry("DTSTART;TZID=Z:20260105T100000")), "read"),
    Hostile("a zone a hundred hours away", lambda: zoned("Z", observance("", offset="+9999")), "a problem"),
    Hostile("a zone that calls itself UTC", lambda: zoned("UTC", observance("", offset="+0500")), "read"),
    Hostile("5000 zones", lambda: feed(*(zone(f"Z{n}", observance("")) for n in range(5000)), entry("DTSTART;TZID=Z4999:20260105T100000")), "a problem", UNKNOWN),
    Hostile(
        "40 rules since the year 1, asked 200,000 times about the year 2499",
        lambda: feed(
            zone("Z", *[observance(SHORT, start="00010101T000000")] * 40),
            many(20, "DTSTART;TZID=Z:24990101T000000", *listed("RDATE;TZID=Z", 10_000, year=2499, suffix="")),
        ), "a problem", "together",
    ),
)  # fmt: skip

FEEDS = (*RULES, *DATES, *TEXT, *COMPONENTS, *ZONES)
"""All of them."""
