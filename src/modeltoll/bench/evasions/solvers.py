"""Evasions of the solving: none, replayed solutions, or a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.evasions.evasion import GPU, EvasionPlan
from modeltoll.simulation.scenarios import Scenario
from modeltoll.simulation.traffic import Traffic, one_account

if TYPE_CHECKING:
    from modeltoll.bench.evasions.evasion import Cover
    from modeltoll.simulation.traffic import Rows

__all__ = ["GpuSolver", "NoEvasion", "Replay"]


@dataclass(frozen=True, slots=True)
class NoEvasion:
    """No evasion: one account with a key, one core, every puzzle solved."""

    name: str = "none"
    family: str = "accounts"
    level: float = 1.0

    def plan(self, stolen: Rows, cover: Cover, rng: np.random.Generator) -> EvasionPlan:
        """As ``Evasion.plan``."""
        del cover, rng
        return EvasionPlan(Scenario(self.name, self.family, self.family, self.level, one_account(stolen)))


@dataclass(frozen=True, slots=True)
class Replay:
    """The first toll is solved, and its solution is replayed for every other row.

    If the toll accepts it, only the first row is paid. If not, every row is sent twice: with the old solution, which is
    refused, and again with a new one.
    """

    name: str = "replay"
    family: str = "replay"
    level: float = 1.0

    def plan(self, stolen: Rows, cover: Cover, rng: np.random.Generator) -> EvasionPlan:
        """As ``Evasion.plan``."""
        del rng
        rows = len(stolen)
        if cover.replayable:
            scenario = Scenario(self.name, self.family, self.family, self.level, one_account(stolen))
            return EvasionPlan(scenario, solves=np.arange(rows) == 0)
        second = np.arange(2 * rows) % 2 == 1
        twice = stolen[np.repeat(np.arange(rows), 2)]
        traffic = Traffic.of(twice, np.zeros(2 * rows, np.int64), second, ~second)
        return EvasionPlan(Scenario(self.name, self.family, self.family, self.level, traffic), solves=second)


@dataclass(frozen=True, slots=True)
class GpuSolver:
    """An RTX 4090 solves the puzzles at published rates; the time of model and gateway is unchanged."""

    name: str = "graphics card"
    family: str = "graphics card"
    level: float = 1.0

    def plan(self, stolen: Rows, cover: Cover, rng: np.random.Generator) -> EvasionPlan:
        """As ``Evasion.plan``."""
        del cover, rng
        return EvasionPlan(Scenario(self.name, self.family, self.family, self.level, one_account(stolen)), solver=GPU)
