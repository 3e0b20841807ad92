"""All defences of the bench that are no tolls, by name.

A new defence is one file and one line here, or an entry point ``modeltoll.defences``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.defences.perturbations import Misinformation, ReverseSigmoid, Rounding, TopOne, Unchanged
from modeltoll.bench.defences.prada import Prada
from modeltoll.plugins import Registry

if TYPE_CHECKING:
    from modeltoll.bench.baseline import Baseline
    from modeltoll.bench.defences.defence import Defence, Detector

__all__ = ["DEFENCES", "TRUTH", "DefenceSpec", "answering", "detecting"]

TRUTH = "none"
_MISINFORMED = 0.02  # the share of honest rows that adaptive misinformation may answer wrongly


@dataclass(frozen=True, slots=True)
class DefenceSpec:
    """One defence, of one of two sorts: ``answers`` makes what changes the scores, ``detects`` what looks at callers.

    Both take the target's baseline: what honest rows of it look like.
    """

    name: str
    answers: Callable[[Baseline], Defence] | None = None
    detects: Callable[[Baseline], Detector] | None = None

    def __post_init__(self) -> None:
        if (self.answers is None) == (self.detects is None):
            raise ValueError(f"{self.name}: a defence either answers or detects")

    @property
    def names(self) -> tuple[str, ...]:
        """Its one name."""
        return (self.name,)


DEFENCES: Registry[DefenceSpec] = Registry(
    "defence",
    "modeltoll.defences",
    DefenceSpec,
    (
        DefenceSpec(TRUTH, lambda _: Unchanged()),
        DefenceSpec("top-1", lambda _: TopOne()),
        DefenceSpec("rounding", lambda _: Rounding()),
        DefenceSpec("reverse sigmoid", lambda _: ReverseSigmoid()),
        DefenceSpec("misinformation", lambda baseline: Misinformation(_threshold(baseline))),
        DefenceSpec("PRADA", detects=lambda _: Prada()),
    ),
)


def _threshold(baseline: Baseline) -> float:
    """The least certainty of all but the share of honest rows that may be answered wrongly."""
    return float(np.quantile(baseline.calibration.scores.max(axis=1), _MISINFORMED))


def answering(name: str, baseline: Baseline) -> Defence | None:
    """What changes the answers under the defence of that name, or None; raises as ``DEFENCES.find``."""
    make = DEFENCES.find(name).answers
    return make(baseline) if make else None


def detecting(name: str, baseline: Baseline) -> Detector | None:
    """What looks at callers under the defence of that name, or None; raises as ``DEFENCES.find``."""
    make = DEFENCES.find(name).detects
    return make(baseline) if make else None
