"""What a source's webhooks are to pmsync: hints to fetch things by id, never content.

So a forged body can at worst cause a read, and neither order nor repeats matter. A connector whose source has webhooks
says in a `Webhooks` which header signs them and which things a body hints at; both are judged before anything is kept.

Next on the way of an event: `pmsync/web/intake.py`, which receives them, and `connectors/pump.py`, which fetches.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from connectors.base import Ref, SecretRef, Settings

HASHES: Mapping[str, Callable[[], Any]] = {
    "sha256": hashlib.sha256,
    "sha384": hashlib.sha384,
    "sha512": hashlib.sha512,
}
"""The methods by which a body may be signed. SHA-1, which GitHub still sends beside, is none."""
LONGEST_ID = 64
LONGEST_NAME = 256
"""Characters. What is longer is no id, and no name, of our sources."""


class Hint(NamedTuple):
    """Something of this thing may have changed. `container` is where its source says it is, under the source's own name;
    empty where it does not say."""

    ref: Ref
    container: str = ""


@dataclass(frozen=True, slots=True)
class Heard:
    """What one webhook comes to: hints, or why there are none. `kind` is its type in the source's own words."""

    kind: str
    hints: tuple[Hint, ...] = ()
    ignored: str = ""


class Unheard(ValueError):
    """The body is not what its type says; the message names what is missing and holds no content."""


@dataclass(frozen=True, slots=True)
class Webhooks:
    """How a source's webhooks are read: the header that signs the raw body (`METHOD=HEX`), and what a parsed body means
    (by headers in lower case; raises `Unheard`)."""

    signature: str
    read: Callable[[Mapping[str, str], Any], Heard]


class HookedSettings(Settings):
    """A source that can send webhooks. With `webhook_secret` signed ones are taken at `/webhooks/NAME`; with
    `webhook_token`, for what a source cannot sign, at `/webhooks/NAME/TOKEN`. Without either none are."""

    webhook_secret: SecretRef | None = None
    webhook_token: SecretRef | None = None


def is_signed(secret: str, body: bytes, signature: str) -> bool:
    """Whether the header `METHOD=HEX` is the HMAC (RFC 2104) of exactly these bytes; compared in constant time."""
    method, _, given = signature.partition("=")
    if method not in HASHES or not secret:
        return False
    wanted = hmac.new(secret.encode(), body, HASHES[method]).hexdigest()
    return hmac.compare_digest(wanted.encode(), given.encode(errors="replace"))


def is_token(token: str, given: str) -> bool:
    """Whether the end of the address is the token; compared in constant time."""
    return bool(token) and hmac.compare_digest(token.encode(), given.encode(errors="replace"))


def leads_to(url: Any, source: str) -> bool:
    """Whether a webhook's address is where those of this source are taken, with a token at its end or without."""
    try:
        path = unquote(urlsplit(url).path)
    except (TypeError, ValueError, AttributeError):
        return False
    return re.search(rf"/webhooks/{re.escape(source)}(/[^/]+)?\Z", path) is not None


def required(body: Any, path: str, kind: type | tuple[type, ...]) -> Any:
    """The value at a dotted path of a body; raises `Unheard` where it is absent or of another type."""
    value = body
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    usable = isinstance(value, kind) and not isinstance(value, bool)
    if not usable or (not isinstance(value, dict) and len(str(value)) > LONGEST_NAME):
        raise Unheard(f"it has no usable {path}")
    return value


def ident(body: Any, path: str) -> str:
    """An id in digits, which some versions of a source write as a number and others as text."""
    value = str(required(body, path, (int, str)))
    if not (value.isascii() and value.isdigit() and len(value) <= LONGEST_ID):
        raise Unheard(f"its {path} is no id")
    return value
