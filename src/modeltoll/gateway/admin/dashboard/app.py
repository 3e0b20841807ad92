"""The ASGI application of the dashboard: read-only pages, without files from other hosts and without inline scripts."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jinja2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from modeltoll.errors import LedgerError
from modeltoll.formatting import (
    abbreviated,
    clock,
    count,
    decimal,
    grouped_count,
    moment,
    number,
    seconds,
    short_percent,
)
from modeltoll.gateway.admin.dashboard.caller_history import history
from modeltoll.gateway.admin.dashboard.callers import SORTS
from modeltoll.gateway.admin.dashboard.charts import value
from modeltoll.gateway.admin.dashboard.honest_waits import SHARES
from modeltoll.gateway.admin.dashboard.ledger_reader import LedgerReader, LedgerReads, LedgerSnapshot
from modeltoll.gateway.admin.dashboard.models import DashboardModel
from modeltoll.gateway.admin.dashboard.overview import FEW_CALLERS, ModelSnapshot, ViewOptions, overview
from modeltoll.gateway.admin.dashboard.suspects import MAX_SUSPECTS
from modeltoll.gateway.admin.security_headers import with_security_headers
from modeltoll.records import Account, Caller
from modeltoll.settlement_records import Standing

__all__ = ["dashboard_application"]

_FOLDER = Path(__file__).parent
_DASHBOARD_FILES = _FOLDER / "files"
_PLAYGROUND_FILES = _FOLDER.parent / "playground" / "files"  # both share page.css
_FILES = {
    "dashboard.css": (_DASHBOARD_FILES, "text/css"),
    "dashboard.js": (_DASHBOARD_FILES, "text/javascript"),
    "htmx.min.js": (_DASHBOARD_FILES, "text/javascript"),
    "icon.svg": (_PLAYGROUND_FILES, "image/svg+xml"),
    "page.css": (_PLAYGROUND_FILES, "text/css"),
    "uPlot.iife.min.js": (_DASHBOARD_FILES, "text/javascript"),
    "uPlot.min.css": (_DASHBOARD_FILES, "text/css"),
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

_MAX_CACHED_PAGES = 32  # pages rendered from the latest ledger snapshot

Handler = Callable[[Request], Awaitable[Response]]


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (abbreviated, clock, count, decimal, grouped_count, moment, number, seconds, short_percent, value)
    environment.filters.update({function.__name__: function for function in filters}, query=urlencode)
    environment.globals.update(few_callers=FEW_CALLERS, sorts=SORTS, shares=SHARES)
    environment.globals.update(max_suspects=MAX_SUSPECTS, log_10=math.log(10.0))
    return environment


class _Pages:
    """The pages. They are rendered one at a time, in a thread, so that requests to the gateway are not delayed."""

    def __init__(self, reader: LedgerReader, models: Sequence[DashboardModel], clock: Callable[[], float]) -> None:
        self._reader = reader
        self._models = {model.name: model for model in models}
        self._clock = clock
        self._environment = _environment()
        self._render_lock = asyncio.Lock()
        self._cache: dict[tuple[str, str], Response] = {}  # pages of _cache_snapshot, by model and query
        self._cache_snapshot: LedgerSnapshot | None = None

    async def overview(self, request: Request) -> Response:
        """All panels of one model; of the first model if the query names none."""
        model = self._model(request)
        if model is None:
            return self._not_found("There is no such model.")
        ledger, error = await self._read()
        snapshot, options = self._snapshot(model, ledger), ViewOptions.of(request.query_params)
        async with self._render_lock:
            if ledger is None:
                return await asyncio.to_thread(self._overview, model, snapshot, options, error)
            if self._cache_snapshot is not ledger or len(self._cache) >= _MAX_CACHED_PAGES:
                self._cache, self._cache_snapshot = {}, ledger
            key = model.name, str(request.query_params)
            if key not in self._cache:
                self._cache[key] = await asyncio.to_thread(self._overview, model, snapshot, options, "")
            return self._cache[key]

    def _overview(self, model: DashboardModel, snapshot: ModelSnapshot, options: ViewOptions, error: str) -> Response:
        view = overview(snapshot, options)
        context = {"model": model, "view": view, "options": options, "error": error, "at": snapshot.at}
        return self._page("overview.html.j2", context, 503 if error else 200)

    async def caller(self, request: Request) -> Response:
        """One caller's history, by the ``name`` of the account or by the ``hash`` in the log."""
        model, query = self._model(request), request.query_params
        if model is None:
            return self._not_found("There is no such model.")
        try:
            ledger = await self._reader.read()
            name, hashed, account = await self._find_caller(
                model.name, ledger, query.get("name"), query.get("hash", "")
            )
            standing = await self._standing(account.caller.name if account else query.get("name"))
        except ValueError:
            return self._not_found("This is not a valid caller name.")
        except LedgerError as error:
            context = {"model": model, "error": str(error), "name": query.get("name") or query.get("hash", "")}
            return self._page("caller.html.j2", context, 503)
        snapshot = self._snapshot(model, ledger)
        async with self._render_lock:
            day = await asyncio.to_thread(ledger.tail.day, model.name, snapshot.measures)
            if account is None and hashed not in day.hashes and standing in (None, Standing()):
                return self._not_found("The ledger has no such caller of this model.")
            view = await asyncio.to_thread(history, hashed, account, day, snapshot.tariff, standing)
            context = {"model": model, "view": view, "error": "", "name": name, "at": ledger.at, "standing": standing}
            return await asyncio.to_thread(self._page, "caller.html.j2", context, 200)

    async def _standing(self, name: str | None) -> Standing | None:
        """The standing of a caller; None for a group, and where the name is not known. Before a first answer it is all there is."""
        caller = None if name is None else Caller(name)
        return None if caller is None or caller.is_group else await self._reader.standing(caller)

    async def _find_caller(
        self, model: str, ledger: LedgerSnapshot, name: str | None, hashed: str
    ) -> tuple[str, str, Account | None]:
        """A caller's name (or hash, if the name is not known), hash and account. Raises as ``LedgerReader.account``."""
        if name is not None:
            caller = Caller(name)
            return name, self._reader.logged_as(caller), await self._reader.account(caller, model)
        accounts = zip(ledger.hashes, ledger.accounts, strict=True)
        account = next((account for each, account in accounts if (each, account.model) == (hashed, model)), None)
        return account.caller.name if account else hashed, hashed, account

    def _model(self, request: Request) -> DashboardModel | None:
        name = request.query_params.get("model")
        return next(iter(self._models.values())) if name is None else self._models.get(name)

    def _snapshot(self, model: DashboardModel, ledger: LedgerSnapshot | None) -> ModelSnapshot:
        """Call it in the event loop, in which the gate updates the drift monitor."""
        drift = model.drift_state.reading() if model.drift_state else None
        at = ledger.at if ledger else self._clock()
        return ModelSnapshot(
            model.name, model.tariff.measures, at, ledger, model.tariff_in_force, drift, model.long_standing_seconds
        )

    async def _read(self) -> tuple[LedgerSnapshot | None, str]:
        """The snapshot, or the ledger's error."""
        try:
            return await self._reader.read(), ""
        except LedgerError as error:
            return None, str(error)

    def _not_found(self, message: str) -> Response:
        return self._page("missing.html.j2", {"message": message}, 404)

    def _page(self, template: str, context: Mapping[str, Any], status: int) -> Response:
        html = self._environment.get_template(template).render(models=self._models.values(), **context)
        return with_security_headers(HTMLResponse(html, status), _POLICY, cacheable=False)


def _file(name: str) -> Handler:
    folder, media_type = _FILES[name]
    content = (folder / name).read_bytes()

    async def serve(request: Request) -> Response:
        del request
        return with_security_headers(Response(content, media_type=media_type), _POLICY)

    return serve


def dashboard_application(
    ledger: LedgerReads, models: Sequence[DashboardModel], clock: Callable[[], float]
) -> Starlette:
    """The dashboard of one model or more. Mount it at a path that ends in a slash, and let only operators reach it.

    ``clock`` returns seconds since the epoch. The pages show what the ledger stores of callers, which includes no keys.
    """
    pages = _Pages(LedgerReader(ledger, clock), models, clock)
    routes = [Route("/", pages.overview), Route("/caller", pages.caller)]
    return Starlette(routes=routes + [Route(f"/{name}", _file(name)) for name in _FILES])
