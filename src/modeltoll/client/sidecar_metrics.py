"""Prometheus metrics of the sidecars, without keys, paths and payloads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, generate_latest, start_http_server

if TYPE_CHECKING:
    from modeltoll.client.purse import Payment

__all__ = ["SidecarMetrics"]


class SidecarMetrics:
    """Counters of one sidecar."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "modeltoll_proxy_requests", "Requests by how they ended", ["outcome"], registry=self._registry
        )
        self._tolls = Counter("modeltoll_proxy_tolls", "Tolls paid", ["puzzle", "mode"], registry=self._registry)
        self._rows = Counter("modeltoll_proxy_rows", "Rows bought with tolls", registry=self._registry)
        self._work = Counter(
            "modeltoll_proxy_work_seconds", "Expected reference seconds of the tolls paid", registry=self._registry
        )
        self._waiting = Counter(
            "modeltoll_proxy_solving_seconds", "Seconds that solving them took", registry=self._registry
        )

    def record_payment(self, payment: Payment) -> None:
        """Count a payment; a purse calls this."""
        self._tolls.labels(payment.puzzle, payment.mode).inc()
        self._rows.inc(payment.rows)
        self._work.inc(payment.expected)
        self._waiting.inc(payment.seconds)

    def record_request(self, outcome: str) -> None:
        """Count a request that was ``answered``, ``refused`` (its toll was not paid) or ``failed`` (no answer)."""
        self._requests.labels(outcome).inc()

    def render(self) -> bytes:
        """The body of ``/metrics``."""
        return generate_latest(self._registry)

    def start_server(self, host: str, port: int) -> None:
        """Serve ``/metrics`` on an address of its own, in a daemon thread.

        Raises:
            OSError: the address cannot be listened on.
        """
        start_http_server(port, host, self._registry)
