"""The defences of the bench that are no tolls. A new one is one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.defences.perturbations import Misinformation, ReverseSigmoid, Rounding, TopOne, Unchanged
from modeltoll.bench.defences.prada import Prada

if TYPE_CHECKING:
    from modeltoll.bench.baseline import Baseline
    from modeltoll.bench.defences.defence import Defence, Detector

__all__ = ["DEFENCES", "TRUTH", "WATCHERS"]

TRUTH = "none"
_MISINFORMED = 0.02  # the share of honest rows that adaptive misinformation may answer wrongly

DEFENCES: Mapping[str, Callable[[Baseline], Defence]] = {
    TRUTH: lambda _: Unchanged(),
    "top-1": lambda _: TopOne(),
    "rounding": lambda _: Rounding(),
    "reverse sigmoid": lambda _: ReverseSigmoid(),
    "misinformation": lambda baseline: Misinformation(
        float(np.quantile(baseline.calibration.scores.max(axis=1), _MISINFORMED))
    ),
}
WATCHERS: Mapping[str, Detector] = {"PRADA": Prada()}
