"""The interface of a model server, as the gateway uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from modeltoll.gateway.protocols.protocol import JSON

if TYPE_CHECKING:
    from modeltoll.records import Answer

__all__ = ["Upstream"]


class Upstream(Protocol):
    """The server that runs the model."""

    async def open(self) -> None:
        """Prepare connections; called once before any request."""

    async def close(self) -> None:
        """Close all connections."""

    async def predict(self, path: str, body: bytes, content_type: str = JSON) -> Answer:
        """Post a request body to a path and return the server's answer, whatever its status.

        Content types are those of ``wire.with_binary_length``.

        Raises:
            UpstreamError: the server is down or did not complete its response (``UpstreamTimeout``: it did not answer in time).
            AnswerError: the answer is larger than the limit, compressed, or of a content type that cannot be passed on.
        """

    async def fetch(self, path: str) -> Answer:
        """Get a path; otherwise as ``predict``."""
