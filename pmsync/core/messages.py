"""What people read: one plain-text message per project and tick.

It says what is wrong, by how much, why, and on what evidence. The first assessment is one summary, not a list of
everything; what has been mended is a line each.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from pmsync.core.alerts import AlertState, Transition
from pmsync.core.events import Project
from pmsync.core.measures.forecast import Forecast
from pmsync.core.measures.progress import Progress
from pmsync.core.project import local_day
from pmsync.core.rules import RULES, Episode, fingerprint
from pmsync.core.rules.episode import counted, likely, spoken

WORST = 5
MOST = 20
LONGEST = 200
_RULES = {rule.name: (rank, rule) for rank, rule in enumerate(RULES)}
_SEVERITIES = {"critical": 0, "warning": 1, "info": 2}
_TAKES_OVER = {
    "deadline_near": {"deadline_near", "overdue"},
    "milestone_near": {"milestone_near", "milestone_overdue"},
}


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
) -> Message:
    """The message of one tick; the `first` assessment is one summary and not a list of everything."""
    name = plain(project.name)
    wrong = _wrong(transitions)
    day = spoken(local_day(now, ZoneInfo(project.time_zone)))
    parts = [[f"{name}, {day}: {_stands(standing)}."]]
    if first:
        parts += _overview(name, wrong, forecasts)
        return Message(f"{name}: {_counts(wrong)}", _text(parts))
    parts += [_alert(name, episode) for episode in wrong[:MOST]]
    parts += [_more(len(wrong) - MOST)]
    taken = [f"  {_head(episode)}" for episode in _in_state(transitions, AlertState.acknowledged)]
    mended = list(_mended(project, transitions, forecasts))
    for title, lines in (("Acknowledged", taken), ("Resolved", mended)):
        parts += [[title, *lines[:MOST], *_more(len(lines) - MOST)]] if lines else []
    return Message(_subject(name, wrong, len(taken), len(mended)), _text(parts))


def plain(text: str) -> str:
    """One line of printable text, of bounded length: titles come from anyone who can open an issue."""
    kept = (" " if char.isspace() else char for char in text if char.isspace() or unicodedata.category(char)[0] != "C")
    line = " ".join("".join(kept).split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def _text(parts: Sequence[Sequence[str]]) -> str:
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _in_state(transitions: Sequence[Transition], state: AlertState) -> list[Episode]:
    return [move.alert.episode for move in transitions if move.alert and move.state is state]


def _wrong(transitions: Sequence[Transition]) -> list[Episode]:
    """What began to be wrong, the worst first."""
    return sorted(
        _in_state(transitions, AlertState.firing),
        key=lambda e: (_SEVERITIES[e.severity], _RULES[e.rule][0], e.since, e.key, e.fingerprint),
    )


# --- the parts --------------------------------------------------------------------------------------------------------


def _subject(name: str, wrong: Sequence[Episode], taken: int, mended: int) -> str:
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        return f"{name}: {plain(_head(wrong[0]))}, {_RULES[wrong[0].rule][1].label}{more}"
    counts = [f"{n} {what}" for n, what in ((taken, "acknowledged"), (mended, "resolved")) if n]
    return f"{name}: {', '.join(counts) or 'nothing new'}"


def _stands(standing: Progress) -> str:
    if not standing.scope:
        return "no items yet"
    percent = 100 * standing.done // standing.scope
    return (
        f"{standing.done} of {counted(standing.scope, 'item')} done ({percent} %), "
        f"{standing.in_progress} in progress, {standing.todo} to do"
    )


def _overview(name: str, wrong: Sequence[Episode], forecasts: Sequence[Forecast]) -> Iterator[list[str]]:
    """Counts by rule, the worst, and where each deadline stands."""
    yield [f"This is the first look: {_counts(wrong)}."]
    if len(wrong) > WORST:
        yield [f"The {WORST} worst:"]
    yield from (_alert(name, episode) for episode in wrong[:WORST])
    dated = [_outlook(found) for found in forecasts if found.due_date or not found.reason]
    if dated:
        yield ["Deadlines", *(f"  {line}" for line in dated[:MOST]), *_more(len(dated) - MOST)]


def _counts(wrong: Sequence[Episode]) -> str:
    counts = Counter(episode.rule for episode in wrong)
    said = [f"{counted(counts[rule.name], rule.subject)} {rule.label}" for rule in RULES if counts[rule.name]]
    return ", ".join(said) or "nothing is wrong"


def _head(episode: Episode) -> str:
    """The readable name of a subject: the key and title of an item, the title of a deadline."""
    title = plain(episode.title)
    is_item = _RULES[episode.rule][1].subject == "item"
    return f"{plain(episode.key)} {title}" if is_item else title


def _alert(name: str, episode: Episode) -> list[str]:
    rule = _RULES[episode.rule][1]
    joint = ": " if rule.subject == "item" else ", "
    lines = [f"{name} · {_head(episode)}{joint}{plain(episode.summary)}."]
    why = "; ".join(_why(episode))
    lines += [f"  Why: {why}."] if why else []
    lines += [f"  Evidence: {rule.formula}{_trials(episode)} ({rule.name}, alert {episode.fingerprint})."]
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


def _why(episode: Episode) -> Iterator[str]:
    """What the evidence says in words."""
    known = episode.evidence
    if "remaining" in known:
        yield f"{counted(known['remaining'], 'item')} to finish up to it"
        yield f"{known['finished']} finished and {known['added']} added in {known['window_days']} working days"
        yield from _listed("added in the last week", known["added_last_week"], known["added_last_week_count"])
        yield from _listed("blocked", known["blocked"], known["blocked_count"])
    elif _RULES[episode.rule][1].subject == "deadline":
        yield from _listed("open", known["items"], known["count"])


def _listed(what: str, keys: Sequence[str], count: int) -> Iterator[str]:
    if count:
        more = f" and {count - WORST} more" if count > WORST else ""
        yield f"{what}: {', '.join(plain(key) for key in keys[:WORST])}{more}"


def _outlook(found: Forecast) -> str:
    promised = f", promised {spoken(found.due_date)}" if found.due_date else ""
    title = f"{plain(found.title)}{promised}"
    if found.reason:
        return f"{title}: {found.reason}"
    chance = "" if found.on_time is None else f"{likely(found.on_time)} likely on time; "
    return f"{title}: {chance}P85 is {spoken(found.p85) if found.p85 else 'more than two years away'}"


def _mended(project: Project, transitions: Sequence[Transition], forecasts: Sequence[Forecast]) -> Iterator[str]:
    """A line for each thing that is no longer wrong; a rung that gave way to a tighter one is not."""
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
            yield from [f"  {_outlook(found)}: no longer late"] if found else []
        elif not any(
            (move.alert.episode.subject, rule) in told for rule in _TAKES_OVER.get(move.alert.episode.rule, ())
        ):
            episode = move.alert.episode
            yield f"  {_head(episode)}: no longer {_RULES[episode.rule][1].label}"
    if gone:
        yield f"  no longer of this project, or with another date: {counted(gone, 'earlier alert')}"


def _more(n: int) -> list[str]:
    return [f"  and {n} more"] if n > 0 else []
