"""Which addresses may be connected to where data names them: a redirect, the answer of a server, one day a web form.

What the operator wrote in `pmsync.yaml` is the operator's business and not guarded. Whatever else names a host could name
one that only pmsync can reach: itself, its database, the cloud's metadata. So the host is resolved once, every address that
came is held against a table, and the connection goes to one of these addresses and no other: a name that means something
else a moment later (DNS rebinding) gains nothing. TLS still verifies the name.

No proxy of the environment is used on the way: where it would connect to could not be seen from here.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, ClassVar

import requests
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.connection import create_connection

from connectors.base import Withheld
from connectors.timed import TimedAdapter

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_WHY: Mapping[str, str] = {
    "loopback": "127.0.0.0/8 ::1/128",
    "unspecified": "0.0.0.0/8 ::/128",
    "private": "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16",
    "shared by the customers of a provider": "100.64.0.0/10",
    "link-local, where clouds keep their metadata": "169.254.0.0/16 fe80::/10",
    "the metadata of a cloud": "168.63.129.16/32",
    "unique local": "fc00::/7",
    "site-local": "fec0::/10",
    "multicast": "224.0.0.0/4 ff00::/8",
    "for documents": "192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 2001:db8::/32 3fff::/20",
    "for benchmarks": "198.18.0.0/15",
    "for protocols, among them 6to4 and Teredo": "192.0.0.0/24 192.52.193.0/24 192.88.99.0/24 2001::/23 5f00::/16",
    "reserved": "240.0.0.0/4",
    "discarded": "100::/64 100:0:0:1::/64",
    "an IPv4 address in other clothes": "::/96 ::ffff:0:0:0/96 64:ff9b:1::/48 2002::/16",
}
DENIED: Mapping[Network, str] = {ip_network(each): why for why, networks in _WHY.items() for each in networks.split()}
"""Networks that are not for everybody -> what they are (IANA's registries of special-purpose addresses, and what clouds add).
A table and no flag of the standard library: `is_global` takes a loopback address in IPv6's clothes for a public one."""
PUBLIC = ip_network("2000::/3")
"""All that IANA gives out of IPv6 to be reached by anybody."""
CARRIERS = (ip_network("::ffff:0:0/96"), ip_network("64:ff9b::/96"))
"""Where the last 32 bits are the IPv4 address that is meant: mapped, and NAT64, by which networks without IPv4 reach it."""
PORTS = frozenset({80, 443, 8080, 8443})
"""Where the web is served. Behind other ports there are mail servers and databases, which take orders from a request."""
MOST_ADDRESSES = 4
"""Of one host that are tried, each for as long as connecting may take."""

ADVICE = "if it is meant, write its address into the configuration"

resolve = socket.getaddrinfo


def refusal(address: Address) -> str | None:
    """What an address is that data may not lead to; None if it may."""
    for carrier in CARRIERS:
        if address in carrier:
            return refusal(IPv4Address(int(address) & 0xFFFFFFFF))
    why = next((why for network, why in DENIED.items() if address in network), None)
    return why if address.version == 4 or address in PUBLIC else why or "not public"


def checked(host: str, port: int) -> Sequence[str]:
    """The addresses of a host, each of which may be connected to. Raises `Withheld` if one may not be, and OSError where there
    is no such host."""
    if port not in PORTS:
        raise Withheld(
            f"{host} is not asked at port {port}, to which an answer led and not the configuration; {ADVICE}"
        )
    found = [str(place[0]) for *_, place in resolve(host, port, 0, socket.SOCK_STREAM)]
    for each in found:
        if why := refusal(ip_address(each.partition("%")[0])):
            raise Withheld(
                f"{host} is not asked: an answer led there and not the configuration, and its address is {why}; {ADVICE}"
            )
    return list(dict.fromkeys(found))[:MOST_ADDRESSES]


class _Guarded(HTTPConnection):
    """A connection to an address that was checked, and to no other that the name may stand for by then."""

    def _new_conn(self) -> socket.socket:
        failed = OSError("there is no address to connect to")
        for place in checked(self.host, self.port):
            try:
                return create_connection((place, self.port), self.timeout, self.source_address, self.socket_options)
            except OSError as error:
                failed = error
        raise failed


class _GuardedTLS(_Guarded, HTTPSConnection):
    """The same with TLS on it, which knows the name and verifies it."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Guarded


class _PoolTLS(HTTPSConnectionPool):
    ConnectionCls = _GuardedTLS


class GuardedAdapter(TimedAdapter):
    """Sends requests to addresses that data may lead to; raises `Withheld` for any other, before anything is sent."""

    pools: ClassVar = {"http": _Pool, "https": _PoolTLS}

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        """The answer, without any proxy between."""
        return super().send(request, *args, **{**options, "proxies": None})
