"""Evasions that solve only cheap tolls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeltoll.bench.evasions.evasion import EvasionPlan
from modeltoll.simulation.scenarios import Scenario, take_cheaper_half, take_up_to
from modeltoll.simulation.traffic import one_account

if TYPE_CHECKING:
    import numpy as np

    from modeltoll.bench.evasions.evasion import Cover
    from modeltoll.simulation.traffic import Rows

__all__ = ["AbandonExpensive", "CheaperHalf"]


@dataclass(frozen=True, slots=True)
class AbandonExpensive:
    """Every row is sent, and tolls above ``level`` times the undefended time are thrown away."""

    level: float
    family: str = "abandoning"

    @property
    def name(self) -> str:
        """``abandoning-10``."""
        return f"{self.family}-{self.level:g}"

    def plan(self, stolen: Rows, cover: Cover, rng: np.random.Generator) -> EvasionPlan:
        """As ``Evasion.plan``; rows that are not solved count as asked."""
        del rng
        buys = take_up_to(self.level * cover.undefended)
        return EvasionPlan(Scenario(self.name, self.family, self.family, self.level, one_account(stolen), buys))


@dataclass(frozen=True, slots=True)
class CheaperHalf:
    """Only the cheaper half of the rows is sent, with perfect knowledge of their prices.

    The WorstCase of Dziedzic et al. 2022, applied to the rows that an attack chose.
    """

    name: str = "cheap half"
    family: str = "cheap half"
    level: float = 0.5

    def plan(self, stolen: Rows, cover: Cover, rng: np.random.Generator) -> EvasionPlan:
        """As ``Evasion.plan``, of half of the rows; of rows with equal prices the earlier ones."""
        del rng
        cheap = stolen[take_cheaper_half(cover.price(stolen))]
        return EvasionPlan(Scenario(self.name, self.family, self.family, self.level, one_account(cheap)))
