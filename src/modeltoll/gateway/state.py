"""The state of a gateway process: whether it is draining, and the state of its settings."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ServerState"]


@dataclass(slots=True)
class ServerState:
    """One per process, from its start to its end.

    ``draining``: the gateway is about to stop and reports that it is not ready. ``settings_loaded_at`` is when the
    active settings were read (seconds since the epoch). ``settings_invalid``: the current settings file cannot be used.
    """

    draining: bool = False
    settings_loaded_at: float = 0.0
    settings_invalid: bool = False
