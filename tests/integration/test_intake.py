"""Webhooks over HTTP: what is taken is durable before it is answered, and nothing else is kept."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from prometheus_client import CollectorRegistry

from connectors.base import Ref, SecretRef
from connectors.github import GitHubAuth, GitHubSettings
from connectors.jira import JiraSettings
from connectors.jira_auth import JiraAuth
from connectors.webhooks import Hint
from pmsync.health import WEBHOOKS, Health
from pmsync.store.engine import Store, StoreUnavailable
from pmsync.store.ledger import SqlLedger
from pmsync.web import intake
from pmsync.web.app import create_app
from pmsync.web.intake import ANSWERS, IGNORED, TAKEN, hooks, intake_routes
from pmsync.web.reader import Later
from pmsync.web.serve import serve

pytestmark = pytest.mark.integration

NOW = datetime(2026, 3, 16, 12, tzinfo=UTC)
SECRET, TOKEN = "It's a Secret to Everybody", "unguessable"
ISSUE = {"action": "edited", "repository": {"id": 7, "full_name": "acme/apollo"}, "issue": {"number": 12}}
JIRA_ISSUE = {"webhookEvent": "jira:issue_updated", "issue": {"id": "10002", "key": "APO-7"}}


class Desk:
    """An intake over HTTP, and what it keeps."""

    def __init__(self, url: str, ledger: SqlLedger, registry: CollectorRegistry) -> None:
        self.url, self.ledger, self._registry = url, ledger, registry

    def post(self, path: str, body: Any = ISSUE, **headers: str) -> requests.Response:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", "X-GitHub-Event": "issues", **headers}
        return requests.post(f"{self.url}/webhooks/{path}", data=raw, headers=sent, timeout=30)

    def signed(self, body: Any = ISSUE, secret: str = SECRET, **headers: str) -> requests.Response:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.post("gh", raw, **{"X-Hub-Signature-256": signature(raw, secret), **headers})

    def kept(self, source: str = "gh") -> list[Ref]:
        return list(self.ledger.hints(source, 10_000))

    def counts(self) -> dict[str, int]:
        found = (
            (name, self._registry.get_sample_value("pmsync_webhooks_total", {"outcome": name})) for name in WEBHOOKS
        )
        return {name: int(count) for name, count in found if count}


def signature(raw: bytes, secret: str = SECRET) -> str:
    return f"sha256={hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()}"


@pytest.fixture
def secrets(tmp_path: Path) -> Callable[[str, str], SecretRef]:
    def secret(name: str, value: str) -> SecretRef:
        (tmp_path / name).write_text(value)
        return SecretRef(file=tmp_path / name)

    return secret


@pytest.fixture
def desk(store: Store, secrets: Callable[[str, str], SecretRef]) -> Iterator[Desk]:
    auth = GitHubAuth(token=secrets("gh", "t"))
    known = hooks(
        [
            GitHubSettings(name="gh", kind="github", auth=auth, webhook_secret=secrets("s", SECRET)),
            GitHubSettings(name="closed", kind="github", auth=auth),
            GitHubSettings(
                name="lost", kind="github", auth=auth, webhook_secret=SecretRef(file=Path("/none")),
                webhook_token=secrets("empty", ""),
            ),
            JiraSettings(
                name="jira", kind="jira", url="https://jira.example.com", webhook_token=secrets("t", TOKEN),
                auth=JiraAuth(email="me@example.com", token=secrets("j", "t")),
            ),
        ]
    )  # fmt: skip
    health, ledger = Health(lambda: NOW), SqlLedger(store, store.now)
    with serve(create_app(Later(), lambda: NOW, health, intake=intake_routes(known, ledger.hint, health))) as url:
        yield Desk(url, ledger, health.registry)


def test_the_outcomes_are_the_metrics() -> None:
    assert {TAKEN, IGNORED, *ANSWERS} == set(WEBHOOKS)


def test_what_is_taken_is_kept_before_it_is_answered(desk: Desk) -> None:
    answer = desk.signed()
    assert (answer.status_code, answer.json()) == (202, {"kind": "issues", "hints": 1})
    assert desk.kept() == [Ref("work_item", "7/12")]
    assert desk.post(f"jira/{TOKEN}", JIRA_ISSUE).status_code == 202
    assert desk.kept("jira") == [Ref("work_item", "10002")]
    assert desk.counts() == {"taken": 2}


def test_what_is_left_alone_is_answered_and_says_why(desk: Desk) -> None:
    answer = desk.signed({"zen": "x"}, **{"X-GitHub-Event": "ping"})
    assert (answer.status_code, answer.json()["hints"]) == (202, 0)
    assert "nothing that pmsync reads" in answer.json()["ignored"]
    assert (desk.kept(), desk.counts()) == ([], {"ignored": 1})


@pytest.mark.parametrize(
    ("path", "outcome"),
    [
        ("none", "no_source"), ("none/x", "no_source"), ("closed", "closed"), ("closed/x", "closed"), ("jira", "closed"),
        (f"gh/{SECRET}", "closed"), ("gh", "forged"), ("jira/guess", "forged"), (f"jira/{TOKEN}x", "forged"),
        ("lost", "no_secret"), ("lost/", "no_secret"), ("lost/x", "no_secret"),
    ],
)  # fmt: skip
def test_who_has_no_right_is_refused(desk: Desk, path: str, outcome: str) -> None:
    answer = desk.post(path)
    assert (answer.status_code, answer.json()["error"]) == ANSWERS[outcome]
    assert ("Retry-After" in answer.headers) is (outcome == "no_secret")
    assert (desk.counts(), desk.kept(), desk.kept("jira")) == ({outcome: 1}, [], [])
    assert "/none" not in answer.text, "where a secret should be is for the log"


def test_the_right_is_asked_before_the_body_is(desk: Desk) -> None:
    """A stranger who announces much and sends nothing is refused at once."""
    for path in ("none", "closed", "jira/guess"):
        with _connected(desk.url) as end:
            end.sendall(f"POST /webhooks/{path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n".encode())
            assert end.recv(12) in {b"HTTP/1.1 404", b"HTTP/1.1 403", b"HTTP/1.1 401"}


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "no JSON"), (b"{", "no JSON"), (b"\xff", "no JSON"), (b"[" * 100_000, "no JSON"), (b"9" * 10_000, "no JSON"),
        (b"[]", "no object"), (b"{}", "no usable issue"), (b'{"issue": {"number": 1}}', "repository"),
    ],
    ids=["nothing", "half", "no text", "deep", "a long number", "a list", "empty", "no repository"],
)  # fmt: skip
def test_a_signed_body_that_cannot_be_read(desk: Desk, raw: bytes, why: str) -> None:
    answer = desk.signed(raw)
    assert answer.status_code == 400
    assert why in answer.json()["error"]
    assert (desk.kept(), desk.counts()) == ([], {"unreadable": 1})


def test_only_json_is_taken(desk: Desk) -> None:
    """GitHub's other type, a form, is signed as it comes: it would have to be read before it is known."""
    raw = b"payload=%7B%7D"
    answer = desk.signed(raw, **{"Content-Type": "application/x-www-form-urlencoded"})
    assert (answer.status_code, answer.json()["error"]) == ANSWERS["form"]
    assert desk.signed(**{"Content-Type": "application/json; charset=UTF-8"}).status_code == 202


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_that_is_too_large(desk: Desk, monkeypatch: pytest.MonkeyPatch, *, declared: bool) -> None:
    monkeypatch.setattr(intake, "MOST_BYTES", 1000)
    raw = b" " * 1001

    def parts() -> Iterator[bytes]:
        yield raw

    body: Any = raw if declared else parts()
    headers = {"Content-Type": "application/json", "X-GitHub-Event": "issues", "X-Hub-Signature-256": signature(raw)}
    answer = requests.post(f"{desk.url}/webhooks/gh", data=body, headers=headers, timeout=30)
    assert answer.status_code == 413
    assert desk.counts() == {"large": 1}


def test_a_body_that_drips(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "BODY_SECONDS", 0.2)
    head = "POST /webhooks/gh HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    with _connected(desk.url) as end:
        end.sendall(head.encode())
        assert end.recv(12) == b"HTTP/1.1 408"
    assert desk.counts() == {"slow": 1}


def test_a_body_that_breaks_off_costs_only_itself(desk: Desk) -> None:
    head = "POST /webhooks/gh HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    with _connected(desk.url) as end:
        end.sendall(head.encode())
    _until(lambda: desk.counts() == {"unreadable": 1})
    assert desk.signed().status_code == 202


@pytest.mark.parametrize("limit", ["MOST_AT_ONCE", "MOST_HELD_BYTES"])
def test_too_much_at_once_is_asked_to_come_again(desk: Desk, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(intake, limit, 0)
    answer = desk.signed()
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    monkeypatch.undo()
    assert desk.signed().status_code == 202, "and what was held is given back"


def test_a_store_that_is_away_is_told_to_the_sender(secrets: Callable[[str, str], SecretRef]) -> None:
    """Jira sends it again after that; of GitHub's the next round reads what this one would have hinted at."""
    health = Health(lambda: NOW)

    def away(source: str, found: Sequence[Hint]) -> None:
        raise StoreUnavailable("the database postgresql://secret-host answered: no")

    settings = GitHubSettings(
        name="gh", kind="github", auth=GitHubAuth(token=secrets("t", "t")), webhook_secret=secrets("s", SECRET)
    )
    with serve(create_app(Later(), lambda: NOW, health, intake=intake_routes(hooks([settings]), away, health))) as url:
        raw = json.dumps(ISSUE).encode()
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Event": "issues",
            "X-Hub-Signature-256": signature(raw),
        }
        answer = requests.post(f"{url}/webhooks/gh", data=raw, headers=headers, timeout=30)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert "secret-host" not in answer.text


def test_a_secret_can_be_changed_while_it_runs(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "s").write_text("another\n")
    assert desk.signed().status_code == 401
    assert desk.signed(secret="another").status_code == 202


def test_ten_thousand_forged_bodies_leave_nothing(desk: Desk) -> None:
    """Real bodies with wrong signatures of every kind, by some senders at once; a right one between them is taken."""
    raw = json.dumps(ISSUE).encode()
    right = signature(raw)
    forged = (
        "", right[:-1], right + "0", right.upper(), right.replace("sha256", "sha1"), right.partition("=")[2],
        signature(raw, "wrong"), signature(raw + b" "), f"sha256={'0' * 64}", f"sha1={'0' * 40}",
    )  # fmt: skip
    headers = {"Content-Type": "application/json", "X-GitHub-Event": "issues"}

    def send(count: int) -> set[int]:
        with requests.Session() as session:
            return {
                session.post(
                    f"{desk.url}/webhooks/gh",
                    data=raw,
                    headers={**headers, "X-Hub-Signature-256": forged[n % len(forged)]},
                    timeout=30,
                ).status_code
                for n in range(count)
            }

    with ThreadPoolExecutor(4) as pool:
        found = set().union(*pool.map(send, [2500] * 4))
    assert found == {401}
    assert desk.kept() == []
    assert desk.signed().status_code == 202
    assert desk.counts() == {"forged": 10_000, "taken": 1}


def test_a_flood_is_said_in_the_log_once_a_minute(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    from structlog.testing import capture_logs

    with capture_logs() as said:
        for _ in range(5):
            desk.post("gh")
            desk.post("none-of-ours")
    assert [(line["source"], line["outcome"]) for line in said] == [("gh", "forged"), ("", "no_source")]


def test_senders_at_once_are_all_kept(desk: Desk) -> None:
    def send(number: int) -> int:
        return desk.signed({**ISSUE, "issue": {"number": number % 20}}).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(send, range(200))) == {202}
    assert sorted(desk.kept()) == sorted(Ref("work_item", f"7/{n}") for n in range(20))


def _connected(url: str) -> socket.socket:
    where = urlsplit(url)
    return socket.create_connection((where.hostname or "", where.port or 0), timeout=30)


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)
