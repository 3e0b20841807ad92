"""A defence that returns softer scores: each to the power 1 / ``temperature``, made to sum to 1 again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeltoll.bench.defences.registry import DefenceSpec

if TYPE_CHECKING:
    from modeltoll.bench.baseline import Baseline
    from modeltoll.records import Floats


@dataclass(frozen=True, slots=True)
class Softened:
    """The order of the classes stays as it is."""

    temperature: float = 4.0
    name: str = "softened"

    def answer(self, scores: Floats, leaks: Floats) -> Floats:
        """Scores (rows, classes) in the place of the true ones; this defence does not look at the leaks (rows, measures)."""
        del leaks
        powers: Floats = scores ** (1.0 / self.temperature)
        return powers / powers.sum(axis=1, keepdims=True)


def make(baseline: Baseline) -> Softened:
    """A defence may choose its parameters by honest rows of the target; this one does not."""
    del baseline
    return Softened()


SPEC = DefenceSpec("softened", answers=make)
