"""One call as the server hands it over, and what its metadata says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from starlette.datastructures import Headers

from modeltoll import wire
from modeltoll.errors import RequestError
from modeltoll.gateway.callers.identify import RequestIdentity
from modeltoll.puzzle.registry import PUZZLES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.types import Scope

__all__ = ["GrpcCall"]

_ONCE = ("authorization", "x-api-key", wire.ACCEPT_HEADER.lower(), wire.GRPC_PROOF_KEY)


@dataclass(frozen=True, slots=True)
class GrpcCall:
    """A call of ``method``, such as ``/inference.GRPCInferenceService/ModelInfer``.

    ``metadata``: pairs; those whose names end in ``-bin`` are of bytes. ``peer``: of ``ServicerContext.peer``. ``read``: its
    next message, None where there is none. ``seconds_left``: until the caller stops waiting; None: for ever. ``headers``: the
    metadata of text.
    """

    method: str
    metadata: Sequence[tuple[str, str | bytes]]
    peer: str
    read: Callable[[], Awaitable[bytes | None]]
    seconds_left: float | None = None
    headers: Headers = field(init=False)

    def __post_init__(self) -> None:
        raw = [
            (name.encode("latin-1"), value.encode("latin-1", "replace"))
            for name, value in self.metadata
            if isinstance(value, str)
        ]
        object.__setattr__(self, "headers", Headers(raw=raw))

    @property
    def scope(self) -> Scope:
        """The call as what records requests reads it."""
        return {"type": "http", "method": "GRPC", "path": self.method, "headers": self.headers.raw}

    def check(self) -> None:
        """Refuse what two readers could read differently.

        Raises:
            RequestError: metadata that may come once came twice.
        """
        names = [name for name, _ in self.metadata]
        for name in _ONCE:
            if names.count(name) > 1:
                raise RequestError(f"the metadata {name} comes twice")

    def identity(self) -> RequestIdentity:
        """What identifies the caller."""
        headers = self.headers
        family, _, address = self.peer.partition(":")
        return RequestIdentity(
            authorization=headers.get("authorization"),
            api_key=headers.get("x-api-key"),
            peer=unquote(address) if family in ("ipv4", "ipv6") else "",
            forwarded_for=", ".join(headers.getlist("x-forwarded-for")),
            forwarded=", ".join(headers.getlist("forwarded")),
        )

    def accept(self) -> wire.Accept:
        """What the client says it can solve."""
        return wire.parse_accept(self.headers.get(wire.ACCEPT_HEADER, ""), PUZZLES.names())

    def receipts(self) -> tuple[bytes, ...]:
        """The receipts of earlier tolls that the client returns."""
        return wire.parse_settle(", ".join(self.headers.getlist(wire.SETTLE_HEADER)))

    def proof(self) -> bytes | None:
        """The token of an admission toll and the proof of its work."""
        values: list[Any] = [value for name, value in self.metadata if name == wire.GRPC_PROOF_KEY]
        return values[0] if values else None
