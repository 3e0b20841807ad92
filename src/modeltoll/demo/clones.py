"""Train a clone on the victim's answers and evaluate it."""

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
    """Digits that no model was trained on: rows (n, dimensions), true labels (n,), the victim's labels (n,)."""

    rows: Floats
    labels: Integers
    victim_labels: Integers


@dataclass(frozen=True, slots=True)
class TrainedClone:
    """A clone's quality after ``queries`` rows, in 0..1: ``accuracy`` on true labels, ``fidelity`` to the victim's."""

    queries: int
    accuracy: float
    fidelity: float


def train_clone(rows: Floats, scores: Floats, test_set: TestSet, seed: int, *, labels_only: bool) -> TrainedClone:
    """The quality of a clone trained on ``rows`` (n, dimensions) and the victim's ``scores`` (n, classes) of them.

    With ``labels_only`` the attack is CopyCat (Correia-Silva et al. 2018), else Knockoff with random queries (Orekondy et
    al. 2019). The clone is a forest of extremely randomised regression trees.
    """
    targets = np.eye(scores.shape[1])[scores.argmax(axis=1)] if labels_only else scores
    student = ExtraTreesRegressor(_TREES, n_jobs=-1, random_state=seed).fit(rows, targets)
    predicted = student.predict(test_set.rows).argmax(axis=1)
    accuracy, fidelity = (float((predicted == labels).mean()) for labels in (test_set.labels, test_set.victim_labels))
    return TrainedClone(len(rows), accuracy, fidelity)
