"""Which model a call is for, and the path of the same request over HTTP."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeltoll.errors import RouteRefused
from modeltoll.gateway.core.request import SHADOW
from modeltoll.gateway.core.unmeasured import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeltoll.gateway.core.gate import Gate

__all__ = ["Addressed", "addressed"]

_VERSION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class Addressed:
    """The gate of a model, and the model server's path for it. ``unread``: of ``GateRequest``."""

    gate: Gate
    path: str
    unread: str = ""


def addressed(gates: Mapping[str, Gate], model: str, version: str) -> Addressed:
    """Where a call for a model and a version (which may be empty) leads.

    Raises:
        RouteRefused: there is no such model, or its version is not listed.
    """
    gate = gates.get(model) or next((one for one in gates.values() if _is_served_as(one, model)), None)
    if gate is None:
        raise RouteRefused("there is no such model or version here")
    path = f"/v2/models/{model}"
    if not version:
        return Addressed(gate, path)
    path += f"/versions/{version}"
    if version in gate.config.served_model.service.versions:
        return Addressed(gate, path)
    if gate.config.mode == SHADOW and _VERSION_NAME.fullmatch(version):
        return Addressed(gate, path, f"{VERSION}: {version}")
    raise RouteRefused("there is no such model or version here")


def _is_served_as(gate: Gate, model: str) -> bool:
    """Whether a name with slashes is the model's at its server, as in paths of HTTP."""
    return "/" in model and model == gate.config.served_model.service.served_as
