"""Evasions by other images: the foreign images are changed as an honest caller's might be, before they are sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeltoll.bench.evasions.evasion import EvasionPlan
from modeltoll.simulation.scenarios import Scenario
from modeltoll.simulation.traffic import one_account

if TYPE_CHECKING:
    import numpy as np

    from modeltoll.bench.evasions.evasion import Cover
    from modeltoll.simulation.traffic import Rows

__all__ = ["ChangedImages"]


@dataclass(frozen=True, slots=True)
class ChangedImages:
    """The attack's foreign images have a ``change``, as ``leak.corruptions.parse_kinds`` reads it; the extraction runs with them."""

    name: str
    change: str
    family: str = "changed images"
    level: float = 1.0

    def plan(self, stolen: Rows, cover: Cover, rng: np.random.Generator) -> EvasionPlan:
        """As ``Evasion.plan``; the stolen rows are those of the changed images already."""
        del cover, rng
        return EvasionPlan(Scenario(self.name, self.family, self.family, self.level, one_account(stolen)))
