"""Reading Jira by a person's consent: tokens that rotate, one file for all processes, and what is told where it fails."""

from __future__ import annotations

import errno
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response

from connectors import jira_consent, jira_tokens
from connectors.base import ConnectorError, Fatal, Retryable
from connectors.jira import JiraConnector, JiraSettings
from connectors.jira_consent import ConsentFile, Kept, chosen, lacking
from connectors.jira_tokens import Site
from pmsync.standins.atlassian import CLIENT_ID, CLIENT_SECRET, Atlassian
from pmsync.standins.jira import Fault, JiraSite
from pmsync.standins.server import serve
from tests.connectors.jira_stage import T0, keep_consent, lead_to

NOTHING_SECRET = ("standin-access", "standin-refresh", CLIENT_SECRET)


class World:
    """Atlassian, a site, and the file with a person's consent; `minutes` since that was given."""

    def __init__(self, folder: Path) -> None:
        self.minutes = 0.0
        self.site = JiraSite(self.now)
        self.site.add_project("APO", "Apollo")
        self.atlassian = Atlassian(self.now, self.site)
        self.path = folder / "jira.json"
        self.secret = folder / "secret"
        self.secret.write_text(CLIENT_SECRET)
        keep_consent(self.path, self.atlassian, self.now())

    def now(self) -> datetime:
        return T0 + timedelta(minutes=self.minutes)

    @property
    def renewals(self) -> int:
        return self.atlassian.exchanges.count("refresh_token")

    def kept(self) -> Kept:
        return ConsentFile("j", self.path).read()

    def connect(self) -> JiraConnector:
        auth = {"client_id": CLIENT_ID, "client_secret": {"file": self.secret}, "consent": self.path}
        raw = {"name": "j", "kind": "jira", "url": "https://acme.atlassian.net", "auth": auth}
        return JiraConnector.connect(JiraSettings.model_validate(raw), self.now)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(tmp_path)
    with serve(world.atlassian.app) as url:
        lead_to(monkeypatch, url)
        yield world


def refused(act: Callable[[], Any], kind: type[ConnectorError] = Fatal) -> str:
    with pytest.raises(kind) as caught:
        act()
    said = str(caught.value)
    assert not [secret for secret in NOTHING_SECRET if secret in said]
    return said


# --- rotation ---------------------------------------------------------------------------------------------------------


def test_tokens_are_renewed_before_they_end_and_over_restarts(world: World) -> None:
    jira = world.connect()
    for minutes, renewals in ((0, 0), (54, 0), (56, 1), (57, 1), (110, 1), (112, 2), (60 * 24 * 80, 3)):
        world.minutes = minutes
        assert jira.now() == world.now()
        assert world.connect().now() == world.now()
        assert world.renewals == renewals, minutes


def test_what_is_kept_is_for_nobody_else_and_nothing_is_left_beside_it(world: World) -> None:
    world.path.chmod(0o644)
    world.minutes = 60
    world.connect().now()
    assert stat.S_IMODE(world.path.stat().st_mode) == 0o600
    assert {each.name for each in world.path.parent.iterdir()} == {"jira.json", "jira.json.lock", "secret"}


def test_a_token_is_not_used_before_its_successor_is_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full between Atlassian's answer and the file: within ten minutes the old one mends it."""
    world.minutes = 60
    jira, before = world.connect(), world.path.read_bytes()

    def full(path: Path, data: bytes) -> None:
        if len(data) != jira_consent.ROOM:
            raise OSError(28, "No space left on device")
        write(path, data)

    write = jira_consent._write
    monkeypatch.setattr(jira_consent, "_write", full)
    assert "No space left" in refused(jira.now)
    assert (world.renewals, world.site.requests, world.path.read_bytes()) == (1, [], before)
    monkeypatch.setattr(jira_consent, "_write", write)
    world.minutes = 69
    assert jira.now() == world.now()
    assert world.renewals == 2


@pytest.mark.parametrize(("later", "mends"), [(9, True), (11, False)])
def test_an_answer_that_was_lost_is_mended_within_ten_minutes(world: World, later: int, mends: bool) -> None:
    """So it is where a process dies before it wrote the file: what it holds is the token that was spent."""
    world.minutes = 60
    world.atlassian.answer = Response(b"", 502)
    refused(world.connect().now, Retryable)
    world.minutes += later
    if mends:
        assert world.connect().now() == world.now()
    else:
        assert "`pmsync sign-in j`" in refused(world.connect().now)


DIES = """
import os, sys
from connectors import jira_consent, jira_tokens
from connectors.base import SecretRef
jira_tokens.TOKENS = sys.argv[1]
jira_consent.ConsentFile._replace = lambda *_: os._exit(9)
app = jira_consent.App(sys.argv[2], SecretRef(file=sys.argv[3]))
now = jira_consent.datetime.fromisoformat(sys.argv[5])
jira_consent.Person("j", app, jira_consent.Path(sys.argv[4]), lambda: now)._valid()
"""


def test_a_process_that_dies_between_answer_and_file_leaves_nothing_that_stands_in_the_way(world: World) -> None:
    world.minutes = 60
    words = [jira_tokens.TOKENS, CLIENT_ID, str(world.secret), str(world.path), world.now().isoformat()]
    assert subprocess.run([sys.executable, "-c", DIES, *words], timeout=60, check=False).returncode == 9
    assert world.renewals == 1
    assert world.path.with_name("jira.json.new").exists()
    world.minutes = 65
    assert world.connect().now() == world.now()
    assert world.renewals == 2
    assert not world.path.with_name("jira.json.new").exists()


@pytest.mark.parametrize("spoil", ["new", "lock"])
def test_a_file_that_cannot_be_replaced_is_told_before_anything_is_spent(world: World, spoil: str) -> None:
    world.path.with_name(f"jira.json.{spoil}").mkdir()
    world.minutes = 60
    said = refused(world.connect().now)
    assert "nothing was spent" in said
    assert "auth.consent has to be in a directory that pmsync may write in" in said
    assert world.renewals == 0


def test_processes_share_the_file(world: World) -> None:
    """One renews, and the others take what it got, whether or not they were at it at the same time."""
    worker, doctor = world.connect(), world.connect()
    worker.now()
    world.minutes = 56
    doctor.now()
    worker.now()
    assert world.renewals == 1
    with ConsentFile("j", world.path).replacing():
        world.minutes = 56 + 57
        worker.now()  # what it has is good for three minutes more
        assert world.renewals == 1
        world.minutes = 56 + 61
        assert "another process renews" in refused(worker.now, Retryable)
    worker.now()
    assert world.renewals == 2


def test_another_process_that_was_faster_has_renewed_for_all(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It did so after the file was read, and before it could be locked."""
    worker, other = world.connect(), world.connect()
    world.minutes = 60
    replacing = ConsentFile.replacing

    def late(file: ConsentFile) -> Any:
        monkeypatch.setattr(ConsentFile, "replacing", replacing)
        other.now()
        return replacing(file)

    monkeypatch.setattr(ConsentFile, "replacing", late)
    assert worker.now() == world.now()
    assert world.renewals == 1


# --- what is refused --------------------------------------------------------------------------------------------------


def test_what_lacks_a_scope_is_not_renewed_for_it(world: World) -> None:
    """Sprints are refused (401) with each poll; the tokens must not rotate with each."""
    keep_consent(world.path, world.atlassian, world.now(), "read:jira-work", "read:jira-user")
    jira = world.connect()
    for world.minutes in (0, 11, 22, 33):
        list(jira.changed("APO", None))
        assert jira.unseen("APO") == {"sprint"}
    assert world.renewals == 0


def test_what_is_refused_without_a_reason_is_renewed_now_and_then(world: World) -> None:
    world.site.faults.append(Fault(401, path="agile", times=100))
    jira, seen = world.connect(), []
    for world.minutes in (0, 1, 11, 12, 20, 22):
        list(jira.changed("APO", None))
        seen.append(world.renewals)
    assert seen == [0, 0, 1, 1, 1, 2]


def test_a_consent_that_was_withdrawn_says_what_to_do(world: World) -> None:
    jira = world.connect()
    jira.now()
    world.atlassian.withdraw()
    world.minutes = 30
    assert "401" in refused(jira.now)
    assert "`pmsync sign-in j` again" in refused(jira.now)
    assert list(jira.check(["APO"])) == [refused(jira.now)]


def test_a_consent_that_was_not_used_for_long_is_over(world: World) -> None:
    world.minutes = 60 * 24 * 91
    assert "not used for 90 days" in refused(world.connect().now)


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (JSONResponse({"error": "access_denied"}, 401), Fatal, "auth.client_secret"),
        (Response(b"", 429, {"Retry-After": "7"}), Retryable, "429"),
        (Response(b"", 302, {"Location": "https://elsewhere.example.com/"}), Retryable, "302"),
        (Response(b'{"access_tok', 200), Retryable, "not as documented"),
        (JSONResponse({"access_token": "standin-access\nx", "expires_in": 9}), Retryable, "access_token"),
        (
            JSONResponse({"access_token": "a", "refresh_token": "standin-refresh x", "expires_in": 9}),
            Retryable,
            "refresh_",
        ),
        (JSONResponse({"access_token": "a", "expires_in": 0}), Retryable, "expires_in"),
    ],
)
def test_what_goes_wrong_is_told_without_a_secret(
    answer: Response, kind: type[ConnectorError], says: str, world: World
) -> None:
    world.minutes = 60
    before = world.path.read_bytes()
    world.atlassian.answer = answer
    assert says in refused(world.connect().now, kind)
    assert world.path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "nobody has signed in to j"),
        ("standin-refresh-1", "is not what pmsync keeps"),
        ('{"cloud_id": "cloud-1", "refresh_token": "standin-refresh-1"}', "is not what pmsync keeps"),
        ("\udcff", "is not what pmsync keeps"),
    ],
)
def test_what_is_no_consent(text: str | None, says: str, world: World) -> None:
    world.path.unlink()
    if text is not None:
        world.path.write_bytes(text.encode(errors="surrogateescape"))
    said = refused(world.connect)
    assert says in said
    assert "`pmsync sign-in j` writes it" in said


def test_a_disk_without_locks_is_told_before_anything_is_spent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def lock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(jira_consent.fcntl, "flock", lock)
    world.minutes = 60
    assert "No locks available (nothing was spent)" in refused(world.connect().now)
    assert world.renewals == 0


def test_another_site_needs_another_start(world: World) -> None:
    jira = world.connect()
    world.path.write_text(world.kept().model_copy(update={"cloud_id": "cloud-2"}).model_dump_json())
    assert "start it again" in refused(jira.now)


# --- which site it is -------------------------------------------------------------------------------------------------


def site(name: str, *scopes: str) -> Site:
    return Site(id=f"id-of-{name}", url=f"https://{name}.atlassian.net", scopes=scopes or ("read:jira-work",))


def test_the_site_is_the_one_that_the_configuration_names() -> None:
    sites = [site("one"), site("two", "read:confluence-content.all"), site("two")]
    assert chosen(sites, "https://TWO.atlassian.net/") is sites[2]


@pytest.mark.parametrize(
    ("sites", "says"),
    [
        ([], "opens no site, and not https://two"),
        (
            [site("one"), site("three")],
            "opens https://one.atlassian.net, https://three.atlassian.net, and not https://two",
        ),
        ([site("two", "read:confluence-content.all")], "as somebody who may see that Jira"),
        ([site(f"n{n:02}") for n in range(30)], "https://n19.atlassian.net and others"),
    ],
)
def test_where_none_is_it_those_that_there_are_are_told(sites: list[Site], says: str) -> None:
    assert says in refused(lambda: chosen(sites, "https://two.atlassian.net"))


def test_what_was_not_given() -> None:
    assert lacking("a b offline_access", ["b", "c", "a"]) == ["c"]


# --- the configuration ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "auth",
    [
        {"client_id": "c", "consent": "f"},
        {"client_id": "c", "client_secret": {"env": "S"}, "consent": "f", "cloud_id": "c"},
        {"email": "a@example.com", "token": {"env": "T"}, "consent": "f"},
    ],
)
def test_keys_that_do_not_go_together_are_refused(auth: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="client_id, client_secret, consent"):
        JiraSettings.model_validate({"name": "j", "kind": "jira", "url": "https://acme.atlassian.net", "auth": auth})
