"""Reads and checks an HTTP request before it reaches a gate: its body, path, caller, content type and model."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from starlette.requests import ClientDisconnect, Request

from modeltoll import wire
from modeltoll.errors import BodyTooLarge, BodyTooSlow, ContentTypeRefused, RequestError, RouteRefused
from modeltoll.gateway.callers.identify import RequestIdentity
from modeltoll.gateway.core.request import SHADOW
from modeltoll.gateway.core.unmeasured import CONTENT_TYPE, VERSION
from modeltoll.gateway.protocols.protocol import JSON
from modeltoll.puzzle.registry import PUZZLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Scope

    from modeltoll.gateway.core.gate import Gate
    from modeltoll.gateway.protocols.protocol import ServingProtocol
    from modeltoll.gateway.public.shared_capacity import CapacityHolding

__all__ = [
    "accept_of",
    "check_json",
    "content_of",
    "content_type_of",
    "identity_of",
    "path_of",
    "read_body",
    "receipts_of",
    "route_path",
    "written_path",
]

_BINARY = "application/octet-stream"
_JSON_TYPE = re.compile(r"application/(?:[a-z0-9!#$&^_.-]+\+)?json")
_GRACE_SECONDS = 10.0  # for the first bytes of a body, and after any pause
_LEAST_RATE = 1024.0  # bytes per second
_BROWSER_HEADERS = ("origin", "sec-fetch-site")
_VERSION_CHARACTERS = 64  # of a version in the log
_OWN_PAGES = ("same-origin", "none")  # values of Sec-Fetch-Site
_SIMPLE_TYPES = ("", "text/plain", "multipart/form-data", "application/x-www-form-urlencoded")
_SLASH = re.compile(r"/|%2f", re.IGNORECASE)


async def read_body(
    request: Request,
    limit: int,
    holding: CapacityHolding | None = None,
    least_rate: float = _LEAST_RATE,
    *,
    compressed: bool = False,
) -> bytes:
    """The body of a request; its bytes are added to ``holding`` as they come.

    A body must not fall behind ``least_rate``, in bytes per second, by more than 10 s, nor pause for 10 s.

    Raises:
        BodyTooLarge: it is larger than ``limit`` bytes. BodyTooSlow: it comes too slowly. RequestError: it is
            compressed, and ``compressed`` is False. Overloaded, CallerBusy: it does not fit into what ``holding`` may take. ClientDisconnect: the
            client closed the connection.
    """
    if not compressed and request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestError("compressed requests are not served here")
    _check_length(request, limit, holding)
    loop = asyncio.get_running_loop()
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_GRACE_SECONDS) as deadline:
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit)
                if holding is not None:
                    holding.add(len(chunk))
                chunks.append(chunk)
                if not message.get("more_body", False):
                    break
                paid = (deadline.when() or loop.time()) + len(chunk) / least_rate
                deadline.reschedule(min(paid, loop.time() + _GRACE_SECONDS))
    except TimeoutError:
        raise BodyTooSlow(f"the request's body came slower than {least_rate:g} bytes a second") from None
    return b"".join(chunks)


def _check_length(request: Request, limit: int, holding: CapacityHolding | None) -> None:
    """Refuse a body by the length that it is said to have, before any of it is read; raises as ``read_body``."""
    stated = request.headers.get("content-length", "0")
    if stated.isdecimal() and (len(stated) > 18 or int(stated) > limit):
        raise _too_large(limit)
    if holding is not None and stated.isdecimal():
        holding.check(int(stated))


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the request's body is larger than {limit} bytes")


def path_of(template: str, request: Request) -> str:
    """The upstream path of a request, formatted from the route's template, so that no other path can be reached.

    Raises:
        RouteRefused: the request's path is written in another way.
    """
    parameters = request.path_params
    path = template.format(**parameters)
    if path != route_path(request.scope):
        raise RouteRefused("this route is not served here")
    return path


def route_path(scope: Scope) -> str:
    """The path of a request below the application's root, where it is mounted or behind a proxy's prefix."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


def written_path(scope: Scope, path: str) -> str:
    """The decoded ``path``, which is the end of a request's path, as the client wrote it: percent-encoded.

    A reference is resolved against the path as it is written, in which an encoded slash separates nothing. It is ``path``
    itself where the server does not pass on what was written, or what it passes on ends in another way.
    """
    raw: str = (scope.get("raw_path") or b"").partition(b"?")[0].decode("latin-1")
    if "%" not in raw and raw.endswith(path):
        return path
    slashes = [slash.start() for slash in _SLASH.finditer(raw)]
    depth = path.count("/")
    written = raw[slashes[-depth] :] if 0 < depth <= len(slashes) else ""
    return written if unquote(written) == path else path


def identity_of(request: Request) -> RequestIdentity:
    """The headers and the peer address that identify the caller."""
    headers, peer = request.headers, request.scope.get("client")
    return RequestIdentity(
        authorization=headers.get("authorization"),
        api_key=headers.get("x-api-key"),
        peer=peer[0] if peer else "",
        forwarded_for=", ".join(headers.getlist("x-forwarded-for")),  # proxies may append a line of their own
        forwarded=", ".join(headers.getlist("forwarded")),
    )


def accept_of(request: Request) -> wire.Accept:
    """What the client says it can solve."""
    return wire.parse_accept(request.headers.get(wire.ACCEPT_HEADER, ""), PUZZLES.names())


def _media_type(request: Request) -> str:
    """The media type of a request's body, in small letters and without parameters; empty where none or several are given."""
    values = request.headers.getlist("content-type")
    return values[0].partition(";")[0].strip().lower() if len(values) == 1 else ""


def check_json(request: Request) -> None:
    """A body that is JSON must say so, because a web page of another origin cannot say it without asking.

    No content type at all is JSON too where no browser sends the request. A browser adds ``Origin`` to every POST of a
    page of another origin, and ``Sec-Fetch-Site`` to every request.

    Raises:
        ContentTypeRefused: the content type is another one, given several times, or missing from a browser's request.
    """
    if _JSON_TYPE.fullmatch(_media_type(request)):
        return
    if any(name in request.headers for name in ("content-type", *_BROWSER_HEADERS)):
        raise ContentTypeRefused(
            "the request's body is not sent as JSON: add the header Content-Type: application/json"
        )


def receipts_of(request: Request) -> tuple[bytes, ...]:
    """The receipts of earlier tolls that the client returns."""
    return wire.parse_settle(request.headers.get(wire.SETTLE_HEADER, ""))


def content_type_of(request: Request, protocol: ServingProtocol) -> str:
    """The content type for the model server: JSON, or JSON followed by raw tensors.

    Raises:
        ContentTypeRefused: the content type is neither JSON nor, with the header of raw tensors, ``application/octet-stream``.
        RequestError: the header of raw tensors is not a length, or the protocol has no raw tensors.
    """
    length = request.headers.get(wire.BINARY_HEADER)
    if length is None:
        check_json(request)
        return JSON
    folded = wire.with_binary_length(_BINARY, length)
    if not protocol.routes.binary or folded == _BINARY:
        raise RequestError(f"{wire.BINARY_HEADER} is not served here, or not a length")
    # Pages of other origins cannot add this header without asking. Clients of raw tensors may name no type at all.
    if "content-type" in request.headers and _media_type(request) != _BINARY:
        check_json(request)
    return folded


def _content_in_shadow_mode(request: Request, protocol: ServingProtocol) -> tuple[str, str]:
    """The content type for the model server, whatever it is, and why the body is not read; empty where it is.

    Raises:
        ContentTypeRefused: a page of another origin could have sent it without asking. RequestError: there are several.
    """
    try:
        return content_type_of(request, protocol), ""
    except (ContentTypeRefused, RequestError):
        sent, media_type = request.headers.getlist("content-type"), _media_type(request)
        foreign = any(name in request.headers for name in _BROWSER_HEADERS)
        own_page = request.headers.get("sec-fetch-site") in _OWN_PAGES
        if len(sent) > 1 or (foreign and not own_page and media_type in _SIMPLE_TYPES):
            raise
        content_type = sent[0] if sent else _BINARY
        if not (content_type.isascii() and content_type.isprintable()):
            raise
        folded = wire.with_binary_length(content_type, request.headers.get(wire.BINARY_HEADER))
        return folded, f"{CONTENT_TYPE}: {media_type or 'none'}"


def content_of(gates: Sequence[Gate], http_request: Request, protocol: ServingProtocol) -> tuple[str, str]:
    """The content type for the model server, and why shadow mode does not read the body; empty where it is read.

    Where several models share a path, the body must be read to find out which of them is meant.
    """
    config = gates[0].config
    if len(gates) > 1 or config.mode != SHADOW:
        return content_type_of(http_request, protocol), ""
    version = http_request.path_params.get("version")
    content_type, unread = _content_in_shadow_mode(http_request, protocol)
    if version is not None and version not in config.served_model.service.versions:
        unread = f"{VERSION}: {version[:_VERSION_CHARACTERS]}"
    return content_type, unread
