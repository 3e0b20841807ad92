"""Train a teacher ensemble with scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from modeltoll.leak.teachers.ensemble import (
    ACTIVATIONS,
    Classifier,
    EnsembleMembers,
    NetworkMembers,
    SeparateMembers,
    TeacherEnsemble,
)
from modeltoll.leak.teachers.partition import check_private, partition
from modeltoll.leak.teachers.train_one import LogisticCheckpoints, train_teacher

if TYPE_CHECKING:
    from pathlib import Path

    from modeltoll.records import Floats, Progress

__all__ = [
    "ClassifierFactory",
    "TeacherEnsemble",
    "TeacherPlan",
    "dense_layers",
    "fit_teachers",
    "logistic",
    "perceptron",
]

ClassifierFactory = Callable[[int], Classifier]  # makes an untrained classifier from a seed
_Layers = list[tuple["Floats", "Floats"]]


def logistic(seed: int) -> Classifier:
    """Logistic regression, the default teacher: fast to train, and accurate with few rows per teacher."""
    return LogisticRegression(max_iter=1000, random_state=seed)  # type: ignore[no-any-return]


def perceptron(seed: int) -> Classifier:
    """A perceptron with 32 hidden units, trained by L-BFGS, which suits few rows per teacher."""
    return MLPClassifier((32,), solver="lbfgs", alpha=0.01, max_iter=5000, random_state=seed)  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class TeacherPlan:
    """What to train: the number of teachers, their classifier, and the seed.

    ``make`` may return any scikit-learn classifier. Logistic regressions and perceptrons are evaluated by matrix
    products and can be saved; others are evaluated one by one and cannot be saved.
    """

    teachers: int = 250
    make: ClassifierFactory = logistic
    seed: int = 0


def fit_teachers(
    inputs: Floats,
    labels: NDArray[Any],
    plan: TeacherPlan,
    cores: int = 1,
    progress: Progress | None = None,
    checkpoints: Path | None = None,
) -> TeacherEnsemble:
    """Train each teacher on its own part of the private data. The parts are disjoint, with equal shares of each class.

    Args:
        inputs: shape (n, d).
        labels: numbers or text, shape (n,). The ensemble votes over all labels that occur, sorted.
        plan: what to train. The same plan and data give the same teachers on any number of cores.
        cores: number of processes; -1 for one per core of the machine.
        progress: called after each teacher. The first one is trained alone, so that its time shows how long all take.
        checkpoints: folder for finished logistic regressions; a later call with the same data and plan resumes from it.

    Raises:
        CalibrationError: shapes that do not match, numbers that are not finite, a single class, or too few rows for
            two classes per teacher.
    """
    values, classes, codes = check_private(inputs, labels)
    parts = partition(codes, plan.teachers, plan.seed)
    seeds = [int(seed) for seed in np.random.SeedSequence(plan.seed).generate_state(plan.teachers)]
    kept = None if checkpoints is None else LogisticCheckpoints(checkpoints)
    first, *others = (
        delayed(_train)(plan.make(seed), values[p], classes[codes[p]], kept)
        for seed, p in zip(seeds, parts, strict=True)
    )
    trained: list[Classifier] = []
    for jobs, processes in (([first], 1), (others, cores)):
        for teacher in Parallel(n_jobs=processes, return_as="generator")(jobs):
            trained.append(teacher)
            if progress is not None:
                progress(len(trained), plan.teachers)
    return TeacherEnsemble(_ensemble_members(trained, classes), classes, values.shape[1])


def _train(teacher: Classifier, inputs: Floats, labels: NDArray[Any], kept: LogisticCheckpoints | None) -> Classifier:
    found: Classifier | None = None if kept is None else kept.find(teacher, inputs, labels)
    if found is not None:
        return found
    trained = train_teacher(teacher, inputs, labels)
    if kept is not None:
        kept.keep(trained, inputs, labels)
    return trained


def _ensemble_members(trained: list[Classifier], classes: NDArray[Any]) -> EnsembleMembers:
    """``NetworkMembers`` if all teachers are networks of one shape, else ``SeparateMembers``."""
    networks = [dense_layers(teacher, classes) for teacher in trained]
    activation, shape = networks[0][1], [w.shape for w, _ in networks[0][0]]
    if not shape or any(a != activation or [w.shape for w, _ in layers] != shape for layers, a in networks):
        return SeparateMembers(tuple(trained), classes)
    depth = range(len(shape))
    weights = tuple(np.stack([layers[i][0] for layers, _ in networks], axis=int(i == 0)) for i in depth)
    biases = tuple(np.stack([layers[i][1] for layers, _ in networks]) for i in depth)
    return NetworkMembers(weights, biases, activation)


def dense_layers(teacher: Any, classes: NDArray[Any]) -> tuple[_Layers, str]:
    """A teacher's layers and activation, with the last layer extended to all classes; no layers if it is no network."""
    if type(teacher) is LogisticRegression:
        layers, activation = [(teacher.coef_.T, teacher.intercept_)], "relu"  # unused: there are no hidden layers
    elif type(teacher) is MLPClassifier and teacher.activation in ACTIVATIONS:
        layers, activation = list(zip(teacher.coefs_, teacher.intercepts_, strict=True)), teacher.activation
    else:
        return [], ""
    weights, biases = layers.pop()
    if weights.shape[1] == 1:  # two classes share one output, which is positive for the second
        weights = np.hstack([np.zeros_like(weights), weights])
        biases = np.append(0.0, biases)
    seen = np.searchsorted(classes, teacher.classes_)
    wide = np.zeros((len(weights), classes.size))
    wide[:, seen] = weights
    floor = np.full(classes.size, -np.inf)
    floor[seen] = biases
    return [
        (np.asarray(w, dtype=np.float64), np.asarray(b, dtype=np.float64)) for w, b in [*layers, (wide, floor)]
    ], activation
