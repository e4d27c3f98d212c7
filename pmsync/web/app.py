"""The pages and the API: reading only, for people who must see at once which deadline will slip, by how much and why.

Everything is computed from state at an instant (`?as_of=` shows the past). Text from sources is escaped where it is
shown, no script runs but ours, and nothing is fetched from anywhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from time import monotonic
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pmsync.core.alerts import Alert
from pmsync.core.events import rfc3339
from pmsync.core.people import assignees
from pmsync.core.project import ProjectState
from pmsync.core.summary import Series, Summary, all_alerts, at_a_glance, series, worst_first
from pmsync.health import Health
from pmsync.store.engine import StoreUnavailable
from pmsync.web import api, assets, charts, words
from pmsync.web.health import health_routes
from pmsync.web.reader import PortfolioReader
from pmsync.web.summaries import FRESH, Summaries

SECURITY: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

UNKNOWN_PROJECT = "There is no such project, or it has not been read yet. The portfolio lists all there are."
UNKNOWN_ALERT = (
    "This project has no such alert, now or before. When a due date changes, its alerts get new addresses: look at the "
    "project's page."
)
NO_PAGE = "There is no such page. The portfolio leads to everything that there is."
BAD_INSTANT = (
    "as_of must be an instant with its offset, such as 2026-11-24T09:00:00Z or 2026-11-24T10:00:00+01:00 "
    "(in an address, + is written %2B)."
)
FUTURE = "as_of lies in the future. Pages show the present and the past; forecasts of the future are on them."
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=2)
BACK = (("a day earlier", timedelta(days=1)), ("a week earlier", timedelta(days=7)), ("30 days earlier", timedelta(30)))
DEADLINES = 30


def create_app(
    read: PortfolioReader,
    clock: Callable[[], datetime],
    health: Health,
    patience: timedelta = timedelta(seconds=3),
    intake: Sequence[Route] = (),
) -> Starlette:
    """The pages over the projects of `read`, with the present taken from `clock`, and what `health` says of the process;
    beside them the `intake` of webhooks.

    A portfolio that is not computed within `patience` is shown as far as it is, and goes on when it is next asked for.
    """
    pages = _Pages(read, clock, patience)
    routes = [
        Route("/", pages.portfolio),
        Route("/projects/{key}", pages.project),
        Route("/alerts/{project}/{fingerprint}", pages.alert),
        Route("/api/v1/projects", pages.api_portfolio),
        Route("/api/v1/projects/{key}", pages.api_project),
        Route("/static/{name}", pages.static),
        *health_routes(health),
        *intake,
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(_Secured), Middleware(GZipMiddleware)],
        exception_handlers={
            HTTPException: pages.refused,
            StoreUnavailable: pages.unavailable,
            Exception: pages.failed,
        },
    )


class _Pages:
    """The endpoints. Those that compute are plain functions, which Starlette runs beside its event loop."""

    def __init__(self, read: PortfolioReader, clock: Callable[[], datetime], patience: timedelta) -> None:
        self._read = read
        self._clock = clock
        self._patience = patience.total_seconds()
        self._summaries = Summaries(read)
        self._templates = _templates()

    # --- pages --------------------------------------------------------------------------------------------------------

    def portfolio(self, request: Request) -> Response:
        at, past = self._instant(request)
        end = monotonic() + self._patience
        rows, missing = self._summaries.look(at, past=past, patient=lambda: monotonic() < end)
        rows = sorted(rows, key=worst_first)
        return self._page(
            request,
            "portfolio.html",
            at=at,
            past=past,
            rows=rows,
            glance=at_a_glance(rows),
            missing=missing,
            stale=[] if past else words.last_read(self._read.stale(at), at),
            fresh=FRESH,
        )

    def project(self, request: Request) -> Response:
        at, past = self._instant(request)
        found, state = self._project(request.path_params["key"], at, past=past)
        values = series(state, at)
        return self._page(
            request,
            "project.html",
            at=at,
            past=past,
            found=found,
            series=values,
            charts=_charts(found, values),
            finishes=charts.finishes(values.whole, values.today),
            limit=DEADLINES,
            **self._people(state, found.alerts, at),
        )

    def alert(self, request: Request) -> Response:
        at, past = self._instant(request)
        state = self._state(request.path_params["project"], past=past)
        wanted = request.path_params["fingerprint"]
        found = [known for known in all_alerts(state, at) if known.fingerprint == wanted]
        if not found:
            raise HTTPException(404, UNKNOWN_ALERT)
        found.sort(key=lambda known: known.since, reverse=True)
        links = {content.key: content.url for _, content in state.things["work_item"]}
        shown = {"project": state.project, "episodes": found, "links": links, **self._people(state, found[:1], at)}
        return self._page(request, "alert.html", at=at, past=past, **shown)

    # --- for programs -------------------------------------------------------------------------------------------------

    def api_portfolio(self, request: Request) -> Response:
        at, past = self._instant(request)
        rows, _ = self._summaries.look(at, past=past, patient=lambda: True)
        stale = {} if past else self._read.stale(at)
        return JSONResponse(api.portfolio(sorted(rows, key=worst_first), at, stale))

    def api_project(self, request: Request) -> Response:
        at, past = self._instant(request)
        found, state = self._project(request.path_params["key"], at, past=past)
        return JSONResponse(api.project(found, series(state, at)))

    def static(self, request: Request) -> Response:
        found = assets.respond(request)
        if found is None:
            raise HTTPException(404, NO_PAGE)
        return found

    # --- what goes wrong ----------------------------------------------------------------------------------------------

    async def refused(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        plain = error.status_code == 404 and error.detail == "Not Found"
        return self._problem(request, error.status_code, NO_PAGE if plain else error.detail, error.headers)

    async def unavailable(self, request: Request, _: Exception) -> Response:
        text = "The database does not answer, or pmsync is still starting. `pmsync doctor` says what is wrong."
        return self._problem(request, 503, text)

    async def failed(self, request: Request, _: Exception) -> Response:
        text = "This page could not be made. The log of `pmsync web` says why."
        return self._problem(request, 500, text, SECURITY)

    def _problem(self, request: Request, status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
        if request.url.path.startswith(f"{request.scope.get('root_path', '')}/api/"):
            return JSONResponse({"error": text}, status, headers=headers)
        page = self._templates.get_template("problem.html")
        body = page.render(root=request.scope.get("root_path", ""), query="", status=status, text=text)
        return HTMLResponse(body, status, headers=headers)

    # --- what they share ----------------------------------------------------------------------------------------------

    def _instant(self, request: Request) -> tuple[datetime, bool]:
        """The instant to show, and whether that is in the past."""
        now = self._clock()
        asked = request.query_params.get("as_of")
        if asked is None:
            return now, False
        at = _parsed(asked)
        if at is None or at < EARLIEST:
            raise HTTPException(400, BAD_INSTANT)
        if at > now:
            raise HTTPException(400, FUTURE)
        return at, True

    def _state(self, key: str, *, past: bool) -> ProjectState:
        state = self._read.state(key, past=past)
        if state is None:
            raise HTTPException(404, UNKNOWN_PROJECT)
        return state

    def _project(self, key: str, at: datetime, *, past: bool) -> tuple[Summary, ProjectState]:
        state = self._state(key, past=past)
        found = self._summaries.get(key, at, past=past, state=state)
        assert found is not None
        return found, state

    def _people(self, state: ProjectState, known: Sequence[Alert], at: datetime) -> dict[str, Any]:
        """The names of who took alerts on (by person id) and of who has the items that they are about (by thing), read anew
        for each page."""
        having = assignees(state, {alert.episode.subject for alert in known}, at)
        owners = self._read.owners(set(having.values()))
        return {
            "names": self._read.names({alert.by for alert in known if alert.by}),
            "owners": {thing: owners[account] for thing, account in having.items() if account in owners},
        }

    def _page(self, request: Request, name: str, *, at: datetime, past: bool, **values: Any) -> Response:
        root = request.scope.get("root_path", "")
        earlier = [(label, rfc3339((at - back).replace(microsecond=0))) for label, back in BACK]
        query = f"?as_of={rfc3339(at)}" if past else ""
        page = self._templates.get_template(name)
        return HTMLResponse(page.render(root=root, query=query, at=at, past=past, earlier=earlier, **values))


def _parsed(text: str) -> datetime | None:
    """An instant in RFC 3339, in UTC; None for anything else. A plus that was not encoded arrives as a space."""
    try:
        at = datetime.fromisoformat(text.strip().replace(" ", "+"))
        return at.astimezone(UTC) if at.tzinfo and "T" in text else None
    except (ValueError, OverflowError):
        return None


def _charts(found: Summary, values: Series) -> Mapping[str, charts.Spec | None]:
    """The specifications by name; None where there is nothing to draw."""
    shown = [due for due in found.deadlines if due.due and not due.over and _near(due.due, values)]
    # The deadline that the page begins with is drawn in any case.
    shown.sort(key=lambda due: due is not found.next)
    promises = [(due.title, due.due) for due in shown if due.due]
    p50, p85 = (found.figures[f"cycle_time_p{n}"].value for n in (50, 85))
    levels = (p50 if isinstance(p50, int) else None, p85 if isinstance(p85, int) else None)
    drawn = values.burn_up and values.burn_up[-1].scope
    return {
        "burn_up": charts.burn_up(values.burn_up, values.whole, promises) if drawn else None,
        "throughput": charts.throughput(values.weeks) if any(week.items for week in values.weeks) else None,
        "cycle_times": charts.cycle_times(values.cycle_times, *levels) if values.cycle_times else None,
        "ages": charts.ages(values.ages, levels[1]) if values.ages else None,
        "capacity": charts.capacity(values.capacity.weeks) if values.capacity.weeks else None,
    }


def _near(day: date, values: Series) -> bool:
    """Whether a promised day belongs on the chart: not so far beyond the forecast that it would squeeze all else."""
    first = values.burn_up[0].day if values.burn_up else values.today
    last = max([values.today, *charts.finishes(values.whole, values.today).values()])
    return first <= day <= last + max(last - first, timedelta(days=28))


def _templates() -> Environment:
    templates = Environment(
        loader=PackageLoader("pmsync.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(words.FILTERS)
    templates.globals["asset"] = assets.address
    return templates


class _Secured:
    """Puts the security headers on every answer; what an answer says of its own keeping stands."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, secured if scope["type"] == "http" else send)
