"""Webhooks of sources: a body is verified as it came, what it hints at is made durable, and only then is it answered.

A hint is not content: it says which thing to fetch, so that neither order nor repeats nor a forger's fantasy can make a
figure wrong. Without a configured secret nothing is taken.

Next on the way of an event: `connectors/pump.py`, which fetches what was hinted at.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic
from typing import NamedTuple

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from connectors.base import Fatal, SecretRef, Settings
from connectors.webhooks import Heard, Hint, HookedSettings, Unheard, Webhooks, is_signed, is_token
from pmsync.config import connector_kinds
from pmsync.health import Health
from pmsync.store.engine import StoreUnavailable

log = structlog.get_logger()

MOST_BYTES = 25 << 20
"""The largest body that GitHub sends; Jira's are smaller."""
MOST_HELD_BYTES = 64 << 20
"""So much of bodies is held in memory at a time; whoever comes then is asked to come again."""
MOST_AT_ONCE = 100
BODY_SECONDS = 10.0
"""GitHub gives up after ten seconds, too."""
AGAIN_SECONDS = "5"
SAY_SECONDS = 60.0
"""How often the log says that the same source's webhooks are refused for the same reason."""

ANSWERS: Mapping[str, tuple[int, str]] = {
    "no_source": (
        404,
        "no source of this name takes webhooks; sources.name in pmsync.yaml is the last part of the address",
    ),
    "closed": (
        403,
        "this source has no webhook_secret (for signed webhooks) or webhook_token (for others): configure one",
    ),
    "no_secret": (503, "the configured secret is not to be had; the log says why"),
    "forged": (401, "the signature or the token is not right: is the same secret set at the source?"),
    "form": (415, "send it as application/json; GitHub calls that its content type"),
    "large": (413, f"it has more than {MOST_BYTES >> 20} MB"),
    "slow": (408, f"it did not come within {BODY_SECONDS:.0f} s"),
    "unreadable": (400, "it is not what its type says"),
    "busy": (503, "too much at once; send it again"),
    "away": (503, "the database does not answer; send it again"),
}
"""Why a webhook is not taken: its answer's status, and its words, which say what to do."""
AGAIN = frozenset({"busy", "away", "no_secret"})
TAKEN, IGNORED = "taken", "ignored"

Keep = Callable[[str, Sequence[Hint]], None]
"""Makes the hints of a source durable; raises `StoreUnavailable`."""


class Hook(NamedTuple):
    """One source's: how its webhooks are read, and what proves that they are its own."""

    webhooks: Webhooks
    secret: SecretRef | None
    token: SecretRef | None


class NotTaken(Exception):
    """A webhook is refused; `outcome` is one of `ANSWERS`, `why` says more of it than they do."""

    def __init__(self, outcome: str, why: str = "") -> None:
        super().__init__(outcome)
        self.outcome, self.why = outcome, why


def hooks(sources: Iterable[Settings]) -> Mapping[str, Hook]:
    """source -> hook, of those sources whose connector knows webhooks."""
    return {
        each.name: Hook(known, each.webhook_secret, each.webhook_token)
        for each in sources
        if isinstance(each, HookedSettings) and (known := getattr(connector_kinds()[each.kind], "webhooks", None))
    }


def intake_routes(known: Mapping[str, Hook], keep: Keep, health: Health) -> Sequence[Route]:
    """`/webhooks/SOURCE` for signed bodies, `/webhooks/SOURCE/TOKEN` for those that cannot be."""
    intake = _Intake(known, keep, health)
    return [
        Route("/webhooks/{source}", intake.receive, methods=["POST"]),
        Route("/webhooks/{source}/{token}", intake.receive, methods=["POST"]),
    ]


class _Intake:
    def __init__(self, known: Mapping[str, Hook], keep: Keep, health: Health) -> None:
        self._known, self._keep, self._health = known, keep, health
        self._at_once, self._held_bytes = 0, 0
        self._said_at: dict[tuple[str, str], float] = {}

    async def receive(self, request: Request) -> Response:
        source = request.path_params["source"]
        try:
            heard = await self._taken(request, source)
        except NotTaken as problem:
            return self._refused(source, problem)
        self._health.metrics.webhooks.labels(IGNORED if heard.ignored else TAKEN).inc()
        said = {"kind": heard.kind, "ignored": heard.ignored} if heard.ignored else {"kind": heard.kind}
        return JSONResponse({**said, "hints": len(heard.hints)}, 202)

    async def _taken(self, request: Request, source: str) -> Heard:
        hook = self._known.get(source)
        if hook is None:
            raise NotTaken("no_source")
        # Whoever has no right to be heard is refused before anything of the body is read.
        secret = await run_in_threadpool(_proof, hook, request.path_params.get("token"))
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise NotTaken("form")
        if self._at_once >= MOST_AT_ONCE:
            raise NotTaken("busy")
        self._at_once += 1
        held = [0]
        try:
            body = await self._body(request, held)
            signature = request.headers.get(hook.webhooks.signature, "")
            headers = {name.lower(): value for name, value in request.headers.items()}
            return await run_in_threadpool(self._heard, source, hook, secret, signature, headers, body)
        finally:
            self._at_once -= 1
            self._held_bytes -= held[0]

    async def _body(self, request: Request, held: list[int]) -> bytes:
        """The raw body; `held` counts what of it is in memory."""
        declared = request.headers.get("content-length", "")
        if declared.isascii() and declared.isdigit() and int(declared[:20]) > MOST_BYTES:
            raise NotTaken("large")
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for part in request.stream():
                    held[0] += len(part)
                    self._held_bytes += len(part)
                    if held[0] > MOST_BYTES:
                        raise NotTaken("large")
                    if self._held_bytes > MOST_HELD_BYTES:
                        raise NotTaken("busy")
                    parts.append(part)
        except TimeoutError:
            raise NotTaken("slow") from None
        except ClientDisconnect:
            raise NotTaken("unreadable", "it was broken off") from None
        return b"".join(parts)

    def _heard(
        self, source: str, hook: Hook, secret: str | None, signature: str, headers: Mapping[str, str], body: bytes
    ) -> Heard:
        """Judge a body, and keep what it hints at."""
        if secret is not None and not is_signed(secret, body, signature):
            raise NotTaken("forged")
        try:
            heard = hook.webhooks.read(headers, json.loads(body))
        except Unheard as problem:
            raise NotTaken("unreadable", str(problem)) from None
        except (ValueError, RecursionError):
            raise NotTaken("unreadable", "it is no JSON") from None
        if heard.hints:
            try:
                self._keep(source, heard.hints)
            except StoreUnavailable as problem:
                raise NotTaken("away", str(problem)) from problem
        return heard

    def _refused(self, source: str, problem: NotTaken) -> Response:
        status, words = ANSWERS[problem.outcome]
        self._health.metrics.webhooks.labels(problem.outcome).inc()
        known = source if source in self._known else ""  # what a stranger writes does not go into the log
        if monotonic() - self._said_at.get((known, problem.outcome), -SAY_SECONDS) >= SAY_SECONDS:
            self._said_at[known, problem.outcome] = monotonic()
            log.warning("webhook.refused", source=known, outcome=problem.outcome, error=problem.why or words)
        # What the database says is for the log; what is wrong with a body helps who wrote it.
        error = f"{problem.why}: {words}" if problem.why and problem.outcome == "unreadable" else words
        headers = {"Retry-After": AGAIN_SECONDS} if problem.outcome in AGAIN else None
        return JSONResponse({"error": error}, status, headers=headers)


def _proof(hook: Hook, token: str | None) -> str | None:
    """The secret with which a body must be signed; None where the address has proved enough. Raises `NotTaken`."""
    wanted = hook.secret if token is None else hook.token
    if wanted is None:
        raise NotTaken("closed")
    try:
        secret = wanted.reveal()
    except Fatal as problem:
        raise NotTaken("no_secret", str(problem)) from None
    if not secret:
        raise NotTaken("no_secret", "it is empty")
    if token is None:
        return secret
    if not is_token(secret, token):
        raise NotTaken("forged")
    return None
