"""Files that the browser needs, under addresses that change with their content, so that they may be kept for ever.

The charts' library is taken from the installed vl-convert: nothing is fetched from anywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from threading import Lock

from starlette.requests import Request
from starlette.responses import Response

STATIC = Path(__file__).parent / "static"
LIBRARY = "vega.js"
TYPES: Mapping[str, str] = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FOR_EVER = "public, max-age=31536000, immutable"

_making = Lock()


@cache
def version(name: str) -> str:
    """What the address of a file carries: the library's own version (making it only to digest it takes seconds)."""
    if name == LIBRARY:
        return metadata.version("vl-convert-python")
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:16]


def names() -> frozenset[str]:
    """All files there are."""
    return frozenset({LIBRARY, *(path.name for path in STATIC.iterdir() if path.suffix in TYPES)})


def address(name: str) -> str:
    """The address of a file, below the root of the pages."""
    return f"/static/{name}?v={version(name)}"


def respond(request: Request) -> Response | None:
    """The file that is asked for; None if there is none."""
    name = request.path_params["name"]
    if name not in names():
        return None
    tag = f'"{version(name)}"'
    current = request.query_params.get("v") == version(name)
    headers = {"ETag": tag, "Cache-Control": FOR_EVER if current else "no-cache"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(_content(name), media_type=TYPES[Path(name).suffix], headers=headers)


def _content(name: str) -> bytes:
    if name != LIBRARY:
        return (STATIC / name).read_bytes()
    with _making:
        return _library()


@cache
def _library() -> bytes:
    import vl_convert

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").encode()
