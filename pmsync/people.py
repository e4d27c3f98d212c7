"""Whose the accounts of the sources are: by configuration first, then by an address that the source vouches for, never by a
guess. What only looks alike is suggested, for somebody to say (`pmsync people`).

The lines that a plan says of people name nobody: they end in the logs of whatever applies it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from connectors.base import Accounts, Profile
from pmsync.config import Config
from pmsync.core.events import Project
from pmsync.core.messages import plain
from pmsync.core.people import Account, accounts
from pmsync.core.project import ProjectState
from pmsync.core.rules.episode import counted
from pmsync.store.people import How, PeopleStore, Person

MOST_ASKED = 1000
"""So many accounts of a source are asked for at a time: GitHub has 5000 requests an hour for everything."""


class PersonUnknown(Exception):
    """Nobody here is called so."""


def configured(config: Config) -> dict[Account, str]:
    """account -> the address of whose it is, as the configuration says."""
    return {
        Account(source, ident): person.mail
        for person in config.people
        for source, idents in person.accounts.items()
        for ident in idents
    }


def differences(config: Config, known: Sequence[Person]) -> tuple[str, ...]:
    """What applying the configuration would change of people, a line each; persons are named by their place in the file, or
    by their id."""
    by_mail = {person.mail: person for person in known}
    links = {link.account: link for person in known for link in person.links}
    lines = []
    for n, entry in enumerate(config.people):
        person, here = by_mail.get(entry.mail), f"people.{n}"
        if person is None:
            lines.append(f"+ {here}: a new person")
        elif person.name != entry.name:
            lines.append(f"~ {here}: name changes")
        for source, idents in entry.accounts.items():
            for ident in idents:
                link = links.get(Account(source, ident))
                if link is None or person is None or (link.person, link.how) != (person.id, How.configuration):
                    lines.append(f"+ {here}: has the account {source}/{ident}")
    meant, listed = configured(config), {entry.mail for entry in config.people}
    over = [link for link in links.values() if link.how is How.configuration and link.account not in meant]
    lines += [f"- {link.person}: no longer has the account {link.account.source}/{link.account.id}" for link in over]
    lines += [f"~ {person.id}: loses the name" for person in known if person.name and person.mail not in listed]
    return tuple(sorted(lines))


def apply(config: Config, store: PeopleStore, ids: Mapping[str, str], now: datetime) -> None:
    """Make the configuration's names and links the ones that stand. `ids` has the person ids of its addresses."""
    names = {ids[entry.mail]: entry.name for entry in config.people if entry.mail in ids}
    links = {account: ids[mail] for account, mail in configured(config).items() if mail in ids}
    store.configure(names, links, now)


def named(people: Sequence[Person], who: str) -> Person:
    """The person with this id or address; raises `PersonUnknown`, with what to do."""
    found = [person for person in people if who in (person.id, person.mail)]
    if not found and "@" in who:
        found = [person for person in people if person.mail.casefold() == who.casefold()]
    if len(found) != 1:
        advice = "`pmsync people list` shows who is there; an entry under people in pmsync.yaml adds somebody"
        who_has = f"{len(found)} persons here have" if found else "nobody here has"
        raise PersonUnknown(f"{who_has} the id or address {who!r}; {advice}")
    return found[0]


def reach(person: Person, projects: Iterable[Project], waiting: int) -> list[str]:
    """What it means to forget somebody, a line each."""
    theirs = [f"{link.account.source}/{link.account.id}" for link in person.links]
    known = list(projects)
    worked = sorted(project.key for project in known if any(member.person == person.id for member in project.team))
    led = sorted(project.key for project in known if person.id in {project.leader, *project.notify})
    lines = [f"{person.id}: {'name and mail address' if person.name else 'mail address'} erased"]
    lines += [f"{counted(len(theirs), 'account')} nobody's any more: {', '.join(theirs)}"] if theirs else []
    lines += [f"{counted(waiting, 'message')} on the way to them not sent"] if waiting else []
    lines += [f"told of nothing any more, as they are now in: {', '.join(led)}"] if led else []
    lines += [f"their hours stand by this id, until applied without them, in: {', '.join(worked)}"] if worked else []
    return [*lines, "what stays: this id, which says nothing of anybody, and the ids that the sources' events give"]


def still_named(config: Config, mail: str) -> list[str]:
    """Where in the configuration an address stands."""
    places = [f"people.{n}.mail" for n, entry in enumerate(config.people) if entry.mail == mail]
    for n, project in enumerate(config.projects):
        places += [f"projects.{n}.leader"] if project.leader == mail else []
        places += [f"projects.{n}.notify"] if mail in project.notify else []
    return places


# --- suggestions ------------------------------------------------------------------------------------------------------


class Suggestion(NamedTuple):
    """That an account may be a person's, with what speaks for it. `certain`: the source vouches for the address, and it is
    one person's alone."""

    account: Account
    shown: str
    person: Person
    evidence: str
    certain: bool


def unlinked(states: Iterable[ProjectState], known: Sequence[Person]) -> dict[str, list[str]]:
    """source -> the ids of the accounts that are named by what was read of it, and nobody's yet."""
    taken = {link.account for person in known for link in person.links}
    found: dict[str, list[str]] = {}
    for account in sorted({each for state in states for each in accounts(state)} - taken):
        found.setdefault(account.source, []).append(account.id)
    return found


class Answer(NamedTuple):
    """What a source told of some of its accounts: how many were asked for, how many not this time, and how many it told
    nothing of."""

    profiles: Sequence[Profile]
    asked: int
    left: int

    @property
    def silent(self) -> int:
        return sum(not (profile.name or profile.mail) for profile in self.profiles)


def ask(reader: Accounts, wanted: Sequence[str], told: Callable[[int, int], None] = lambda *_: None) -> Answer:
    """What the source tells of these accounts, or of the first of them; `told` hears how many of how many. Raises what the
    reader raises."""
    some = wanted[:MOST_ASKED]
    profiles = []
    for profile in islice(reader.accounts(some), len(some)):
        profiles.append(profile)
        told(len(profiles), len(some))
    return Answer(profiles, len(some), len(wanted) - len(some))


def suggestions(source: str, profiles: Sequence[Profile], people: Sequence[Person]) -> list[Suggestion]:
    """Who these accounts may be, the certain ones first."""
    found = [each for profile in profiles for each in _suggested(source, profile, people)]
    return sorted(found, key=lambda each: (not each.certain, each.account, each.person.id))


def _suggested(source: str, profile: Profile, people: Sequence[Person]) -> Iterator[Suggestion]:
    account, shown = Account(source, profile.account), plain(profile.name or "no name")
    same = [person for person in people if profile.mail and person.mail.casefold() == profile.mail.casefold()]
    for person in same:
        if not profile.verified:
            evidence = f"the same address, for which {source} does not vouch"
        elif len(same) > 1:
            evidence = f"the same address, which {len(same)} persons have in letters of another case"
        else:
            evidence = f"the same address, for which {source} vouches"
        yield Suggestion(account, shown, person, evidence, certain=profile.verified and len(same) == 1)
    alike = [person for person in people if person.name and _spelt(person.name) == _spelt(profile.name)]
    for person in alike if not same else ():
        others = f", as {len(alike) - 1} more here" if len(alike) > 1 else ""
        other = ", but another address" if profile.mail else ""
        yield Suggestion(account, shown, person, f"the same name{others}{other}", certain=False)


def _spelt(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


# --- on a terminal ----------------------------------------------------------------------------------------------------


def show_people(console: Console, people: Sequence[Person]) -> None:
    """A line for each person, and one for each account."""
    table = Table("person", "mail", "name", "account", "by", box=None, pad_edge=False)
    for person in people:
        links = [(f"{link.account.source}/{link.account.id}", link.how.value) for link in person.links] or [("", "")]
        for n, link in enumerate(links):
            who = (person.id, plain(person.mail), plain(person.name)) if n == 0 else ("", "", "")
            table.add_row(*map(escape, (*who, *link)))
    console.print(table if table.row_count else "nobody yet; `people` in pmsync.yaml says who there is")


def show_suggestions(console: Console, found: Sequence[Suggestion]) -> None:
    """A line for each suggestion."""
    table = Table("account", "is called there", "may be", "because of", box=None, pad_edge=False)
    for each in found:
        who = f"{each.person.id} {plain(each.person.name or each.person.mail)}"
        table.add_row(*map(escape, (f"{each.account.source}/{each.account.id}", each.shown, who, each.evidence)))
    if table.row_count:
        console.print(table)
