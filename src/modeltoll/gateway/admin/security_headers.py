"""The headers under which the operator's pages are served: what they may load, and who may hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.responses import Response

__all__ = ["with_security_headers"]


def with_security_headers(response: Response, policy: str, *, kept: bool = True) -> Response:
    """The same response under a content security policy; ``kept`` says whether a browser may hold it and ask again."""
    response.headers.update(
        {
            "content-security-policy": policy,
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cross-origin-resource-policy": "same-origin",
            "cache-control": "no-cache" if kept else "no-store",
        }
    )
    return response
