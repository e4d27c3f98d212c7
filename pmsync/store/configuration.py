"""The projects as last applied, and the people whose names and addresses stand nowhere else."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, delete, select

from pmsync.core.events import Project, body
from pmsync.store.engine import Store, insert_new, replacing, upsert
from pmsync.store.tables import configuration, people


class ConfigurationStore:
    """The applied configuration in a `Store`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def projects(self) -> dict[str, Project]:
        """The projects by key, as applied."""
        with self._store.read() as db:
            rows = db.execute(select(configuration).order_by(configuration.c.project)).all()
        return {row.project: Project.model_validate_json(row.body) for row in rows}

    def save(self, projects: Mapping[str, Project], version: int) -> None:
        """Replace the applied configuration as a whole."""
        with self._store.write() as db:
            replacing(db, configuration)  # two at once would leave a mixture of both
            db.execute(delete(configuration).where(configuration.c.project.not_in(list(projects))))
            rows = [{"project": key, "version": version, "body": body(each)} for key, each in projects.items()]
            upsert(db, configuration, rows)

    def person_ids(self, mails: Iterable[str]) -> dict[str, str]:
        """A person id for each address, new ones for new addresses. Ids are random: they say nothing about the person."""
        wanted = sorted(set(mails))
        with self._store.write() as db:
            known = _ids(db, wanted)
            new = [
                {"id": f"person-{secrets.token_hex(8)}", "mail": mail, "name": ""}
                for mail in wanted
                if mail not in known
            ]
            insert_new(db, people, new)
            return _ids(db, wanted)  # of two who give an address its first id, the first one counts

    def known_person_ids(self, mails: Iterable[str]) -> dict[str, str]:
        """The person ids of the addresses that have one; for a dry run, which writes nothing."""
        with self._store.read() as db:
            return _ids(db, mails)

    def mail(self, person: str) -> str | None:
        """The address of a person, if they are (still) known."""
        with self._store.read() as db:
            return db.scalar(select(people.c.mail).where(people.c.id == person))


def _ids(db: Connection, mails: Iterable[str]) -> dict[str, str]:
    return {row.mail: row.id for row in db.execute(select(people).where(people.c.mail.in_(sorted(set(mails)))))}
