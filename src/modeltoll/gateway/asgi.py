"""Bytes in, gate, bytes out: the gateway as an ASGI application. Every route that is not listed is refused."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Iterator, Mapping
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
from modeltoll.errors import BodyTooLarge, CallerRefused, ModeltollError, Overloaded, RequestError, RouteRefused
from modeltoll.gateway.callers import Callers, Knock
from modeltoll.gateway.gate import Gate, Passage, Visit
from modeltoll.gateway.offload import LARGE_BYTES, off_loop
from modeltoll.gateway.tolls import Chance, Entered, redeem

if TYPE_CHECKING:
    from modeltoll.gateway.protocols.protocol import ServingProtocol
    from modeltoll.gateway.telemetry import Telemetry
    from modeltoll.gateway.upstream import Upstream
    from modeltoll.records import Answer, Caller, Toll

__all__ = ["Door", "House", "application"]

log = logging.getLogger("modeltoll.gateway")

_JSON = "application/json"
_VERSION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_READ_SECONDS = 30.0
_CLIENT_GONE = 499
_PREFLIGHT_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Door:
    """What is checked before a request comes to a gate. ``max_body`` is in bytes, ``waiting`` in requests.

    ``origins`` are those whose pages may ask from a browser; ``*`` stands for all of them.
    """

    callers: Callers
    max_body: int
    waiting: int
    origins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class House:
    """All that the application needs, built by ``assemble``."""

    gates: Mapping[str, Gate]
    protocol: ServingProtocol
    upstream: Upstream
    door: Door
    telemetry: Telemetry
    chance: Chance


async def _read_body(request: Request, limit: int) -> bytes:
    """The body, no longer than the limit, however long it claims to be and however slowly it comes."""
    too_large = BodyTooLarge(f"the request's body is larger than {limit} bytes")
    headers = request.headers
    claimed = headers.get("content-length", "0")
    if claimed.isdecimal() and (len(claimed) > 18 or int(claimed) > limit):
        raise too_large
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestError("compressed requests are not served here")
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_READ_SECONDS):
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
                if size > limit:
                    raise too_large
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        raise RequestError("the request's body did not arrive in time") from None
    return b"".join(chunks)


def _path(template: str, request: Request) -> str:
    """The path to ask upstream for, written anew from the route's template: nothing climbs out of it.

    Raises:
        RouteRefused: what was asked for is written in another way, or with a version that is no name.
    """
    parameters = request.path_params
    version = parameters.get("version")
    if version is not None and not _VERSION_NAME.fullmatch(version):
        raise RouteRefused("there is no such version here")
    path = template.format(**parameters)
    if path != request.scope["path"]:
        raise RouteRefused("this route is not served here")
    return path


def _knock(request: Request) -> Knock:
    headers = request.headers
    return Knock(
        authorization=headers.get("authorization"),
        api_key=headers.get("x-api-key"),
        peer=request.client.host if request.client else "",
        forwarded_for=", ".join(headers.getlist("x-forwarded-for")),  # proxies may append a line of their own
    )


def _accept(request: Request) -> wire.Accept:
    return wire.parse_accept(request.headers.get(wire.ACCEPT_HEADER, ""))


def _as_it_came(answer: Answer, **headers: str) -> Response:
    return Response(answer.body, status_code=answer.status, headers={"content-type": answer.content_type, **headers})


class _Handlers:
    """One handler per kind of route; ``template`` is the route's path."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._inside = 0

    async def infer(self, template: str, request: Request) -> Response:
        """An inference request: through its model's gate."""
        self._gate(request)
        path, caller = _path(template, request), self._caller(request)
        with self._slot():
            body = await _read_body(request, self._house.door.max_body)
            return await self._visit(request.path_params["model"], Visit(caller, path, body, _accept(request)))

    async def _visit(self, model: str, visit: Visit) -> Response:
        begin = time.perf_counter()
        passage = await self._house.gates[model].visit(visit)
        self._house.telemetry.passed(model, passage, time.perf_counter() - begin)
        return await self._response(passage, model)

    async def _response(self, passage: Passage, model: str) -> Response:
        toll, answer = passage.toll, passage.answer
        if toll is not None:
            body = await off_loop(len(toll.cargo) > LARGE_BYTES, self._body, toll)
            headers = {"cache-control": "no-store", wire.AUTHENTICATE_HEADER: wire.authenticate(toll, model)}
            return Response(body, status_code=wire.STATUS, headers=headers, media_type=_JSON)
        assert answer is not None  # one of the two there is
        receipt = wire.receipt(passage.work.rows, passage.work.seconds, passage.mode)
        return _as_it_came(answer, **{wire.RECEIPT_HEADER: receipt})

    def _body(self, toll: Toll) -> bytes:
        return wire.encode_toll(toll, self._house.protocol.error_member(wire.DETAIL))

    async def redeem(self, request: Request) -> Response:
        """A token and its solution, for the answer; or for the entry of the request that the token holds."""
        caller = self._caller(request)
        with self._slot():
            body = await _read_body(request, wire.MAX_TOLL_BYTES)
            bought = await off_loop(len(body) > LARGE_BYTES, redeem, self._house.chance, caller, body)
            self._house.telemetry.redeemed()
            if isinstance(bought, Entered):
                visit = Visit(caller, bought.path, bought.body, _accept(request), bought.ticket)
                return await self._visit(bought.model, visit)
        return _as_it_came(bought)

    async def passing(self, template: str, request: Request) -> Response:
        """Metadata and health: through as they are."""
        if "model" in request.path_params:
            self._gate(request)
        path, _ = _path(template, request), self._caller(request)
        with self._slot():
            return _as_it_came(await self._house.upstream.fetch(path))

    def _gate(self, request: Request) -> Gate:
        gate = self._house.gates.get(request.path_params["model"])
        if gate is None:
            raise RouteRefused("there is no such model here")
        return gate

    def _caller(self, request: Request) -> Caller:
        return self._house.door.callers.identify(_knock(request))

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
        del request
        if isinstance(error, ClientDisconnect):
            return Response(status_code=_CLIENT_GONE)
        if not isinstance(error, ModeltollError):  # a fault of ours; the server logs its traceback
            error = ModeltollError("the gateway failed")
        self._house.telemetry.refused(type(error).__name__)
        if error.status >= 500:
            log.warning("%s: %s (%s)", type(error).__name__, error, error.private)
        headers = {"www-authenticate": "Bearer"} if isinstance(error, CallerRefused) else {}
        if error.retry_after is not None:
            headers["retry-after"] = str(error.retry_after)
        return Response(self._complaint(error), status_code=error.status, headers=headers, media_type=_JSON)

    def _complaint(self, error: ModeltollError) -> bytes:
        said, protocol = str(error), self._house.protocol
        if error.problem:
            return wire.encode_problem(error.problem, error.status, said, protocol.error_member(said))
        return protocol.error(said)

    async def unlisted(self, request: Request, error: Exception) -> Response:
        """Whatever is not listed is refused, in the same words whether it exists behind the gateway or not."""
        del error
        return await self.failed(request, RouteRefused("this route is not served here"))


def _routes(handlers: _Handlers, protocol: ServingProtocol) -> Iterator[Route]:
    for template in protocol.routes.infer:
        yield Route(template, partial(handlers.infer, template), methods=["POST"])
    for template in protocol.routes.passing:
        yield Route(template, partial(handlers.passing, template), methods=["GET"])
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


def application(house: House) -> Starlette:
    """The gateway's public side."""
    handlers = _Handlers(house)
    app = Starlette(
        routes=list(_routes(handlers, house.protocol)),
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
