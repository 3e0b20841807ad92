"""What is checked before a request reaches a gate: places, bytes and speed of bodies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeltoll import wire
from modeltoll.gateway.public.shared_capacity import SharedCapacity
from modeltoll.gateway.settings.upstream import TRACE_HEADERS

if TYPE_CHECKING:
    from modeltoll.gateway.callers.identify import CallerIdentifier
    from modeltoll.gateway.public.shared_capacity import CapacityHolding

__all__ = ["Ingress", "IngressPolicy"]


@dataclass(frozen=True, slots=True)
class IngressPolicy:
    """What is checked before a request reaches a gate.

    ``max_body`` bounds the body of an inference request in bytes, ``max_redemption`` that of a redemption, and
    ``max_bodies`` all bodies that are here at the same time. ``max_requests`` bounds the requests that are handled at
    the same time. One caller holds at most ``caller_share`` of the places and of the bytes that other callers leave.
    ``least_rate`` is the lowest speed of a body in bytes per second. ``cors_origins`` are the origins whose pages may
    send requests from a browser; ``*`` stands for all. ``cors_headers``, ``cors_max_age``: see ``CorsPolicy``.
    ``request_headers`` are those that are passed on to the model server. ``root_path`` is the path below which a proxy
    serves the gateway without removing it; empty if there is none. ``white_space_seconds``: see ``EarlyHead``.
    """

    identifier: CallerIdentifier
    max_body: int
    max_requests: int
    cors_origins: tuple[str, ...] = ()
    max_redemption: int = wire.MAX_TOLL_BYTES
    max_bodies: int = 2 * wire.MAX_TOLL_BYTES
    caller_share: float = 0.5
    least_rate: float = 1024.0
    request_headers: tuple[str, ...] = TRACE_HEADERS
    cors_headers: tuple[str, ...] = ()
    cors_max_age: int = 600
    root_path: str = ""
    white_space_seconds: float = 10.0


class Ingress:
    """The requests that are inside the gateway."""

    def __init__(self, policy: IngressPolicy) -> None:
        self.policy = policy
        self._places = SharedCapacity(policy.max_requests, policy.caller_share, unit="requests")
        self._bodies = SharedCapacity(policy.max_bodies, policy.caller_share, unit="bytes of requests")

    @property
    def requests(self) -> int:
        """How many requests are here."""
        return self._places.held

    @property
    def body_bytes(self) -> int:
        """How many bytes of bodies are here."""
        return self._bodies.held

    def place(self, caller: str) -> _Place:
        """A place for a request, from the first byte of its body to the last of its answer, as a context.

        The context gives the bytes of its body. Entering raises:
            Overloaded: all places are taken. CallerBusy: the caller has as many as one caller may have.
        """
        return _Place(self._places.hold(caller), self._bodies.hold(caller))


class _Place:
    """The place of one request, and the bytes of its body, while the context lasts."""

    __slots__ = ("_body", "_place")

    def __init__(self, place: CapacityHolding, body: CapacityHolding) -> None:
        self._place, self._body = place, body

    def __enter__(self) -> CapacityHolding:
        self._place.add(1)
        return self._body

    def __exit__(self, *_: object) -> None:
        self._body.give_back()
        self._place.give_back()
