"""Addresses that data names: which of them are connected to, seen from the listener that should hear of none."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from connectors import guard, ways
from connectors.base import Connector, ConnectorError, Withheld
from connectors.caldav import CalDavConnector, CalDavSettings
from connectors.calendar import CalendarConnector, CalendarSettings
from connectors.guard import refusal
from connectors.ways import guarded
from pmsync.standins.server import serve
from tests.connectors.caldav_standin import CalDavHost

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
MANY = 200

DENIED = [
    "127.0.0.1",
    "127.0.0.2",
    "127.0.1.1",
    "127.254.254.254",
    "127.255.255.255",
    "::1",
    "0.0.0.0",
    "0.0.0.1",
    "0.1.2.3",
    "0.255.255.255",
    "::",
    "10.0.0.0",
    "10.0.0.1",
    "10.255.255.255",
    "172.16.0.0",
    "172.16.0.1",
    "172.31.255.254",
    "172.31.255.255",
    "192.168.0.1",
    "192.168.255.255",
    "100.64.0.0",
    "100.64.0.1",
    "100.100.100.200",
    "100.127.255.255",
    "169.254.0.1",
    "169.254.169.254",
    "169.254.170.2",
    "169.254.169.123",
    "fe80::1",
    "fe80::a9fe:a9fe",
    "febf:ffff::1",
    "168.63.129.16",
    "fc00::1",
    "fd00::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fdff:ffff::1",
    "fec0::1",
    "feff::1",
    "224.0.0.1",
    "224.0.0.251",
    "239.255.255.250",
    "ff02::1",
    "ff05::2",
    "ff0e::1",
    "192.0.0.1",
    "192.0.0.8",
    "192.0.0.170",
    "192.0.0.192",
    "192.52.193.1",
    "192.88.99.1",
    "192.0.2.1",
    "198.51.100.1",
    "203.0.113.1",
    "2001:db8::1",
    "3fff::1",
    "3fff:fff:ffff::1",
    "198.18.0.1",
    "198.19.255.255",
    "2001:2::1",
    "240.0.0.1",
    "250.1.2.3",
    "255.255.255.254",
    "255.255.255.255",
    "2001::",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:10::1",
    "2001:20::1",
    "2001:1ff::1",
    "5f00::1",
    "100::1",
    "100:0:0:1::1",
    "::127.0.0.1",
    "::10.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:192.168.1.1",
    "::ffff:0.0.0.0",
    "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::10.0.0.1",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::a00:1",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "2002:c0a8:101::",
    "2002:808:808::",
    "4000::1",
    "1::1",
    "8000::1",
    "e000::1",
    "200::1",
]
ALLOWED = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "17.253.144.10",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.1",
    "142.250.74.110",
    "168.63.129.15",
    "168.63.129.17",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "191.255.255.255",
    "192.0.1.0",
    "192.0.3.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2003::1",
    "2606:4700:4700::1111",
    "2a00:1450:4001:812::200e",
    "3ffe::1",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
]


def test_the_table_is_as_long_as_it_should_be() -> None:
    assert len(set(DENIED)) == len(DENIED) >= 80


@pytest.mark.parametrize("address", DENIED)
def test_what_is_not_for_everybody_is_refused(address: str) -> None:
    assert refusal(ip_address(address))


@pytest.mark.parametrize("address", ALLOWED)
def test_what_anybody_may_ask_is_allowed(address: str) -> None:
    assert refusal(ip_address(address)) is None


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_the_same_in_the_clothes_in_which_it_may_come(address: IPv4Address) -> None:
    for carrier in ("::ffff:0:0", "64:ff9b::"):
        assert refusal(IPv6Address(int(IPv6Address(carrier)) + int(address))) == refusal(address)


@given(st.ip_addresses())
def test_what_is_allowed_is_public_by_what_the_standard_library_knows_too(address: IPv4Address | IPv6Address) -> None:
    if refusal(address) is None and not any(address in carrier for carrier in guard.CARRIERS):
        assert address.is_global
        assert not any((address.is_multicast, address.is_reserved, address.is_loopback, address.is_unspecified))


# ---- nobody is connected to ----


@dataclass
class Street:
    """Listeners on loopback that count who comes, names that are resolved without asking anybody, and what was dialled."""

    port: int = 0
    visits: int = 0
    names: dict[str, Callable[[], Sequence[str]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    dialled: list[str] = field(default_factory=list)

    def resolve(self, host: str, port: int, *more: Any) -> list[Any]:
        self.asked.append(host)
        found = self.names[host]() if host in self.names else [host]
        places: list[Any] = []
        for each in found:
            places += socket.getaddrinfo(each, port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)
        return places

    def dial(self, address: tuple[str, int], *more: Any) -> socket.socket:
        self.dialled.append(address[0])
        if not ip_address(address[0].partition("%")[0]).is_loopback:
            raise OSError("no test leaves this host")
        return socket.create_connection(address, 5)


@pytest.fixture
def street(monkeypatch: pytest.MonkeyPatch) -> Iterator[Street]:
    street = Street(names={"localhost": lambda: ["::1", "127.0.0.1"]})
    with listening("127.0.0.1") as listener:
        street.port = listener.getsockname()[1]
        stop = threading.Event()

        def count() -> None:
            while True:
                visitor, _ = listener.accept()
                street.visits += 1
                visitor.close()
                if stop.is_set():
                    return

        thread = threading.Thread(target=count)
        thread.start()
        monkeypatch.setattr(guard, "resolve", street.resolve)
        monkeypatch.setattr(guard, "create_connection", street.dial)
        monkeypatch.setattr(guard, "PORTS", guard.PORTS | {street.port})
        yield street
        stop.set()
        socket.create_connection(listener.getsockname()).close()
        thread.join()


@contextmanager
def listening(host: str) -> Iterator[socket.socket]:
    with socket.create_server((host, 0)) as listener:
        yield listener


SPELLINGS = [
    *(f"[{each}]" if ":" in each else each for each in DENIED),
    "127.1", "127.0.1", "0", "0x7f000001", "0x7f.1", "2130706433", "0177.0.0.1", "017700000001", "127.0.0.1.", "0x7F.0.0.0x1",
    "①②⑦.⓪.⓪.①", "127。0。0。1", "localhost", "LOCALHOST", "[fe80::1%25lo]", "[0:0:0:0:0:ffff:7f00:1]", "3232235777", "2852039166",
    "127．0．0．1", "127｡0｡0｡1", "１２７.0.0.1", "0x7f.0x0.0x0.0x1", "0X7F000001", "00000177.1", "127.000.000.001", "0.0.0.0.",
    "169.254.169.254.", "0xa9fea9fe", "0xA9.254.0251.0376", "0251.0376.0251.0376", "169.16689662", "10.1", "0xac100001", "172.1048577",
    "[0:0:0:0:0:0:0:1]", "[::FFFF:127.0.0.1]", "[::ffff:a9fe:a9fe]", "[0000:0000:0000:0000:0000:ffff:7f00:0001]", "[::1%25lo]", "[fe80::1%lo]",
    "[FD00:EC2::254]", "[64:FF9B::A9FE:A9FE]", "[2002:A9FE:A9FE::]", "[2001:0:7f00:1::]", "metadata.google.internal", "instance-data",
    "kubernetes.default.svc", "db", "six.example.com", "mapped.example.com", "METADATA.google.internal.",
]  # fmt: skip
NAMES: Mapping[str, Sequence[str]] = {
    "LOCALHOST": ["::1", "127.0.0.1"],
    "metadata.google.internal": ["169.254.169.254"],
    "METADATA.google.internal.": ["169.254.169.254"],
    "instance-data": ["169.254.169.254"],
    "kubernetes.default.svc": ["10.96.0.1"],
    "db": ["172.17.0.2"],
    "six.example.com": ["::1"],
    "mapped.example.com": ["::ffff:127.0.0.1"],
}
"""What some of them are resolved to."""


@pytest.mark.parametrize("host", SPELLINGS)
def test_nobody_is_connected_to_however_it_is_written(street: Street, host: str) -> None:
    street.names |= {name: lambda found=found: found for name, found in NAMES.items()}  # type: ignore[misc]
    with guarded() as session, pytest.raises((Withheld, requests.RequestException)):
        session.get(f"http://{host}:{street.port}/", timeout=5)
    assert (street.dialled, street.visits) == ([], 0)


@pytest.mark.parametrize(
    "url",
    [
        "http://a@127.0.0.1:{}/", "http://good.example.com@127.0.0.1:{}/", "http://127.0.0.1:{}#@good.example.com/",
        "http://127.0.0.1:{}\\@good.example.com/", "http:\\\\127.0.0.1:{}/", "http://127.0.0.1%00.good.example.com:{}/",
        "http://[::ffff:127.0.0.1]:{}/", "http://[::1]:{}/\r\nX: y", "//127.0.0.1:{}/", "http:///127.0.0.1:{}/", "file:///etc/passwd",
        "http://1.1.1.1 &@127.0.0.1:{}/", "http://good.example.com:80@127.0.0.1:{}/", "http://127.0.0.1:{}?@good.example.com/",
        "http://good.example.com:80\\@127.0.0.1:{}/", "http://127.0.0.1:0{}/", "http://127.0.0.1\t:{}/", "http://good.example.com\x00@127.0.0.1:{}/",
        "http://[::1]@127.0.0.1:{}/", "http://[::ffff:127.0.0.1%25lo]:{}/", "http://127.0.0.1%2f@good.example.com:{}/", "HTTP://127.0.0.1:{}/",
        "gopher://127.0.0.1:{}/", "ftp://127.0.0.1:{}/", "http://" + "x" * 300 + ":{}/", "http://.:{}/", "http://[:{}/",
    ],
)  # fmt: skip
def test_no_trick_with_an_address_connects_to_anybody(street: Street, url: str) -> None:
    street.names["good.example.com"] = lambda: ["127.0.0.1"]
    with guarded() as session, pytest.raises((Withheld, requests.RequestException, UnicodeError, OSError)):
        session.get(url.format(street.port), timeout=5)
    assert (street.dialled, street.visits) == ([], 0)


REACHED = (
    "127.0.0.1", "127.1", "127.0.1", "0", "0.0.0.0", "0x7f000001", "0x7f.1", "0X7F000001", "2130706433", "0177.0.0.1", "017700000001",
    "127.000.000.001", "[::ffff:127.0.0.1]", "[0:0:0:0:0:ffff:7f00:1]", "localhost",
)  # fmt: skip
"""Spellings by which a connection without the guard comes to the listener; requests refuses those that are not ASCII itself."""


@pytest.mark.parametrize("host", REACHED)
def test_without_the_guard_the_listener_counts(street: Street, host: str) -> None:
    assert host in SPELLINGS
    with ways.Unled() as session, pytest.raises(requests.ConnectionError):
        session.get(f"http://{host}:{street.port}/", timeout=5)
    assert street.visits == 1


def test_the_listener_would_have_counted(street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "DENIED", {})
    with guarded() as session, pytest.raises(requests.ConnectionError):
        session.get(f"http://127.0.0.1:{street.port}/", timeout=5)
    assert (street.dialled, street.visits) == (["127.0.0.1"], 1)


@pytest.mark.parametrize(
    "answers",
    [["127.0.0.1"], ["::1"], ["142.250.74.110", "127.0.0.1"], ["2606:4700::1111", "::1"], ["10.0.0.1", "8.8.8.8"]],
)
def test_a_name_with_one_address_that_is_refused_is_refused(street: Street, answers: list[str]) -> None:
    street.names["both.example.com"] = lambda: answers
    with guarded() as session, pytest.raises(Withheld, match=r"both\.example\.com is not asked: .* its address is "):
        session.get(f"http://both.example.com:{street.port}/", timeout=5)
    assert (street.dialled, street.visits) == ([], 0)


@pytest.mark.parametrize("port", [1, 22, 25, 110, 3306, 5432, 6379, 9092, 11211, 65535])
def test_only_ports_of_the_web_are_asked(street: Street, port: int) -> None:
    with guarded() as session, pytest.raises(Withheld, match=f"8.8.8.8 is not asked at port {port}, "):
        session.get(f"http://8.8.8.8:{port}/", timeout=5)
    assert street.dialled == []


def test_few_of_many_addresses_are_tried(street: Street) -> None:
    street.names["wide.example.com"] = lambda: [f"8.8.8.{number}" for number in range(100)]
    with guarded() as session, pytest.raises(requests.ConnectionError):
        session.get("http://wide.example.com/", timeout=5)
    assert street.dialled == [f"8.8.8.{number}" for number in range(guard.MOST_ADDRESSES)]


# ---- a name that means something else a moment later ----


def test_who_is_connected_to_is_who_was_checked(street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.2 plays the public address here, and 127.0.0.1 the one that only this host reaches."""
    monkeypatch.setattr(guard, "DENIED", {ip_network("127.0.0.1/32"): "loopback"})
    flips = iter(range(10 * MANY))
    street.names["flip.example.com"] = lambda: ["127.0.0.2" if next(flips) % 2 == 0 else "127.0.0.1"]
    refused = 0
    for _ in range(MANY):
        with guarded() as session:
            try:
                session.get(f"http://flip.example.com:{street.port}/", timeout=5)
            except Withheld:
                refused += 1
            except requests.ConnectionError:
                pass
    assert street.visits == 0
    assert set(street.dialled) == {"127.0.0.2"}
    assert (refused, len(street.asked)) == (MANY // 2, MANY), "a name is looked up once for each connection"


@pytest.mark.parametrize("kind", ["calendar", "caldav"])
def test_a_name_that_is_public_first_and_loopback_next_leads_to_nobody(street: Street, kind: str) -> None:
    """The resolver answers each look-up with another address, as who rebinds a name does."""
    flips = iter(range(10 * MANY))
    street.names["flip.example.com"] = lambda: ["8.8.8.8"] if next(flips) % 2 == 0 else ["127.0.0.1"]
    paths = Route("/{path:path}", away(f"http://flip.example.com:{street.port}/a.ics"), methods=["GET", "PROPFIND"])
    with serve(Starlette(routes=[paths])) as url:
        connector = connect(kind, f"{url}/a.ics")
        for _ in range(20):
            with pytest.raises(ConnectorError):
                read(connector)
    assert (set(street.dialled), street.visits) == ({"8.8.8.8"}, 0)
    assert len(street.dialled) == len(street.asked) / 2 == 10


@pytest.mark.parametrize("kind", ["calendar", "caldav"])
def test_without_the_guard_a_redirect_would_have_been_followed(
    street: Street, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    paths = Route("/{path:path}", away(f"http://127.0.0.1:{street.port}/"), methods=["GET", "PROPFIND"])
    with serve(Starlette(routes=[paths])) as url:
        connector = connect(kind, f"{url}/a.ics")
        monkeypatch.setattr(connector._ways, "strange", ways.Unled())  # type: ignore[attr-defined]
        with pytest.raises(ConnectorError, match="cannot be read"):
            read(connector)
    assert street.visits == 1


# ---- TLS, and proxies ----


def certificate(folder: Path, name: str) -> Path:
    """A certificate of its own for a name, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    (folder / "server.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM) + pem)
    return folder / "server.pem"


@pytest.mark.parametrize(("name", "holds"), [("calendar.example.com", True), ("other.example.com", False)])
def test_the_name_in_the_certificate_is_verified(
    street: Street, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, holds: bool
) -> None:
    monkeypatch.setattr(guard, "DENIED", {})
    pem = certificate(tmp_path, "calendar.example.com")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    street.names[name] = lambda: ["127.0.0.1"]
    with listening("127.0.0.1") as plain, context.wrap_socket(plain, server_side=True) as listener:
        port = listener.getsockname()[1]
        monkeypatch.setattr(guard, "PORTS", {port})

        def answer() -> None:
            try:
                visitor, _ = listener.accept()
            except OSError:
                return
            with visitor:
                visitor.recv(65536)
                visitor.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")

        thread = threading.Thread(target=answer)
        thread.start()
        with guarded() as session:
            if holds:
                assert session.get(f"https://{name}:{port}/", timeout=5, verify=str(pem)).text == "hi"
            else:
                with pytest.raises(requests.exceptions.SSLError):
                    session.get(f"https://{name}:{port}/", timeout=5, verify=str(pem))
        thread.join()


@pytest.mark.parametrize("variable", ["http_proxy", "all_proxy", "HTTP_PROXY"])
def test_no_proxy_is_used_for_what_data_names(street: Street, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """A proxy would connect to wherever the name leads it, out of sight."""
    monkeypatch.setenv(variable, f"http://127.0.0.1:{street.port}")
    with guarded() as session, pytest.raises(Withheld):
        session.get(f"http://127.0.0.1:{street.port}/", timeout=5)
    with guarded() as session, pytest.raises(requests.ConnectionError):
        session.get("http://8.8.8.8/", timeout=5)
    assert (street.dialled, street.visits) == (["8.8.8.8"], 0)


# ---- the ways by which data names an address ----


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("kind", ["calendar", "caldav"])
def test_no_redirect_leads_to_what_only_this_host_reaches(street: Street, status: int, kind: str) -> None:
    targets = iter(
        [f"http://127.0.0.1:{street.port}/", f"http://[::1]:{street.port}/", "http://169.254.169.254/latest/"]
    )

    async def redirect(request: Any) -> Response:
        return Response(status_code=status, headers={"Location": next(targets)})

    with serve(Starlette(routes=[Route("/{path:path}", redirect, methods=["GET", "PROPFIND"])])) as url:
        for _ in range(3):
            with pytest.raises(Withheld, match="is not asked: an answer led there and not the configuration"):
                read(connect(kind, f"{url}/team.ics"))
    assert (street.dialled, street.visits) == ([], 0)


@pytest.mark.parametrize("address", [*DENIED[:20], "localhost", "rebound.example.com"])
def test_no_link_in_an_answer_leads_there(street: Street, address: str) -> None:
    street.names["rebound.example.com"] = lambda: ["10.1.2.3"]
    host = f"[{address}]" if ":" in address else address
    standin = CalDavHost(homes=(f"http://{host}:{street.port}/calendars/",))
    with serve(standin.app) as url:
        with pytest.raises(ConnectorError):
            read(connect("caldav", url))
    assert (street.dialled, street.visits) == ([], 0)


def test_a_redirect_to_where_anybody_could_ask_is_followed(street: Street) -> None:
    street.names["public.example.com"] = lambda: ["8.8.8.8"]
    with serve(Starlette(routes=[Route("/a.ics", away("http://public.example.com/a.ics"))])) as url:
        with pytest.raises(ConnectorError, match="cannot be read"):
            read(connect("calendar", f"{url}/a.ics"))
    assert street.dialled == ["8.8.8.8"]


@pytest.mark.parametrize(
    ("here", "home", "same"),
    [
        ("http://a/x", "http://a/y", True), ("https://a:443/x", "https://A/y", True), ("http://a:80/", "http://a/", True),
        ("https://a/x", "http://a/x", True), ("https://a:8443/", "http://a/", False), ("http://a/", "https://a/", False),
        ("http://a:81/", "http://a/", False), ("http://b/", "http://a/", False), ("http://a.b/", "http://a/", False),
        ("https://a:443/", "http://a:8080/", False), ("http://a:99999/", "http://a/", False), ("http://a@b/", "http://a/", False),
    ],
)  # fmt: skip
def test_what_is_the_place_that_the_operator_wrote(here: str, home: str, same: bool) -> None:
    assert ways.is_same_place(here, home) is same


def away(location: str) -> Callable[[Any], Any]:
    async def redirect(request: Any) -> Response:
        return Response(status_code=302, headers={"Location": location})

    return redirect


def connect(kind: str, url: str, **more: Any) -> Connector:
    if kind == "caldav":
        return CalDavConnector.connect(CalDavSettings(name="cal", url=url, **more), lambda: NOON)
    return CalendarConnector.connect(CalendarSettings(name="cal", ics=url, **more), lambda: NOON)


def read(connector: Connector) -> Mapping[str, Any]:
    return {each.ref.id: each for page in connector.changed("team", None) for each in page}
