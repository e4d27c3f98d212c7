"""`/healthz`, `/readyz` and `/metrics`: the same three in every long-running process, on the pages' port or one of its own."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from pmsync.health import Health


def health_routes(health: Health) -> Sequence[Route]:
    """The three; each answers from memory."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        if reasons := health.reasons():
            return PlainTextResponse("".join(f"not ready: {' '.join(each.split())}\n" for each in reasons), 503)
        return PlainTextResponse("ready\n")

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(health.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]


def health_app(health: Health) -> Starlette:
    """The three alone, for a process without pages."""
    return Starlette(routes=list(health_routes(health)))
