"""Microsoft 365: signing in as an application (client credentials, RFC 6749, 4.4), by a secret or by a certificate (RFC 7523).

What the application may read is not asked for here: an administrator has granted it, and `.default` stands for all of that.
"""

from __future__ import annotations

import hashlib
import re
import ssl
import uuid
from datetime import timedelta
from typing import Self
from urllib.parse import urlsplit

import jwt
from jwt.utils import base64url_encode
from pydantic import BaseModel, ConfigDict, Field, model_validator

from connectors.base import Clock, Fatal, SecretRef
from connectors.grants import Grant, Renewed, exchange

WHO = "Microsoft"
LOGIN = "https://login.microsoftonline.com"
BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LIFETIME = timedelta(minutes=5)
"""For how long the assertion is good that is exchanged for a token; Microsoft advises five to ten minutes."""
NO_TENANT = frozenset({"common", "organizations", "consumers"})
"""Stand for whoever signs in; an application has to say whose it is."""
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class MicrosoftAuth(BaseModel):
    """An application of a `tenant`, and what proves that it is asking: `client_secret`, or `certificate`, one PEM with the
    certificate and its private key. `login` is the server of tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tenant: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,252}$")
    client_id: str = Field(pattern=r"^[\x21-\x7e]{1,200}$")
    client_secret: SecretRef | None = None
    certificate: SecretRef | None = None
    login: str = Field(default=LOGIN, pattern=r"^https?://[^\s@?#]+$")

    @model_validator(mode="after")
    def _is_one_way(self) -> Self:
        if (self.client_secret is None) == (self.certificate is None):
            raise ValueError("give client_secret or certificate")
        if self.tenant.lower() in NO_TENANT:
            raise ValueError("tenant is the id or a domain of your organisation: no one else's calendars are read")
        return self

    @property
    def tokens(self) -> str:
        """Where tokens are given."""
        return f"{self.login.rstrip('/')}/{self.tenant}/oauth2/v2.0/token"


def signed_in(auth: MicrosoftAuth, api: str, clock: Clock) -> Renewed:
    """How each request to `api` is signed. No request is sent yet."""
    return Renewed(lambda: _granted(auth, api, clock), "auth of this source", clock)


def _granted(auth: MicrosoftAuth, api: str, clock: Clock) -> Grant:
    place = urlsplit(api)
    wanted = {
        "grant_type": "client_credentials",
        "client_id": auth.client_id,
        "scope": f"{place.scheme}://{place.netloc}/.default",
    }
    if auth.client_secret:
        wanted["client_secret"] = auth.client_secret.reveal()
        refused = "the application (STATUSREASON); is auth.client_secret the value of the secret and not its id, and not expired?"
    else:
        assert auth.certificate
        wanted |= {"client_assertion_type": BEARER, "client_assertion": assertion(auth, clock)}
        refused = (
            "the application (STATUSREASON); is the certificate under auth.certificate uploaded to it and not expired, and this "
            "machine's clock right?"
        )
    return exchange(
        WHO, auth.tokens, wanted, Grant, f"{refused} Are auth.tenant and auth.client_id right?", as_form=True
    )


def assertion(auth: MicrosoftAuth, clock: Clock) -> str:
    """What the application claims to be, signed with the key of its certificate."""
    assert auth.certificate
    pem, now = auth.certificate.reveal(), clock()
    who = {"iss": auth.client_id, "sub": auth.client_id, "aud": auth.tokens, "jti": str(uuid.uuid4())}
    try:
        der = ssl.PEM_cert_to_DER_cert(_CERTIFICATE.findall(pem)[0])
        thumbprint = base64url_encode(hashlib.sha256(der).digest()).decode()
        claims = {**who, "iat": now, "nbf": now, "exp": now + LIFETIME}
        return jwt.encode(claims, pem, algorithm="PS256", headers={"x5t#S256": thumbprint})
    except Exception:  # whatever the libraries say, it may show the key
        raise Fatal(
            "auth.certificate holds no certificate and RSA key in PEM; put both into one file, the key without a passphrase"
        ) from None
