"""How a gateway stands: whether it takes requests, and which settings it goes by."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ServerState"]


@dataclass(slots=True)
class ServerState:
    """One for each process, from its start to its end.

    ``leaving``: readiness is denied, since the gateway is about to stop. ``settled`` is when the settings in force were
    read (seconds since the epoch); ``broken`` says that the file as it is now cannot be used.
    """

    leaving: bool = False
    settled: float = 0.0
    broken: bool = False
