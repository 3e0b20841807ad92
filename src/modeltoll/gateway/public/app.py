"""Bytes in, gate, bytes out: the gateway as an ASGI application. Every route that is not listed is refused."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from modeltoll import wire
from modeltoll.errors import CallerRefused, ModeltollError, Overloaded, RouteRefused
from modeltoll.gateway.callers.identify import CallerIdentifier
from modeltoll.gateway.core.gate import Gate
from modeltoll.gateway.core.request import GateRequest, GateResult, GateRuntime
from modeltoll.gateway.core.threads import LARGE_BYTES, off_loop
from modeltoll.gateway.core.tolls import AdmittedRequest, redeem
from modeltoll.gateway.observability.request_log import fields_of
from modeltoll.gateway.protocols.protocol import JSON
from modeltoll.gateway.public.parsing import (
    accept_of,
    addressed_models,
    content_type_of,
    identity_of,
    path_of,
    read_body,
)

if TYPE_CHECKING:
    from modeltoll.gateway.observability.metrics import GatewayMetrics
    from modeltoll.gateway.protocols.protocol import ServingProtocol
    from modeltoll.gateway.upstream.upstream import Upstream
    from modeltoll.records import Answer, Caller

__all__ = ["AppComponents", "IngressPolicy", "application"]

log = logging.getLogger("modeltoll.gateway")

_PROTOCOL = "modeltoll.protocol"  # in a request's scope: what its errors are written in
_CLIENT_GONE = 499
REDEEMED = "redeemed"
_PREFLIGHT_SECONDS = 600


@dataclass(frozen=True, slots=True)
class IngressPolicy:
    """What is checked before a request comes to a gate. ``max_body`` is in bytes, ``waiting`` in requests.

    ``origins`` are those whose pages may ask from a browser; ``*`` stands for all of them.
    """

    callers: CallerIdentifier
    max_body: int
    waiting: int
    origins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AppComponents:
    """All that the application needs, built by ``assemble``. ``gates``, one or more, are by their models' names."""

    gates: Mapping[str, Gate]
    upstream: Upstream
    door: IngressPolicy
    telemetry: GatewayMetrics
    chance: GateRuntime


def _unchanged_response(answer: Answer, **headers: str) -> Response:
    return Response(
        answer.body, status_code=answer.status, headers={**wire.type_headers(answer.content_type), **headers}
    )


class _Handlers:
    """One handler per kind of route; ``template`` is the route's path, ``gates`` those of the models behind it."""

    def __init__(self, house: AppComponents) -> None:
        self._house = house
        self._first = next(iter(house.gates.values())).road.subject.protocol
        self._inside = 0

    async def infer(self, template: str, gates: Sequence[Gate], request: Request) -> Response:
        """An inference request: through its model's gate."""
        protocol, gates = self._spoken(gates, request), self._known(gates, request)
        path, caller = path_of(template, request), self._caller(template, request)
        accept, content_type = accept_of(request), content_type_of(request, protocol)
        with self._slot():
            body = await read_body(request, self._house.door.max_body)
            return await self._visit(
                addressed_models(gates, body), GateRequest(caller, path, body, accept, content_type), request
            )

    async def _visit(self, gate: Gate, visit: GateRequest, request: Request) -> Response:
        service, begin = gate.road.subject.service, time.perf_counter()
        passage = await gate.visit(visit)
        self._house.telemetry.passed(service.model, passage, time.perf_counter() - begin)
        fields_of(request.scope).passed(service.model, passage)
        return await self._response(passage, service.model, gate.road.subject.protocol)

    async def _response(self, passage: GateResult, model: str, protocol: ServingProtocol) -> Response:
        toll, answer = passage.toll, passage.answer
        if toll is not None:
            error = protocol.error_member(wire.DETAIL)
            body = await off_loop(len(toll.cargo) > LARGE_BYTES, wire.encode_toll, toll, error)
            headers = {"cache-control": "no-store", wire.AUTHENTICATE_HEADER: wire.authenticate(toll, model)}
            return Response(body, status_code=wire.STATUS, headers=headers, media_type=JSON)
        assert answer is not None  # one of the two there is
        receipt = wire.receipt(passage.work.rows, passage.work.seconds, passage.mode)
        return _unchanged_response(answer, **{wire.RECEIPT_HEADER: receipt})

    async def redeem(self, request: Request) -> Response:
        """A token and its solution, for the answer; or for the entry of the request that the token holds."""
        caller = self._caller(wire.REDEEM_PATH, request)
        with self._slot():
            body = await read_body(request, wire.MAX_TOLL_BYTES)
            bought = await off_loop(len(body) > LARGE_BYTES, redeem, self._house.chance, caller, body)
            self._house.telemetry.redeemed()
            fields_of(request.scope).mode = REDEEMED
            if isinstance(bought, AdmittedRequest):
                return await self._enter(bought, caller, request)
        return _unchanged_response(bought)

    async def _enter(self, entered: AdmittedRequest, caller: Caller, request: Request) -> Response:
        gate = self._house.gates.get(entered.model)
        if gate is None:  # its model is served no longer
            raise RouteRefused("there is no such model here")
        self._spoken([gate], request)
        accept = accept_of(request)
        return await self._visit(
            gate, GateRequest(caller, entered.path, entered.body, accept, entered.content_type, entered.ticket), request
        )

    async def passing(self, template: str, gates: Sequence[Gate], request: Request) -> Response:
        """Metadata and health: through as they are."""
        self._spoken(gates, request)
        self._known(gates, request)
        path, _ = path_of(template, request), self._caller(template, request)
        with self._slot():
            return _unchanged_response(await self._house.upstream.fetch(path))

    @staticmethod
    def _spoken(gates: Sequence[Gate], request: Request) -> ServingProtocol:
        """The protocol of a route; errors are said in it from here on."""
        protocol = gates[0].road.subject.protocol
        request.scope[_PROTOCOL] = protocol
        return protocol

    @staticmethod
    def _known(gates: Sequence[Gate], request: Request) -> Sequence[Gate]:
        """Those of the gates whose model the path names; all of them where it names none."""
        model = request.path_params.get("model")
        known = [gate for gate in gates if model in (None, gate.road.subject.service.model)]
        if not known:
            raise RouteRefused("there is no such model here")
        return known

    def _caller(self, template: str, request: Request) -> Caller:
        notes = fields_of(request.scope)
        notes.route = template
        caller = self._house.door.callers.identify(identity_of(request))
        notes.caller = caller.name
        return caller

    @contextmanager
    def _slot(self) -> Iterator[None]:
        """A place among those who are inside, from the first byte of the body to the last of the answer."""
        if self._inside >= self._house.door.waiting:
            raise Overloaded("too many requests are waiting; try again later")
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    async def failed(self, request: Request, error: Exception) -> Response:
        """An error in the caller's protocol; its private reason stays in the log."""
        if isinstance(error, ClientDisconnect):
            return Response(status_code=_CLIENT_GONE)
        if not isinstance(error, ModeltollError):  # a fault of ours; the server logs its traceback
            error = ModeltollError("the gateway failed")
        self._house.telemetry.refused(type(error).__name__)
        fields_of(request.scope).error = type(error).__name__
        if error.status >= 500:
            log.warning("%s: %s (%s)", type(error).__name__, error, error.private)
        headers = {"www-authenticate": "Bearer"} if isinstance(error, CallerRefused) else {}
        if error.retry_after is not None:
            headers["retry-after"] = str(error.retry_after)
        protocol, said = request.scope.get(_PROTOCOL, self._first), str(error)
        body = (
            wire.encode_problem(error.problem, error.status, said, protocol.error_member(said))
            if error.problem
            else protocol.error(said)
        )
        return Response(body, status_code=error.status, headers=headers, media_type=JSON)

    async def unlisted(self, request: Request, error: Exception) -> Response:
        """Whatever is not listed is refused, in the same words whether it exists behind the gateway or not."""
        del error
        return await self.failed(request, RouteRefused("this route is not served here"))


def _routes(handlers: _Handlers, gates: Iterable[Gate]) -> Iterator[Route]:
    """Every route of every model's protocol; models that speak the same one share them."""
    infer: dict[str, list[Gate]] = {}
    passing: dict[str, list[Gate]] = {}
    for gate in gates:
        routes = gate.road.subject.protocol.routes
        for plan, templates in ((infer, routes.infer), (passing, routes.pass_through)):
            for template in templates:
                plan.setdefault(template, []).append(gate)
    for template, behind in infer.items():
        yield Route(template, partial(handlers.infer, template, behind), methods=["POST"])
    for template, behind in passing.items():
        yield Route(template, partial(handlers.passing, template, behind), methods=["GET"])
    yield Route(wire.REDEEM_PATH, handlers.redeem, methods=["POST"])


def _cors(origins: tuple[str, ...]) -> list[Middleware]:
    """What lets pages of these origins ask, and read what they are told beside the body."""
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=("GET", "POST"),
            allow_headers=("Authorization", "Content-Type", "X-Api-Key", wire.ACCEPT_HEADER),
            expose_headers=(wire.RECEIPT_HEADER, wire.AUTHENTICATE_HEADER),
            max_age=_PREFLIGHT_SECONDS,
        )
    ]


def application(house: AppComponents) -> Starlette:
    """The gateway's public side."""
    handlers = _Handlers(house)
    app = Starlette(
        routes=list(_routes(handlers, house.gates.values())),
        exception_handlers={
            404: handlers.unlisted,
            405: handlers.unlisted,
            ModeltollError: handlers.failed,
            ClientDisconnect: handlers.failed,
            Exception: handlers.failed,
        },
        middleware=_cors(house.door.origins) if house.door.origins else (),
    )
    app.router.redirect_slashes = False  # a redirect would be an answer to a route that is not listed
    return app
