"""People: whose accounts are, on both databases and by the commands; and that who is forgotten is gone from everything."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import select

from pmsync.core.exports import TABLES
from pmsync.core.people import Account
from pmsync.health import Health
from pmsync.notify.notifier import Notifier
from pmsync.notify.senders import MailSender
from pmsync.standins.jira import Fault, JiraSite
from pmsync.standins.jira import Person as Somebody
from pmsync.standins.server import serve
from pmsync.store.configuration import ConfigurationStore
from pmsync.store.engine import Store
from pmsync.store.people import How, Link, PeopleStore, Person
from pmsync.store.tables import metadata
from pmsync.web.app import create_app
from pmsync.web.reader import StoreReader
from tests.integration.commands import Folder
from tests.unit.builders import item

pytestmark = pytest.mark.integration

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
A1, A2, G1 = Account("jira", "a1"), Account("jira", "a2"), Account("gh", "1")
ODD = Account("jira", "é\0\x1b'%")
ADA, BO = "ada@example.com", "bo@example.com"


# --- the store --------------------------------------------------------------------------------------------------------


@pytest.fixture
def people(store: Store) -> PeopleStore:
    return PeopleStore(store)


@pytest.fixture
def ids(store: Store) -> dict[str, str]:
    """The person ids of Ada and Bo, by address."""
    return ConfigurationStore(store).person_ids([ADA, BO])


def by_mail(people: PeopleStore) -> dict[str, Person]:
    return {person.mail: person for person in people.people()}


def links(people: PeopleStore) -> dict[Account, tuple[str, How]]:
    return {link.account: (link.person, link.how) for person in people.people() for link in person.links}


def test_the_configuration_is_there_whole_and_nothing_else_of_it(people: PeopleStore, ids: Mapping[str, str]) -> None:
    ada, bo = ids[ADA], ids[BO]
    people.configure({ada: "Ada", bo: "Bo"}, {A1: ada, G1: ada, ODD: bo}, NOW)
    later = NOW + timedelta(days=1)
    people.configure({ada: "Ada L"}, {A1: ada, G1: bo}, later)
    assert by_mail(people) == {
        ADA: Person(ada, ADA, "Ada L", (Link(A1, ada, How.configuration, NOW),)),
        BO: Person(bo, BO, "", (Link(G1, bo, How.configuration, later),)),
    }
    people.configure({}, {}, later)
    assert [(person.name, person.links) for person in people.people()] == [("", ()), ("", ())]


def test_what_was_linked_otherwise_stays_until_the_configuration_has_it(
    people: PeopleStore, ids: Mapping[str, str]
) -> None:
    ada, bo = ids[ADA], ids[BO]
    people.link({A1: ada, A2: ada}, How.mail, NOW)
    people.link({G1: bo}, How.confirmed, NOW)
    people.configure({}, {A1: bo}, NOW)
    assert links(people) == {A1: (bo, How.configuration), A2: (ada, How.mail), G1: (bo, How.confirmed)}
    people.configure({}, {}, NOW)
    assert links(people) == {A2: (ada, How.mail), G1: (bo, How.confirmed)}


def test_an_account_that_is_somebodys_is_given_to_nobody_else(people: PeopleStore, ids: Mapping[str, str]) -> None:
    ada, bo = ids[ADA], ids[BO]
    assert people.link({ODD: ada}, How.confirmed, NOW) == {ODD: Link(ODD, ada, How.confirmed, NOW)}
    stands = people.link({ODD: bo, A1: bo}, How.mail, NOW + timedelta(days=1))
    assert {account: (link.person, link.how) for account, link in stands.items()} == {
        ODD: (ada, How.confirmed),
        A1: (bo, How.mail),
    }
    assert (people.unlink(ODD), people.unlink(ODD)) == (True, False)
    assert people.linked([ODD, A1]).keys() == {A1}


def test_what_the_configuration_says_is_not_unlinked(people: PeopleStore, ids: Mapping[str, str]) -> None:
    people.configure({}, {A1: ids[ADA]}, NOW)
    assert not people.unlink(A1)
    assert people.linked([A1]).keys() == {A1}


def test_names_are_joined_when_they_are_read(people: PeopleStore, ids: Mapping[str, str]) -> None:
    ada, bo = ids[ADA], ids[BO]
    people.configure({ada: "Ada"}, {ODD: ada, A2: bo}, NOW)
    assert people.owners([ODD, A2, G1]) == {ODD: "Ada"}
    assert people.names([ada, bo, "person-none"]) == {ada: "Ada"}
    assert (people.owners([]), people.names([])) == ({}, {})


def test_who_is_forgotten_is_in_no_table(store: Store, people: PeopleStore, ids: Mapping[str, str]) -> None:
    ada, bo = ids[ADA], ids[BO]
    people.configure({ada: "Ada", bo: "Bo"}, {A1: ada, G1: bo}, NOW)
    people.link({A2: ada}, How.confirmed, NOW)
    people.forget(ada)
    assert [person.mail for person in people.people()] == [BO]
    assert links(people) == {G1: (bo, How.configuration)}
    assert people.owners([A1, A2, G1]) == {G1: "Bo"}
    with store.read() as db:
        rows = [tuple(row) for table in metadata.sorted_tables for row in db.execute(select(table))]
    assert not [row for row in rows if {ada, ADA, "Ada"} & set(row)]
    again = ConfigurationStore(store).person_ids([ADA])[ADA]
    assert again != ada, "who comes back is somebody new"


def test_nothing_is_given_to_who_was_forgotten_meanwhile(people: PeopleStore, ids: Mapping[str, str]) -> None:
    people.forget(ids[ADA])
    assert people.link({A1: ids[ADA]}, How.confirmed, NOW) == {}
    people.configure({ids[ADA]: "Ada", ids[BO]: "Bo"}, {A2: ids[ADA], G1: ids[BO]}, NOW)
    assert links(people) == {G1: (ids[BO], How.configuration)}


def test_whatever_happens_at_once_nobody_is_left_half_forgotten(store: Store, people: PeopleStore) -> None:
    """And nobody waits for another in a circle: PostgreSQL would end one of them with an error."""
    for n in range(20):
        mails = [f"{name}-{n}@example.com" for name in ("ada", "bo")]
        ada, bo = (ConfigurationStore(store).person_ids(mails)[mail] for mail in mails)
        works = [
            partial(people.configure, {ada: "Ada", bo: "Bo"}, {A1: ada, A2: bo}, NOW),
            partial(people.link, {A1: bo, G1: ada}, How.confirmed, NOW),
            partial(people.forget, ada),
            partial(people.configure, {bo: "Bo"}, {A2: bo}, NOW),
        ]
        with ThreadPoolExecutor(len(works)) as pool:
            for work in [pool.submit(work) for work in works]:
                work.result(timeout=60)
        assert ada not in {person for person, _ in links(people).values()}
        with store.read() as db:
            table = metadata.tables["accounts"]
            assert ada not in set(db.scalars(select(table.c.person)))
        people.forget(bo)


def test_what_is_erased_leaves_the_file(tmp_path: Path) -> None:
    def is_there(text: str) -> bool:
        return any(text.encode() in path.read_bytes() for path in tmp_path.iterdir())

    with closing(Store(f"sqlite:///{tmp_path / 'pmsync.db'}")) as store:
        store.migrate()
        people = PeopleStore(store)
        ids = ConfigurationStore(store).person_ids([ADA, *(f"{n}@example.com" for n in range(200))])
        people.configure({ids[ADA]: "Ada Lovelace"}, {A1: ids[ADA]}, NOW)
        with store.read() as db:
            db.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").scalar()
        people.configure({ids[ADA]: "Augusta Ada King"}, {A1: ids[ADA]}, NOW)
        assert is_there(ADA)
        people.forget(ids[ADA])
        assert people.is_scrubbed()
        assert [text for text in (ADA, "Ada Lovelace", "Augusta Ada King", ids[ADA]) if is_there(text)] == []
        assert is_there("7@example.com")


# --- the commands -----------------------------------------------------------------------------------------------------

ENTRY: dict[str, Any] = {"mail": ADA, "name": "Ada Lovelace", "accounts": {"jira": ["a1"]}}


@pytest.fixture
def site() -> JiraSite:
    """A Jira whose people are known; nothing is read of it here."""
    site = JiraSite(lambda: NOW, email="a@example.com", token="hunter2")
    site.people |= {
        "a1": Somebody("Ada Lovelace", ADA),
        "a2": Somebody("Bo", BO),
        "a3": Somebody("Ada Lovelace"),
        "a4": Somebody("Zoe", "zoe@example.com"),
    }
    return site


@pytest.fixture
def asked(folder: Folder, site: JiraSite) -> Iterator[Folder]:
    """An installation that may ask that Jira, with items of four accounts."""
    with serve(site.app) as url:
        folder.values["sources"] = [folder.source("jira", url)]
        folder.values["projects"] = [{"key": "apollo"}]
        folder.values["people"] = [ENTRY | {"accounts": {}}, {"mail": BO, "name": "Bo"}]
        assert folder.run("apply").code == 0
        folder.holds(*(item(str(n), assignee=f"a{n}") for n in range(1, 6)))
        yield folder


def stored(folder: Folder) -> dict[Account, tuple[str, How]]:
    """account -> whose it is, by address, and how that is known."""
    with closing(folder.app()) as app:
        return {link.account: (each.mail, link.how) for each in app.people.people() for link in each.links}


def test_people_are_applied_and_a_dry_run_writes_nothing(folder: Folder) -> None:
    folder.values["sources"] = [folder.source("jira", "http://127.0.0.1:1")]
    folder.values["people"] = [ENTRY]
    said = folder.run("apply", "--dry-run")
    assert (said.code, said.err) == (0, "")
    assert said.out == "+ people.0: a new person\n+ people.0: has the account jira/a1\nwould change: 2\n"
    assert stored(folder) == {}
    assert folder.run("apply").out.endswith("changed: 2\n")
    assert stored(folder) == {A1: (ADA, How.configuration)}
    assert folder.run("apply").out == "changed: 0\n"
    folder.values["people"] = []
    assert "loses the name\nchanged: 2\n" in folder.run("apply").out
    assert stored(folder) == {}


def test_suggestions_link_nothing_until_they_are_confirmed(asked: Folder, site: JiraSite) -> None:
    said = asked.run("people", "suggest")
    assert said.code == 0
    lines = [" ".join(line.split()) for line in said.out.splitlines()[1:]]
    assert [line.split()[0] for line in lines] == ["jira/a1", "jira/a2", "jira/a3"]
    assert lines[0].endswith("Ada Lovelace the same address, for which jira vouches")
    assert lines[2].endswith("Ada Lovelace the same name")
    assert "2 accounts would be linked by --confirm; 1 to be looked at" in said.err
    assert "jira: nothing is told of 1 of 5 accounts" in said.err
    assert stored(asked) == {}
    assert "2 accounts linked; 1 to be looked at" in asked.run("people", "suggest", "--confirm").err
    assert stored(asked) == {A1: (ADA, How.mail), A2: (BO, How.mail)}
    site.requests.clear()
    again = asked.run("people", "suggest", "--confirm", "--source", "jira")
    assert "0 accounts linked; 1 to be looked at" in again.err
    assert "of 3 accounts" in again.err, "who is somebody's is not asked for again"


def test_a_source_that_cannot_be_asked_is_said(asked: Folder, site: JiraSite) -> None:
    site.faults.append(Fault(503, path="/user/bulk"))
    said = asked.run("people", "suggest")
    assert said.code == 1
    assert "pmsync: jira: Jira answered 503 to GET /rest/api/3/user/bulk" in said.err
    asked.values["sources"][0] = {"name": "jira", "kind": "calendar", "ics": {"a": "a.ics"}}
    said = asked.run("people", "suggest")
    assert said.code == 0
    assert "jira: its connector cannot ask whose accounts are; 5 accounts without a person" in said.err
    asked.values["sources"][0] = {"name": "jira", "kind": "jira", "url": "http://127.0.0.1:1", "live": False}
    assert "jira: is not asked (live: false); 5 accounts without a person" in asked.run("people", "suggest").err


def test_an_account_is_linked_and_unlinked_by_hand(asked: Folder) -> None:
    assert asked.run("people", "link", "jira", "a3", ADA).code == 0
    assert stored(asked) == {Account("jira", "a3"): (ADA, How.confirmed)}
    said = asked.run("people", "link", "jira", "a3", BO)
    assert said.code == 2
    assert "'s already, by confirmed; `pmsync people unlink` takes it from them" in said.err
    shown = asked.run("people", "list").out
    assert [name in shown for name in (ADA, "Ada Lovelace", "jira/a3", "confirmed", "Bo")] == [True] * 5
    assert asked.run("people", "unlink", "jira", "a3").out == "jira/a3 is nobody's any more\n"
    assert stored(asked) == {}
    asked.values["people"][0] = ENTRY
    asked.run("apply")
    said = asked.run("people", "unlink", "jira", "a1")
    assert said.code == 2
    assert "pmsync.yaml says whose jira/a1 is; take it out there, and `pmsync apply`" in said.err
    assert stored(asked) == {A1: (ADA, How.configuration)}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("link", "gitlab", "1", ADA), "there is no source 'gitlab'; known: jira"),
        (("link", "jira", "1", "zoe@example.com"), "nobody here has the id or address 'zoe@example.com'"),
        (("unlink", "jira", "1"), "jira/1 is nobody's"),
        (("forget", "zoe@example.com", "--yes"), "nobody here has the id or address"),
        (("suggest", "--source", "gitlab"), "there is no source 'gitlab'; known: jira"),
    ],
)
def test_who_or_what_is_not_there_ends_with_two(asked: Folder, words: tuple[str, ...], says: str) -> None:
    said = asked.run("people", *words)
    assert (said.code, said.out) == (2, "")
    assert says in said.err


def test_nobody_is_forgotten_without_being_asked_or_in_a_dry_run(
    asked: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked.run("people", "link", "jira", "a1", ADA)
    said = asked.run("people", "forget", ADA, "--dry-run")
    assert said.code == 0
    assert "name and mail address erased\n1 account nobody's any more: jira/a1\n" in said.out
    assert "pmsync.yaml still has this address (people.0.mail)" in said.err
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "n")
    assert asked.run("people", "forget", ADA).code == 130
    assert stored(asked) == {A1: (ADA, How.confirmed)}
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "y")
    assert asked.run("people", "forget", ADA).code == 0
    assert stored(asked) == {}


def test_who_is_still_in_the_file_comes_back_as_somebody_new(asked: Folder) -> None:
    with closing(asked.app()) as app:
        before = next(person.id for person in app.people.people() if person.mail == ADA)
    said = asked.run("people", "forget", before, "--yes")
    assert said.code == 0
    assert f"{before} is forgotten" in said.out
    assert "the next `pmsync apply` or start of `pmsync run` would bring the person back, under a new id" in said.err
    assert "+ people.0: a new person" in asked.run("apply").out
    with closing(asked.app()) as app:
        assert before not in {person.id for person in app.people.people()}
    asked.values["people"].pop(0)
    assert "comes back" not in asked.run("people", "forget", ADA, "--yes").err


# --- who is forgotten is gone from everything -------------------------------------------------------------------------

TRACES = (ADA, "Ada Lovelace", "Lovelace")


@contextmanager
def pages(folder: Folder) -> Iterator[str]:
    """The pages of an installation, by a process that goes on while others work."""
    with closing(folder.app()) as app:
        read = StoreReader(app.state, app.bus.partitions, app.freshness, app.people)
        clock = partial(datetime.now, UTC)
        with serve(create_app(read, clock, Health(clock))) as url:
            yield url


def shown(url: str, fingerprint: str) -> dict[str, str]:
    paths = (
        "/", "/projects/apollo", f"/alerts/apollo/{fingerprint}", "/api/v1/projects", "/api/v1/projects/apollo", "/metrics", "/readyz",
    )  # fmt: skip
    return {path: requests.get(f"{url}{path}", timeout=30).text for path in paths}


def told(folder: Folder) -> dict[str, str]:
    """All that commands say, and every row of every table but those of people, as text."""
    said = {f"export {table}": folder.run("export", table).out for table in TABLES}
    said |= {f"export {table} as csv": folder.run("export", table, "--format", "csv").out for table in TABLES}
    said |= {"status": folder.run("status").out, "status as JSON": folder.run("status", "apollo", "--json").out}
    said |= {"alerts": folder.run("alerts", "list", "--all").out}
    with closing(folder.app()) as app, app.store.read() as db:
        for table in metadata.sorted_tables:
            said[table.name] = repr([tuple(row) for row in db.execute(select(table))])
    return said


def traces(found: Mapping[str, str]) -> dict[str, list[str]]:
    return {place: seen for place, text in found.items() if (seen := [each for each in TRACES if each in text])}


@pytest.fixture
def led(folder: Folder) -> Iterator[Folder]:
    """An installation that has read an overdue item of Ada's, which Ada has taken on, and has a message to her to send: she
    leads the project."""
    site = JiraSite(lambda: datetime.now(UTC), email="a@example.com", token="hunter2")
    site.add_project("APO", "Apollo")
    site.create_issue("APO", NOW, "Search", due_date=NOW.date(), assignee="a1", status="In Progress")
    nowhere = {"host": "127.0.0.1", "port": 1, "sender": "pmsync@example.com", "tls": "none"}
    with serve(site.app) as url:
        folder.values["sources"] = [folder.source("jira", url)]
        folder.values["projects"] = [{"key": "apollo", "leader": ADA, "from": {"jira": ["APO"]}}]
        folder.values["people"] = [ENTRY]
        folder.values["notify"] = {"console": False, "mail": nowhere}
        assert "1 messages could not be sent" in folder.run("run", "--once").err
        (alert, *_) = json.loads(folder.run("status", "--json").out)["projects"][0]["alerts"]
        assert folder.run("alerts", "ack", alert["fingerprint"], "--by", ADA).code == 0
        folder.run("run", "--once")
        yield folder


def test_who_is_forgotten_is_on_no_page_in_no_export_and_in_no_row(led: Folder) -> None:
    with closing(led.app()) as app:
        (ada,) = (person.id for person in app.people.people())
    with pages(led) as url:
        alerts = requests.get(f"{url}/api/v1/projects/apollo", timeout=30).json()["alerts"]
        taken = next(alert for alert in alerts if alert["state"] == "acknowledged")
        assert (taken["key"], taken["by"]) == ("APO-1", ada)
        page, alert = "/projects/apollo", f"/alerts/apollo/{taken['fingerprint']}"
        before = shown(url, taken["fingerprint"])
        for path in (page, alert):
            assert "acknowledged by <bdi>Ada Lovelace</bdi>" in before[path]
            assert "assigned to <bdi>Ada Lovelace</bdi>" in before[path]
        assert traces(before).keys() == {page, alert}, "nobody's name is anywhere else"
        assert traces(told(led)).keys() == {"people"}

        led.values["projects"][0].pop("leader")
        led.values["people"] = []
        said = led.run("people", "forget", ADA, "--yes")
        assert (said.code, traces({"said": said.out + said.err})) == (0, {})
        assert " on the way to them not sent" in said.out
        after = shown(url, taken["fingerprint"])
        for path in (page, alert):
            assert f"acknowledged by <bdi>{ada}</bdi>" in after[path], "an id, which says nothing"
            assert "assigned to" not in after[path]

    with closing(led.app()) as app:
        mail = app.config.notify.mail
        assert mail
        later = partial(lambda clock: clock() + timedelta(hours=1), app.store.now)
        done = Notifier(app.outbox, {"mail": MailSender(mail, app.projects.mail)}, later, "test").drain()
        assert done.dead > 0
        assert {(person, error) for _, person, error in app.outbox.dead()} == {
            (ada, f"{ada} has no mail address any more")
        }
    again = led.run("run", "--once")
    assert traces({"again": again.out + again.err, **after, **told(led)}) == {}
    files = [path for path in led.path.iterdir() if path != led.file]
    assert [path.name for path in files for trace in TRACES if trace.encode() in path.read_bytes()] == []
