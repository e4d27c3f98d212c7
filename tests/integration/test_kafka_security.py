"""Signing in to Kafka as the configuration says it, on a broker that refuses whoever does not: SASL, TLS, certificates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from bus_contract import records, until, values
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pmsync.bus.port import EVENTS, BusUnavailable, partition_of
from pmsync.buses import layout, open_bus, sign_in
from pmsync.config import KafkaBusConfig, KafkaSecurityConfig
from tests import kafka_broker
from tests.kafka_broker import PASSWORD, SCRAM, USER, Broker, token

pytestmark = pytest.mark.integration

Signed = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]
PLAIN = serialization.NoEncryption()


def certificate(name: str, by: Signed | None = None) -> Signed:
    """A certificate for `name` at 127.0.0.1, signed by an authority, or one of an authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by[0].subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(by[1] if by else key, hashes.SHA256())
    )
    return made, key


def chain(signed: Signed) -> bytes:
    return signed[0].public_bytes(serialization.Encoding.PEM)


def key(signed: Signed, encryption: serialization.KeySerializationEncryption = PLAIN) -> bytes:
    return signed[1].private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, what it signed for the broker and for pmsync, and a stranger whom it never saw."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = certificate("authority")
    broker, client, stranger = (
        certificate("broker", authority),
        certificate("pmsync", authority),
        certificate("stranger"),
    )
    locked = serialization.BestAvailableEncryption(PASSWORD.encode())
    for name, content in {
        "ca.pem": chain(authority),
        "broker.pem": key(broker) + chain(broker),
        "pmsync.pem": chain(client),
        "pmsync.key": key(client, locked),
        "stranger.pem": chain(stranger),
        "stranger.key": key(stranger, locked),
    }.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def guarded(needs: Callable[[str], str], certificates: Path) -> Iterator[Broker]:
    """A broker that demands to know who is there."""
    needs("kafka")
    if not kafka_broker.has_jars():
        pytest.skip("the Kafka that is here has other passwords; with java and maven there would be one of ours")
    with kafka_broker.own(certificates) as broker:
        yield broker


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_PASSWORD", PASSWORD)
    monkeypatch.setenv("WRONG_PASSWORD", "hunter2")


def configured(address: str, prefix: str, security: Mapping[str, Any]) -> KafkaBusConfig:
    values = {"kind": "kafka", "bootstrap_servers": address, "prefix": prefix, "replication": 1, "security": security}
    return KafkaBusConfig.model_validate(values)


def goes_through(config: KafkaBusConfig) -> None:
    """Topics are made, and a record, by every kind of client."""
    (topics,) = layout(config)
    topics.mend(topics.differences())
    with closing(open_bus(config)) as bus:
        bus.publish(EVENTS, records("apollo", "one"))
        assert values(bus.read(EVENTS, partition_of("apollo", 8), 0, 10)) == ["one"]
        bus.join()
        bus.assigned()


def sasl(mechanism: str, user: str = USER, password: str = "KAFKA_PASSWORD") -> dict[str, Any]:
    return {"protocol": "SASL_PLAINTEXT", "mechanism": mechanism, "user": user, "password": {"env": password}}


OAUTH = {"protocol": "SASL_PLAINTEXT", "mechanism": "OAUTHBEARER", "token": {"env": "KAFKA_TOKEN"}}


def tls(folder: Path, name: str | None = "pmsync", ca: str | None = "ca.pem") -> dict[str, Any]:
    mine = {
        "certificate": folder / f"{name}.pem",
        "key": folder / f"{name}.key",
        "key_password": {"env": "KAFKA_PASSWORD"},
    }
    return {"protocol": "SSL", **({"ca": folder / ca} if ca else {}), **(mine if name else {})}


@pytest.mark.parametrize("mechanism", ["PLAIN", *SCRAM])
def test_a_password_signs_in(guarded: Broker, prefix: str, mechanism: str) -> None:
    goes_through(configured(guarded.addresses["sasl"], prefix, sasl(mechanism)))


def test_a_token_signs_in(guarded: Broker, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_TOKEN", token())
    goes_through(configured(guarded.addresses["sasl"], prefix, OAUTH))


def test_a_certificate_signs_in(guarded: Broker, prefix: str, certificates: Path) -> None:
    goes_through(configured(guarded.addresses["tls"], prefix, tls(certificates)))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pmsync.bus.cluster.Cluster.patience_ms", 5000)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("mechanism", ["PLAIN", *SCRAM])
def test_a_wrong_password_is_said_and_not_shown(guarded: Broker, prefix: str, mechanism: str) -> None:
    config = configured(guarded.addresses["sasl"], prefix, sasl(mechanism, password="WRONG_PASSWORD"))
    said = refused_sign_in(config)
    assert not any("hunter2" in each for each in [*said, repr(config)])


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("listener", "security", "says"),
    [
        ("tls", {}, "no answer"),
        ("plain", {"protocol": "SSL"}, "Handshake failed"),
        ("tls", {"protocol": "SSL"}, "the broker's certificate does not hold; name its authority in"),
        ("sasl", {}, "no answer"),
    ],
    ids=["no TLS where it is wanted", "TLS where there is none", "an authority that nobody knows", "no sign-in"],
)
def test_what_does_not_suit_the_listener_is_said(
    guarded: Broker, prefix: str, listener: str, security: dict[str, Any], says: str
) -> None:
    with closing(open_bus(configured(guarded.addresses[listener], prefix, security))) as bus:
        with pytest.raises(BusUnavailable, match=rf"{says}.*bus\.security"):
            bus.publish(EVENTS, records("apollo", "one"))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("name", [None, "stranger"])
def test_a_certificate_that_the_broker_does_not_know_is_refused(
    guarded: Broker, prefix: str, certificates: Path, name: str | None
) -> None:
    assert "the broker refuses pmsync's certificate, or misses one; give one" in refusal(
        guarded.addresses["tls"], prefix, tls(certificates, name)
    )


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("seconds", [-600, None], ids=["run out", "no token at all"])
def test_a_wrong_token_is_said_and_not_shown(
    guarded: Broker, prefix: str, monkeypatch: pytest.MonkeyPatch, seconds: float | None
) -> None:
    wrong = "hunter2" if seconds is None else token(seconds=seconds)
    monkeypatch.setenv("KAFKA_TOKEN", wrong)
    said = refused_sign_in(configured(guarded.addresses["sasl"], prefix, OAUTH))
    assert not any(wrong in each for each in said)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (
            {"ca": "nowhere.pem"},
            "security.ca cannot be used (No such file or directory); it must be certificates in PEM",
        ),
        ({"ca": "pmsync.key"}, "security.ca cannot be used ("),
        ({"certificate": "nowhere.pem"}, "certificate and key cannot be used (No such file or directory)"),
        ({"key": "stranger.key"}, "a certificate and its own key in PEM"),
        ({"key_password": {"env": "WRONG_PASSWORD"}}, "with the right key_password"),
        ({"key_password": None}, "with the right key_password"),
    ],
)
def test_files_that_are_wrong_are_said_at_once(
    prefix: str, certificates: Path, wrong: dict[str, Any], says: str
) -> None:
    files = {name: value if name == "key_password" else certificates / value for name, value in wrong.items()}
    said = refusal("127.0.0.1:1", prefix, {**tls(certificates), **files})
    assert says in said
    assert "hunter2" not in said


def refusal(address: str, prefix: str, security: Mapping[str, Any]) -> str:
    """The one line in which a publication is refused."""
    with closing(open_bus(configured(address, prefix, security))) as bus:
        with pytest.raises(BusUnavailable, match=r"bus\.security") as error:
            bus.publish(EVENTS, records("apollo", "one"))
    said = str(error.value)
    assert len(said.splitlines()) == 1
    return said


def refused_sign_in(config: KafkaBusConfig) -> list[str]:
    """What was said until the sign-in was refused: a busy broker may hang up before it has said why."""
    said: list[str] = []
    with closing(open_bus(config)) as bus:

        def refused() -> bool:
            with pytest.raises(BusUnavailable, match=r"bus\.security") as error:
                bus.publish(EVENTS, records("apollo", "one"))
            said.append(str(error.value))
            return "the sign-in was refused; check the mechanism, the user and the password, or the token" in said[-1]

        until(refused)
    return said


def test_a_secret_that_is_not_there_is_said(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_PASSWORD")
    with closing(open_bus(configured("127.0.0.1:1", prefix, sasl("PLAIN")))) as bus:
        with pytest.raises(BusUnavailable, match="variable KAFKA_PASSWORD is not set; export it"):
            bus.end_offset(EVENTS, 0)


def test_a_token_is_read_anew_for_each_sign_in(tmp_path: Path) -> None:
    """Whatever renews the file need not tell pmsync."""
    file = tmp_path / "token"
    security = KafkaSecurityConfig.model_validate(
        {"protocol": "SASL_SSL", "mechanism": "OAUTHBEARER", "token": {"file": file}}
    )
    tokens = sign_in(security)["sasl_oauth_token_provider"]
    for each in ("first", "second"):
        file.write_text(each + "\n")
        assert tokens.token() == each
