"""Opens the bus that the configuration names; nothing else does."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from connectors.base import Fatal, SecretRef
from pmsync.bus.embedded import EmbeddedBus
from pmsync.bus.port import ALERTS, METRICS, Bus, BusUnavailable
from pmsync.config import BusConfig, Config, EmbeddedBusConfig, KafkaBusConfig, KafkaSecurityConfig

if TYPE_CHECKING:
    from pmsync.bus.cluster import Cluster
    from pmsync.bus.topics import Layout


def open_bus(config: BusConfig, step: Callable[[str], None] = lambda _: None) -> Bus:
    """The configured bus. A log on Kafka is only connected to when it is first used."""
    if isinstance(config, EmbeddedBusConfig):
        return EmbeddedBus(config.path, step=step)
    from pmsync.bus.apache_kafka import KafkaBus  # an embedded installation need not load a client of Kafka

    return KafkaBus(
        _cluster(config),
        config.partitions,
        prefix=config.prefix,
        member=config.member or _host(),
        session=config.session_seconds,
        compression=None if config.compression == "none" else config.compression,
        step=step,
    )


def layout(config: BusConfig) -> Sequence[Layout]:
    """The topics of the configured bus; none for an embedded one, which has nothing to lay out."""
    if isinstance(config, EmbeddedBusConfig):
        return []
    from pmsync.bus.topics import Layout, wanted

    topics = wanted(config.partitions, config.replication, config.prefix, config.retention_days)
    return [Layout(_cluster(config), topics)]


def outputs(config: Config) -> frozenset[str]:
    """The topics that others are told by."""
    shared = not isinstance(config.bus, EmbeddedBusConfig)
    wanted = {METRICS: config.outputs.metrics, ALERTS: config.outputs.alerts}
    return frozenset(topic for topic, said in wanted.items() if (shared if said is None else said))


def place(config: BusConfig) -> str:
    """Where the configured log is, for people."""
    if isinstance(config, EmbeddedBusConfig):
        return f"the embedded log {config.path}"
    encrypted = "" if config.security.protocol.endswith("SSL") else ", not encrypted"
    return f"Kafka at {','.join(config.bootstrap_servers)}{encrypted}"


def _cluster(config: KafkaBusConfig) -> Cluster:
    from pmsync.bus.cluster import Cluster

    return Cluster(config.bootstrap_servers, lambda: sign_in(config.security))


def sign_in(security: KafkaSecurityConfig) -> Mapping[str, Any]:
    """kafka-python's options for `bus.security`; raises `BusUnavailable` where a secret or a file is not to be had."""
    _check_files(security)
    options: dict[str, Any] = {
        "security_protocol": security.protocol,
        "sasl_mechanism": security.mechanism,
        "sasl_plain_username": security.user,
        "sasl_plain_password": _secret(security.password),
        "ssl_cafile": _path(security.ca),
        "ssl_certfile": _path(security.certificate),
        "ssl_keyfile": _path(security.key),
        "ssl_password": _secret(security.key_password),
    }
    if security.token:
        options["sasl_oauth_token_provider"] = _tokens(lambda: _secret(security.token))
    return {name: value for name, value in options.items() if value is not None}


def _check_files(security: KafkaSecurityConfig) -> None:
    """Refuse what kafka-python would meet in silence: it tries a file that is not there again until its time is over."""
    context = ssl.SSLContext(
        ssl.PROTOCOL_TLS_CLIENT
    )  # this system's own certificates take 50 ms to load, at each connection
    password = _secret(security.key_password)
    try:
        if security.ca:
            context.load_verify_locations(security.ca)
    except OSError as error:
        raise BusUnavailable(_unusable("ca", error, "certificates in PEM")) from error
    try:
        if security.certificate:
            # Without a password OpenSSL would ask for one on the terminal.
            context.load_cert_chain(security.certificate, security.key, password or "")
    except (OSError, ValueError) as error:
        wanted = "a certificate and its own key in PEM, with the right key_password"
        raise BusUnavailable(_unusable("certificate and key", error, wanted)) from error


def _unusable(what: str, error: Exception, wanted: str) -> str:
    return (
        f"cannot sign in to Kafka: bus.security.{what} cannot be used "
        f"({getattr(error, 'strerror', None) or error}); it must be {wanted}"
    )


def _tokens(read: Callable[[], str | None]) -> Any:
    """kafka-python's source of tokens: the reference is read for each sign-in, since its file is renewed by others."""
    from kafka.net.sasl.oauth import AbstractTokenProvider

    class Tokens(AbstractTokenProvider):  # type: ignore[misc]
        def token(self) -> str | None:
            return read()

    return Tokens()


def _secret(reference: SecretRef | None) -> str | None:
    try:
        return reference.reveal() if reference else None
    except Fatal as error:
        raise BusUnavailable(f"cannot sign in to Kafka: {error}") from error


def _path(path: object) -> str | None:
    return None if path is None else str(path)


def _host() -> str:
    """This host's name, as far as Kafka takes it for a member's: in a StatefulSet it is the same after a restart."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()) or "pmsync"
