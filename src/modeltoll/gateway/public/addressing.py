"""Which gate a request is for: that of the model and the version that its path names, or its body."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from modeltoll.errors import RouteRefused
from modeltoll.gateway.core.request import SHADOW
from modeltoll.gateway.protocols.strict_json import BYTE_ORDER_MARK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from modeltoll.gateway.core.gate import Gate

__all__ = ["addressed_gate", "is_any_version", "is_served_as", "matching_gates"]

# Of a version; an encoded slash or question mark could leave the model.
_VERSION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def is_any_version(gate: Gate, version: str) -> bool:
    """Whether a version that is not listed is served: in shadow mode, if no server can take it for more than a version."""
    return gate.config.mode == SHADOW and _VERSION_NAME.fullmatch(version) is not None


def is_served_as(gate: Gate, model: str) -> bool:
    """Whether a name with slashes is the model's at its server."""
    return "/" in model and model == gate.config.served_model.service.served_as


def matching_gates(gates: Sequence[Gate], http_request: Request) -> Sequence[Gate]:
    """The gates of the model that the path names; all of them where it names none.

    Raises:
        RouteRefused: the path names another model, or a version of it that is not listed.
    """
    model, version = (http_request.path_params.get(name) for name in ("model", "version"))
    services = [(gate, gate.config.served_model.service) for gate in gates]
    matching = [
        gate
        for gate, service in services
        if (model in (None, service.model) or is_served_as(gate, model))
        and (version is None or version in service.versions or is_any_version(gate, version))
    ]
    if not matching:
        raise RouteRefused("there is no such model or version here")
    return matching


def addressed_gate(gates: Sequence[Gate], body: bytes) -> Gate:
    """The gate of the model that a request's body names, where several gates share a path.

    Raises:
        RouteRefused: the body names none of their models.
    """
    if len(gates) == 1:
        return gates[0]
    try:
        model = _named.decode(body.removeprefix(BYTE_ORDER_MARK)).model
    except (ValueError, RecursionError):  # msgspec.DecodeError is a ValueError
        model = ""
    for gate in gates:
        service = gate.config.served_model.service
        if model == (service.served_as or service.model):
            return gate
    raise RouteRefused("there is no such model here")


class _NamedModel(msgspec.Struct):
    model: str


_named = msgspec.json.Decoder(_NamedModel)
