"""Fillers before each stolen row, to look like an honest caller."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.evasions.evasion import Disguise
from modeltoll.simulation.scenes import Scene
from modeltoll.simulation.traffic import diluted, drawn

if TYPE_CHECKING:
    from modeltoll.bench.evasions.evasion import Crowd
    from modeltoll.records import Floats

__all__ = ["FILLERS", "Fillers"]

_Source = Callable[["Crowd", int, np.random.Generator], "Floats"]

FILLERS: Mapping[str, _Source] = {
    "repeated": lambda crowd, count, _: np.broadcast_to(crowd.easy, (count, crowd.easy.shape[1])),
    "jittered": lambda crowd, count, rng: drawn(crowd.jittered, count, rng),
    "unseen": lambda crowd, count, rng: drawn(crowd.honest, count, rng),
}


@dataclass(frozen=True, slots=True)
class Fillers:
    """So many fillers before each stolen row: one easy row ``repeated``, ever new copies of it (``jittered``), or
    ``unseen`` rows of the victim's kind."""

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

    def disguise(self, stolen: Floats, crowd: Crowd, rng: np.random.Generator) -> Disguise:
        """As ``Evasion.disguise``, from one account."""
        fillers = FILLERS[self.kind](crowd, len(stolen) * self.each, rng).reshape(len(stolen), self.each, -1)
        traffic = diluted(stolen, fillers, repeated=self.kind == "repeated")
        return Disguise(Scene(self.name, self.family, self.kind, self.level, traffic))
