"""What of a request's query and headers goes to the model server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_plus, urlencode

from modeltoll.errors import RequestError
from modeltoll.gateway.core.request import SHADOW
from modeltoll.gateway.settings.upstream import TRACE_HEADERS
from modeltoll.gateway.upstream.upstream import NO_HEAD, RequestHead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.datastructures import Headers
    from starlette.requests import Request

    from modeltoll.gateway.core.gate import Gate

__all__ = ["head_of", "metadata_head", "trace_headers"]

_MOST_QUERY_BYTES = 4096
_MOST_VALUE_BYTES = 1024  # of a header
_MOST_READ_HEADERS_BYTES = 4096  # of all headers that the model may read
_TRACE_VALUES = {
    "traceparent": re.compile(r"[0-9a-f-]{1,128}"),
    "tracestate": re.compile(r"[ -~]{1,512}"),
    # Servers repeat it in their answers: a long one would lengthen these.
    "x-request-id": re.compile(r"[A-Za-z0-9_.:/+=@-]{1,128}"),
}


def head_of(request: Request, gates: Sequence[Gate], request_headers: Sequence[str]) -> RequestHead:
    """The query and the headers of a request to one of these gates. ``request_headers`` are the names that are passed on.

    The query is written anew, so that the model server reads the same parameters as were checked.

    Raises:
        RequestError: the query has a parameter that neither the protocol knows nor the settings allow, or cannot be read;
            or a header that the model may read is too long or no text.
    """
    raw: bytes = request.scope.get("query_string", b"")
    query = _query(raw, gates) if raw else ""
    if not request_headers:
        return RequestHead(query) if query else NO_HEAD
    traces, read = trace_headers(request.headers, request_headers), _read_headers(request.headers, request_headers)
    return RequestHead(query, traces, read) if query or traces or read else NO_HEAD


def metadata_head(metadata: Headers, request_headers: Sequence[str]) -> RequestHead:
    """The same of a call's metadata, which has no query.

    Raises:
        RequestError: metadata that the model may read is too long or no text.
    """
    return RequestHead("", trace_headers(metadata, request_headers), _read_headers(metadata, request_headers))


def _query(raw: bytes, gates: Sequence[Gate]) -> str:
    """A query in canonical form, whose parameters are all known, or any where all gates are in shadow mode."""
    if len(raw) > _MOST_QUERY_BYTES:
        raise RequestError(f"the query is longer than {_MOST_QUERY_BYTES} bytes")
    try:
        written = [pair.partition("=") for pair in raw.decode("ascii").split("&") if pair]
        pairs = [
            (unquote_plus(name, errors="strict"), unquote_plus(value, errors="strict")) for name, _, value in written
        ]
    except UnicodeDecodeError:
        raise RequestError("the query is not percent-encoded UTF-8") from None
    models = [gate.config.served_model for gate in gates]
    known = {name for model in models for name in (*model.protocol.routes.query, *model.service.allow_query)}
    shadow = all(gate.config.mode == SHADOW for gate in gates)
    for name, _ in pairs:
        if name not in known and not shadow:
            raise RequestError(f"the query parameter {name[:64]!r} is not served here: it could change the answer")
    return urlencode(pairs, safe="", quote_via=quote)


def trace_headers(headers: Headers, names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The headers among ``names`` that say nothing to a model. What is not of their form is left out."""
    found = []
    for name in names:
        values = headers.getlist(name) if name in TRACE_HEADERS else []
        if len(values) == 1 and _TRACE_VALUES[name].fullmatch(values[0]):
            found.append((name, values[0]))
    return tuple(found)


def _read_headers(headers: Headers, names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The other headers among ``names``, which the model may read."""
    found = []
    for name in names:
        if name in TRACE_HEADERS or name not in headers:
            continue
        value = ", ".join(headers.getlist(name))
        if len(value) > _MOST_VALUE_BYTES or not (value.isascii() and value.isprintable()):
            raise RequestError(f"the header {name} is longer than {_MOST_VALUE_BYTES} characters, or no plain text")
        found.append((name, value))
    if sum(len(name) + len(value) for name, value in found) > _MOST_READ_HEADERS_BYTES:
        raise RequestError("the request's headers are too long")
    return tuple(found)
