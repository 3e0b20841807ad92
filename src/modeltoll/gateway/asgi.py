"""Bytes in, gate, bytes out: the gateway as an ASGI application. Every route that is not listed here is refused."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from modeltoll import wire
from modeltoll.errors import BodyTooLarge, ModeltollError, Overloaded, RequestError, RouteRefused
from modeltoll.gateway.callers import Callers, Knock
from modeltoll.gateway.gate import Chance, Gate, Passage, Visit, redeem

if TYPE_CHECKING:
    from modeltoll.gateway.protocols.protocol import ServingProtocol
    from modeltoll.gateway.telemetry import Telemetry
    from modeltoll.gateway.upstream import Upstream

__all__ = ["Door", "House", "application"]

log = logging.getLogger("modeltoll.gateway")

_JSON = "application/json"
_MODEL = "/v2/models/{model}"
_VERSION = "/v2/models/{model}/versions/{version}"
_PASSING = ("/v2", "/v2/health/live", "/v2/health/ready")  # metadata and health go through as they are
_PASSING_OF_MODEL = (_MODEL, f"{_MODEL}/ready", _VERSION, f"{_VERSION}/ready")
_INFER = (f"{_MODEL}/infer", f"{_VERSION}/infer")
_VERSION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_READ_SECONDS = 30.0
_CLIENT_GONE = 499

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Door:
    """What is checked before a request comes to a gate. ``max_body`` is in bytes."""

    callers: Callers
    max_body: int
    waiting: int


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
    claimed = request.headers.get("content-length", "0")
    if claimed.isdigit() and int(claimed) > limit:
        raise BodyTooLarge(f"the request's body is larger than {limit} bytes")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise RequestError("compressed requests are not served here")
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_READ_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise BodyTooLarge(f"the request's body is larger than {limit} bytes")
                chunks.append(chunk)
    except TimeoutError:
        raise RequestError("the request's body did not arrive in time") from None
    return b"".join(chunks)


def _path(request: Request) -> str:
    """The path to ask upstream for: the listed route's, with a version that cannot climb out of it."""
    version = request.path_params.get("version")
    if version is not None and not _VERSION_NAME.fullmatch(version):
        raise RouteRefused("there is no such version here")
    return request.url.path


def _knock(request: Request) -> Knock:
    headers = request.headers
    return Knock(
        authorization=headers.get("authorization"),
        api_key=headers.get("x-api-key"),
        peer=request.client.host if request.client else "",
        forwarded_for=headers.get("x-forwarded-for"),
    )


class _Handlers:
    """One handler per kind of route."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._inside = 0

    async def infer(self, request: Request) -> Response:
        """An inference request: through its model's gate."""
        house, model = self._house, request.path_params["model"]
        gate = house.gates.get(model)
        if gate is None:
            raise RouteRefused("there is no such model here")
        caller = house.door.callers.identify(_knock(request))
        if self._inside >= house.door.waiting:
            raise Overloaded("too many requests are waiting; try again later")
        self._inside += 1
        try:
            body = await _read_body(request, house.door.max_body)
            begin = time.perf_counter()
            accept = wire.parse_accept(request.headers.get(wire.ACCEPT_HEADER, ""))
            passage = await gate.visit(Visit(caller, _path(request), body, accept))
            house.telemetry.passed(model, passage, time.perf_counter() - begin)
        finally:
            self._inside -= 1
        return self._response(passage, model)

    def _response(self, passage: Passage, model: str) -> Response:
        if passage.toll is not None:
            body = wire.encode_toll(passage.toll, self._house.protocol.error_member(wire.DETAIL))
            headers = {
                "cache-control": "no-store",
                wire.AUTHENTICATE_HEADER: wire.authenticate(passage.toll, model),
            }
            return Response(body, status_code=wire.STATUS, headers=headers, media_type=_JSON)
        answer = passage.answer
        if answer is None:
            raise ModeltollError("the gateway failed", private="a passage with neither answer nor toll")
        receipt = wire.receipt(passage.work.rows, passage.work.seconds, passage.mode)
        headers = {"content-type": answer.content_type, wire.RECEIPT_HEADER: receipt}
        return Response(answer.body, status_code=answer.status, headers=headers)

    async def redeem(self, request: Request) -> Response:
        """A token and its solution, for the answer."""
        house = self._house
        caller = house.door.callers.identify(_knock(request))
        body = await _read_body(request, wire.MAX_TOLL_BYTES)
        answer = redeem(house.chance, caller, body)
        return Response(answer.body, status_code=answer.status, headers={"content-type": answer.content_type})

    async def passing(self, request: Request) -> Response:
        """Metadata and health: through as they are."""
        house, model = self._house, request.path_params.get("model")
        if model is not None and model not in house.gates:
            raise RouteRefused("there is no such model here")
        house.door.callers.identify(_knock(request))
        answer = await house.upstream.fetch(_path(request))
        return Response(answer.body, status_code=answer.status, headers={"content-type": answer.content_type})

    async def failed(self, request: Request, error: Exception) -> Response:
        """An error in the caller's protocol; its private reason stays in the log."""
        del request
        if isinstance(error, ClientDisconnect):
            return Response(status_code=_CLIENT_GONE)
        if not isinstance(error, ModeltollError):  # a fault of ours; the server logs its traceback
            error = ModeltollError("the gateway failed")
        self._house.telemetry.refused(type(error).__name__)
        if error.status >= 500:
            log.warning("%s: %s %s", type(error).__name__, error, error.private)
        return Response(self._house.protocol.error(str(error)), status_code=error.status, media_type=_JSON)

    async def unlisted(self, request: Request, error: Exception) -> Response:
        """Whatever is not listed is refused, in the same words whether it exists behind the gateway or not."""
        del error
        return await self.failed(request, RouteRefused("this route is not served here"))


def _routes(handlers: _Handlers) -> Sequence[Route]:
    return (
        *(Route(path, handlers.infer, methods=["POST"]) for path in _INFER),
        Route(wire.REDEEM_PATH, handlers.redeem, methods=["POST"]),
        *(Route(path, handlers.passing, methods=["GET"]) for path in (*_PASSING, *_PASSING_OF_MODEL)),
    )


def application(house: House) -> Starlette:
    """The gateway's public side."""
    handlers = _Handlers(house)
    app = Starlette(
        routes=_routes(handlers),
        exception_handlers={
            404: handlers.unlisted,
            405: handlers.unlisted,
            ModeltollError: handlers.failed,
            ClientDisconnect: handlers.failed,
            Exception: handlers.failed,
        },
    )
    app.router.redirect_slashes = False  # a redirect would be an answer to a route that is not listed
    return app
