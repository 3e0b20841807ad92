"""What a thief makes of what he bought."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor

if TYPE_CHECKING:
    from modeltoll.records import Floats, Integers

__all__ = ["TestSet", "TrainedClone", "train_clone"]

_TREES = 100


@dataclass(frozen=True, slots=True, eq=False)
class TestSet:
    """Digits that nobody was trained on: rows (n, dimensions), true labels (n,), the victim's labels (n,)."""

    x: Floats
    truth: Integers
    victim: Integers


@dataclass(frozen=True, slots=True)
class TrainedClone:
    """How good a clone is, in 0..1: ``accuracy`` against the truth, ``fidelity`` against the victim."""

    queries: int
    accuracy: float
    fidelity: float


def train_clone(rows: Floats, scores: Floats, exam: TestSet, seed: int, *, labels_only: bool) -> TrainedClone:
    """Train on (rows, dimensions) and the (rows, classes) that the victim answered.

    ``labels_only`` is CopyCat (Correia-Silva et al. 2018), else Knockoff with random queries (Orekondy et al. 2019).
    The student is a forest of extremely randomised trees that regresses the targets.
    """
    targets = np.eye(scores.shape[1])[scores.argmax(axis=1)] if labels_only else scores
    student = ExtraTreesRegressor(_TREES, n_jobs=-1, random_state=seed).fit(rows, targets)
    said = student.predict(exam.x).argmax(axis=1)
    return TrainedClone(len(rows), float((said == exam.truth).mean()), float((said == exam.victim).mean()))
