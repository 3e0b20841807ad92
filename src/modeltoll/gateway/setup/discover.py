"""Finds the models of a server, by harmless requests in every protocol that is known.

What an answer holds is marked as a guess where no answer confirmed it; the operator decides.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from modeltoll.errors import ModeltollError
from modeltoll.gateway.protocols.probe import DiscoveredModel, Probe
from modeltoll.gateway.protocols.registry import PROTOCOLS
from modeltoll.gateway.setup.openapi_services import service_at, services
from modeltoll.plugins import resolve

if TYPE_CHECKING:
    from modeltoll.gateway.protocols.registry import ProtocolSpec
    from modeltoll.gateway.upstream.upstream import Upstream

__all__ = ["DiscoveredModel", "NothingDiscovered", "discover", "discover_at"]

_SHOWN = 5  # services that are named
_LOG = logging.getLogger("modeltoll.gateway")


class NothingDiscovered(ModeltollError):
    """The server speaks no protocol that is known here, or does not name its models."""


async def discover(upstream: Upstream, model: str | None) -> tuple[DiscoveredModel, ...]:
    """The models of a server, or the one that is named.

    Raises:
        UpstreamError: it does not answer at all.
        NothingDiscovered: it speaks none of the protocols, or does not list its models.
    """
    await upstream.fetch("/")  # whatever the status: it shows that the server can be reached
    for spec in PROTOCOLS.built_in.values():
        if found := await _asked(spec, upstream, model):
            return found
    for spec in PROTOCOLS.others():
        try:
            found = await _asked(spec, upstream, model)
        except Exception as error:  # noqa: BLE001  code of another package, for a protocol that may not be this server's
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            _LOG.warning("%s is left out: %s", PROTOCOLS.describe(spec.name), reason)
            continue
        if found:
            return found
    if paths := await services(Probe(upstream)):
        options = " or ".join(f"--path {path}" for path in paths[:_SHOWN])
        raise NothingDiscovered(
            "the server names no model in a protocol that is known here; "
            f"its /openapi.json describes JSON of its own: say which service the model is, with {options}"
        )
    if model is None:
        raise NothingDiscovered(
            "the server names no model in a protocol that is known here; if it has one, name it: --model"
        )
    raise NothingDiscovered(
        f"no model {model!r} answers in a protocol that is known here; any other JSON over HTTP is protocol: json"
    )


async def discover_at(upstream: Upstream, path: str, model: str | None) -> tuple[DiscoveredModel, ...]:
    """The service at a path: lists of labels, or JSON of its own that ``/openapi.json`` describes.

    Raises:
        UpstreamError: the server does not answer at all.
        NothingDiscovered: there is no such service.
    """
    await upstream.fetch("/")
    found = await service_at(Probe(upstream), path, model)
    if found is None:
        raise NothingDiscovered(
            f"{path} answers no text with labels, and /openapi.json describes no POST of JSON there; write protocol: json "
            "and json_path into the settings yourself"
        )
    return (found,)


async def _asked(spec: ProtocolSpec, upstream: Upstream, model: str | None) -> tuple[DiscoveredModel, ...]:
    """What one protocol's discovery finds."""
    if spec.discover is None:
        return ()
    found = tuple(await resolve(spec.discover)(Probe(upstream), model))
    if not all(isinstance(each, DiscoveredModel) for each in found):
        raise TypeError("it found what is no DiscoveredModel")
    return found
