"""Answers over HTTP that are bounded in size and time, whatever a server or a proxy before it sends.

A page of two hundred megabytes, one that unpacks to them, and one that comes a byte at a time would else be read to their
ends by requests, in whose hands the libraries of Jira and GitHub leave it.
"""

from __future__ import annotations

import io
import time
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from connectors.base import Retryable

MAX_BYTES = 64 * 1024 * 1024
"""Of an unpacked answer; a hundred issues with a thousand changes each are a tenth of it."""
TOTAL_SECONDS = 120.0
"""For the body of an answer."""
CHUNK = 64 * 1024


class BoundedAdapter(HTTPAdapter):
    """Reads every answer whole, and no further than that; raises `Retryable` where that is not enough."""

    def send(self, request: requests.PreparedRequest, stream: bool = False, **options: Any) -> requests.Response:  # type: ignore[override]  # noqa: ARG002
        """The answer, its body read and unpacked."""
        response = super().send(request, stream=True, **options)
        try:
            response.raw = io.BytesIO(_body(response, str(urlsplit(request.url or "").hostname)))
        except HTTPError as error:
            raise requests.exceptions.ChunkedEncodingError(error, request=request) from error
        return response


def _body(response: requests.Response, host: str) -> bytes:
    deadline, body, raw = time.monotonic() + TOTAL_SECONDS, bytearray(), response.raw
    try:
        # Not `read`: that waits until a chunk is full, however slowly it fills.
        while chunk := raw.read1(CHUNK, decode_content=True):
            body += chunk
            if len(body) > MAX_BYTES:
                raise Retryable(
                    f"{host} answers with more than {MAX_BYTES >> 20} MiB, of which nothing was taken; a smaller page_size "
                    "makes its answers smaller, and a proxy may be what sends them"
                )
            if time.monotonic() > deadline:
                raise Retryable(
                    f"{host} did not answer in full within {TOTAL_SECONDS:.0f} s; is it, or a proxy, overloaded?"
                )
    except BaseException:
        raw.close()  # the rest of it is nobody's; the connection cannot be used again
        raise
    return bytes(body)
