"""Whose accounts are: what a plan says of people names nobody, and nothing is taken for certain that is a guess."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from connectors.base import Profile
from pmsync import people
from pmsync.config import Config
from pmsync.core.events import ChangeRequest, Deployment, Member, Review, ReviewRequest, Thing, Worklog
from pmsync.core.people import Account, accounts, assignees
from pmsync.core.project import ProjectState
from pmsync.people import MOST_ASKED, PersonUnknown, ask, differences, named, reach, still_named, suggestions, unlinked
from pmsync.store.people import How, Link, Person
from tests.unit.builders import JIRA, NOW, START, at, deployment, item, project

AT = datetime(2026, 3, 16, 12, tzinfo=UTC)
ADA = Person("person-1", "ada@example.com", "Ada Lovelace")
BO = Person("person-2", "bo@example.com", "Bo")


def with_links(person: Person, *links: tuple[str, How]) -> Person:
    return person._replace(links=tuple(Link(Account("jira", ident), person.id, how, AT) for ident, how in links))


def configured(*entries: dict[str, Any], **project: Any) -> Config:
    token = {"env": "TOKEN"}
    sources = [{"name": "jira", "kind": "jira", "url": "https://example.atlassian.net", "auth": {"email": "a@b.c", "token": token}}]  # fmt: skip
    projects = [{"key": "apollo", **project}]
    return Config.model_validate({"sources": sources, "projects": projects, "people": entries})


def test_what_it_means_to_forget_somebody_who_works_on_projects() -> None:
    member = Member(person="person-1", hours=((),) * 7)
    team, other = (project(key=key, team=members) for key, members in (("apollo", [member]), ("beacon", [])))
    assert "their hours stand by this id, until applied without them, in: apollo" in reach(ADA, iter([team, other]), 0)
    assert not any("hours" in line for line in reach(BO, [team, other], 0))


# --- what a plan says -------------------------------------------------------------------------------------------------

ENTRY = {"mail": "ada@example.com", "name": "Ada Lovelace", "accounts": {"jira": ["a1", "a2"]}}
PLANS: dict[str, tuple[Sequence[dict[str, Any]], Sequence[Person], tuple[str, ...]]] = {
    "nothing": ([], [BO._replace(name="")], ()),
    "somebody new": ([ENTRY], [], ("+ people.0: a new person", "+ people.0: has the account jira/a1", "+ people.0: has the account jira/a2")),
    "nothing new": ([ENTRY], [with_links(ADA, ("a1", How.configuration), ("a2", How.configuration))], ()),
    "another name": ([ENTRY | {"name": "Ada"}], [with_links(ADA, ("a1", How.configuration), ("a2", How.configuration))], ("~ people.0: name changes",)),
    "what somebody confirmed is what the file says now": ([ENTRY], [with_links(ADA, ("a1", How.confirmed), ("a2", How.mail))], ("+ people.0: has the account jira/a1", "+ people.0: has the account jira/a2")),
    "another's account": ([ENTRY], [with_links(ADA, ("a1", How.configuration)), with_links(BO._replace(name=""), ("a2", How.configuration))], ("+ people.0: has the account jira/a2",)),
    "an account less": ([ENTRY], [with_links(ADA, ("a1", How.configuration), ("a2", How.configuration), ("a3", How.configuration))], ("- person-1: no longer has the account jira/a3",)),
    "an entry less": ([], [with_links(ADA, ("a1", How.configuration), ("a2", How.confirmed))], ("- person-1: no longer has the account jira/a1", "~ person-1: loses the name")),
}  # fmt: skip


@pytest.mark.parametrize("plan", PLANS)
def test_a_plan_of_people(plan: str) -> None:
    entries, known, lines = PLANS[plan]
    assert differences(configured(*entries), known) == lines


@pytest.mark.parametrize("plan", PLANS)
def test_a_plan_names_nobody(plan: str) -> None:
    entries, known, _ = PLANS[plan]
    said = "\n".join(differences(configured(*entries), known)).casefold()
    assert "ada" not in said
    assert "@" not in said


# --- who is meant -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["person-1", "ada@example.com", "ADA@example.com"])
def test_a_person_is_named_by_id_or_address(who: str) -> None:
    assert named([ADA, BO], who) == ADA


@pytest.mark.parametrize("who", ["Ada Lovelace", "person", "", "zoe@example.com"])
def test_nobody_is_named_by_anything_else(who: str) -> None:
    with pytest.raises(PersonUnknown, match=r"nobody here has the id or address .*`pmsync people list` shows"):
        named([ADA, BO], who)


def test_an_address_in_letters_of_another_case_is_one_only_if_it_is_ones_alone() -> None:
    twice = [ADA, ADA._replace(id="person-3", mail="Ada@example.com")]
    assert named(twice, "Ada@example.com").id == "person-3"
    with pytest.raises(PersonUnknown, match="2 persons"):
        named(twice, "ADA@example.com")


def test_where_an_address_still_stands_is_known() -> None:
    config = configured({"mail": "bo@example.com"}, ENTRY, leader="ada@example.com", notify=["ada@example.com"])
    assert still_named(config, "ada@example.com") == ["people.1.mail", "projects.0.leader", "projects.0.notify"]
    assert still_named(config, "zoe@example.com") == []


# --- suggestions ------------------------------------------------------------------------------------------------------

TWIN = ADA._replace(id="person-3", mail="lovelace@example.com")
TOLD: dict[str, tuple[Profile, Sequence[Person], list[tuple[str, str, bool]]]] = {
    "a verified address": (Profile("a1", "A.", "Ada@Example.com", verified=True), [ADA, BO], [("person-1", "the same address, for which jira vouches", True)]),
    "an address that anybody may have written": (Profile("a1", "A.", "ada@example.com"), [ADA, BO], [("person-1", "the same address, for which jira does not vouch", False)]),
    "an address of two": (Profile("a1", "", "ada@example.com", verified=True), [ADA, ADA._replace(id="person-3", mail="Ada@example.com")], [("person-1", "the same address, which 2 persons have in letters of another case", False), ("person-3", "the same address, which 2 persons have in letters of another case", False)]),
    "a name": (Profile("a1", "ada  LOVELACE"), [ADA, BO], [("person-1", "the same name", False)]),
    "a name with another address that is verified": (Profile("a1", "Ada Lovelace", "al@example.com", verified=True), [ADA, BO], [("person-1", "the same name, but another address", False)]),
    "a name of two": (Profile("a1", "Ada Lovelace"), [ADA, TWIN], [("person-1", "the same name, as 1 more here", False), ("person-3", "the same name, as 1 more here", False)]),
    "an address of one and the name of another": (Profile("a1", "Bo", "ada@example.com", verified=True), [ADA, BO], [("person-1", "the same address, for which jira vouches", True)]),
    "a part of a name": (Profile("a1", "Ada"), [ADA, BO], []),
    "nothing": (Profile("a1"), [ADA, BO._replace(name="")], []),
    "a stranger": (Profile("a1", "Zoe", "zoe@example.com", verified=True), [ADA, BO], []),
}  # fmt: skip


@pytest.mark.parametrize("told", TOLD)
def test_only_an_address_that_the_source_vouches_for_is_certain(told: str) -> None:
    profile, known, found = TOLD[told]
    said = suggestions("jira", [profile], known)
    assert [(each.person.id, each.evidence, each.certain) for each in said] == found


def test_a_name_from_a_source_is_one_line_of_text() -> None:
    (found,) = suggestions("jira", [Profile("a1", "Ada\x1b[2J\nL", "ada@example.com")], [ADA])
    assert found.shown == "Ada[2J L"


class Source:
    """Tells of as many accounts as it is let."""

    def __init__(self) -> None:
        self.asked = 0

    def accounts(self, ids: Sequence[str]) -> Iterator[Profile]:
        self.asked = len(ids)
        for n, ident in enumerate(ids):
            yield Profile(ident, "Somebody" if n else "")
        yield Profile("one too many")


def test_so_many_accounts_are_asked_for_and_no_more() -> None:
    source, told = Source(), list[tuple[int, int]]()
    answer = ask(source, [f"{n:04}" for n in range(MOST_ASKED + 7)], lambda *at: told.append(at))
    assert source.asked == answer.asked == len(answer.profiles) == MOST_ASKED
    assert (answer.left, answer.silent) == (7, 1)
    assert (told[0], told[-1]) == ((1, MOST_ASKED), (MOST_ASKED, MOST_ASKED))


# --- whom a state names -----------------------------------------------------------------------------------------------


def request(**values: Any) -> tuple[Thing, ChangeRequest]:
    content = {"key": "a/b#1", "container": "a/b", "title": "T", "created_at": START, "state": "open", **values}
    return Thing("gh", "change_request", "1/1"), ChangeRequest.model_validate(content)


def state(**things: Any) -> ProjectState:
    none: dict[str, list[Any]] = {"work_item": [], "change_request": [], "deployment": []}
    return ProjectState(project(), none | things)


def test_every_account_that_a_state_names_is_found() -> None:
    logged = Worklog(id="1", created_at=START, started_at=START, seconds=60, by="logger")
    asked = ReviewRequest(reviewer="asked", at=START), ReviewRequest(reviewer="team:7", at=START)
    reviews = (Review(id="1", at=START, state="approved", reviewer="reviewer"),)
    thing, shipped = deployment()
    assert isinstance(shipped, Deployment)
    found = state(
        work_item=[item("1", assignee="owner", worklogs=(logged,)), item("2")],
        change_request=[request(author="author", reviews=reviews, review_requests=asked)],
        deployment=[(thing, shipped.model_copy(update={"creator": "shipper"}))],
    )
    assert accounts(found) == {
        (JIRA, "owner"), (JIRA, "logger"), (JIRA, "shipper"), ("gh", "author"), ("gh", "reviewer"), ("gh", "asked"),
    }  # fmt: skip
    linked = with_links(ADA, ("owner", How.confirmed))
    assert unlinked([found, found], [linked, BO]) == {
        JIRA: ["logger", "shipper"],
        "gh": ["asked", "author", "reviewer"],
    }


def test_who_has_an_item_is_as_of_an_instant() -> None:
    moved = item("1", [(at("2026-02-02"), "assignee", "b"), (at("2026-03-02"), "assignee", None)], assignee="a")
    found, wanted = state(work_item=[moved, item("2", assignee="z")]), [moved[0], Thing(JIRA, "milestone", "1")]
    by_day = {day: assignees(found, wanted, at(day)) for day in ("2026-01-10", "2026-02-10", "2026-03-10")}
    assert by_day == {
        "2026-01-10": {moved[0]: (JIRA, "a")},
        "2026-02-10": {moved[0]: (JIRA, "b")},
        "2026-03-10": {},
    }
    assert assignees(found, [item("2")[0]], NOW) == {item("2")[0]: (JIRA, "z")}


def test_what_it_means_to_forget_somebody_is_said() -> None:
    led = project().model_copy(update={"leader": ADA.id})
    assert people.reach(with_links(ADA, ("a1", How.mail)), [led], 2) == [
        "person-1: name and mail address erased",
        "1 account nobody's any more: jira/a1",
        "2 messages on the way to them not sent",
        f"told of nothing any more, as they are now in: {led.key}",
        "what stays: this id, which says nothing of anybody, and the ids that the sources' events give",
    ]
    assert len(people.reach(BO, [led], 0)) == 2
