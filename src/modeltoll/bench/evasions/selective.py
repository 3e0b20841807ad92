"""Thieves who look at the price before they solve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeltoll.bench.evasions.evasion import EvasionPlan
from modeltoll.simulation.scenarios import Scenario, take_cheaper_half, take_up_to
from modeltoll.simulation.traffic import one_account

if TYPE_CHECKING:
    import numpy as np

    from modeltoll.bench.evasions.evasion import Cover
    from modeltoll.records import Floats

__all__ = ["AbandonExpensive", "CheaperHalf"]


@dataclass(frozen=True, slots=True)
class AbandonExpensive:
    """Every price is asked for, and rows dearer than so many times the undefended time are left."""

    level: float
    family: str = "abandoning"

    @property
    def name(self) -> str:
        """``abandoning-10``."""
        return f"{self.family}-{self.level:g}"

    def plan(self, stolen: Floats, cover: Cover, rng: np.random.Generator) -> EvasionPlan:
        """As ``Evasion.disguise``; rows that are left count as asked."""
        del rng
        buys = take_up_to(self.level * cover.undefended)
        return EvasionPlan(Scenario(self.name, self.family, self.family, self.level, one_account(stolen), buys))


@dataclass(frozen=True, slots=True)
class CheaperHalf:
    """With a perfect guess of each row's price only the cheaper half is ever asked for.

    The WorstCase of Dziedzic et al. 2022, played on rows that an attack has chosen.
    """

    name: str = "cheap half"
    family: str = "cheap half"
    level: float = 0.5

    def plan(self, stolen: Floats, cover: Cover, rng: np.random.Generator) -> EvasionPlan:
        """As ``Evasion.disguise``, of half of the rows; of equals the earlier."""
        del rng
        cheap = stolen[take_cheaper_half(cover.price(stolen))]
        return EvasionPlan(Scenario(self.name, self.family, self.family, self.level, one_account(cheap)))
