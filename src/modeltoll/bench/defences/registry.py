"""The bench's defences other than tolls, by name.

A new defence is one file and one line here, or an entry point ``modeltoll.defences``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.defences.misguide import Misguiding
from modeltoll.bench.defences.modelguard import LeastLikely, Quantised, codebooks
from modeltoll.bench.defences.perturbations import Misinformation, ReverseSigmoid, Rounding, TopOne, Unchanged
from modeltoll.bench.defences.prada import Prada
from modeltoll.bench.leak_measures import NOVELTY
from modeltoll.plugins import Registry

if TYPE_CHECKING:
    from modeltoll.bench.baseline import Baseline
    from modeltoll.bench.defences.defence import Defence, Detector

__all__ = ["DEFENCES", "NO_DEFENCE", "DefenceSpec", "make_defence", "make_detector"]

NO_DEFENCE = "none"
_MISINFORMED = 0.02  # the share of honest rows that adaptive misinformation may answer wrongly
_TAKEN_FOR_FOREIGN = 0.05  # the share of honest rows that a detector of foreign ones may detect


@dataclass(frozen=True, slots=True)
class DefenceSpec:
    """One defence: ``answers`` makes one that changes the scores, ``detects`` one that looks at callers; one of them is None.

    Both take the target's baseline of honest rows.
    """

    name: str
    answers: Callable[[Baseline], Defence] | None = None
    detects: Callable[[Baseline], Detector] | None = None

    def __post_init__(self) -> None:
        if (self.answers is None) == (self.detects is None):
            raise ValueError(f"{self.name}: a defence either answers or detects")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the registry, here one."""
        return (self.name,)


def _least_score(baseline: Baseline) -> float:
    """The threshold of adaptive misinformation: the highest score below which at most ``_MISINFORMED`` of the honest rows lie."""
    return float(np.quantile(baseline.calibration.scores.max(axis=1), _MISINFORMED))


def _misguiding(baseline: Baseline) -> Misguiding:
    """Its detector is the novelty measure, with the threshold that ``_TAKEN_FOR_FOREIGN`` of the honest rows exceed."""
    measure = baseline.measures.index(NOVELTY)
    threshold = np.quantile(baseline.calibration.leaks[:, measure], 1.0 - _TAKEN_FOR_FOREIGN)
    return Misguiding(measure, float(threshold))


DEFENCES: Registry[DefenceSpec] = Registry(
    "defence",
    "modeltoll.defences",
    DefenceSpec,
    (
        DefenceSpec(NO_DEFENCE, lambda _: Unchanged()),
        DefenceSpec("top-1", lambda _: TopOne()),
        DefenceSpec("rounding", lambda _: Rounding()),
        DefenceSpec("reverse sigmoid", lambda _: ReverseSigmoid()),
        DefenceSpec("misinformation", lambda baseline: Misinformation(_least_score(baseline))),
        DefenceSpec("ModelGuard-W", lambda _: LeastLikely()),
        DefenceSpec("ModelGuard-S", lambda baseline: Quantised(codebooks(baseline.calibration.scores))),
        DefenceSpec("MisGUIDE", _misguiding),
        DefenceSpec("PRADA", detects=lambda _: Prada()),
    ),
)


def make_defence(name: str, baseline: Baseline) -> Defence | None:
    """The defence of that name if it changes answers, else None; raises as ``DEFENCES.find``."""
    make = DEFENCES.find(name).answers
    return make(baseline) if make else None


def make_detector(name: str, baseline: Baseline) -> Detector | None:
    """The detector of that name if it is one, else None; raises as ``DEFENCES.find``."""
    make = DEFENCES.find(name).detects
    return make(baseline) if make else None
