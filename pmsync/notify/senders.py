"""Ways to people: a sender each for the console and for mail."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Protocol

from connectors.base import ConnectorError
from pmsync.config import MailConfig
from pmsync.notify.notifier import TO_PEOPLE, Manner, Unanswered, Undeliverable, Unreachable
from pmsync.store.outbox import Claimed

SMTP_SECONDS = 20.0


class Sender(Protocol):
    """One way out. Raises `Unreachable` where another try may help, `Undeliverable` where none will."""

    @property
    def manner(self) -> Manner: ...

    def send(self, run: Sequence[Claimed]) -> None:
        """Send messages to one recipient, in order: at most `manner.most`, all of them or, if it raises, none."""


class ConsoleSender:
    """Writes messages where the program runs, so that a newcomer sees what would be sent."""

    manner = TO_PEOPLE

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def send(self, run: Sequence[Claimed]) -> None:
        (message,) = run
        self._write(f"{message.subject}\n{message.text}\n")


class MailSender:
    """Sends mail over SMTP. The same message always has the same Message-ID, so that a repeat can be recognised."""

    manner = TO_PEOPLE

    def __init__(self, config: MailConfig, address: Callable[[str], str | None]) -> None:
        self._config = config
        self._address = address

    def send(self, run: Sequence[Claimed]) -> None:
        (message,) = run
        address = self._address(message.recipient)
        if address is None:
            raise Undeliverable(f"{message.recipient} has no mail address any more")
        mail = compose_mail(message, self._config.sender, address)
        with self._connected() as server:
            try:
                server.send_message(mail)
            except smtplib.SMTPRecipientsRefused as error:
                raise _refused(error.recipients) from error
            except smtplib.SMTPDataError as error:
                problem = f"the mail server refused the message ({error.smtp_code})"
                raise (Unreachable if error.smtp_code < 500 else Undeliverable)(problem) from error
            except smtplib.SMTPResponseException:
                raise
            except OSError as error:  # smtplib's own for a broken connection is one, too
                problem = f"the mail server broke off in the middle of a message ({type(error).__name__})"
                raise Unanswered(problem) from error
            with suppress(OSError, smtplib.SMTPException):
                # It has the message: how it says goodbye must not cause a second one.
                server.quit()

    def check(self) -> None:
        """Connect and log in as for a message; raises `Unreachable` with what to do."""
        with self._connected() as server:
            server.noop()

    @contextmanager
    def _connected(self) -> Iterator[smtplib.SMTP]:
        """A server that is logged in to. Whatever goes wrong with it is no fault of the message: another try may help."""
        where = f"{self._config.host}:{self._config.port}"
        try:
            with closing(self._opened()) as server:
                self._log_in(server)
                yield server
        except smtplib.SMTPAuthenticationError as error:
            advice = "check notify.mail.user and password"
            raise Unreachable(f"the mail server {where} refused the log-in ({error.smtp_code}); {advice}") from error
        except smtplib.SMTPResponseException as error:
            raise Unreachable(f"the mail server {where} answered {error.smtp_code}; check notify.mail") from error
        except (OSError, smtplib.SMTPException) as error:
            raise Unreachable(f"no mail server at {where}: {error}; check notify.mail") from error
        except ConnectorError as error:  # a secret that is not to be had
            raise Unreachable(f"notify.mail.password: {error}") from error

    def _opened(self) -> smtplib.SMTP:
        config = self._config
        if config.tls == "tls":
            context = ssl.create_default_context()
            return smtplib.SMTP_SSL(config.host, config.port, timeout=SMTP_SECONDS, context=context)
        return smtplib.SMTP(config.host, config.port, timeout=SMTP_SECONDS)

    def _log_in(self, server: smtplib.SMTP) -> None:
        if self._config.tls == "starttls":
            server.starttls(context=ssl.create_default_context())
        if self._config.user and self._config.password:
            server.login(self._config.user, self._config.password.reveal())


def compose_mail(message: Claimed, sender: str, address: str) -> EmailMessage:
    """The mail of a message. Its headers hold no line breaks, whatever a title says."""
    mail = EmailMessage()
    mail["From"] = sender
    mail["To"] = address
    mail["Subject"] = " ".join(message.subject.split())
    mail["Message-ID"] = f"<{message.id}@pmsync.invalid>"
    mail["Date"] = format_datetime(message.created_at)
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(message.text)
    return mail


def _refused(recipients: Mapping[str, tuple[int, bytes]]) -> Exception:
    code = min(code for code, _ in recipients.values())
    kind = Unreachable if code < 500 else Undeliverable
    return kind(f"the mail server refused the recipient ({code})")
