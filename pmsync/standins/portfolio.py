"""A portfolio with half a year of history behind it and a world that goes on: what the demo shows and many tests read.

Four projects of one company, each with its own trouble: Apollo will miss its release (work was added, a key item is
blocked), Beacon is on track, Comet lives on GitHub alone and reviews slowly, Delta finished and was late. Everything is
drawn from a seed and told relative to `now`, so that the demo looks the same on every day.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Any, NamedTuple

from pmsync.standins.calendar import CalendarHost
from pmsync.standins.github import GitHubHost
from pmsync.standins.github import User as GitHubUser
from pmsync.standins.github_links import Place
from pmsync.standins.github_runs import Runs
from pmsync.standins.github_shipped import Shipped
from pmsync.standins.jira import JiraSite
from pmsync.standins.server import serve

TOKENS = {"PMSYNC_DEMO_JIRA_TOKEN": "standin-jira-token", "PMSYNC_DEMO_GITHUB_TOKEN": "standin-github-token"}
"""What the stand-ins ask for; secrets of nobody."""
SEED = 20260105
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
SECONDS = 3600
"""In an hour."""
SPRINT, PLANNED = 14 * DAY, 11 * DAY
GOALS = ("Customers can pay", "The map is quick", "Nothing is lost", "")
HISTORY = 180
TEAM = ("acc-ada", "acc-bo", "acc-cleo", "acc-dan", "acc-eve")
NAMES = ("Ada", "Bo", "Cleo", "Dan", "Eve")
HUBBERS = tuple(GitHubUser(login, 900 + n) for n, login in enumerate(("ada", "bo", "cleo", "dan", "eve")))
VERBS = ("Add", "Speed up", "Repair", "Document", "Test", "Simplify", "Replace", "Measure", "Secure", "Translate")
THINGS = (
    "sign-in", "search", "invoices", "the importer", "mail templates", "the audit log", "exports", "the map", "uploads",
    "roles", "backups", "the price list", "reminders", "the dashboard", "time zones", "the mobile view", "payments",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """How a Jira project went: items at the start, added per week, days an item takes, how many are worked on at once."""

    key: str
    name: str
    start: int
    added_per_week: float
    days: tuple[float, float]
    hands: int
    release: int
    """Days from now to the promised release."""
    logs_work: bool = False
    sprints: bool = False


JIRA_PLANS = (
    Plan("APO", "Apollo", 62, 1.0, (3, 9), 3, 14, logs_work=True, sprints=True),
    Plan("BEA", "Beacon", 62, 0.4, (2, 7), 2, 35),
    Plan("DEL", "Delta", 30, 0.2, (2, 6), 2, -20),
)


@dataclass
class Portfolio:
    """The stand-ins with their history up to `now` and a while beyond, as seen at `clock()`."""

    now: datetime
    clock: Callable[[], datetime]
    jira: JiraSite = field(init=False)
    github: GitHubHost = field(init=False)
    calendar: CalendarHost = field(init=False)

    def __post_init__(self) -> None:
        self.jira = JiraSite(self.clock, time_zone="Europe/Berlin", token=TOKENS["PMSYNC_DEMO_JIRA_TOKEN"])
        self.github = GitHubHost(self.clock, token=TOKENS["PMSYNC_DEMO_GITHUB_TOKEN"])
        self.calendar = CalendarHost(self.clock)
        for plan in JIRA_PLANS:
            _write_jira(self.jira, plan, self.now, random.Random(f"{SEED} {plan.key}"))
        comet = _write_github(self.github, "acme/comet", self.now, random.Random(f"{SEED} comet"), issues=60)
        _write_github(self.github, "acme/apollo", self.now, random.Random(f"{SEED} apollo"), issues=12)
        _write_links(self.github, [("acme/comet", number) for number in comet[-5:]], self.now)
        _write_calendar(self.calendar, self.now)

    @contextmanager
    def served(self) -> Iterator[dict[str, Any]]:
        """Serve all three on loopback; yields the configuration that reads them. While they are served, the environment
        holds the tokens that it refers to."""
        with ExitStack() as stack:
            stack.enter_context(_environment(TOKENS))
            jira, github, calendar = (
                stack.enter_context(serve(app)) for app in (self.jira.app, self.github.app, self.calendar.app)
            )
            yield configuration(jira, github, calendar, self.now.date())


def configuration(jira: str, github: str, calendar: str, today: date) -> dict[str, Any]:
    """The demo's `pmsync.yaml`, as values."""
    return {
        "sources": [
            {
                "name": "company-jira", "kind": "jira", "url": jira,
                "auth": {"email": "pmsync@example.com", "token": {"env": "PMSYNC_DEMO_JIRA_TOKEN"}},
            },
            {"name": "gh", "kind": "github", "url": github, "auth": {"token": {"env": "PMSYNC_DEMO_GITHUB_TOKEN"}}},
            {
                "name": "team", "kind": "calendar", "titles": True,
                "ics": {"deadlines": f"{calendar}/deadlines.ics", "holidays": f"{calendar}/holidays.ics"},
            },
            {
                "name": "absences", "kind": "calendar", "ics": {"vacations": f"{calendar}/absences.ics"},
                "whose": {"vacations": [{"title": f"{name}*", "account": name.lower()} for name in NAMES]},
            },
        ],
        "projects": [
            {
                "key": "apollo", "name": "Apollo", "leader": "lead@example.com", "time_zone": "Europe/Berlin",
                "from": {"company-jira": ["APO"], "gh": ["acme/apollo"], "team": ["deadlines", "holidays"], "absences": ["vacations"]},
            },
            {
                "key": "beacon", "name": "Beacon", "leader": "lead@example.com", "time_zone": "Europe/Berlin",
                "from": {"company-jira": ["BEA"], "team": ["holidays"], "absences": ["vacations"]},
                "deadline": (today + 40 * DAY).isoformat(),
            },
            {
                "key": "comet", "name": "Comet", "leader": "comet@example.com", "time_zone": "America/New_York",
                "from": {"gh": ["acme/comet"]},
            },
            {"key": "delta", "name": "Delta", "time_zone": "UTC", "from": {"company-jira": ["DEL"]}},
        ],
        "people": [
            {
                "mail": f"{name.lower()}@example.com", "name": name, "projects": projects, **more,
                "accounts": {"company-jira": [f"acc-{name.lower()}"], "absences": [name.lower()]},
            }
            for name, (projects, more) in _people(today).items()
        ],
    }  # fmt: skip


def _people(today: date) -> Mapping[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Which projects each works on, and what else there is to say of when: one in New York, one four days a week, one who
    joins in a fortnight."""
    joins = {"from": (today + 14 * DAY).isoformat(), "ramp": [{"days": 14, "share": 0.25}, {"days": 14, "share": 0.5}]}
    four_days = {"hours": {"mon-thu": "08:30-12:30, 13:00-17:00"}}
    known: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
        ({"apollo": {}}, {}),
        ({"apollo": {}}, four_days),
        ({"apollo": {"allocation": 0.5}, "beacon": {"allocation": 0.5}}, {"time_zone": "America/New_York"}),
        ({"beacon": {}}, {}),
        ({"apollo": joins}, {}),
    )
    return dict(zip(NAMES, known, strict=True))


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


# --- Jira -------------------------------------------------------------------------------------------------------------


def _write_jira(site: JiraSite, plan: Plan, now: datetime, dice: random.Random) -> None:
    """A team that works its backlog from the top, a few items at a time, while work is added."""
    begin = _morning(now - HISTORY * DAY)
    site.add_project(plan.key, plan.name, at=begin - 30 * DAY)
    first = site.add_version(plan.key, "1.0", _day(now, -60), at=begin)
    second = site.add_version(plan.key, "2.1", _day(now, plan.release), at=begin + 5 * DAY)
    site.update_version(second, begin + 40 * DAY, release_date=_day(now, plan.release + 7))
    site.update_version(second, begin + 90 * DAY, release_date=_day(now, plan.release))
    created = [begin + timedelta(minutes=17 * n) for n in range(plan.start)]
    weeks = HISTORY / 7
    created += sorted(begin + DAY * dice.uniform(2, HISTORY + 20) for _ in range(round(plan.added_per_week * weeks)))
    sprints = _write_sprints(site, plan, begin, now) if plan.sprints else []
    hands = [begin + DAY * dice.uniform(0, 2) for _ in range(plan.hands)]
    made, changes = list[str](), Changes()
    for n, at in enumerate(created):
        version = first if n < plan.start // 3 else second
        due = _day(now, plan.release - dice.randint(1, 20)) if n % 9 == 4 else None
        title, kind = _title(dice), dice.choice(("Story", "Story", "Task", "Bug"))
        points = dice.choice((1, 2, 3, 5, None))
        issue = site.create_issue(
            plan.key,
            at,
            title,
            type=kind,
            fix_version=version,
            due_date=due,
            story_points=points,
            **_planned(plan, points),
        )
        made.append(issue)
        hand = hands.index(min(hands))
        work = _work(site, issue, max(at + timedelta(hours=3), hands[hand]), plan, dice, now, changes)
        _plan_into(site, issue, at, work, sprints, changes)
        hands[hand] = work.end
    if plan.key == "APO":
        waiting = site.create_issue(
            "APO", now - 16 * DAY, "Sign the contract for the map", type="Task", fix_version=second, story_points=3
        )
        present = next(sprint for sprint in sprints if sprint.start <= now < sprint.end)
        changes.add(
            site.change_issue, waiting, now - 9 * DAY, status="In Progress", assignee=TEAM[0], sprint=present.id
        )
        changes.add(site.change_issue, waiting, now - 6 * DAY, flagged=True)
        # By then one of them is done, and one was named by mistake.
        done, mistaken, doing, later = made[-11], made[-10], made[-9], made[-6]
        for blocker in (done, mistaken, doing):
            changes.add(site.link_issue, blocker, now - 9 * DAY, waiting)
        changes.add(site.unlink_issue, mistaken, now - 8 * DAY, waiting)
        changes.add(site.link_issue, waiting, now - 7 * DAY, later)
    changes.make()
    if plan.release < 0:
        site.release_version(second, now - 9 * DAY)
    site.release_version(first, min(now, begin + 130 * DAY), release_date=_day(now, -50))


def _planned(plan: Plan, points: int | None) -> dict[str, int]:
    """Where a team logs its work, it plans eight hours for a point."""
    seconds = (points or 0) * 8 * SECONDS if plan.logs_work else 0
    return {"original_estimate": seconds, "remaining_estimate": seconds} if seconds else {}


class Changes:
    """What happens to issues, told in any order; links touch two of them."""

    def __init__(self) -> None:
        self._all: list[tuple[datetime, Callable[[], object]]] = []

    def add(self, change: Callable[..., object], issue: str, at: datetime, *args: Any, **fields: Any) -> None:
        self._all.append((at, partial(change, issue, at, *args, **fields)))

    def make(self) -> None:
        for _, change in sorted(self._all, key=lambda each: each[0]):
            change()


class Sprint(NamedTuple):
    """A sprint of the team, `[start, end)`."""

    id: int
    start: datetime
    end: datetime


def _write_sprints(site: JiraSite, plan: Plan, begin: datetime, now: datetime) -> list[Sprint]:
    """One after the other, two weeks each; the next is planned in the middle of the one before."""
    board = site.boards.add(f"{plan.name} team", [plan.key], begin)
    found: list[Sprint] = []
    start = begin
    while start < now + SPRINT:
        n = len(found) + 1
        ident = site.boards.plan(
            board, f"{plan.name} {n}", max(begin, start - SPRINT / 2), start, start + SPRINT, goal=GOALS[n % len(GOALS)]
        )
        site.boards.start(ident, start)
        site.boards.complete(ident, start + SPRINT)
        found.append(Sprint(ident, start, start + SPRINT))
        start += SPRINT
    return found


class Span(NamedTuple):
    """When an item was worked on."""

    start: datetime
    end: datetime


def _plan_into(
    site: JiraSite, issue: str, created: datetime, work: Span, sprints: Sequence[Sprint], changes: Changes
) -> None:
    """An item gets into the sprint in which it is begun: before that begins, unless nobody thought of it by then or it is
    begun late. It is carried over until it is done."""
    into: tuple[int, ...] = ()
    for sprint in sprints:
        if sprint.start < work.end and work.start < sprint.end:
            into = (*into, sprint.id)
            early = sprint.start - HOUR
            is_committed = created < early and work.start < sprint.start + PLANNED
            at = sprint.start if len(into) > 1 else early if is_committed else work.start
            changes.add(site.change_issue, issue, at, sprint=into)


def _work(
    site: JiraSite, issue: str, start: datetime, plan: Plan, dice: random.Random, now: datetime, changes: Changes
) -> Span:
    """One item from start to finish; returns when."""
    if start > now + 20 * DAY:
        return Span(start, start)
    changes.add(site.change_issue, issue, start, status="In Progress", assignee=dice.choice(TEAM))
    end = start + DAY * dice.uniform(*plan.days)
    hours = round((end - start) / HOUR / 5) if plan.logs_work else 0
    if hours:
        changes.add(site.log_work, issue, start + (end - start) * 0.2, hours // 3 * SECONDS)
    if dice.random() < 0.12:
        blocked, wait = start + (end - start) * 0.3, DAY * dice.uniform(2, 8)
        changes.add(site.change_issue, issue, blocked, flagged=True)
        changes.add(site.change_issue, issue, blocked + wait, flagged=False)
        end += wait
    changes.add(site.change_issue, issue, end - DAY / 2, status="In Review")
    if hours:
        changes.add(site.log_work, issue, end - HOUR, (hours - hours // 3) * SECONDS)
    changes.add(site.change_issue, issue, end, status="Done")
    if dice.random() < 0.05:
        changes.add(site.change_issue, issue, end + DAY, status="In Progress")
        end += 3 * DAY
        changes.add(site.change_issue, issue, end, status="Done")
    return Span(start, end)


# --- GitHub -----------------------------------------------------------------------------------------------------------


def _write_github(host: GitHubHost, repo: str, now: datetime, dice: random.Random, issues: int) -> list[int]:
    """Issues that come and go, each mended by a pull request that waits for its review. Returns their numbers."""
    made = list[int]()
    begin = _morning(now - HISTORY * DAY)
    host.add_repository(repo)
    spring = host.add_milestone(repo, "Spring release", begin, _day(now, -40))
    summer = host.add_milestone(repo, "Summer release", begin + DAY, _day(now, 18))
    for n in range(issues):
        at = begin + DAY * (HISTORY * 0.97 * n / issues + dice.uniform(0, 1.5))
        number = host.open_issue(repo, at, _title(dice), author=dice.choice(HUBBERS))
        made.append(number)
        host.set_milestone(repo, number, at + timedelta(hours=1), spring if n < issues * 0.6 else summer)
        if n % 7 == 3:
            host.label(repo, number, at + timedelta(hours=2), "bug")
        if n % 11 == 5:
            host.close(repo, number, at + 3 * DAY, "not_planned")
            continue
        start = at + DAY * dice.uniform(0.5, 6)
        author = dice.choice(HUBBERS)
        host.assign(repo, number, start, author)
        if n % 13 == 6:
            host.label(repo, number, start + timedelta(hours=4), "blocked")
        done = _write_pull(host, repo, number, start, author, dice)
        if n % 13 == 6:
            host.unlabel(repo, number, done - timedelta(minutes=30), "blocked")
        host.close(repo, number, done, actor=author)
    host.close_milestone(repo, spring, now - 30 * DAY)
    _write_shipped(host.shipped(repo), begin, now)
    _write_runs(host.runs(repo), now)
    return made


def _write_links(host: GitHubHost, issues: Sequence[Place], now: datetime) -> None:
    """Of these five the last one has two parts, and waits for another one; once by mistake for yet another."""
    mistaken, done, blocker, part, whole = issues
    for hours, each in enumerate((done, part)):
        host.links.add(each, now - 5 * DAY + hours * HOUR, "parent_issue", whole)
    for each in (mistaken, blocker):
        host.links.add(whole, now - 4 * DAY, "blocked_by", each)
    host.links.remove(whole, now - 3 * DAY, "blocked_by", mistaken)


def _write_shipped(shipped: Shipped, begin: datetime, now: datetime) -> None:
    """A release every three weeks, tried out before it goes to production; one of them fails there, and is mended."""
    weeks = range(3, (HISTORY + 30) // 7, 3)
    for number, week in enumerate(weeks, 1):
        at, tag = begin + week * 7 * DAY, f"v1.{number}"
        staged = shipped.deploy(at, "staging", tag, creator=HUBBERS[number % 5])
        _run(shipped, staged, at, "success")
        fails = number == len(weeks) - 2
        _run(shipped, shipped.deploy(at + DAY, "production", tag), at + DAY, "failure" if fails else "success")
        if fails:
            again = at + DAY + timedelta(hours=3)
            _run(shipped, shipped.deploy(again, "production", tag), again, "success")
        shipped.release(at + DAY + timedelta(hours=4), tag, f"Release {tag}")
    shipped.release(now - 2 * DAY, "v2.0-rc1", "Version 2, to try out", prerelease=True)


def _write_runs(runs: Runs, now: datetime) -> None:
    """Two workflows of the last weeks: one that fails now and then and passes when it is tried again, and one that has been
    broken for some days."""
    for days in range(40, 0, -1):
        at = now - days * DAY
        fails = days % 9 == 4
        built = runs.ran(at, at + timedelta(minutes=14), "failure" if fails else "success")
        if fails:
            runs.try_again(built, at + HOUR)
            runs.finish(built, at + HOUR + timedelta(minutes=13))
        if days % 2 == 0:
            night = at + 6 * HOUR
            broken = "failure" if days < 8 else "success"
            runs.ran(night, night + timedelta(minutes=40), broken, "Nightly", event="schedule", title="Nightly")


def _run(shipped: Shipped, deployment: int, at: datetime, end: str) -> None:
    log = f"https://github.com/acme/runs/{deployment}"
    shipped.set_status(deployment, at + timedelta(minutes=1), "in_progress", log_url=log)
    shipped.set_status(deployment, at + timedelta(minutes=12), end, log_url=log)


def _write_pull(
    host: GitHubHost, repo: str, number: int, start: datetime, author: GitHubUser, dice: random.Random
) -> datetime:
    """The pull request that mends an issue; returns when it was merged."""
    opened = start + DAY * dice.uniform(1, 4)
    pull = host.open_pull(
        repo, opened, f"Mend #{number}", head=f"topic-{number}", body=f"Fixes #{number}", author=author
    )
    reviewer = dice.choice([each for each in HUBBERS if each is not author])
    reviewed = opened + DAY * dice.uniform(0.5, 7)
    host.ask_review(repo, pull, opened + timedelta(hours=2), reviewer)
    host.review(repo, pull, reviewed, "changes_requested" if number % 5 == 0 else "approved", reviewer)
    if number % 5 == 0:
        host.ask_review(repo, pull, reviewed + timedelta(hours=1), reviewer)
    merged = reviewed + DAY * dice.uniform(0.2, 3)
    host.review(repo, pull, merged - timedelta(hours=1), "approved", reviewer)
    host.merge(repo, pull, merged, reviewer)
    return merged + timedelta(minutes=5)


# --- calendars --------------------------------------------------------------------------------------------------------


def _write_calendar(host: CalendarHost, now: datetime) -> None:
    begin = _morning(now - HISTORY * DAY)
    fair, holiday = _day(now, 16), _day(now, 5)
    host.add_entry("deadlines", begin, "fair@example.com", "Trade fair", fair, fair + DAY)
    host.add_entry("deadlines", begin, "audit@example.com", "Security audit", _day(now, -12), _day(now, -11))
    host.add_entry("holidays", begin, "holiday@example.com", "Company holiday", holiday, holiday + DAY)
    _write_absences(host, begin, now)
    for year in range(begin.year, now.year + 2):
        christmas, new_year = date(year, 12, 25), date(year + 1, 1, 1)
        host.add_entry("holidays", begin, f"christmas-{year}@example.com", "Christmas", christmas, christmas + 2 * DAY)
        host.add_entry("holidays", begin, f"new-year-{year + 1}@example.com", "New Year", new_year, new_year + DAY)


def _write_absences(host: CalendarHost, begin: datetime, now: datetime) -> None:
    """A week, a day, an afternoon in New York, and one of whom nothing says who is away."""
    week, day, noon = _day(now, 7), _day(now, 2), _day(now, 13)
    afternoon = datetime.combine(noon, time(18), UTC)
    host.add_entry("absences", begin, "week@example.com", "Ada on leave", week, week + 7 * DAY)
    host.add_entry("absences", begin, "day@example.com", "Dan: child is ill", day, day + DAY)
    host.add_entry("absences", begin, "half@example.com", "Cleo off", afternoon, afternoon + 6 * HOUR)
    host.add_entry("absences", begin, "who@example.com", "Off on Friday?", _day(now, 18), _day(now, 18) + DAY)


def _title(dice: random.Random) -> str:
    return f"{dice.choice(VERBS)} {dice.choice(THINGS)}"


def _morning(when: datetime) -> datetime:
    return datetime.combine(when.date(), time(9), UTC)


def _day(now: datetime, days: int) -> date:
    """A day relative to now, moved off the weekend."""
    day = now.date() + timedelta(days=days)
    return day + timedelta(days=max(0, 7 - day.weekday()) if day.weekday() > 4 else 0)
