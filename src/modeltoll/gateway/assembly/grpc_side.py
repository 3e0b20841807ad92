"""Builds what handles calls over gRPC: a gate for each model of the Open Inference Protocol, beside the one of HTTP."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from modeltoll.errors import SettingsError
from modeltoll.gateway.core.gate import Gate
from modeltoll.gateway.protocols.oip import OpenInference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeltoll.gateway.assembly.gateway import SharedResources
    from modeltoll.gateway.core.request import GateRuntime
    from modeltoll.gateway.grpc.application import GrpcApplication
    from modeltoll.gateway.public.ingress import Ingress
    from modeltoll.gateway.settings.gateway import Settings
    from modeltoll.gateway.upstream.upstream import Upstream

__all__ = ["HttpSide", "build_grpc_side"]


@dataclass(frozen=True, slots=True)
class HttpSide:
    """What calls over gRPC share with requests over HTTP: gates, model server, limits, time, ledger, metrics, records."""

    gates: Mapping[str, Gate]
    upstream: Upstream
    ingress: Ingress
    runtime: GateRuntime
    shared: SharedResources


def build_grpc_side(settings: Settings, http: HttpSide) -> GrpcApplication | None:
    """What handles calls over gRPC; None where the settings have no address for them.

    Raises:
        SettingsError: the extra is not installed.
    """
    if settings.listen_grpc is None:
        return None
    try:
        from modeltoll.gateway.grpc.application import GrpcApplication, GrpcComponents  # noqa: PLC0415  an extra
        from modeltoll.gateway.grpc.reading import MessageReader  # noqa: PLC0415
        from modeltoll.gateway.protocols.oip_grpc import OpenInferenceGrpc  # noqa: PLC0415
        from modeltoll.gateway.upstream.messages_over_http import MessagesOverHttp  # noqa: PLC0415
    except ImportError:
        raise SettingsError(["listen_grpc: gRPC needs more: pip install 'modeltoll[grpc]'"]) from None
    upstream = http.upstream if settings.upstream.is_grpc else MessagesOverHttp(http.upstream)
    gates = {}
    for name, gate in http.gates.items():
        served_model = gate.config.served_model
        if isinstance(served_model.protocol, OpenInference):
            config = replace(gate.config, served_model=replace(served_model, protocol=OpenInferenceGrpc()))
            gates[name] = Gate(config, upstream, http.shared.ledger, http.runtime, http.shared.deferred_receipts)
    reader = MessageReader(http.ingress.policy, settings.limits.message_seconds)
    return GrpcApplication(
        GrpcComponents(gates, upstream, http.ingress, reader, http.shared.metrics, http.runtime, http.shared.recorder)
    )
