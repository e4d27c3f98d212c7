"""What the pages and the API say of a project at an instant, as plain values; pure.

A `Summary` is what a row of the portfolio needs and the page begins with; it is kept and shown again. The `Series`
behind the charts are computed for one page at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from pmsync.core.alerts import Alert, AlertState, alerts
from pmsync.core.dates import Dated, by_day
from pmsync.core.events import CONFIGURATION, Project, Thing
from pmsync.core.measures import Measure, measures
from pmsync.core.measures.builds import Build, builds
from pmsync.core.measures.capacity import Capacity, capacity
from pmsync.core.measures.flow import age, cycle_time, throughput, wip
from pmsync.core.measures.forecast import Forecast, Pace, forecast, pace
from pmsync.core.measures.progress import BurnUpPoint, burn_up
from pmsync.core.measures.sprints import Course, courses
from pmsync.core.project import Deadline, Item, ProjectState, View, shown_containers, view
from pmsync.core.rules import TAKES_OVER, Episode, episodes, urgency
from pmsync.core.rules.episode import Severity, counted, likely, spoken
from pmsync.core.workdays import Workdays

SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "info")
TREND = 10
POINTS = 180
RESOLVED = 20
SHIPPED = 3
"""So many releases, and so many deployments to production, are shown."""
SPRINTS = 6
BLANK = "Nothing of {} has been read yet"
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Due:
    """A deadline with its figures by name. It is `over` when nobody need do anything for it any more, whether or not its
    day has `passed`; `late` is its alert while it is late by forecast, and `differing` what names its days, if these are
    several."""

    thing: Thing
    title: str
    url: str
    due: date | None
    closed: bool
    passed: bool
    over: bool
    assumed: bool
    figures: Mapping[str, Measure]
    late: Episode | None = None
    dates: tuple[Dated, ...] = ()
    differing: tuple[Dated, ...] = ()

    @property
    def other_days(self) -> tuple[str, ...]:
        """The days that do not count, each with who names it."""
        found = by_day(self.differing)
        return tuple(f"{spoken(day)} in {', '.join(names)}" for day, names in found.items() if day != self.due)

    @property
    def yesterday(self) -> str:
        """How likely it was on time when yesterday ended, where that was looked at: of what is late by forecast."""
        before = self.late.evidence.get("yesterday") if self.late else None
        return chances(before["on_time"]) if before else ""


@dataclass(frozen=True, slots=True)
class Trend:
    """Items done in the last ten working days (today among them), and in the ten before; None before the first item."""

    recent: int | None
    before: int | None

    @property
    def formula(self) -> str:
        return f"items done in the last {TREND} working days, against the {TREND} before"


@dataclass(frozen=True, slots=True)
class Summary:
    """A project at `at`. `alerts` are those that are not resolved, worst first; `unread` names what is not read whole,
    and where nothing is (`blank`), no figure means anything. `next` is the deadline to look at: the first that slips, else
    the next."""

    project: Project
    at: datetime
    unread: tuple[str, ...]
    blank: bool
    headline: str
    figures: Mapping[str, Measure]
    deadlines: tuple[Due, ...]
    next: Due | None
    trend: Trend
    alerts: tuple[Alert, ...]
    resolved: tuple[Alert, ...]

    @property
    def firing(self) -> Mapping[str, int]:
        """How many alerts of each severity are firing and acknowledged by nobody."""
        return self._counts(AlertState.firing)

    @property
    def acknowledged(self) -> Mapping[str, int]:
        """How many alerts of each severity somebody has taken on; what they are about is wrong all the same."""
        return self._counts(AlertState.acknowledged)

    def _counts(self, state: AlertState) -> Mapping[str, int]:
        found = Counter(alert.episode.severity for alert in self.alerts if alert.state is state)
        return {severity: found[severity] for severity in SEVERITIES}


def summary(state: ProjectState, at: datetime) -> Summary:
    """What there is to say of a project at an instant."""
    shown = view(state, at)
    figures = _figures(shown)
    today = Workdays.of(shown).day(at)
    found = sorted(all_alerts(state, at), key=_urgency)
    late = {alert.episode.subject: alert.episode for alert in found if alert.episode.rule == "forecast_late"}
    deadlines = tuple(
        _due(deadline, figures.get(deadline.thing, {}), today, late.get(deadline.thing)) for deadline in shown.deadlines
    )
    ahead = _next(deadlines, today)
    missing = unread(state)
    blank = bool(missing) and not shown_containers(state)[0]
    return Summary(
        project=shown.project,
        at=at,
        unread=missing,
        blank=blank,
        headline=BLANK.format(shown.project.name) if blank else headline(shown.project, ahead, today, missing),
        figures=figures.get(Thing(CONFIGURATION, "project", shown.project.key), {}),
        deadlines=tuple(sorted(deadlines, key=lambda due: (due.over, due.due or date.max))),
        next=ahead,
        trend=_trend(shown, today),
        alerts=tuple(alert for alert in found if alert.state is not AlertState.resolved),
        resolved=tuple(sorted(_mended(found), key=lambda alert: alert.episode.until or at, reverse=True)[:RESOLVED]),
    )


def all_alerts(state: ProjectState, at: datetime) -> tuple[Alert, ...]:
    """Every alert up to `at`, resolved ones too, with the answers given by then."""
    return alerts(episodes(state, at), [fact for fact in state.facts if fact.at <= at])


def unread(state: ProjectState) -> tuple[str, ...]:
    """What is mapped and not read whole; nothing can be said of it, neither good nor bad."""
    return tuple(f"{container} in {source}" for source, container in unread_containers(state))


def unread_containers(state: ProjectState) -> list[tuple[str, str]]:
    """The same as (source, container), without what is read for its team: that is private, and only its capacity rests on it."""
    shown, _ = shown_containers(state)
    mapped = {(source, container) for source, found in state.project.mapping.items() for container in found}
    theirs = {(source, container) for source, found in state.project.personal.items() for container in found}
    return sorted(mapped - shown - theirs)


def worst_first(row: Summary) -> tuple[int, float, int, str]:
    """The order of the portfolio: critical alerts, then the least likely deadline, then warnings. That somebody has taken
    an alert on makes no project look better."""
    share = row.next.figures["on_time"].value if row.next else None
    wrong = Counter(alert.episode.severity for alert in row.alerts)
    return -wrong["critical"], share if isinstance(share, int | float) else 2.0, -wrong["warning"], row.project.key


def at_a_glance(rows: Sequence[Summary]) -> str:
    """The portfolio in one sentence."""
    late = sum(any(due.late for due in row.deadlines) for row in rows)
    missed = sum(any(alert.episode.rule == "milestone_overdue" for alert in row.alerts) for row in rows)
    part = sum(bool(row.unread) for row in rows)
    said = [f"{late} of {counted(len(rows), 'project')} {_have(late)} a deadline that is late by forecast"]
    said += [f"{missed} {_have(missed)} missed one"] if missed else []
    said += [f"{part} {'is' if part == 1 else 'are'} not read whole"] if part else []
    return "; ".join(said)


def _have(n: int) -> str:
    return "has" if n == 1 else "have"


def headline(project: Project, ahead: Due | None, today: date, missing: Sequence[str] = ()) -> str:
    """The first deadline that slips, else the next, in one sentence."""
    if ahead is None or ahead.due is None:
        return f"{project.name} has no deadline ahead{' in what has been read' if missing else ''}"
    name = project.name if ahead.title == project.name else f"{project.name} · {ahead.title}"
    said = "is" if ahead.due >= today else "was"
    start = f"{name} {said} promised for {spoken(ahead.due)}"
    p85, share = ahead.figures["forecast_p85"], ahead.figures["on_time"].value
    if p85.value is None:
        return f"{start}; no forecast: {p85.evidence.get('reason', 'not known')}"
    before = f" (yesterday {ahead.yesterday})" if ahead.yesterday else ""
    chance = (
        f"{chances(share)} likely on time{before}; " if ahead.due >= today and isinstance(share, int | float) else ""
    )
    return f"{start}; {chance}P85 is {spoken(date.fromisoformat(str(p85.value)))}{distance(ahead.figures['slack'])}"


def distance(slack: Measure) -> str:
    """How far P85 lies from the due date, in words."""
    if not isinstance(slack.value, int):
        return ""
    days = counted(abs(slack.value), "working day")
    return f", {days} late" if slack.value < 0 else f", {days} early" if slack.value else ", on the day"


def chances(share: float) -> str:
    """A probability as people read it."""
    return likely(round(share * 1000))


def _figures(shown: View) -> Mapping[Thing, Mapping[str, Measure]]:
    found: dict[Thing, dict[str, Measure]] = {}
    for measure in measures(shown):
        found.setdefault(measure.subject, {})[measure.name] = measure
    return found


def _due(deadline: Deadline, figures: Mapping[str, Measure], today: date, late: Episode | None) -> Due:
    passed = deadline.due_date is not None and deadline.due_date < today
    over = deadline.closed or (passed and not any(item.open for item in deadline.items))
    return Due(
        thing=deadline.thing,
        title=deadline.title,
        url=deadline.url,
        due=deadline.due_date,
        closed=deadline.closed,
        passed=passed,
        over=over,
        assumed=deadline.assumed,
        figures=figures,
        # An alert rests on the present due date; a look at the past may know another.
        late=late if late and late.due == deadline.due_date else None,
        dates=deadline.dates,
        differing=deadline.differing,
    )


def _next(deadlines: Iterable[Due], today: date) -> Due | None:
    """The deadline to look at: the earliest ahead that is late by forecast, else the earliest with a forecast, else the
    earliest; if there is none ahead, the last one that was missed."""
    dated = sorted(
        (due for due in deadlines if due.due and not due.over), key=lambda due: (due.due or date.max, due.thing)
    )
    ahead = [due for due in dated if due.due and due.due >= today]
    forecasts = [due for due in ahead if due.figures["on_time"].value is not None]
    found = [due for due in ahead if due.late] or forecasts or ahead or dated[-1:]
    return found[0] if found else None


def _trend(shown: View, today: date) -> Trend:
    workdays = Workdays.of(shown)
    middle, first = workdays.add(today, -TREND), workdays.add(today, -2 * TREND)
    done = throughput(shown.items, shown.zone)
    if not shown.items:
        return Trend(None, None)
    born = min(workdays.day(item.content.created_at) for item in shown.items)
    before = sum(n for day, n in done.items() if first < day <= middle)
    return Trend(sum(n for day, n in done.items() if middle < day <= today), before if born <= middle else None)


def _urgency(alert: Alert) -> tuple[Any, ...]:
    """Within a severity, what nobody has taken on comes first."""
    return SEVERITIES.index(alert.episode.severity), alert.state is not AlertState.firing, *urgency(alert.episode)


def _mended(found: Iterable[Alert]) -> list[Alert]:
    """What was resolved, but for rungs that a tighter one, or «overdue», took over from."""
    known = list(found)
    begun = {(alert.episode.subject, alert.episode.rule, alert.since) for alert in known}
    return [
        alert
        for alert in known
        if (over := alert.episode.until)
        and not any((alert.episode.subject, rule, over) in begun for rule in TAKES_OVER.get(alert.episode.rule, ()))
    ]


# --- what the charts show ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Week:
    """Items finished in the seven days from `first` on; a week that is not over is not `whole`."""

    first: date
    items: int
    whole: bool


@dataclass(frozen=True, slots=True)
class Spent:
    """The time that an item took (until `day`), or has taken until now."""

    key: str
    title: str
    day: date
    seconds: int


@dataclass(frozen=True, slots=True)
class Shipment:
    """A release that is out, or a deployment to production as it stands; `at` is when it was published or ended, or
    began where it has not ended."""

    title: str
    url: str
    what: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Series:
    """What the charts of a project show. `whole` is the forecast of all its open work, whatever deadline that has;
    `links` are the addresses of items by key, `shipped` the last few releases and deployments, the newest first; `builds`
    say whether the default branch does; `capacity` is what the team can do in the next weeks. Of the `sprints` those that are closed are the last ones."""

    today: date
    burn_up: tuple[BurnUpPoint, ...]
    whole: Forecast
    weeks: tuple[Week, ...]
    cycle_times: tuple[Spent, ...]
    ages: tuple[Spent, ...]
    shipped: tuple[Shipment, ...]
    builds: tuple[Build, ...]
    sprints: tuple[Course, ...]
    capacity: Capacity
    links: Mapping[str, str]


def series(state: ProjectState, at: datetime) -> Series:
    """The charts' values at an instant."""
    shown = view(state, at)
    shared = pace(shown)
    items = tuple(item for item in shown.items if item.open or item.done)
    thing = Thing(CONFIGURATION, "project", shown.project.key)
    everything = Deadline(thing, shown.project.name, None, False, None, items)
    return Series(
        today=shared.today,
        burn_up=burn_up(state, shown, _days(shown, shared)),
        whole=forecast(shown, everything, shared),
        weeks=_weeks(shown, shared),
        cycle_times=_cycle_times(shown, shared),
        ages=_ages(shown, shared),
        shipped=_shipped(shown),
        builds=builds(shown),
        sprints=_sprints(state, shown),
        capacity=capacity(shown),
        links={item.key: item.content.url for item in shown.items},
    )


def _shipped(shown: View) -> tuple[Shipment, ...]:
    releases = [
        Shipment(each.title, each.url, "pre-release" if each.prerelease else "release", each.published_at)
        for _, each in shown.releases
        if each.published_at
    ]
    deployments = [
        Shipment(
            each.content.ref,
            each.content.url,
            f"to {each.content.environment}: {each.state.replace('_', ' ')}",
            each.finished_at or each.content.created_at,
        )
        for each in shown.deployments
        if each.content.production
    ]
    last = [each for kind in (releases, deployments) for each in sorted(kind, key=_newest_last)[-SHIPPED:]]
    return tuple(sorted(last, key=_newest_last, reverse=True))


def _newest_last(shipment: Shipment) -> tuple[datetime, str, str]:
    return shipment.at, shipment.what, shipment.title


def _days(shown: View, shared: Pace) -> list[date]:
    """At most `POINTS` days from the first item to today, evenly, today among them."""
    born = min((shared.workdays.day(item.content.created_at) for item in shown.items), default=shared.today)
    age = max((shared.today - born).days, 0)
    step = age // POINTS + 1
    return [shared.today - n * DAY for n in range(age, -1, -1) if n % step == 0]


def _weeks(shown: View, shared: Pace) -> tuple[Week, ...]:
    """The weeks of the forecast's window, and the present one."""
    today = shared.today
    first = shared.window[0] if shared.window else today
    monday, last = (day - day.weekday() * DAY for day in (first, today))
    done = throughput(shown.items, shown.zone)
    found = Counter({day - day.weekday() * DAY: 0 for day in done})
    for day, n in done.items():
        found[day - day.weekday() * DAY] += n
    weeks = [monday + 7 * n * DAY for n in range((last - monday).days // 7 + 1)]
    return tuple(Week(week, found[week], week != last) for week in weeks)


def _cycle_times(shown: View, shared: Pace) -> tuple[Spent, ...]:
    since = shared.window[0] if shared.window else shared.today
    found = [
        Spent(item.key, item.content.title, day, time.seconds)
        for item in shown.items
        if item.resolved_at and (day := shared.workdays.day(item.resolved_at)) >= since
        if (time := cycle_time(item)).seconds is not None
    ]
    return tuple(sorted(found, key=lambda spent: (spent.day, spent.key)))


def _sprints(state: ProjectState, shown: View) -> tuple[Course, ...]:
    """Those that go on, then those that are planned, then the last that were closed; each the latest first, but for the
    planned."""
    found = courses(state, shown)
    active, future, closed = ([c for c in found if c.state == state] for state in ("active", "future", "closed"))
    return (*reversed(active), *future, *list(reversed(closed))[:SPRINTS])


def _ages(shown: View, shared: Pace) -> tuple[Spent, ...]:
    """Work in progress, the oldest first."""
    started: Sequence[Item] = wip(shown.items)
    found = [
        Spent(item.key, item.content.title, shared.today, time.seconds)
        for item in started
        if (time := age(item, shown.at)).seconds is not None
    ]
    return tuple(sorted(found, key=lambda spent: (-spent.seconds, spent.key)))
