"""Serving protocols as the settings name them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from modeltoll.errors import SettingsError
from modeltoll.gateway.protocols.protocol import DeclaredInput, Routes, ServiceDescription
from modeltoll.gateway.protocols.registry import PROTOCOLS
from modeltoll.plugins import call_factory, check_made

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modeltoll.gateway.core.request import ServedModel
    from modeltoll.gateway.protocols.protocol import ServingProtocol
    from modeltoll.gateway.settings.served_models import ModelSettings

_METHODS = ("read", "evidence", "ask", "error", "error_member", "error_text")

__all__ = ["build_protocol", "build_service", "path_conflicts"]


def build_protocol(model: ModelSettings) -> ServingProtocol:
    """The protocol that a model's settings name, with its options.

    Raises:
        SettingsError: there is none of that name that can be used, its options do not fit, or it is not a protocol that can be served.
    """
    spec = PROTOCOLS.find(model.protocol)
    options: Mapping[str, Any] = model.protocol_options
    if model.json_path is not None:
        options = model.json_path.model_dump()
    what = PROTOCOLS.describe(spec.name)
    protocol: ServingProtocol = call_factory(spec.factory, options, what)
    check_made(protocol, spec.name, _METHODS, what)
    _check_routes(getattr(protocol, "routes", None), what)
    return protocol


def _check_routes(routes: object, what: str) -> None:
    """Each path begins with ``/`` and holds no placeholder but ``{model}`` and ``{version}``, or ``SettingsError`` is raised."""
    if not isinstance(routes, Routes):
        raise SettingsError([f"{what}: its routes are {type(routes).__name__}, not Routes"])
    served: tuple[object, object] = (routes.infer, routes.pass_through)
    if not routes.infer or not all(isinstance(paths, tuple) for paths in served):
        raise SettingsError([f"{what}: infer and pass_through are tuples of paths, and infer is not empty"])
    paths = (*routes.infer, *routes.pass_through, routes.ready)
    for path in paths if routes.metadata is None else (*paths, routes.metadata):
        try:
            usable = path.format(model="m", version="1").startswith("/")
        except (AttributeError, LookupError, ValueError):
            usable = False
        if not usable:
            raise SettingsError([f"{what}: the path {path!r} does not begin with '/', or holds an unknown placeholder"])


def build_service(name: str, model: ModelSettings, max_rows: int) -> ServiceDescription:
    """A model as its owner declares it."""
    output = model.output
    return ServiceDescription(
        name,
        output.name,
        output.kind,
        output.number_of_classes,
        unmeasured=output.unmeasured,
        max_rows=max_rows,
        partial=output.partial,
        labels=output.labels,
        served_as=model.served_as,
        inputs=tuple(DeclaredInput(one.name, one.width, one.datatype) for one in model.inputs),
        allow_members=model.allow_members,
        versions=model.versions,
        logprobs=output.logprobs,
        top_logprobs=output.top_logprobs,
        neutral_defaults=output.neutral_defaults,
        allow_query=model.allow_query,
        tolerance=output.tolerance,
        batched=model.batched,
    )


def path_conflicts(served_models: Mapping[str, ServedModel]) -> Iterator[str]:
    """One sentence for each path at which a request could be for more than one model."""
    behind: dict[str, list[ServedModel]] = {}
    for served_model in served_models.values():
        for template in served_model.protocol.routes.infer:
            if "{model}" not in template:
                behind.setdefault(template, []).append(served_model)
    for template, those in behind.items():
        names = ", ".join(served_model.service.model for served_model in those)
        if (
            any(not PROTOCOLS.find(served_model.protocol.name).names_model for served_model in those[1:])
            or len({served_model.protocol.name for served_model in those}) > 1
        ):
            yield f"models: {names} are all asked at {template}, and nothing says which is meant"
        addressed = Counter(served_model.service.served_as or served_model.service.model for served_model in those)
        if addressed.most_common(1)[0][1] > 1:
            yield f"models: {names} have the same name at {template}; give each its own served_as"
