"""Signing in as an installation of a GitHub App, against a GitHub that checks each signature itself."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from connectors.base import Fatal, Retryable, SecretRef
from connectors.github import GitHubAuth, GitHubConnector, GitHubSettings
from connectors.github_app import GitHubApp, signed
from pmsync.standins.github import GitHubHost
from pmsync.standins.server import serve

REPO = "octo/apollo"
APP, INSTALLATION = "12345", 678
# RFC 7515, appendix A.2.1: the key of its example for RS256, and what its signature there is of.
RFC = {
    "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    "e": "AQAB",
}
RFC_SIGNED = (
    "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
    ".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZ"
    "cAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHW"
    "EsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
)


def unpacked(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def verified(token: str, public: rsa.RSAPublicKey) -> dict[str, Any]:
    """What a JWT claims, if this key signed it: by cryptography alone, as another program would look at it."""
    head, body, signature = token.split(".")
    assert json.loads(unpacked(head))["alg"] == "RS256"
    public.verify(unpacked(signature), f"{head}.{body}".encode(), PKCS1v15(), SHA256())
    claims: dict[str, Any] = json.loads(unpacked(body))
    return claims


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def secret(key: rsa.RSAPrivateKey, tmp_path_factory: pytest.TempPathFactory) -> SecretRef:
    path = tmp_path_factory.mktemp("secrets") / "app.pem"
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    path.write_bytes(key.private_bytes(*pem))
    return SecretRef(file=path)


@dataclass
class AppHost:
    """A GitHub on which an App is installed: it gives tokens of an hour to who bears a token that the App signed."""

    public: rsa.RSAPublicKey
    now: datetime = datetime(2026, 3, 2, 9, tzinfo=UTC)
    given: list[str] = field(default_factory=list)
    answer: Response | None = None
    host: GitHubHost = field(init=False)
    repository: int = 0

    def __post_init__(self) -> None:
        self.host = GitHubHost(lambda: self.now, token="none yet")
        self.host.is_app = self.is_app
        self.repository = self.host.add_repository(REPO)
        self.host.open_issue(REPO, self.now - timedelta(days=1), "Login fails")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        if request.url.path.startswith("/app/installations/"):
            await self._give(request)(scope, receive, send)
        else:
            await self.host.app(scope, receive, send)

    def is_app(self, token: str) -> bool:
        """Whether the App itself signed this token, and for no longer than GitHub lets it."""
        try:
            claims = verified(token, self.public)
        except (InvalidSignature, ValueError):
            return False
        return claims["iss"] == APP and 0 < claims["exp"] - claims["iat"] <= 600

    def _give(self, request: Request) -> Response:
        scheme, _, token = request.headers["authorization"].partition(" ")
        if scheme != "Bearer" or not self.is_app(token):
            return JSONResponse({"message": "A JSON web token could not be decoded"}, 401)
        if request.method != "POST" or request.url.path != f"/app/installations/{INSTALLATION}/access_tokens":
            return JSONResponse({"message": "Not Found"}, 404)
        if self.answer:
            return self.answer
        self.given.append(f"ghs_{len(self.given)}")
        self.host.token = self.given[-1]
        until = self.now + timedelta(hours=1)
        return JSONResponse({"token": self.given[-1], "expires_at": f"{until:%Y-%m-%dT%H:%M:%SZ}"}, 201)


@pytest.fixture
def host(key: rsa.RSAPrivateKey) -> AppHost:
    return AppHost(key.public_key())


Connect = Callable[..., GitHubConnector]


@pytest.fixture
def connect(host: AppHost, secret: SecretRef) -> Iterator[Connect]:
    with serve(host) as url:

        def connect(*, redeliver: bool = False, **values: Any) -> GitHubConnector:
            app = GitHubApp.model_validate({"id": APP, "installation": INSTALLATION, "private_key": secret, **values})
            hooked = {"webhook_secret": secret, "webhook_redeliver": redeliver}
            settings = GitHubSettings.model_validate(
                {"name": "github", "url": url, "auth": GitHubAuth(app=app), **hooked}
            )
            return GitHubConnector.connect(settings, lambda: host.now)

        yield connect


def titles(connector: GitHubConnector) -> list[str]:
    reads = [read.content for page in connector.changed(REPO, None) for read in page if read.content]
    return [content.title for content in reads if content]


def test_it_reads_as_the_installation(connect: Connect, host: AppHost) -> None:
    connector = connect()
    assert titles(connector) == titles(connector) == ["Login fails"]
    assert host.given == ["ghs_0"], "one token for an hour's requests"


def test_a_token_is_exchanged_before_it_ends(connect: Connect, host: AppHost) -> None:
    connector = connect()
    for minutes, given in ((0, 1), (54, 1), (2, 2), (54, 2), (30, 3)):
        host.now += timedelta(minutes=minutes)
        titles(connector)
        assert len(host.given) == given


def test_a_token_that_was_withdrawn_is_asked_for_anew(connect: Connect, host: AppHost) -> None:
    connector = connect()
    titles(connector)
    known, host.host.token = host.host.token, "another one"
    with pytest.raises(Retryable, match="installation's token") as caught:
        titles(connector)
    assert caught.value.after == 60
    host.host.token = known  # so new a token is not yet known everywhere
    assert titles(connector) == ["Login fails"]
    assert host.given == ["ghs_0"]
    host.now += timedelta(minutes=2)
    host.host.token = "another one"
    with pytest.raises(Retryable, match="installation's token"):
        titles(connector)
    assert titles(connector) == ["Login fails"]
    assert host.given == ["ghs_0", "ghs_1"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"id": 99}, r"App 99 \(401\)"),
        ({"installation": 9}, "has no installation 9"),
    ],
)
def test_what_is_wrong_with_the_app(connect: Connect, values: Any, said: str) -> None:
    with pytest.raises(Fatal, match=said):
        titles(connect(**values))


def test_another_app_s_key(connect: Connect, tmp_path: Path) -> None:
    other = rsa.generate_private_key(65537, 2048)
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "key").write_bytes(other.private_bytes(*pem))
    with pytest.raises(Fatal, match="private_key one of its keys"):
        titles(connect(private_key={"file": tmp_path / "key"}))


@pytest.mark.parametrize(
    "text", ["", "no key", "-----BEGIN RSA PRIVATE KEY-----\nsecretsecret\n-----END RSA PRIVATE KEY-----"]
)
def test_no_key_at_all_is_said_without_showing_it(connect: Connect, tmp_path: Path, text: str) -> None:
    (tmp_path / "key").write_text(text)
    with pytest.raises(Fatal, match="no RSA private key in PEM") as caught:
        titles(connect(private_key={"file": tmp_path / "key"}))
    assert "secretsecret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (JSONResponse({"message": "This installation has been suspended"}, 403), Fatal, "suspended"),
        (JSONResponse({"message": "limit"}, 403, {"retry-after": "9"}), Retryable, "rate limit"),
        (JSONResponse({"message": "limit"}, 429), Retryable, "rate limit"),
        (JSONResponse({"message": "limit"}, 403, {"x-ratelimit-remaining": "0"}), Retryable, "rate limit"),
        (Response("oh", 502), Retryable, "502"),
        (Response("<html>", 201), Retryable, "without a token"),
        (JSONResponse({"token": "a b", "expires_at": "2026-03-02T10:00:00Z"}, 201), Retryable, "without a token"),
        (JSONResponse({"token": "ghs_1"}, 201), Retryable, "without a token"),
    ],
)
def test_no_token_is_had(connect: Connect, host: AppHost, answer: Response, kind: type[Exception], said: str) -> None:
    host.answer = answer
    connector = connect()
    with pytest.raises(kind, match=said):
        titles(connector)
    host.answer = None
    assert titles(connector) == ["Login fails"]


def test_no_token_is_logged(connect: Connect, host: AppHost, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    titles(connect())
    assert host.given == ["ghs_0"]
    assert "ghs_0" not in caplog.text


def test_a_key_that_is_no_text(connect: Connect, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\x30\x82\xff\xfe")
    with pytest.raises(Fatal, match="is no text"):
        titles(connect(private_key={"file": tmp_path / "key"}))


def sends(host: AppHost, hook: int, repository: int) -> None:
    host.host.send(hook, "issues", {"action": "edited", "repository": {"id": repository}})


def test_the_app_s_own_webhook_is_asked_to_send_again(connect: Connect, host: AppHost) -> None:
    """It is of all repositories where the App is installed; only those that are configured concern us."""
    hook = host.host.add_hook(None, "https://pm.example.com/webhooks/github")
    host.host.add_hook(REPO, "https://pm.example.com/webhooks/github")
    elsewhere = host.host.add_repository("octo/beacon")
    for repository in (host.repository, elsewhere):
        sends(host, hook, repository)
    taken: list[int] = []

    def receive(_: Any, delivery: Any) -> int:
        taken.append(delivery.body["repository"]["id"])
        return 202

    host.host.receive = receive
    connector = connect(redeliver=True)
    assert (connector.redeliver([REPO]), taken) == (1, [host.repository])
    assert connector.redeliver([REPO]) == 0
    assert list(connector.check([REPO])) == []
    assert not [each for each in host.host.requests if "/hooks" in each.path], "a repository's own are not the App's"


@pytest.mark.parametrize("address", [None, "https://pm.example.com/webhooks/others"])
def test_an_app_without_a_webhook_that_leads_here(connect: Connect, host: AppHost, address: str | None) -> None:
    if address:
        sends(host, host.host.add_hook(None, address), host.repository)
    connector = connect(redeliver=True)
    assert connector.redeliver([REPO]) == 0
    assert not [each for each in host.host.requests if "/deliveries" in each.path]
    (said,) = connector.check([REPO])
    assert said.startswith("no webhook of the App that leads to /webhooks/github can be read")


def test_one_way_to_sign_in(secret: SecretRef) -> None:
    app = {"id": APP, "installation": INSTALLATION, "private_key": {"env": "KEY"}}
    for values in (
        {},
        {"app": app, "token": {"env": "TOKEN"}},
        {"app": {**app, "id": "a b"}},
        {"app": {**app, "installation": 0}},
    ):
        with pytest.raises(ValidationError):
            GitHubAuth.model_validate(values)
    assert GitHubAuth.model_validate({"app": {**app, "id": 12345}}).app is not None
    assert GitHubAuth.model_validate({"app": {**app, "id": "Iv1.8a61f9b3a7aba766"}}).app is not None


def test_the_published_vector_is_what_we_check_by() -> None:
    """RFC 7515, appendix A.2: the checker above takes its example, and no other."""
    n, e = (int.from_bytes(unpacked(RFC[name])) for name in ("n", "e"))
    public = rsa.RSAPublicNumbers(e, n).public_key()
    assert verified(RFC_SIGNED, public)["iss"] == "joe"
    head, body, signature = RFC_SIGNED.split(".")
    for wrong in (f"{head}.{body}.{signature[:-3]}AAA", f"{head}.{body[:-1]}B.{signature}"):
        with pytest.raises((InvalidSignature, ValueError)):
            verified(wrong, public)


def test_the_app_s_own_token(secret: SecretRef, key: rsa.RSAPrivateKey) -> None:
    app = GitHubApp(id=APP, installation=INSTALLATION, private_key=secret)
    claims = verified(signed(app), key.public_key())
    assert claims["iss"] == APP
    assert claims["exp"] - claims["iat"] <= 600, "GitHub takes no longer ones"
    assert claims["iat"] < datetime.now(UTC).timestamp() - 30, "for clocks that differ"
