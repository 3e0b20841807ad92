"""Reads and checks an HTTP request before it reaches a gate: its body, path, caller, content type and model."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import msgspec
from starlette.requests import ClientDisconnect, Request

from modeltoll import wire
from modeltoll.errors import BodyTooLarge, RequestError, RouteRefused
from modeltoll.gateway.callers.identify import RequestIdentity
from modeltoll.gateway.protocols.protocol import JSON
from modeltoll.puzzle.registry import PUZZLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Scope

    from modeltoll.gateway.core.gate import Gate
    from modeltoll.gateway.protocols.protocol import ServingProtocol

__all__ = [
    "accept_of",
    "addressed_gate",
    "content_type_of",
    "identity_of",
    "path_of",
    "read_body",
    "receipts_of",
    "route_path",
]

_BINARY = "application/octet-stream"
_VERSION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_READ_SECONDS = 30.0


async def read_body(request: Request, limit: int) -> bytes:
    """The body of a request.

    Raises:
        BodyTooLarge: it is larger than ``limit`` bytes. RequestError: it is compressed, or not complete after 30 s.
        ClientDisconnect: the client closed the connection.
    """
    too_large = BodyTooLarge(f"the request's body is larger than {limit} bytes")
    headers = request.headers
    stated = headers.get("content-length", "0")
    if stated.isdecimal() and (len(stated) > 18 or int(stated) > limit):
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


def path_of(template: str, request: Request) -> str:
    """The upstream path of a request, formatted from the route's template, so that no other path can be reached.

    Raises:
        RouteRefused: the request's path is written in another way, or its version is not a name.
    """
    parameters = request.path_params
    version = parameters.get("version")
    if version is not None and not _VERSION_NAME.fullmatch(version):
        raise RouteRefused("there is no such version here")
    path = template.format(**parameters)
    if path != request.scope["path"]:
        raise RouteRefused("this route is not served here")
    return path


def route_path(scope: Scope) -> str:
    """The path of a request below the application's root, where it is mounted or behind a proxy's prefix."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


def identity_of(request: Request) -> RequestIdentity:
    """The headers and the peer address that identify the caller."""
    headers = request.headers
    return RequestIdentity(
        authorization=headers.get("authorization"),
        api_key=headers.get("x-api-key"),
        peer=request.client.host if request.client else "",
        forwarded_for=", ".join(headers.getlist("x-forwarded-for")),  # proxies may append a line of their own
    )


def accept_of(request: Request) -> wire.Accept:
    """What the client says it can solve."""
    return wire.parse_accept(request.headers.get(wire.ACCEPT_HEADER, ""), PUZZLES.names())


def receipts_of(request: Request) -> tuple[bytes, ...]:
    """The receipts of earlier tolls that the client returns."""
    return wire.parse_settle(request.headers.get(wire.SETTLE_HEADER, ""))


def content_type_of(request: Request, protocol: ServingProtocol) -> str:
    """The content type for the model server: JSON, or JSON followed by raw tensors.

    Raises:
        RequestError: the header of raw tensors is not a length, or the protocol has no raw tensors.
    """
    length = request.headers.get(wire.BINARY_HEADER)
    if length is None:
        return JSON
    folded = wire.with_binary_length(_BINARY, length)
    if not protocol.routes.binary or folded == _BINARY:
        raise RequestError(f"{wire.BINARY_HEADER} is not served here, or not a length")
    return folded


def addressed_gate(gates: Sequence[Gate], body: bytes) -> Gate:
    """The gate of the model that a request's body names, where several gates share a path.

    Raises:
        RouteRefused: the body names none of their models.
    """
    if len(gates) == 1:
        return gates[0]
    try:
        model = _named.decode(body).model
    except (ValueError, RecursionError):  # msgspec.DecodeError is a ValueError
        model = ""
    for gate in gates:
        service = gate.config.served_model.service
        if model == (service.served_as or service.model):
            return gate
    raise RouteRefused("there is no such model here")


class _NamedModel(msgspec.Struct):
    model: str


_named = msgspec.json.Decoder(_NamedModel)
