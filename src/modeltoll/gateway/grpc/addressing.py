"""Which model a call is for, and the path of the same request over HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeltoll.errors import RouteRefused
from modeltoll.gateway.core.unmeasured import VERSION
from modeltoll.gateway.public.addressing import is_any_version, is_served_as

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeltoll.gateway.core.gate import Gate

__all__ = ["Target", "target_of"]


@dataclass(frozen=True, slots=True)
class Target:
    """The gate of a model, and the model server's path for it. ``unread``: of ``GateRequest``."""

    gate: Gate
    path: str
    unread: str = ""


def target_of(gates: Mapping[str, Gate], model: str, version: str) -> Target:
    """Where a call for a model and a version (which may be empty) leads.

    Raises:
        RouteRefused: there is no such model, or its version is not listed.
    """
    gate = gates.get(model) or next((one for one in gates.values() if is_served_as(one, model)), None)
    if gate is None:
        raise RouteRefused("there is no such model or version here")
    path = f"/v2/models/{model}"
    if not version:
        return Target(gate, path)
    path += f"/versions/{version}"
    if version in gate.config.served_model.service.versions:
        return Target(gate, path)
    if is_any_version(gate, version):
        return Target(gate, path, f"{VERSION}: {version}")
    raise RouteRefused("there is no such model or version here")
