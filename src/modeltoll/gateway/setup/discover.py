"""Finds the models of a server, by harmless requests in every protocol that is known.

What an answer holds is marked as a guess where no answer confirmed it; the operator decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeltoll.errors import ModeltollError
from modeltoll.gateway.protocols.probe import DiscoveredModel, Probe
from modeltoll.gateway.protocols.registry import PROTOCOLS
from modeltoll.plugins import resolve

if TYPE_CHECKING:
    from modeltoll.gateway.upstream.upstream import Upstream

__all__ = ["DiscoveredModel", "NothingDiscovered", "discover"]


class NothingDiscovered(ModeltollError):
    """The server speaks no protocol that is known here, or does not name its models."""


async def discover(upstream: Upstream, model: str | None) -> tuple[DiscoveredModel, ...]:
    """The models of a server, or the one that is named.

    Raises:
        UpstreamError: it does not answer at all.
        NothingDiscovered: it speaks none of the protocols, or does not list its models.
    """
    await upstream.fetch("/")  # whatever the status: it shows that the server can be reached
    for spec in (*PROTOCOLS.built_in.values(), *PROTOCOLS.others()):
        found = await resolve(spec.discover)(Probe(upstream), model) if spec.discover else ()
        if found:
            return tuple(found)
    if model is None:
        raise NothingDiscovered(
            "the server names no model in a protocol that is known here; if it has one, name it: --model"
        )
    raise NothingDiscovered(
        f"no model {model!r} answers in a protocol that is known here; any other JSON over HTTP is protocol: json"
    )
