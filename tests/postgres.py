"""A real PostgreSQL for the tests: where one is to be had, and databases of their own on it.

Looked for in this order: an address in PMSYNC_TEST_POSTGRES (of a role that may create databases), a container where a
Docker engine answers, Debian's package. What is started here orders text by a language, unlike SQLite, so that a
comparison which pmsync leaves to the database's own order shows in a test.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from sqlalchemy.engine import URL, make_url

ADDRESS = "PMSYNC_TEST_POSTGRES"
IMAGE = "postgres:17-alpine"
PASSWORD = "hunter2-postgres"
DROPS, DROP_SECONDS = 60, 0.5
SECONDS = 30
"""How long a server may take to start or to stop."""
SETTINGS = """
listen_addresses = '127.0.0.1'
fsync = off                  # the machine does not fail, only pmsync and the server do
full_page_writes = off
max_connections = 100
lc_messages = 'C'
"""


def place() -> str | None:
    """Where PostgreSQL is: an address, `docker`, or the folder of Debian's programs; None if nowhere."""
    return os.environ.get(ADDRESS) or ("docker" if _engine_answers() else None) or _programs()


def _engine_answers() -> bool:
    if not os.environ.get("DOCKER_HOST") and not Path("/var/run/docker.sock").exists():
        return False
    import docker
    from docker.errors import DockerException

    try:
        return bool(docker.from_env(timeout=5).ping())
    except DockerException:
        return False


def _programs() -> str | None:
    """The folder of the newest server's programs; Debian keeps it off the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    program = str(found[-1]) if found else shutil.which("initdb")
    return str(Path(program).parent) if program else None


@dataclass
class Server:
    """A running server. `admin` is an address on it whose role may create databases."""

    admin: URL
    folder: Path | None = None
    programs: str = ""
    _names: Iterator[int] = field(default_factory=itertools.count)

    def url(self, database: str) -> str:
        return self.admin.set(database=database).render_as_string(hide_password=False)

    def ask(self, statement: str, database: str | None = None) -> list[tuple[object, ...]]:
        """Run one statement by a connection of its own."""
        url = self.admin.set(drivername="postgresql")
        if database:
            url = url.set(database=database)
        with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True, connect_timeout=10) as db:
            found = db.execute(statement)  # type: ignore[call-overload]
            return found.fetchall() if found.description else []

    def create(self, template: str = "template0") -> str:
        """A new database, empty or like the template; returns its name."""
        name = f"pmsync_test_{os.getpid()}_{next(self._names)}"
        self.ask(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop(self, name: str) -> None:
        """Whoever is connected to it is thrown out, but for an autovacuum, which is the server's own and soon over."""
        for _ in range(DROPS):
            with suppress(psycopg.errors.InsufficientPrivilege):
                self.ask(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
                return
            time.sleep(DROP_SECONDS)
        raise AssertionError(f"{name} cannot be dropped: an autovacuum is still at work there after {DROPS} tries")

    def cut(self, database: str) -> int:
        """End every connection to a database, as a restart of the server would; returns how many there were."""
        return len(
            self.ask(
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}' AND usename = current_user"
            )
        )

    @property
    def ours(self) -> bool:
        """Whether it was started here as a process, and so may be stopped and started by a test."""
        return self.folder is not None

    def start(self) -> None:
        _as_postgres(
            [f"{self.programs}/pg_ctl", "-D", f"{self.folder}/data", "-l", f"{self.folder}/log", "-w", "start"]
        )

    def stop(self) -> None:
        _as_postgres([f"{self.programs}/pg_ctl", "-D", f"{self.folder}/data", "-m", "immediate", "-w", "stop"])


@contextmanager
def served(where: str) -> Iterator[Server]:
    """The server at a `place`; what is started here ends here."""
    if where == "docker":
        with _container() as url:
            yield Server(url)
    elif where.startswith("/"):
        with _process(where) as server:
            yield server
    else:
        url = make_url(where)
        yield Server(url.set(drivername="postgresql+psycopg", database=url.database or "postgres"))


@contextmanager
def _container() -> Iterator[URL]:
    from testcontainers.community.postgres import PostgresContainer

    with PostgresContainer(IMAGE, password=PASSWORD, driver="psycopg") as container:
        yield make_url(container.get_connection_url())


@contextmanager
def _process(programs: str) -> Iterator[Server]:
    """Debian's server in a folder of its own, on loopback. The role that tests use is no superuser."""
    # Not pytest's temporary folder: only its owner may enter that, and PostgreSQL does not run as root.
    folder = Path(tempfile.mkdtemp(prefix="pmsync-postgres-"))
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o644)
    port = _free_port()
    admin = URL.create("postgresql+psycopg", "pmsync", PASSWORD, "127.0.0.1", port, "postgres")
    server = Server(admin, folder, programs)
    try:
        _as_postgres([
            f"{programs}/initdb", "--no-sync", "-D", f"{folder}/data", "-U", "postgres", "-E", "UTF8",
            "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en",
            "--auth-local=trust", "--auth-host=scram-sha-256", "--pwfile", f"{folder}/password",
        ])  # fmt: skip
        with (folder / "data/postgresql.conf").open("a") as settings:
            settings.write(f"{SETTINGS}\nport = {port}\nunix_socket_directories = '{folder}'\n")
        server.start()
        try:
            role = Server(admin.set(username="postgres"))
            role.ask(f"CREATE ROLE pmsync LOGIN CREATEDB PASSWORD '{PASSWORD}'")
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def _as_postgres(command: Sequence[str]) -> None:
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    # Into a file: a server that pg_ctl has started would hold a pipe open.
    with tempfile.TemporaryFile() as said:
        ended = subprocess.run([*user, *command], stdout=said, stderr=said, cwd="/", timeout=SECONDS, check=False)
        said.seek(0)
        assert ended.returncode == 0, f"{' '.join(command)}: {said.read().decode()}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
