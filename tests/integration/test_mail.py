"""Mail through a real SMTP server on loopback: each message arrives once, and nothing is lost while the server is away."""

from __future__ import annotations

import email
import email.policy
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword, Session

from connectors.base import SecretRef
from pmsync.aggregator import Aggregator
from pmsync.bus.embedded import EmbeddedBus
from pmsync.bus.publisher import Publisher
from pmsync.config import MailConfig
from pmsync.core.events import CONFIGURATION, Snapshot, Synced, Thing
from pmsync.notify.notifier import CLAIM, RETRIES, TO_PEOPLE, Notifier, Undeliverable, Unreachable
from pmsync.notify.senders import ConsoleSender, MailSender, compose_mail
from pmsync.owners import owner
from pmsync.store.engine import Store
from pmsync.store.outbox import Claimed, Outbox
from pmsync.store.state import Letter, StateStore
from tests.unit.builders import JIRA, item, project

pytestmark = pytest.mark.integration

NOW = datetime(2026, 3, 16, 12, tzinfo=UTC)
ADA = "ada@example.com"
SECRET = "correct horse battery"
MESSAGE = Claimed("id1", "apollo", "mail", "person-1", "Apollo: APO-1 late", "Why: é 😀\n", NOW, 1, False, "me")


class Server:
    """An SMTP server that keeps what it accepts and answers as it is told to."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.rcpt = self.data = self.quit = ""
        self.hangs_up = False

    async def handle_RCPT(self, server: Any, session: Session, envelope: Envelope, address: str, _: Any) -> str:  # noqa: N802
        if not self.rcpt:
            envelope.rcpt_tos.append(address)
        return self.rcpt or "250 OK"

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.data:
            return self.data
        assert isinstance(envelope.content, bytes)
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        if self.hangs_up:
            server.transport.close()
        return "250 accepted"

    async def handle_QUIT(self, server: Any, session: Session, envelope: Envelope) -> str:  # noqa: N802
        return self.quit or "221 Bye"


class Loopback(Controller):
    """An SMTP server in a thread, on a free port."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        super()._trigger_server()  # type: ignore[no-untyped-call]


def authenticate(server: Any, session: Session, envelope: Envelope, mechanism: str, auth: Any) -> AuthResult:
    good = isinstance(auth, LoginPassword) and auth.password == SECRET.encode()
    return AuthResult(success=good, handled=False)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def controller(server: Server) -> Iterator[Controller]:
    controller = Loopback(
        server, hostname="127.0.0.1", port=0, authenticator=authenticate, auth_require_tls=False,
    )  # fmt: skip
    controller.start()
    yield controller
    if not controller.loop.is_closed():
        controller.stop()


@pytest.fixture
def port(controller: Controller) -> int:
    return int(controller.port)


def sender(port: int, **values: Any) -> MailSender:
    config = MailConfig.model_validate({"host": "127.0.0.1", "port": port, "sender": "pm@example.com", "tls": "none", **values})  # fmt: skip
    return MailSender(config, {"person-1": ADA}.get)


class Desk:
    """An outbox with a clock that is set by hand."""

    def __init__(self, store: Store, mailer: MailSender) -> None:
        self.states, self.box, self.now = StateStore(store), Outbox(store), NOW
        self.notifier = Notifier(self.box, {"mail": mailer}, lambda: self.now, owner())
        self.posted = 0

    def post(self, subject: str = "Subject", text: str = "Text", recipient: str = "person-1") -> None:
        self.posted += 1
        letter = Letter(f"letter-{self.posted}", "apollo", "mail", recipient, subject, text)
        with self.states.owned(0, self.states.take(0, "me")) as owned:
            owned.log("apollo", [], [letter], self.now)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(f"sqlite:///{tmp_path / 'pmsync.db'}")) as store:
        store.migrate()
        yield store


@pytest.fixture
def desk(store: Store, port: int) -> Desk:
    return Desk(store, sender(port))


def test_a_firing_and_its_resolve_arrive_once_each(store: Store, server: Server, port: int, tmp_path: Path) -> None:
    """The whole way from events to mails; rounds without news send nothing."""
    with closing(EmbeddedBus(tmp_path / "log.db")) as bus:
        aggregator = Aggregator(bus, StateStore(store), owner(), ("mail",))
        aggregator.take(range(bus.partitions))
        notifier = Notifier(Outbox(store), {"mail": sender(port)}, lambda: NOW, owner())

        def round_with(version: int, *things: tuple[Thing, Any]) -> int:
            Publisher(bus).publish([Snapshot(project="apollo", thing=t, version=version, content=c) for t, c in things])
            aggregator.catch_up()
            aggregator.tick(NOW)
            return notifier.drain().sent

        configured = project().model_copy(update={"mapping": {JIRA: {"APO": 1}}, "leader": "person-1"})
        synced = Synced(container="APO", mapped={"apollo": 1}, listed=0, published=0, dead=0)
        done = [(NOW, "status_category", "done")]
        assert round_with(1, (Thing(CONFIGURATION, "project", "apollo"), configured), (Thing(JIRA, "synced", "APO"), synced)) == 1  # fmt: skip
        assert round_with(2, item("1", title="Mend\r\nBcc: all@example.com", due_date="2026-03-02")) == 1
        assert round_with(3) == 0
        assert round_with(4, item("1", done, due_date="2026-03-02")) == 1
        assert round_with(5) == 0
    first, firing, resolved = server.mails
    assert "nothing is wrong" in first["Subject"]
    assert firing["Subject"] == (
        "Apollo: APO-1 Mend Bcc: all@example.com was due Mon 2 Mar 2026, 10 working days ago, and is still todo"
    )
    assert firing["Bcc"] is None
    assert resolved["Subject"] == "Apollo: 1 resolved"
    assert {mail["To"] for mail in server.mails} == {ADA}
    assert len({mail["Message-ID"] for mail in server.mails}) == 3


@pytest.mark.parametrize("subject", ["a\r\nBcc: x@example.com", "a\nb", "a\u2028b", "a\x0bb", "a\x00b", "=?utf-8?q?a?=", "é" * 300, ""])  # fmt: skip
def test_no_title_breaks_the_headers(server: Server, port: int, subject: str) -> None:
    sender(port).send([replace(MESSAGE, subject=subject)])
    (mail,) = server.mails
    assert set(mail.keys()) - {"X-Peer", "X-MailFrom", "X-RcptTo"} == {
        "From", "To", "Subject", "Message-ID", "Date", "Auto-Submitted", "Content-Type", "Content-Transfer-Encoding", "MIME-Version",
    }  # fmt: skip
    assert mail.get_content().replace("\r\n", "\n") == MESSAGE.text


def test_the_same_message_has_the_same_id() -> None:
    one, again = (compose_mail(MESSAGE, "pm@example.com", ADA) for _ in range(2))
    assert one["Message-ID"] == again["Message-ID"] == "<id1@pmsync.invalid>"
    assert one.as_bytes() == again.as_bytes()


@pytest.mark.parametrize("stage", ["rcpt", "data"])
def test_a_server_that_is_busy_is_tried_again(desk: Desk, server: Server, stage: str) -> None:
    setattr(server, stage, "451 try again later")
    desk.post()
    assert desk.notifier.drain().failed == 1
    assert desk.notifier.drain().failed == 0, "not before its time"
    setattr(server, stage, "")
    desk.now += RETRIES[0]
    assert desk.notifier.drain().sent == 1
    assert len(server.mails) == 1
    assert desk.box.counts() == {"sent": 1}


@pytest.mark.parametrize(("stage", "words"), [("rcpt", "the mail server refused the recipient (550)"), ("data", "the mail server refused the message (550)")])  # fmt: skip
def test_a_refusal_is_final_and_the_next_one_goes_out(desk: Desk, server: Server, stage: str, words: str) -> None:
    setattr(server, stage, "550 no such mailbox")
    desk.post()
    assert desk.notifier.drain().dead == 1
    ((project_key, recipient, error),) = desk.box.dead()
    assert (project_key, recipient) == ("apollo", "person-1")
    assert error == words
    assert ADA not in error, "no address in what is logged"
    setattr(server, stage, "")
    desk.now += timedelta(seconds=1)
    desk.post()
    assert desk.notifier.drain().sent == 1


def test_a_server_that_hangs_up_may_have_taken_it(desk: Desk, server: Server) -> None:
    """It has the message and never says so: it is sent again, and counted."""
    server.hangs_up = True
    desk.post()
    done = desk.notifier.drain()
    assert (done.sent, done.failed, done.possible_duplicates) == (0, 1, 0)
    server.hangs_up = False
    desk.now += RETRIES[0]
    done = desk.notifier.drain()
    assert (done.sent, done.possible_duplicates) == (1, 1)
    assert len({mail["Message-ID"] for mail in server.mails}) == 1


class Slow:
    """Every try takes longer than the next try is away, and fails."""

    manner = TO_PEOPLE

    def __init__(self, desk: Desk) -> None:
        self.desk, self.tries = desk, 0

    def send(self, _: Sequence[Claimed]) -> None:
        self.tries += 1
        self.desk.now += timedelta(seconds=20)
        raise Unreachable("it does not answer")


def test_a_round_tries_each_message_once(desk: Desk) -> None:
    for n in range(3):
        desk.post(recipient=f"person-{n}")
    slow = Slow(desk)
    notifier = Notifier(desk.box, {"mail": slow}, lambda: desk.now, owner())
    assert notifier.drain().failed == slow.tries == 3
    assert notifier.drain(lambda: True).failed == 0, "not when it is time to stop"


def test_a_server_that_is_down_loses_nothing(desk: Desk, controller: Controller, server: Server) -> None:
    """Tried on a schedule, in order, until the server is back."""
    controller.stop()
    for n in range(3):
        desk.post(f"Message {n}")
        desk.now += timedelta(seconds=1)
    for wait in RETRIES[:4]:
        assert desk.notifier.drain().failed == 1, "the later ones wait behind the first"
        desk.now += wait
    back = Loopback(server, hostname=controller.hostname, port=controller.port)
    back.start()
    try:
        assert desk.notifier.drain().sent == 3
    finally:
        back.stop()
    assert [mail["Subject"] for mail in server.mails] == ["Message 0", "Message 1", "Message 2"]


def test_after_the_last_try_a_message_is_dead(desk: Desk, controller: Controller) -> None:
    controller.stop()
    desk.post()
    for wait in RETRIES:
        assert desk.notifier.drain().failed == 1
        desk.now += wait
    assert desk.notifier.drain().dead == 1
    ((_, _, error),) = desk.box.dead()
    assert "no mail server at 127.0.0.1:" in error
    assert "check notify.mail" in error


def test_a_goodbye_that_fails_does_not_send_twice(desk: Desk, server: Server) -> None:
    server.quit = "421 too tired"
    desk.post()
    assert desk.notifier.drain().sent == 1
    assert len(server.mails) == 1


def test_a_kill_after_sending_is_counted_as_a_possible_duplicate(store: Store, desk: Desk, server: Server, port: int) -> None:  # fmt: skip
    class Killed(Exception):
        pass

    def end_at(step: str) -> None:
        if step == "delivered":
            raise Killed

    desk.post()
    with pytest.raises(Killed):
        Notifier(desk.box, {"mail": sender(port)}, lambda: desk.now, "elsewhere/1/1", end_at).drain()
    assert desk.notifier.drain().sent == 0, "whoever claimed it may still be at work"
    desk.now += CLAIM
    done = desk.notifier.drain()
    assert (done.sent, done.possible_duplicates) == (1, 1)
    one, again = server.mails
    assert one["Message-ID"] == again["Message-ID"]


def test_who_has_no_address_any_more_is_not_tried_again(desk: Desk) -> None:
    desk.post(recipient="person-9")
    assert desk.notifier.drain().dead == 1


def test_a_channel_that_is_gone_is_said(store: Store, desk: Desk) -> None:
    desk.post()
    done = Notifier(desk.box, {"console": ConsoleSender(print)}, lambda: NOW, owner()).drain()
    assert done.dead == 1
    assert desk.box.dead()[0][2] == "the channel mail is not configured any more"


# --- the password -----------------------------------------------------------------------------------------------------


@pytest.fixture
def secret(tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    def write(text: str) -> dict[str, Any]:
        (tmp_path / "password").write_text(text + "\n")
        return {"user": "pm", "password": SecretRef(file=tmp_path / "password").model_dump(exclude_none=True)}

    return write


def test_it_logs_in_with_the_secret(server: Server, port: int, secret: Callable[[str], dict[str, Any]]) -> None:
    mailer = sender(port, **secret(SECRET))
    mailer.send([MESSAGE])
    assert len(server.mails) == 1
    assert SECRET not in repr(mailer._config) + json.dumps(mailer._config.model_dump(mode="json"))


def test_a_wrong_password_is_no_fault_of_the_message(
    server: Server, port: int, secret: Callable[[str], dict[str, Any]]
) -> None:
    """It is tried again, so that nothing is lost while somebody mends it; the secret is not in the words."""
    mailer = sender(port, **secret("wrong horse"))
    with pytest.raises(Unreachable, match=r"refused the log-in.*notify.mail.user and password") as said:
        mailer.send([MESSAGE])
    assert "wrong horse" not in str(said.value)
    assert server.mails == []


def test_a_missing_password_is_said_and_waited_for(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAIL_PASSWORD", raising=False)
    mailer = sender(port, user="pm", password={"env": "MAIL_PASSWORD"})
    with pytest.raises(Unreachable, match=r"notify\.mail\.password: the environment variable MAIL_PASSWORD is not set"):
        mailer.send([MESSAGE])


@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_no_mail_goes_out_in_the_clear_unless_told_so(server: Server, port: int, tls: str) -> None:
    with pytest.raises(Unreachable):
        sender(port, tls=tls).send([MESSAGE])
    assert server.mails == []


def test_undeliverable_and_unreachable_are_apart() -> None:
    assert not issubclass(Undeliverable, Unreachable)
    assert not issubclass(Unreachable, Undeliverable)
