"""Serves the dashboard. Its pages change nothing, load nothing of a third party, and need no inline script."""

from __future__ import annotations

import asyncio
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
    seconds,
    short_percent,
)
from modeltoll.gateway.admin.dashboard.caller_history import history
from modeltoll.gateway.admin.dashboard.callers import SORTS
from modeltoll.gateway.admin.dashboard.charts import value
from modeltoll.gateway.admin.dashboard.honest_waits import SHARES
from modeltoll.gateway.admin.dashboard.ledger_reader import LedgerReader, LedgerReads, LedgerSnapshot
from modeltoll.gateway.admin.dashboard.models import DashboardModel
from modeltoll.gateway.admin.dashboard.overview import FEW, ModelSnapshot, ViewOptions, overview
from modeltoll.gateway.admin.security_headers import with_security_headers
from modeltoll.records import Account, Caller

__all__ = ["dashboard_application"]

_HERE = Path(__file__).parent
_OWN = _HERE / "files"
_PLAYGROUND = _HERE.parent / "playground" / "files"  # both share one style
_FILES = {
    "dashboard.css": (_OWN, "text/css"),
    "dashboard.js": (_OWN, "text/javascript"),
    "htmx.min.js": (_OWN, "text/javascript"),
    "icon.svg": (_PLAYGROUND, "image/svg+xml"),
    "page.css": (_PLAYGROUND, "text/css"),
    "uPlot.iife.min.js": (_OWN, "text/javascript"),
    "uPlot.min.css": (_OWN, "text/css"),
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

_KEPT = 32  # pages that are shown again as long as their reading is

Handler = Callable[[Request], Awaitable[Response]]


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (abbreviated, clock, count, decimal, grouped_count, moment, seconds, short_percent, value)
    environment.filters.update({one.__name__: one for one in filters}, query=urlencode)
    environment.globals.update(few=FEW, sorts=SORTS, shares=SHARES)
    return environment


class _Pages:
    """The pages. One at a time is put together, in a thread: whoever is served by the gateway comes first."""

    def __init__(self, reader: LedgerReader, models: Sequence[DashboardModel], clock: Callable[[], float]) -> None:
        self._reader = reader
        self._models = {shown.model: shown for shown in models}
        self._clock = clock
        self._environment = _environment()
        self._turn = asyncio.Lock()
        self._kept: dict[tuple[str, str], Response] = {}  # pages of the reading beside it
        self._kept_of: LedgerSnapshot | None = None

    async def overview(self, request: Request) -> Response:
        """All panels of one model, the first one if the query names none."""
        shown = self._shown(request)
        if shown is None:
            return self._missing("There is no such model here.")
        reading, fault = await self._read()
        stand, wish = self._stand(shown, reading), ViewOptions.of(request.query_params)
        async with self._turn:
            if reading is None:
                return await asyncio.to_thread(self._overview, shown, stand, wish, fault)
            if self._kept_of is not reading or len(self._kept) >= _KEPT:
                self._kept, self._kept_of = {}, reading
            asked = shown.model, str(request.query_params)
            if asked not in self._kept:
                self._kept[asked] = await asyncio.to_thread(self._overview, shown, stand, wish, "")
            return self._kept[asked]

    def _overview(self, shown: DashboardModel, stand: ModelSnapshot, wish: ViewOptions, fault: str) -> Response:
        members = {"shown": shown, "view": overview(stand, wish), "wish": wish, "fault": fault, "at": stand.at}
        return self._page("overview.html.j2", members, 503 if fault else 200)

    async def caller(self, request: Request) -> Response:
        """One caller's history, by the ``name`` of his account or the ``hash`` that the log has for him."""
        shown, query = self._shown(request), request.query_params
        if shown is None:
            return self._missing("There is no such model here.")
        try:
            reading = await self._reader.read()
            name, hashed, account = await self._who(shown.model, reading, query.get("name"), query.get("hash", ""))
        except ValueError:
            return self._missing("Nobody can have such a name.")
        except LedgerError as error:
            named = query.get("name") or query.get("hash", "")
            return self._page("caller.html.j2", {"shown": shown, "fault": str(error), "name": named}, 503)
        stand = self._stand(shown, reading)
        async with self._turn:
            day = await asyncio.to_thread(reading.tail.day, shown.model, stand.measures)
            if account is None and hashed not in day.names:
                return self._missing("The ledger knows no such caller of this model.")
            view = await asyncio.to_thread(history, hashed, account, day, stand.tariff)
            members = {"shown": shown, "view": view, "fault": "", "name": name, "at": reading.at}
            return await asyncio.to_thread(self._page, "caller.html.j2", members, 200)

    async def _who(
        self, model: str, reading: LedgerSnapshot, name: str | None, hashed: str
    ) -> tuple[str, str, Account | None]:
        """A caller's name, as far as it is known, his hash, and his account. Raises as ``LedgerReader.account`` does."""
        if name is not None:
            caller = Caller(name)
            return name, self._reader.logged_as(caller), await self._reader.account(caller, model)
        known = zip(reading.hashes, reading.accounts, strict=True)
        account = next((one for its, one in known if (its, one.model) == (hashed, model)), None)
        return account.caller.name if account else hashed, hashed, account

    def _shown(self, request: Request) -> DashboardModel | None:
        named = request.query_params.get("model")
        return next(iter(self._models.values())) if named is None else self._models.get(named)

    def _stand(self, shown: DashboardModel, reading: LedgerSnapshot | None) -> ModelSnapshot:
        """What must be asked for in the event loop, where the gate tells the watch of its visits."""
        drift = shown.watch.reading() if shown.watch else None
        at = reading.at if reading else self._clock()
        return ModelSnapshot(shown.model, shown.tariff.measures, at, reading, shown.priced, drift)

    async def _read(self) -> tuple[LedgerSnapshot | None, str]:
        try:
            return await self._reader.read(), ""
        except LedgerError as error:
            return None, str(error)

    def _missing(self, what: str) -> Response:
        return self._page("missing.html.j2", {"what": what}, 404)

    def _page(self, template: str, members: Mapping[str, Any], status: int) -> Response:
        text = self._environment.get_template(template).render(models=self._models.values(), **members)
        return with_security_headers(HTMLResponse(text, status), _POLICY, kept=False)


def _file(name: str) -> Handler:
    folder, kind = _FILES[name]
    content = (folder / name).read_bytes()

    async def serve(request: Request) -> Response:
        del request
        return with_security_headers(Response(content, media_type=kind), _POLICY)

    return serve


def dashboard_application(
    ledger: LedgerReads, models: Sequence[DashboardModel], clock: Callable[[], float]
) -> Starlette:
    """The dashboard of one model or more, to be served at a path that ends in a slash, to operators only.

    ``clock`` gives seconds since the epoch; what it shows of callers is what the ledger holds of them, never a key.
    """
    pages = _Pages(LedgerReader(ledger, clock), models, clock)
    routes = [Route("/", pages.overview), Route("/caller", pages.caller)]
    return Starlette(routes=routes + [Route(f"/{name}", _file(name)) for name in _FILES])
