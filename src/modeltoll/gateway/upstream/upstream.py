"""What the gateway asks of a model server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from modeltoll.gateway.protocols.protocol import JSON

if TYPE_CHECKING:
    from modeltoll.records import Answer

__all__ = ["Upstream"]


class Upstream(Protocol):
    """The server that runs the model."""

    async def open(self) -> None:
        """Get ready to ask."""

    async def close(self) -> None:
        """Let go of all connections."""

    async def predict(self, path: str, body: bytes, content_type: str = JSON) -> Answer:
        """Post a request body to a path and return what the server says, whatever its status.

        Content types are those of ``wire.with_binary_length``.

        Raises:
            UpstreamError: it is down or broke off (``UpstreamTimeout``: it did not answer in time).
            AnswerError: its answer is larger than the limit, compressed, or of a content type that cannot be handed on.
        """

    async def fetch(self, path: str) -> Answer:
        """The same for a GET."""
