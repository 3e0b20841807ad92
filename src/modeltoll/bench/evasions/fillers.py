"""Evasions by fillers: cheap or honest rows before each stolen row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import rankdata

from modeltoll.bench.evasions.evasion import EvasionPlan
from modeltoll.simulation.scenarios import Scenario
from modeltoll.simulation.traffic import mixed_with_fillers, sample_rows

if TYPE_CHECKING:
    from modeltoll.bench.evasions.evasion import Cover
    from modeltoll.records import Floats

__all__ = ["FILLERS", "Fillers"]

_Source = Callable[["Cover", int, np.random.Generator], "Floats"]


def _typical_honest(cover: Cover, count: int, rng: np.random.Generator) -> Floats:
    """The honest row that is nearest to the median under every measure."""
    del rng
    ranks = rankdata(cover.honest, axis=0) / (len(cover.honest) + 1)
    middle = cover.honest[np.abs(ranks - 0.5).max(axis=1).argmin()]
    return np.broadcast_to(middle, (count, len(middle)))


def _imitation(cover: Cover, count: int, rng: np.random.Generator) -> Floats:
    """Honest rows of the more expensive half, so that the p-values of all rows together look uniform."""
    prices = cover.price(cover.honest)
    return sample_rows(cover.honest[prices >= np.median(prices)], count, rng)


FILLERS: Mapping[str, _Source] = {
    "repeated": lambda cover, count, _: np.broadcast_to(cover.easy, (count, cover.easy.shape[1])),
    "jittered": lambda cover, count, rng: sample_rows(cover.jittered, count, rng),
    "unseen": lambda cover, count, rng: sample_rows(cover.honest, count, rng),
    "middling": _typical_honest,
    "imitating": _imitation,
}


@dataclass(frozen=True, slots=True)
class Fillers:
    """``each`` fillers before each stolen row, of one ``kind``.

    ``repeated``: one easy row; ``jittered``: distinct copies of it; ``middling``: one typical honest row; ``unseen``:
    random honest rows; ``imitating``: honest rows of the more expensive half.
    """

    kind: str
    each: int

    @property
    def name(self) -> str:
        """``jittered-4``."""
        return f"{self.kind}-{self.each}"

    @property
    def family(self) -> str:
        """The kind."""
        return self.kind

    @property
    def level(self) -> float:
        """Fillers per stolen row."""
        return float(self.each)

    def plan(self, stolen: Floats, cover: Cover, rng: np.random.Generator) -> EvasionPlan:
        """As ``Evasion.plan``, from one account."""
        fillers = FILLERS[self.kind](cover, len(stolen) * self.each, rng).reshape(len(stolen), self.each, -1)
        traffic = mixed_with_fillers(stolen, fillers, repeated=self.kind == "repeated")
        return EvasionPlan(Scenario(self.name, self.family, self.kind, self.level, traffic))
