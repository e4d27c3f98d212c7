"""`pmsync sign-in`: a person is sent to Atlassian and comes back, and the answer has to be the one to what was asked."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import click
import pytest
import requests

from connectors.base import Fatal
from pmsync import cli
from pmsync.sign_in import code_of, listening
from pmsync.standins.atlassian import CLIENT_ID, CLIENT_SECRET, SCOPES, Atlassian
from pmsync.standins.jira import JiraSite
from pmsync.standins.server import serve
from tests.connectors.jira_stage import lead_to
from tests.integration.commands import Folder, Said

URL = "https://acme.atlassian.net"
NOTHING_SECRET = ("standin-access", "standin-refresh", "standin-code", CLIENT_SECRET)


def free_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class World:
    """An installation, Atlassian, and a browser in which whoever is asked accepts at once."""

    def __init__(self, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
        site = JiraSite(lambda: datetime.now(UTC))
        site.add_project("APO", "Apollo")
        self.atlassian = Atlassian(lambda: datetime.now(UTC), site)
        self.atlassian.callback = f"http://localhost:{free_port()}/callback"
        self.folder, self.monkeypatch = folder, monkeypatch
        self.kept = folder.path / "kept" / "jira.json"
        self.kept.parent.mkdir()
        (folder.path / "secret").write_text(CLIENT_SECRET)
        auth = {
            "client_id": CLIENT_ID,
            "client_secret": {"file": str(folder.path / "secret")},
            "consent": str(self.kept),
        }
        folder.values["sources"] = [
            {"name": "jira", "kind": "jira", "url": URL, "auth": auth},
            {"name": "plain", "kind": "jira", "url": URL, "auth": {"email": "a@example.com", "token": {"env": "T"}}},
            {"name": "team", "kind": "calendar", "ics": "team.ics"},
        ]
        folder.values["projects"] = [{"key": "apollo", "from": {"jira": ["APO"]}}]
        self.visits: list[threading.Thread] = []

    def sign_in(self, *words: str, browser: Callable[[str], object] | None = None, source: str = "jira") -> Said:
        """`browser` is what comes of the address that is opened."""

        def opened(address: str) -> None:
            self.visits.append(threading.Thread(target=browser or self.accept, args=[address]))
            self.visits[-1].start()

        self.monkeypatch.setattr(cli.webbrowser, "open", opened)
        said = self.folder.run("sign-in", source, "--callback", self.atlassian.callback, *words)
        for visit in self.visits:
            visit.join(10)
        assert not [secret for secret in NOTHING_SECRET if secret in said.out + said.err]
        return said

    def accept(self, address: str) -> None:
        """A browser asks for an icon first, which is no answer."""
        requests.get(self.atlassian.callback.replace("callback", "favicon.ico"), timeout=10)
        answer = requests.get(address, timeout=10)
        assert answer.ok, answer.text
        assert "code" not in answer.text

    def came_back(self, address: str, **changes: str) -> str:
        """Where the browser is sent to; `changes` are those of somebody who meddles with it."""
        where = requests.get(address, allow_redirects=False, timeout=10).headers["Location"]
        found = {name: values[0] for name, values in parse_qs(urlsplit(where).query).items()} | changes
        return f"{self.atlassian.callback}?{urlencode(found)}"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[World]:
    world = World(Folder(tmp_path, monkeypatch, capsys), monkeypatch)
    with serve(world.atlassian.app) as url:
        lead_to(monkeypatch, url)
        yield world


def test_a_person_consents_in_a_browser(world: World) -> None:
    said = world.sign_in()
    assert (said.code, said.err) == (0, "")
    assert f"signed in to {URL}" in said.out
    assert json.loads(world.kept.read_text())["cloud_id"] == "cloud-1"
    assert world.kept.stat().st_mode & 0o777 == 0o600
    world.folder.run("apply")
    read = world.folder.run("doctor")
    assert (
        "source jira: APO can be read" in " ".join(read.out.split()).replace("✓ ", "") or "APO can be read" in read.out
    )


def test_a_person_consents_elsewhere_and_pastes_where_it_led_to(world: World) -> None:
    def paste(*_words: object, **options: Any) -> str:
        assert options["hide_input"]
        address = shown[0].partition("\n\n")[2].strip()
        return world.came_back(address)

    shown: list[str] = []
    echo = click.echo
    world.monkeypatch.setattr(click, "echo", lambda text="", **more: (shown.append(str(text)), echo(text, **more)))
    world.monkeypatch.setattr(click, "prompt", paste)
    said = world.sign_in("--code")
    assert (said.code, world.visits) == (0, [])
    assert world.kept.exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"code": ""}, "no code"),
        ({"error": "access_denied"}, "there is no consent (access_denied)"),
        ({"error": "<b>"}, "there is no consent (no code)"),
    ],
)
def test_an_answer_without_consent_is_refused_unused(world: World, changes: dict[str, str], says: str) -> None:
    said = world.sign_in(browser=lambda address: requests.get(world.came_back(address, **changes), timeout=10))
    assert said.code == 1
    assert says in said.err
    assert (world.atlassian.exchanges, world.kept.exists()) == ([], False)


@pytest.mark.parametrize("state", ["0" * 43, "", "ß"])
def test_an_answer_to_something_else_is_not_found_and_ends_no_waiting(world: World, state: str) -> None:
    """Any page that is open in that browser could send it there."""
    statuses: list[int] = []

    def browse(address: str) -> None:
        statuses.append(requests.get(world.came_back(address, state=state), timeout=10).status_code)
        world.accept(address)

    said = world.sign_in(browser=browse)
    assert (said.code, statuses, len(world.atlassian.exchanges)) == (0, [404], 1)


def test_who_does_not_accept_is_told_so(world: World) -> None:
    world.atlassian.denies = True
    said = world.sign_in(browser=lambda address: requests.get(address, timeout=10))
    assert (said.code, "access_denied" in said.err) == (1, True)


def test_a_file_that_cannot_be_written_is_told_before_a_person_is_asked(world: World) -> None:
    world.kept.parent.rmdir()
    said = world.sign_in()
    assert (said.code, said.out, world.visits) == (1, "", [])
    assert "auth.consent has to be in a directory that pmsync may write in" in said.err
    assert world.atlassian.exchanges == []


def test_a_consent_to_another_site_lists_those_that_it_opens(world: World) -> None:
    world.atlassian.sites = {"https://other.atlassian.net": "cloud-2"}
    said = world.sign_in()
    assert (said.code, world.kept.exists()) == (1, False)
    assert f"this consent opens https://other.atlassian.net, and not {URL}" in said.err


def test_scopes_that_were_not_given_are_told(world: World) -> None:
    full = world.atlassian._of_code
    world.monkeypatch.setattr(
        world.atlassian, "_of_code", lambda wanted: tuple(s for s in full(wanted) if not s.startswith("read:sprint"))
    )
    said = world.sign_in()
    assert "Atlassian gave no read:sprint:jira-software" in said.out


def test_an_app_without_lasting_access_is_told_so(world: World) -> None:
    full = world.atlassian._of_code
    world.monkeypatch.setattr(world.atlassian, "_of_code", lambda wanted: tuple(SCOPES & set(full(wanted))))
    assert "gave no refresh token" in world.sign_in().err


@pytest.mark.parametrize(
    ("source", "code", "says"),
    [
        ("plain", 1, "plain does not read by a person's consent; for that auth is {client_id, client_secret, consent}"),
        ("team", 2, "team (calendar) is not read by a person's consent"),
        ("none", 2, "there is no source 'none'"),
    ],
)
def test_sources_that_need_none(world: World, source: str, code: int, says: str) -> None:
    said = world.sign_in(source=source)
    assert (said.code, says in said.err) == (code, True), said.err


# --- where the person comes back to -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "callback",
    ["https://localhost:1/", "http://example.com:8765/", "http://localhost/", "http://localhost:x/", "x", "http://[/"],
)
def test_only_an_address_of_this_machine_is_listened_at(callback: str) -> None:
    with pytest.raises(Fatal, match="does not lead to this machine"), listening(callback, "s"):
        pass


def test_a_port_that_is_taken_is_told() -> None:
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        callback = f"http://localhost:{other.getsockname()[1]}/callback"
        with pytest.raises(Fatal, match="cannot be listened at"), listening(callback, "s"):
            pass


def test_nobody_is_waited_for_without_end() -> None:
    with listening(f"http://localhost:{free_port()}/callback", "s") as listener:
        with pytest.raises(Fatal, match="no answer came"):
            listener.wait(0.01)


def test_who_asks_byte_by_byte_keeps_nobody_waiting() -> None:
    """Each byte comes in time, and the request would never end."""
    port = free_port()
    cut = threading.Event()

    def drip() -> None:
        with socket.create_connection(("127.0.0.1", port)) as caller:
            caller.settimeout(0.01)
            for _ in range(6000):
                try:
                    caller.sendall(b"G")
                    is_over = not caller.recv(1)
                except OSError as error:
                    is_over = not isinstance(error, TimeoutError)
                if is_over:
                    cut.set()
                    break

    with listening(f"http://localhost:{port}/callback", "s") as listener:
        listener.request_seconds = 0.05
        dripping = threading.Thread(target=drip)
        dripping.start()
        listener.timeout = 30
        listener.handle_request()
        assert cut.wait(30)
        dripping.join(30)


@pytest.mark.parametrize(
    "answer", ["", "code", "?" + "a=b&" * 50, "http://x/?code=c", "http://[/?state=s", "x" * 20_000]
)
def test_what_is_no_answer(answer: str) -> None:
    with pytest.raises(Fatal, match="is no answer"):
        code_of(answer, "s")


def test_a_code_is_taken_with_its_state_alone() -> None:
    assert code_of(" http://localhost:8765/callback?state=s&code=c\n", "s") == "c"
    for state in ("S", "s ", "ß", ""):
        with pytest.raises(Fatal):
            code_of("http://localhost:8765/callback?state=s&code=c", state)
