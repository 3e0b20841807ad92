"""The public ASGI application of the gateway. A route that no protocol lists is refused."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from modeltoll import wire
from modeltoll.errors import (
    BodyTooSlow,
    CallerGone,
    CallerRefused,
    RequestError,
    RouteRefused,
    TollMalformed,
    UpstreamRefused,
)
from modeltoll.gateway.core.gate import Gate
from modeltoll.gateway.core.request import SHADOW, GateRequest, GateRuntime
from modeltoll.gateway.core.tolls import AdmittedRequest, redeem
from modeltoll.gateway.observability.request_log import fields_of
from modeltoll.gateway.protocols.protocol import JSON, route_pattern
from modeltoll.gateway.public.addressing import addressed_gate, matching_gates
from modeltoll.gateway.public.content import ContentReader
from modeltoll.gateway.public.cors import CorsPolicy, PageAccess
from modeltoll.gateway.public.disconnect import watching_caller
from modeltoll.gateway.public.gate_exchange import GateExchange
from modeltoll.gateway.public.ingress import Ingress, IngressPolicy
from modeltoll.gateway.public.parsing import (
    accept_of,
    check_json,
    identity_of,
    path_of,
    read_body,
    receipts_of,
)
from modeltoll.gateway.public.prefix import BelowPrefix
from modeltoll.gateway.public.request_head import head_of, trace_headers
from modeltoll.gateway.public.request_notes import note_error
from modeltoll.gateway.public.responses import unchanged_response
from modeltoll.gateway.public.routing import PublicRouter, Route
from modeltoll.gateway.settings.body_limits import SETTLEMENT_BYTES
from modeltoll.gateway.threads import off_loop_by_size

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Send

    from modeltoll.gateway.observability.metrics import GatewayMetrics
    from modeltoll.gateway.protocols.protocol import ServingProtocol
    from modeltoll.gateway.upstream.upstream import Upstream
    from modeltoll.records import Caller

__all__ = ["AppComponents", "application"]

log = logging.getLogger("modeltoll.gateway")

_PROTOCOL = "modeltoll.protocol"  # key in a request's scope: the protocol that formats its errors
_CLIENT_GONE = 499
_NO_CONTENT = 204
REDEEMED, SETTLED = "redeemed", "settled"


@dataclass(frozen=True, slots=True)
class AppComponents:
    """What the application needs. ``gates``, one or more, are by the names of their models.

    ``inside``: the requests inside the gateway, where those over gRPC are counted, too.
    """

    gates: Mapping[str, Gate]
    upstream: Upstream
    ingress: IngressPolicy
    metrics: GatewayMetrics
    runtime: GateRuntime
    inside: Ingress | None = None


class _Handlers:
    """One handler per kind of route. ``template`` is the route's path, ``gates`` are the gates that share it."""

    def __init__(self, components: AppComponents) -> None:
        self._components = components
        self._default_gate = next(iter(components.gates.values()))
        self._default_protocol = self._default_gate.config.served_model.protocol
        self._ingress = components.inside or Ingress(components.ingress)

    async def infer(self, template: str, gates: Sequence[Gate], http_request: Request, send: Send) -> Response | None:
        """An inference request: through the gate of its model."""
        protocol, gates = self._set_protocol(gates, http_request), matching_gates(gates, http_request)
        path, caller = path_of(template, http_request), self._identify(template, http_request)
        accept, reader = accept_of(http_request), ContentReader(gates, http_request, protocol)
        policy = self._ingress.policy
        with self._ingress.place(caller.name) as holding:
            content = await reader.read(policy, holding)
            gate = addressed_gate(gates, content.body)
            head = head_of(http_request, (gate,), policy.request_headers)
            head = replace(head, read_headers=head.read_headers + content.headers) if content.headers else head
            receipts = receipts_of(http_request)
            # The model server might take a body that cannot be read here for a request to the other model.
            strict = any(one.config.mode != SHADOW for one in gates)
            exchange = self._exchange(gate, http_request, send)
            request = GateRequest(
                caller,
                path,
                content.body,
                accept,
                content.content_type,
                receipts,
                head=head,
                unread=content.unread,
                must_be_read=strict,
                on_first_event=exchange.on_first_event,
            )
            return await exchange.response(request)

    def _exchange(self, gate: Gate, http_request: Request, send: Send) -> GateExchange:
        seconds = self._ingress.policy.white_space_seconds
        return GateExchange(gate, self._components.metrics, seconds, http_request, send)

    async def redeem(self, http_request: Request, send: Send) -> Response | None:
        """A token and the proof of its work, in exchange for the answer, or for the admission of the request in the token."""
        caller = self._identify(wire.REDEEM_PATH, http_request)
        check_json(http_request)
        policy = self._ingress.policy
        with self._ingress.place(caller.name) as holding:
            body = await read_body(http_request, policy.max_redemption, holding, policy.least_rate)
            if body == wire.REDEEM_PROBE:
                return Response(status_code=_NO_CONTENT)
            redeemed, receipt = await off_loop_by_size(len(body), redeem, self._components.runtime, caller, body)
            self._components.metrics.count_redemption()
            fields_of(http_request.scope).mode = REDEEMED
            if isinstance(redeemed, AdmittedRequest):
                return await self._handle_admitted(redeemed, caller, http_request, send)
            await self._default_gate.settle_redeemed(caller, receipt)
        return unchanged_response(redeemed)

    async def settle(self, http_request: Request, _: Send) -> Response:
        """Receipts that come without a request. Those that count for nothing are ignored."""
        caller = self._identify(wire.SETTLE_PATH, http_request)
        check_json(http_request)
        policy = self._ingress.policy
        with self._ingress.place(caller.name) as holding:
            body = await read_body(http_request, SETTLEMENT_BYTES, holding, policy.least_rate)
            try:
                receipts = wire.decode_settlement(body)
            except TollMalformed as error:
                raise RequestError(str(error)) from None
            await self._default_gate.settle(caller, receipts)
            fields_of(http_request.scope).mode = SETTLED
        return Response(status_code=_NO_CONTENT)

    async def _handle_admitted(
        self, admitted: AdmittedRequest, caller: Caller, http_request: Request, send: Send
    ) -> Response | None:
        gate = self._components.gates.get(admitted.model)
        if gate is None:  # a reload has removed its model
            raise RouteRefused("there is no such model here")
        self._set_protocol([gate], http_request)
        traces = trace_headers(http_request.headers, self._ingress.policy.request_headers)
        exchange = self._exchange(gate, http_request, send)
        request = GateRequest(
            caller,
            admitted.path,
            admitted.body,
            accept_of(http_request),
            admitted.content_type,
            receipts_of(http_request),
            admitted.payment,
            replace(admitted.head, headers=traces),
            on_first_event=exchange.on_first_event,
        )
        return await exchange.response(request)

    async def pass_through(self, template: str, gates: Sequence[Gate], http_request: Request, _: Send) -> Response:
        """Metadata and health: the upstream's answer unchanged."""
        self._set_protocol(gates, http_request)
        gates = matching_gates(gates, http_request)
        path, caller = path_of(template, http_request), self._identify(template, http_request)
        head = head_of(http_request, gates, self._ingress.policy.request_headers)
        with self._ingress.place(caller.name), watching_caller(http_request):
            answer = await self._components.upstream.fetch(path, head)
        return unchanged_response(gates[0].refused_answers.check_passing(answer, path))

    @staticmethod
    def _set_protocol(gates: Sequence[Gate], http_request: Request) -> ServingProtocol:
        """The protocol of a route; from here on it formats the request's errors."""
        protocol = gates[0].config.served_model.protocol
        http_request.scope[_PROTOCOL] = protocol
        return protocol

    def _identify(self, template: str, http_request: Request) -> Caller:
        """The caller; its name and the route are noted for the audit log."""
        fields = fields_of(http_request.scope)
        fields.route = template
        caller = self._components.ingress.identifier.identify(identity_of(http_request))
        fields.caller = caller.name
        return caller

    def error_response(self, http_request: Request, error: Exception) -> Response:
        """An error in the caller's protocol. Its private reason goes to the log only."""
        if isinstance(error, ClientDisconnect | CallerGone):
            return Response(status_code=_CLIENT_GONE)
        error = note_error(self._components.metrics, http_request.scope, error)
        headers = {"www-authenticate": "Bearer"} if isinstance(error, CallerRefused) else {}
        if error.retry_after is not None:
            headers["retry-after"] = str(error.retry_after)
        if isinstance(error, BodyTooSlow) or "expect" in http_request.headers:  # a body may never come
            headers["connection"] = "close"
        if isinstance(error, UpstreamRefused):
            headers |= dict(error.headers)
            return Response(error.body, status_code=error.status, headers=headers, media_type=JSON)
        protocol, detail = http_request.scope.get(_PROTOCOL, self._default_protocol), str(error)
        body = (
            wire.encode_problem(error.problem, error.status, detail, protocol.error_member(detail))
            if error.problem
            else protocol.error(detail)
        )
        return Response(body, status_code=error.status, headers=headers, media_type=JSON)


def _routes(handlers: _Handlers, gates: Iterable[Gate]) -> Iterator[Route]:
    """Every route of every model's protocol. Models with the same protocol share its routes."""
    infer: dict[str, list[Gate]] = {}
    passing: dict[str, list[Gate]] = {}
    for gate in gates:
        routes = gate.config.served_model.protocol.routes
        for gates_of, templates in ((infer, routes.infer), (passing, routes.pass_through)):
            for template in templates:
                gates_of.setdefault(template, []).append(gate)
    for template, sharing in infer.items():
        yield Route("POST", route_pattern(template), partial(handlers.infer, template, sharing))
    for template, sharing in passing.items():
        yield Route("GET", template, partial(handlers.pass_through, template, sharing))
    yield Route("POST", wire.REDEEM_PATH, handlers.redeem)
    yield Route("POST", wire.SETTLE_PATH, handlers.settle)


def application(components: AppComponents) -> ASGIApp:
    """The public application."""
    handlers, policy = _Handlers(components), components.ingress
    app: ASGIApp = PublicRouter(list(_routes(handlers, components.gates.values())), handlers.error_response)
    if policy.root_path:
        app = BelowPrefix(app, policy.root_path)
    return PageAccess(app, CorsPolicy(policy.cors_origins, policy.cors_headers, policy.cors_max_age))
