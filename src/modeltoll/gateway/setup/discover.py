"""Finds out what a model server speaks and serves, by asking it what its protocol lets anybody ask, and a sample question.

What an answer holds is seen where it can be, and marked as a guess where it cannot: whoever runs the server decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeltoll.errors import ModeltollError
from modeltoll.gateway.protocols.discovery import DiscoveredModel, Probe
from modeltoll.gateway.protocols.registry import PROTOCOLS
from modeltoll.plugins import resolve

if TYPE_CHECKING:
    from modeltoll.gateway.upstream.upstream import Upstream

__all__ = ["DiscoveredModel", "NothingDiscovered", "discover"]


class NothingDiscovered(ModeltollError):
    """The server speaks nothing that is known here, or serves no model that it would name."""


async def discover(upstream: Upstream, model: str | None) -> tuple[DiscoveredModel, ...]:
    """The models of a server, or the one that is named.

    Raises:
        UpstreamError: it does not answer at all.
        NothingDiscovered: it speaks none of the protocols, or does not tell its models' names.
    """
    await upstream.fetch("/")  # whatever it says: that it can be reached
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
