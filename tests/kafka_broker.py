"""A real Apache Kafka for tests: at an address, in a container, or from Maven's jars; on loopback, a broker per worker.

`find` says where one is to be had; `tests/conftest.py` has the fixtures `broker` (shared, never killed) and the way to
one of a test's own, which may be killed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

ADDRESS = "PMSYNC_TEST_KAFKA"
VERSION = "4.4.0"
CACHES = Path(os.environ.get("PMSYNC_TEST_CACHE", Path.home() / ".cache" / "pmsync-tests"))
CACHE = CACHES / f"kafka-{VERSION}"
START_SECONDS = 60.0
DOWNLOAD_SECONDS = 600.0
IMAGE = f"apache/kafka:{VERSION}"
USER, PASSWORD = "pmsync", "a secret with = and ;"
SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")
_OAUTH = "org.apache.kafka.common.security.oauthbearer"

_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion><groupId>pmsync</groupId><artifactId>broker</artifactId><version>1</version>
  <dependencies><dependency>
    <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version>
  </dependency></dependencies>
</project>
"""


def token(subject: str = USER, *, seconds: float = 3600) -> str:
    """An unsigned JWT that the listener `sasl` takes until so many seconds from now."""
    now = time.time()
    parts = {"alg": "none"}, {"sub": subject, "iat": now - 60, "exp": now + seconds}
    return ".".join([*(urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts), ""])


class Unstarted(Exception):
    """The broker did not come up; the message is the end of its log."""


def find() -> str | None:
    """How a broker is to be had: `address HOST:PORT`, `docker`, or `jars FOLDER`; None if in no way."""
    if address := os.environ.get(ADDRESS):
        return f"address {address}"
    if _docker_answers():
        return "docker"
    return f"jars {CACHE}" if has_jars() else None


def has_jars() -> bool:
    """Whether a broker of our own, which may be killed, can be started."""
    return bool(shutil.which("java") and (CACHE.is_dir() or shutil.which("mvn")))


@cache
def _docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    with suppress(subprocess.TimeoutExpired):
        return subprocess.run(["docker", "info"], capture_output=True, timeout=10, check=False).returncode == 0
    return False


class Broker:
    """A broker of our own from Maven's jars, in a folder; it may be killed and started again on the same ports.

    Listeners: `plain` (no questions asked), `sasl` (PLAIN and SCRAM with USER and PASSWORD, OAUTHBEARER with `token`),
    and, where certificates are given, `tls` (which demands one of the client's, too).
    """

    def __init__(self, folder: Path, certificates: Path | None = None) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        names = ["plain", "sasl", *(["tls"] if certificates else [])]
        ports = _free_ports(len(names) + 1)
        self.addresses = {name: f"127.0.0.1:{port}" for name, port in zip(names, ports, strict=False)}
        self.address = self.addresses["plain"]
        (folder / "server.properties").write_text(_properties(folder, self.addresses, ports[-1], certificates))
        scram = [f'{mechanism}=[name="{USER}",password="{PASSWORD}"]' for mechanism in SCRAM]
        ident = uuid.uuid4().hex[:22]
        formatted = self._java(
            "kafka.tools.StorageTool", "format", "--cluster-id", ident, "--config", str(folder / "server.properties"),
            *(word for each in scram for word in ("--add-scram", each)),
        )  # fmt: skip
        if formatted.wait(START_SECONDS):
            raise Unstarted((folder / "log").read_text()[-2000:])

    def start(self) -> None:
        """Start it; returns once it answers."""
        self._process = self._java("kafka.Kafka", str(self._folder / "server.properties"))
        deadline = time.monotonic() + START_SECONDS
        while not _listens(self.address):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise Unstarted((self._folder / "log").read_text()[-2000:])
            time.sleep(0.05)

    def kill(self) -> None:
        """As `kill -9` does it."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """As a supervisor does it."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """It is there and does nothing, until `resume`."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        self._send(signal.SIGCONT)

    def close(self) -> None:
        self._end(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        if self._process and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(START_SECONDS)

    def _java(self, *words: str) -> subprocess.Popen[bytes]:
        lean = ("-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                ["java", *lean, "-cp", f"{_jars()}/*", *words], cwd=self._folder, stdout=log, stderr=subprocess.STDOUT
            )


@contextmanager
def running(how: str) -> Iterator[str]:
    """The address of a broker that was found by `find`, for as long as the block runs."""
    kind, _, rest = how.partition(" ")
    with ExitStack() as stack:
        if kind == "address":
            yield rest
        elif kind == "docker":
            from testcontainers.kafka import KafkaContainer

            yield stack.enter_context(KafkaContainer(IMAGE).with_kraft()).get_bootstrap_server()
        else:
            yield stack.enter_context(own()).address


@contextmanager
def own(certificates: Path | None = None) -> Iterator[Broker]:
    """A broker from jars that is nobody else's."""
    with tempfile.TemporaryDirectory(prefix="pmsync-kafka-") as folder:
        broker = Broker(Path(folder), certificates)
        try:
            broker.start()
            yield broker
        finally:
            broker.close()


def _properties(folder: Path, addresses: Mapping[str, str], controller: int, certificates: Path | None) -> str:
    protocols = {"plain": "PLAINTEXT", "sasl": "SASL_PLAINTEXT", "tls": "SSL", "controller": "PLAINTEXT"}
    listeners = ",".join(f"{name.upper()}://{address}" for name, address in addresses.items())
    secret = PASSWORD.replace("\\", "\\\\")
    values = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"{listeners},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": listeners,
        "listener.security.protocol.map": ",".join(
            f"{name.upper()}:{protocols[name]}" for name in (*addresses, "controller")
        ),
        "inter.broker.listener.name": "PLAIN",
        "log.dirs": str(folder / "data"),
        "auto.create.topics.enable": "false",
        "offsets.topic.num.partitions": "1",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        # Shorter than a broker's own 3 s, and longer than a member waits in one round.
        "group.initial.rebalance.delay.ms": "300",
        "group.min.session.timeout.ms": "1000",
        # After kill -9 the controller waits that long for the broker's former self.
        "broker.session.timeout.ms": "1000",
        "broker.heartbeat.interval.ms": "200",
        "sasl.enabled.mechanisms": ",".join(("PLAIN", "OAUTHBEARER", *SCRAM)),
        "listener.name.sasl.plain.sasl.jaas.config": (
            f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{secret}";'
        ),
        **{
            f"listener.name.sasl.{mechanism.lower()}.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            )
            for mechanism in SCRAM
        },
        # Kafka's own for trying things out: it believes tokens that nobody signed, if their times and subject are right.
        "listener.name.sasl.oauthbearer.sasl.jaas.config": (
            f'{_OAUTH}.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";'
        ),
        "listener.name.sasl.oauthbearer.sasl.server.callback.handler.class": (
            f"{_OAUTH}.internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler"
        ),
    }
    if certificates:
        values |= {
            "listener.name.tls.ssl.keystore.type": "PEM",
            "listener.name.tls.ssl.keystore.location": str(certificates / "broker.pem"),
            "listener.name.tls.ssl.truststore.type": "PEM",
            "listener.name.tls.ssl.truststore.location": str(certificates / "ca.pem"),
            "listener.name.tls.ssl.client.auth": "required",
        }
    return "".join(f"{name}={value}\n" for name, value in values.items())


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on; all are held until all are found, so that they differ."""
    with ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in found:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in found]


def _listens(address: str) -> bool:
    host, _, port = address.partition(":")
    with suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
        return True
    return False


def _jars() -> Path:
    """The folder with Kafka's jars; the first time Maven fetches them (43 MB)."""
    if not CACHE.is_dir():
        CACHE.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE.parent) as folder:
            (Path(folder) / "pom.xml").write_text(_POM)
            command = ["mvn", "-B", "-q", "dependency:copy-dependencies", "-DoutputDirectory=jars"]
            print(f"fetching Kafka {VERSION} into {CACHE} …", file=sys.stderr)
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=False
            )
            if done.returncode:
                raise Unstarted(f"Maven could not fetch Kafka {VERSION}: {(done.stdout + done.stderr)[-1000:]}")
            with suppress(OSError):  # another worker was faster
                (Path(folder) / "jars").rename(CACHE)
    return CACHE
