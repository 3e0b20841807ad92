"""Thieves who look at the price before they solve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeltoll.bench.evasions.evasion import Disguise
from modeltoll.simulation.scenarios import Scene, cheaper_half, up_to
from modeltoll.simulation.traffic import alone

if TYPE_CHECKING:
    import numpy as np

    from modeltoll.bench.evasions.evasion import Crowd
    from modeltoll.records import Floats

__all__ = ["Abandoning", "CheapHalf"]


@dataclass(frozen=True, slots=True)
class Abandoning:
    """Every price is asked for, and rows dearer than so many times the undefended time are left."""

    level: float
    family: str = "abandoning"

    @property
    def name(self) -> str:
        """``abandoning-10``."""
        return f"{self.family}-{self.level:g}"

    def disguise(self, stolen: Floats, crowd: Crowd, rng: np.random.Generator) -> Disguise:
        """As ``Evasion.disguise``; rows that are left count as asked."""
        del rng
        buys = up_to(self.level * crowd.undefended)
        return Disguise(Scene(self.name, self.family, self.family, self.level, alone(stolen), buys))


@dataclass(frozen=True, slots=True)
class CheapHalf:
    """With a perfect guess of each row's price only the cheaper half is ever asked for.

    The WorstCase of Dziedzic et al. 2022, played on rows that an attack has chosen.
    """

    name: str = "cheap half"
    family: str = "cheap half"
    level: float = 0.5

    def disguise(self, stolen: Floats, crowd: Crowd, rng: np.random.Generator) -> Disguise:
        """As ``Evasion.disguise``, of half of the rows; of equals the earlier."""
        del rng
        cheap = stolen[cheaper_half(crowd.price(stolen))]
        return Disguise(Scene(self.name, self.family, self.family, self.level, alone(cheap)))
