"""How receipts that no request returned are posted over gRPC: with calls that ask for nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from modeltoll import wire
from modeltoll.client.grpc_exchange import changed_details
from modeltoll.client.receipts import Account, Settlement
from modeltoll.client.settling import POST_SECONDS
from modeltoll.open_inference_messages import SERVER_LIVE

__all__ = ["NO_ROUTE", "POSTED", "Route", "Routes", "settle_status"]

POSTED, NO_ROUTE = 204, 0  # what a settler's post returns
_FAILED, _REFUSED = 503, 400
_MAX_ROUTES = 1_000  # accounts
_TRANSIENT = frozenset(
    (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
    )
)


@dataclass(frozen=True, slots=True)
class Route:
    """A way to the gateway: the rest of an interceptor's chain, and the details of a call.

    ``empty`` makes a request without content, of the class that the stub serialises.
    """

    continuation: Callable[[Any, Any], Any]
    details: Any
    empty: Callable[[], Any]


class Routes:
    """The ways of the last tolls of at most 1,000 accounts."""

    def __init__(self) -> None:
        self._routes: dict[Account, Route] = {}

    def keep(self, account: Account, route: Route) -> None:
        """Keep the way of an account's toll."""
        if len(self._routes) >= _MAX_ROUTES:
            self._routes.clear()
        self._routes[account] = route

    def posts(self, settlement: Settlement) -> Iterator[tuple[Route, Any]]:
        """The calls that return the receipts: a way, and the details with the account's credentials. None if it is lost."""
        route = self._routes.get(settlement.account)
        if route is None:
            return
        credentials = [(name.lower(), value) for name, value in settlement.account.headers().items()]
        method = SERVER_LIVE.encode() if isinstance(route.details.method, bytes) else SERVER_LIVE
        receipts = [one.receipt for one in settlement.held]
        for start in range(0, len(receipts), wire.MAX_HEADER_RECEIPTS):
            value = wire.format_settle(receipts[start : start + wire.MAX_HEADER_RECEIPTS])
            metadata = [*credentials, (wire.SETTLE_HEADER.lower(), value)]
            yield route, changed_details(route.details, metadata, POST_SECONDS, method)


def settle_status(code: grpc.StatusCode) -> int:
    """The HTTP status that means to a settler what this code means."""
    return POSTED if code is grpc.StatusCode.OK else _FAILED if code in _TRANSIENT else _REFUSED
