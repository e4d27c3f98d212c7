"""What people read: one plain-text message per project and tick.

It says what is wrong, by how much, why, what has changed, and on what evidence. The first assessment is one summary, not
a list of everything; what has been mended is a line each. Nobody hears of one thing twice in one message, and nothing is
called well while something could not be read.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from pmsync.core.alerts import Alert, AlertState, Transition
from pmsync.core.events import Project
from pmsync.core.measures import share
from pmsync.core.measures.forecast import CLOSED, DONE, NO_ITEMS, Forecast
from pmsync.core.measures.progress import Progress
from pmsync.core.project import local_day
from pmsync.core.rules import RULES, TAKES_OVER, Episode, fingerprint, urgency
from pmsync.core.rules.deadlines import itemless
from pmsync.core.rules.episode import counted, likely, percent, spoken
from pmsync.core.rules.outlook import yesterday

WORST = 5
MOST = 20
LONGEST = 200
SUBJECT = 60
"""Characters of a title in a subject line, so that what is wrong with it is still in sight."""
SHOWN = 8
"""Characters of a fingerprint that tell alerts apart for people."""
P85 = "P85: done by then in 85 of 100 simulations."
_RULES = {rule.name: rule for rule in RULES}


@dataclass(frozen=True, slots=True)
class Message:
    subject: str
    text: str


def compose(
    project: Project,
    transitions: Sequence[Transition],
    forecasts: Sequence[Forecast],
    standing: Progress,
    *,
    first: bool,
    now: datetime,
    unread: Sequence[str] = (),
) -> Message:
    """The message of one tick; the `first` assessment is one summary and not a list of everything. `unread` names what
    could not be read, so that nothing is said of it."""
    name = plain(project.name)
    zone = ZoneInfo(project.time_zone)
    today = local_day(now, zone)
    wrong = sorted((alert.episode for alert in _in_state(transitions, AlertState.firing)), key=urgency)
    heard = _heard(wrong)
    blocked = _blocked_since(wrong, zone)
    parts = [[f"{name}, {spoken(today)}: {_stands(standing, unread)}."], _unread(unread)]
    if first:
        parts += [[f"This is the first look: {_counts(wrong, unread)}."]]
        parts += [[f"The {WORST} worst:"]] if len(heard) > WORST else []
        parts += [_alert(name, episode, blocked) for episode in heard[:WORST]]
        parts += [_deadlines(forecasts, today)]
        return Message(f"{name}: {_counts(wrong, unread)}", _text([*parts, _legend(parts), _what_to_do(heard)]))
    parts += [_alert(name, episode, blocked) for episode in heard[:MOST]]
    parts += [_more(len(heard) - MOST)]
    taken = [f"  {_taken(alert)}" for alert in _in_state(transitions, AlertState.acknowledged)]
    mended = list(_mended(project, transitions, forecasts, today, unread))
    for title, lines in (("Acknowledged", taken), ("Resolved", mended)):
        parts += [[title, *lines[:MOST], *_more(len(lines) - MOST)]] if lines else []
    subject = _subject(name, heard, len(taken), len(mended))
    return Message(subject, _text([*parts, _legend(parts), _what_to_do(heard)]))


def plain(text: str, longest: int = LONGEST) -> str:
    """One line of printable text, of bounded length: titles come from anyone who can open an issue."""
    kept = (" " if char.isspace() else char for char in text if char.isspace() or unicodedata.category(char)[0] != "C")
    line = " ".join("".join(kept).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def _text(parts: Sequence[Sequence[str]]) -> str:
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _in_state(transitions: Sequence[Transition], state: AlertState) -> list[Alert]:
    return [move.alert for move in transitions if move.alert and move.state is state]


def _heard(wrong: Sequence[Episode]) -> list[Episode]:
    """What is told one by one: not that a deadline is near when it is told to be late, nor what its «why» names."""
    late = [episode for episode in wrong if episode.rule == "forecast_late"]
    subjects = {episode.subject for episode in late}
    named = {key for episode in late for key in episode.evidence["blocked"][:WORST]}
    return [
        episode
        for episode in wrong
        if not (episode.rule == "milestone_near" and episode.subject in subjects)
        and not (episode.rule == "blocked" and episode.key in named)
    ]


def _blocked_since(wrong: Sequence[Episode], zone: ZoneInfo) -> Mapping[str, str]:
    """The keys of items that began to be told as blocked, each with the day since when they are."""
    found = {e.key: datetime.fromisoformat(e.evidence["blocked_at"]) for e in wrong if e.rule == "blocked"}
    return {key: f"{plain(key)} since {spoken(local_day(at, zone))}" for key, at in found.items()}


# --- the parts --------------------------------------------------------------------------------------------------------


def _subject(name: str, heard: Sequence[Episode], taken: int, mended: int) -> str:
    if heard:
        more = f" (and {len(heard) - 1} more)" if len(heard) > 1 else ""
        return f"{name}: {plain(heard[0].name, SUBJECT)} {plain(heard[0].summary)}{more}"
    counts = [f"{n} {what}" for n, what in ((taken, "acknowledged"), (mended, "resolved")) if n]
    return f"{name}: {', '.join(counts) or 'nothing new'}"


def _stands(standing: Progress, unread: Sequence[str]) -> str:
    done = share(standing.done, standing.scope)
    if done is None:
        return "no items in what was read" if unread else "no items yet"
    return (
        f"{standing.done} of {counted(standing.scope, 'item')} done ({percent(done)}), "
        f"{standing.in_progress} in progress, {standing.todo} to do"
    )


def _unread(unread: Sequence[str]) -> list[str]:
    return [f"Not read: {', '.join(map(plain, unread))}. Nothing here speaks of that."] if unread else []


def _deadlines(forecasts: Sequence[Forecast], today: date) -> list[str]:
    """Where each deadline stands that is not over; those that nobody dated only if there is a forecast."""
    ahead = (found for found in forecasts if not _is_over(found, today) and (found.due_date or not found.reason))
    lines = [f"  {_outlook(found, today)}" for found in sorted(ahead, key=lambda f: (f.due_date or date.max, f.title))]
    return ["Deadlines", *lines[:MOST], *_more(len(lines) - MOST)] if lines else []


def _is_over(found: Forecast, today: date) -> bool:
    """Whether a deadline asks nothing of anyone any more: it is closed, or its day has passed without open work."""
    passed = found.due_date is not None and found.due_date < today
    return found.reason == CLOSED or (passed and found.reason in {DONE, NO_ITEMS})


def _counts(wrong: Sequence[Episode], unread: Sequence[str]) -> str:
    counts = Counter(episode.rule for episode in wrong)
    said = [f"{counted(counts[rule.name], rule.subject)} {rule.label}" for rule in RULES if counts[rule.name]]
    if unread:
        return f"{', '.join(said) or 'no alerts'}; not everything has been read"
    return ", ".join(said) or "nothing is wrong"


def _legend(parts: Sequence[Sequence[str]]) -> list[str]:
    return [P85] if any("P85 is" in line for part in parts for line in part) else []


def _what_to_do(heard: Sequence[Episode]) -> list[str]:
    found = [f"Take one on: pmsync alerts ack {episode.fingerprint[:SHOWN]} --by you@example.com" for episode in heard]
    return found[:1]


def _taken(alert: Alert) -> str:
    """What somebody took on, with what they wrote; who that was is not everybody's business."""
    head = plain(alert.episode.name)
    return f"{head}: {plain(alert.note)}" if alert.note.strip() else head


def _alert(name: str, episode: Episode, blocked: Mapping[str, str]) -> list[str]:
    rule = _RULES[episode.rule]
    joint = ": " if rule.subject == "item" else ", "
    lines = [f"{name} · {plain(episode.name)}{joint}{plain(episode.summary)}{yesterday(episode.evidence)}."]
    why = "; ".join(_why(episode, blocked))
    lines += [f"  Why: {why}."] if why else []
    lines += [f"  What to do: {plain(advice, 2 * LONGEST)}."] if (advice := episode.evidence.get("what_to_do")) else []
    formula = episode.evidence.get("rule", episode.evidence["formula"])
    lines += [f"  Evidence: {formula}{_trials(episode)} ({rule.name}, alert {episode.fingerprint})."]
    lines += [f"  {plain(episode.url)}"] if episode.url else []
    return lines


def _trials(episode: Episode) -> str:
    """On what a forecast rests."""
    known = episode.evidence
    return (
        f"; {known['formula']}, {known['trials']} trials from {' to '.join(known['window'])}"
        if "trials" in known
        else ""
    )


def _why(episode: Episode, blocked: Mapping[str, str]) -> Iterator[str]:
    """What the evidence says in words."""
    known = episode.evidence
    if "remaining" in known:
        yield f"{counted(known['remaining'], 'item')} must be done by then"
        yield f"{known['finished']} finished and {known['added']} added in {known['window_days']} working days"
        yield from _listed("added in the last week", known["added_last_week"], known["added_last_week_count"])
        stuck = [blocked.get(key, key) for key in known["blocked"]]
        yield from _listed("blocked", stuck, known["blocked_count"])
    elif _RULES[episode.rule].subject == "deadline" and "items" in known:
        yield from _listed("open", known["items"], known["count"])


def _listed(what: str, keys: Sequence[str], count: int) -> Iterator[str]:
    if count:
        more = f" and {count - WORST} more" if count > WORST else ""
        yield f"{what}: {', '.join(plain(key) for key in keys[:WORST])}{more}"


def _outlook(found: Forecast, today: date) -> str:
    promised = f", promised {spoken(found.due_date)}" if found.due_date else ""
    title = f"{plain(found.title)}{promised}"
    if found.reason:
        return f"{title}: {found.reason}"
    passed = found.due_date is not None and found.due_date < today
    chance = "" if passed or found.on_time is None else f"{likely(found.on_time)} likely on time; "
    return f"{title}: {chance}P85 is {spoken(found.p85) if found.p85 else 'more than two years away'}"


def _mended(
    project: Project,
    transitions: Sequence[Transition],
    forecasts: Sequence[Forecast],
    today: date,
    unread: Sequence[str],
) -> Iterator[str]:
    """A line for each thing that is no longer wrong. What something worse took over from is not: a rung that gave way to
    a tighter one or to «overdue», a late forecast whose day has passed with work still open."""
    told = {(e.subject, e.rule) for move in transitions if move.alert and move.state is not AlertState.resolved
            for e in (move.alert.episode,)}  # fmt: skip
    late = {fingerprint("forecast_late", f.deadline, f.due_date, project.thresholds.on_time): f for f in forecasts}
    gone = 0
    for move in transitions:
        if move.state is not AlertState.resolved:
            continue
        if move.alert is None:
            found = late.get(move.fingerprint)
            gone += found is None
            yield from _no_longer_late(found, today) if found else ()
        elif not any(
            (move.alert.episode.subject, rule) in told for rule in TAKES_OVER.get(move.alert.episode.rule, ())
        ):
            yield f"  {plain(move.alert.episode.name)}: {_no_longer(move.alert.episode, today)}"
    if gone:
        why = "no longer of this project, closed, or with another date or threshold"
        yield f"  {f'not read, {why}' if unread else why}: {counted(gone, 'earlier alert')}"


def _no_longer_late(found: Forecast, today: date) -> Iterator[str]:
    """That a forecast is late no more: because it is well, or nothing is left to forecast, or it cannot be made."""
    outlook = _outlook(found, today)
    if found.reason in {CLOSED, DONE, NO_ITEMS}:
        yield f"  {outlook}"
    elif found.due_date and found.due_date >= today:
        yield f"  {outlook}, so there is no forecast any more" if found.reason else f"  {outlook}: no longer late"


def _no_longer(episode: Episode, today: date) -> str:
    passed = episode.due is not None and episode.due < today
    if passed and itemless(episode.subject):
        return "its day has passed"
    return f"no longer {_RULES[episode.rule].label}"


def _more(n: int) -> list[str]:
    return [f"  and {n} more"] if n > 0 else []
