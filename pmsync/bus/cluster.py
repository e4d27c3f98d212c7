"""How Kafka is spoken to: where the brokers are, how to sign in, how long to wait, and what an error means for people.

kafka-python answers an absent broker with silence or with a time-out, and tells its troubles to the log; here each of
them becomes a `BusUnavailable` that says what to do.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kafka import errors
from kafka.net.compat import KafkaNetClient

from pmsync.bus.port import BusUnavailable

PATIENCE_SECONDS = 15.0
"""How long anything may wait for a broker: a change of leaders takes a few seconds."""
LARGEST_RESPONSE = 16 << 20
"""Bytes of an answer that are read at most; kafka-python's own bound of 100 MB is for larger records than ours."""

# A handler that does nothing: what goes wrong is raised, so that a broker that is down fills nobody's terminal.
logging.getLogger("kafka").addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class Cluster:
    """The brokers. `sign_in` gives kafka-python's options for security when they are needed, since they hold secrets."""

    servers: tuple[str, ...]
    sign_in: Callable[[], Mapping[str, Any]] = dict
    patience: float = PATIENCE_SECONDS

    @property
    def patience_ms(self) -> int:
        return int(self.patience * 1000)

    def options(self) -> dict[str, Any]:
        """What every client of this cluster is made with."""
        return {
            "bootstrap_servers": list(self.servers),
            "client_id": "pmsync",
            "bootstrap_timeout_ms": self.patience_ms,
            "request_timeout_ms": self.patience_ms,
            # Its default of 30 s would outlast the patience after each restart of a broker.
            "reconnect_backoff_max_ms": 2000,
            "receive_message_max_bytes": LARGEST_RESPONSE,
            **self.sign_in(),
        }

    def open(self, kind: Callable[..., Any], **options: Any) -> Any:
        """A client of this cluster (kafka-python's `kind`), connected; raises kafka-python's errors."""
        made: list[Any] = []

        def client(**config: Any) -> Any:
            made.append(KafkaNetClient(**config))
            return made[-1]

        with _complaints() as complaints:
            try:
                return kind(**{**self.options(), "kafka_client": client, **options})
            except Exception as error:
                # One that could not connect has a thread already, which would try for ever.
                for each in made:
                    each.close()
                raise _telling(complaints, error) from error

    @contextmanager
    def speaking(self, task: str) -> Iterator[None]:
        """What goes wrong with Kafka while the block does `task` is raised as `BusUnavailable`."""
        try:
            yield
        except (errors.KafkaError, OSError) as error:
            where = ",".join(self.servers)
            raise BusUnavailable(f"cannot {task}: Kafka at {where}: {self._words(error)}") from error

    def _words(self, error: Exception) -> str:
        for kinds, words in _ADVICE:
            if isinstance(error, kinds):
                return words
        for part, words in _TLS:
            if part in str(error).upper():
                return f"{words} ({error})"
        if isinstance(error, _SILENCE):
            seen = f" ({error})" if isinstance(error, errors.KafkaConnectionError) else ""
            return (
                f"no answer within {self.patience:g} s{seen}; is it running, does bus.bootstrap_servers name it, and does "
                "bus.security suit its listener?"
            )
        return f"{error}"


@contextmanager
def _complaints() -> Iterator[list[Exception]]:
    """What kafka-python complains of to its log while it connects: a constructor raises only that the time is over."""
    heard: list[Exception] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            args = record.args if isinstance(record.args, tuple) else ()
            heard.extend(each for each in args if isinstance(each, Exception))

    ear, logger = Ear(logging.WARNING), logging.getLogger("kafka.net.manager")
    logger.addHandler(ear)
    try:
        yield heard
    finally:
        logger.removeHandler(ear)


def _telling(complaints: list[Exception], error: Exception) -> Exception:
    """The complaint that says most: a refusal, else a connection that failed, else the error itself."""
    kinds = (errors.SaslAuthenticationFailedError, errors.UnsupportedSaslMechanismError, errors.KafkaConnectionError)
    return next((each for kind in kinds for each in complaints if isinstance(each, kind)), error)


_SILENCE = (errors.KafkaTimeoutError, errors.KafkaConnectionError, errors.NodeNotReadyError, errors.Cancelled)

_TLS = (
    (
        "CERTIFICATE_VERIFY_FAILED",
        (
            "the broker's certificate does not hold; name its authority in bus.security.ca, and in bus.bootstrap_servers a host "
            "that it is made out to"
        ),
    ),
    (
        "ALERT_UNKNOWN_CA",
        "the broker does not know who signed pmsync's certificate; give another one as bus.security.certificate and key",
    ),
    (
        "CERTIFICATE",
        (
            "the broker refuses pmsync's certificate, or misses one; give one that it knows, and that has not run out, as "
            "bus.security.certificate and key"
        ),
    ),
)
"""What to tell people of a TLS connection that failed, by OpenSSL's words; the first that fits."""

_ADVICE: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (
        (errors.SaslAuthenticationFailedError, errors.UnsupportedSaslMechanismError, errors.IllegalSaslStateError),
        "the sign-in was refused; check the mechanism, the user and the password, or the token, under bus.security",
    ),
    (
        errors.AuthorizationError,
        "the user of bus.security may not do this; it needs Read, Write and Describe on the topics, Read on the group",
    ),
    (
        (errors.UnknownTopicOrPartitionError, errors.UnknownTopicIdError),
        "a topic or partition is not there; run `pmsync topics apply`",
    ),
    (
        errors.FencedInstanceIdError,
        "another process goes by the same name among the aggregators; give each its own bus.member",
    ),
    (
        errors.InvalidReplicationFactorError,
        "there are fewer brokers than bus.replication; set that to how many there are",
    ),
    (
        (errors.NotEnoughReplicasError, errors.NotEnoughReplicasAfterAppendError),
        "too few replicas are in sync to keep what is published; bring the missing brokers back",
    ),
    (
        (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError),
        "a record is larger than the topic takes; `pmsync topics apply` sets max.message.bytes",
    ),
    (
        (errors.OffsetOutOfRangeError, errors.LogTruncationError),
        "what is to be read next is no longer there: the topic was emptied, cut or made anew; see `pmsync doctor`",
    ),
)
"""Kinds of errors, and what to tell people of each."""
