"""Security and cache headers of the admin pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.responses import Response

__all__ = ["with_security_headers"]


def with_security_headers(response: Response, policy: str, *, cacheable: bool = True) -> Response:
    """Add a content security policy and related headers.

    If ``cacheable``, browsers may store the response and revalidate it; else they must not store it.
    """
    response.headers.update(
        {
            "content-security-policy": policy,
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cross-origin-resource-policy": "same-origin",
            "cache-control": "no-cache" if cacheable else "no-store",
        }
    )
    return response
