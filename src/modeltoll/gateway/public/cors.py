"""Which web pages may call the gateway from a browser (Cross-Origin Resource Sharing).

Keys travel in headers that a page's own script adds, never in cookies. A page whose origin is allowed may send the headers
that clients of model servers and tracing libraries add; an operator can list more, but none by which proxies say where a
request comes from.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse

from modeltoll import wire

if TYPE_CHECKING:
    from starlette.datastructures import Headers
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["CorsPolicy", "PageAccess"]

log = logging.getLogger("modeltoll.gateway")

_METHODS = ("GET", "HEAD", "POST")
_ALLOWED = frozenset(
    (
        *("accept", "accept-language", "content-language", "content-type", "user-agent", "x-requested-with"),
        *("cache-control", "pragma", "priority", "prefer", "range", "http-referer", "x-title"),
        *("authorization", "x-api-key", "api-key"),
        *(name.lower() for name in (wire.ACCEPT_HEADER, wire.SETTLE_HEADER, wire.BINARY_HEADER)),
        *(
            "idempotency-key",
            "x-idempotency-key",
            "request-id",
            "x-request-id",
            "x-client-request-id",
            "x-correlation-id",
        ),
        # Tracing: W3C, Zipkin, Jaeger, and what the browser agents of monitoring services add to each fetch.
        *("traceparent", "tracestate", "baggage", "b3", "uber-trace-id", "sentry-trace", "newrelic", "request-context"),
        *("elastic-apm-traceparent", "x-amzn-trace-id", "x-cloud-trace-context", "langsmith-trace"),
        *("x-use-cache", "x-wait-for-model", "x-compute-type", "x-goog-api-client"),  # of Hugging Face and Google
    )
)
_ALLOWED_PREFIXES = ("x-stainless-", "openai-", "x-b3-", "x-datadog-", "triton-", "ce-")
_NOT_FOR_PAGES = re.compile(r"forwarded|via|x-forwarded-.*|x-real-ip|true-client-ip|cf-connecting-ip|x-client-ip")
# Besides all others, which "*" exposes in browsers that know it.
_EXPOSED = (
    wire.RECEIPT_HEADER,
    wire.AUTHENTICATE_HEADER,
    wire.BINARY_HEADER,
    "Retry-After",
    "X-Request-Id",
    "*",
)
_MOST_LOGGED = 100  # refusals that the log names, for anyone can make them up
_LOGGED_CHARACTERS = 100
_ORIGIN_REFUSED = "CORS: pages of %s cannot call this gateway or read its answers, for cors.origins does not list them"


@dataclass(frozen=True, slots=True)
class CorsPolicy:
    """Which pages may call the gateway.

    ``origins``: such as ``https://app.example.org``; ``*`` for all. ``headers``: of their requests, beside those that are
    always allowed; ``*`` for all. ``max_age``: for how many seconds browsers keep the answer to a preflight.
    """

    origins: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    max_age: int = 600


class PageAccess(CORSMiddleware):
    """Lets pages of these origins send requests and read the answers, and logs once why a page of another one cannot."""

    def __init__(self, app: ASGIApp, policy: CorsPolicy) -> None:
        """The pages of the policy's origins may call ``app``."""
        super().__init__(
            app,
            allow_origins=policy.origins,
            allow_methods=_METHODS,
            allow_headers=("*",),
            allow_private_network=True,
            expose_headers=_EXPOSED,
            max_age=policy.max_age,
        )
        self._further = frozenset(name.lower() for name in policy.headers)
        self._logged: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http":
            for name, value in scope["headers"]:
                if name == b"origin":
                    origin = value.decode("latin-1")
                    if not self.is_allowed_origin(origin):
                        self._log_once(origin, _ORIGIN_REFUSED)
                    break
        await (super().__call__ if self.allow_origins else self.app)(scope, receive, send)

    def preflight_response(self, request_headers: Headers) -> Response:
        """The response to a preflight: 200, or 400 with what is not allowed."""
        asked = request_headers.get("access-control-request-headers", "")
        refused = ", ".join(name for name in map(str.strip, asked.lower().split(",")) if not self._is_allowed(name))
        if not refused or not self.is_allowed_origin(request_headers["origin"]):
            return super().preflight_response(request_headers)
        self._log_once(
            refused, "CORS: a page's request has headers that cors.headers does not list, and was not sent: %s"
        )
        vary = {"Vary": self.preflight_headers["Vary"]}
        return PlainTextResponse(f"Disallowed CORS headers: {refused}", status_code=400, headers=vary)

    def _is_allowed(self, name: str) -> bool:
        if not name or name in _ALLOWED or name.startswith(_ALLOWED_PREFIXES):
            return True
        return bool(self._further & {name, "*"}) and not _NOT_FOR_PAGES.fullmatch(name)

    def _log_once(self, what: str, message: str) -> None:
        what = ascii(what[:_LOGGED_CHARACTERS])
        if what not in self._logged and len(self._logged) < _MOST_LOGGED:
            self._logged.add(what)
            log.warning(message, what)
