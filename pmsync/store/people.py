"""Who people are: their names and mail addresses, and which accounts of the sources are theirs.

None of it stands anywhere else, and whoever shows a name asks for it here each time, so that to forget a person is one
transaction, and all that shows names has forgotten them with it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, and_, delete, func, select, tuple_, update

from pmsync.core.events import instant
from pmsync.core.people import Account
from pmsync.store.engine import Store, insert_new, micros, upsert
from pmsync.store.tables import WAITING, accounts, outbox, people

CHUNK = 5000
"""So many accounts are asked for in one statement."""


class How(StrEnum):
    """How it is known whose an account is. The configuration overrides the others; of those the first one stays."""

    configuration = "configuration"
    mail = "mail"  # the source vouches for its address, which is a person's
    confirmed = "confirmed"  # somebody said so (`pmsync people link`)


class Link(NamedTuple):
    """That an account is a person's, how that is known, and since when."""

    account: Account
    person: str
    how: How
    at: datetime


class Person(NamedTuple):
    """A person with the accounts that are theirs; without a name where nobody gave one."""

    id: str
    mail: str
    name: str
    links: tuple[Link, ...] = ()


class PeopleStore:
    """People in a `Store`. Every change locks persons before accounts, so that none waits for another in a circle."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def people(self) -> Sequence[Person]:
        """Everybody, by id."""
        with self._store.read() as db:
            rows = db.execute(select(people).order_by(people.c.id)).all()
            links: dict[str, list[Link]] = {}
            for row in db.execute(select(accounts).order_by(accounts.c.source, accounts.c.account)):
                links.setdefault(row.person, []).append(_link(row))
        return [Person(row.id, row.mail, row.name, tuple(links.get(row.id, ()))) for row in rows]

    def names(self, persons: Collection[str]) -> dict[str, str]:
        """person id -> name, of those who have one."""
        query = select(people.c.id, people.c.name).where(people.c.id.in_(sorted(persons)), people.c.name != "")
        with self._store.read() as db:
            return {row.id: row.name for row in db.execute(query)}

    def owners(self, wanted: Collection[Account]) -> dict[Account, str]:
        """account -> the name of whose it is, of those that are somebody's who has one."""
        query = select(accounts.c.source, accounts.c.account, people.c.name).join(
            people, and_(people.c.id == accounts.c.person, people.c.name != "")
        )
        with self._store.read() as db:
            return {
                Account(row.source, row.account): row.name
                for some in _chunks(wanted)
                for row in db.execute(query.where(_IDENTITY.in_(some)))
            }

    def linked(self, wanted: Collection[Account]) -> dict[Account, Link]:
        """The links of these accounts, of those that have one."""
        with self._store.read() as db:
            return _linked(db, wanted)

    def configure(self, names: Mapping[str, str], links: Mapping[Account, str], at: datetime) -> None:
        """Make these the names and links that the configuration gives, and no others (person ids throughout). What was
        linked otherwise stays, unless the configuration gives the account to somebody. Who is not there is left out."""
        with self._writing() as db:
            # All of them, so that two at once do not leave a mixture of both.
            there = {row.id: row.name for row in db.execute(select(people).order_by(people.c.id).with_for_update())}
            for ident, name in there.items():
                if name != names.get(ident, ""):
                    db.execute(update(people).where(people.c.id == ident).values(name=names.get(ident, "")))
            meant = {account: person for account, person in links.items() if person in there}
            known = {
                link.account: link
                for link in map(_link, db.execute(select(accounts).where(accounts.c.how == How.configuration.value)))
            }
            for some in _chunks(known.keys() - meant.keys()):
                db.execute(delete(accounts).where(_IDENTITY.in_(some)))
            new = {a: p for a, p in meant.items() if a not in known or known[a].person != p}
            upsert(db, accounts, _rows(new, How.configuration, at))

    def link(self, links: Mapping[Account, str], how: How, at: datetime) -> dict[Account, Link]:
        """Give accounts that are nobody's to persons (by id) who are there; returns how these accounts stand then."""
        with self._writing() as db:
            there = select(people.c.id).where(people.c.id.in_(sorted(set(links.values()))))
            known = set(db.scalars(there.order_by(people.c.id).with_for_update()))
            insert_new(db, accounts, _rows({a: p for a, p in links.items() if p in known}, how, at))
            return _linked(db, links)

    def unlink(self, account: Account) -> bool:
        """It is nobody's then, unless the configuration says whose it is; whether it was somebody's until now."""
        with self._writing() as db:
            mine = accounts.c.source == account.source, accounts.c.account == account.id
            said = accounts.c.how != How.configuration.value
            return db.execute(delete(accounts).where(*mine, said)).rowcount > 0

    def forget(self, person: str) -> None:
        """Erase a person: name, address and links, in one transaction. Their id, which may stand in events and in what was
        told, then says nothing of anybody."""
        with self._writing() as db:
            db.execute(select(people.c.id).where(people.c.id == person).with_for_update()).all()
            db.execute(delete(accounts).where(accounts.c.person == person))
            db.execute(delete(people).where(people.c.id == person))

    def waiting(self, person: str) -> int:
        """How many messages are on their way to a person."""
        query = select(func.count()).select_from(outbox).where(outbox.c.recipient == person, WAITING)
        with self._store.read() as db:
            return db.scalar(query) or 0

    def is_scrubbed(self) -> bool:
        """Have what was erased leave the database's file as well; whether it has. SQLite keeps what it wrote last in a file
        beside it (`-wal`), which is emptied here unless somebody is reading just now. Of a PostgreSQL nothing is claimed."""
        with self._store.read() as db:
            if db.dialect.name != "sqlite":
                return False
            return db.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").scalar() == 0

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._store.write() as db:
            if db.dialect.name == "sqlite":
                # What is erased is overwritten with zeros: else it would stay in the file until its place is needed.
                db.exec_driver_sql("PRAGMA secure_delete = ON").scalar()
            yield db


_IDENTITY = tuple_(accounts.c.source, accounts.c.account)


def _linked(db: Connection, wanted: Collection[Account]) -> dict[Account, Link]:
    found = (_link(row) for some in _chunks(wanted) for row in db.execute(select(accounts).where(_IDENTITY.in_(some))))
    return {link.account: link for link in found}


def _chunks(wanted: Iterable[Account]) -> Iterator[Sequence[Account]]:
    ordered = sorted(wanted)
    return (ordered[n : n + CHUNK] for n in range(0, len(ordered), CHUNK))


def _rows(links: Mapping[Account, str], how: How, at: datetime) -> list[dict[str, Any]]:
    return [
        {"source": account.source, "account": account.id, "person": person, "how": how.value, "at": micros(at)}
        for account, person in sorted(links.items())
    ]


def _link(row: Row[Any]) -> Link:
    return Link(Account(row.source, row.account), row.person, How(row.how), instant(row.at))
