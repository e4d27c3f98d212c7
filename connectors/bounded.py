"""Answers over HTTP that are bounded in size and time, whatever a server or a proxy before it sends.

A page of two hundred megabytes, and one that unpacks to them, would else be read to their ends by requests, in whose hands the
libraries of Jira and GitHub leave it; so would one that comes a byte at a time (`connectors/timed.py`).
"""

from __future__ import annotations

import io
from typing import Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

from connectors.base import Retryable
from connectors.timed import TimedAdapter

MAX_BYTES = 64 * 1024 * 1024
"""Of an unpacked answer; a hundred issues with a thousand changes each are a tenth of it."""
CHUNK = 64 * 1024


class BoundedAdapter(TimedAdapter):
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
    body, raw = bytearray(), response.raw
    try:
        # Not `read`: that waits until a chunk is full, however slowly it fills.
        while chunk := raw.read1(CHUNK, decode_content=True):
            body += chunk
            if len(body) > MAX_BYTES:
                raise Retryable(
                    f"{host} answers with more than {MAX_BYTES >> 20} MiB, of which nothing was taken; a smaller page_size "
                    "makes its answers smaller, and a proxy may be what sends them"
                )
    except BaseException:
        raw.close()  # the rest of it is nobody's; the connection cannot be used again
        raise
    return bytes(body)
