"""Students for rows of bytes that need no torch: boosted trees on byte features, and a perceptron on hashed pairs of bytes.

Images (n, 1, d) are codes of bytes divided by 256, as of the target ``magika``; others are read as such, too.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from modeltoll.bench.victims.file_types import CODES
from modeltoll.errors import ModeltollError
from modeltoll.leak.input_transform import HashedCodes

if TYPE_CHECKING:
    from modeltoll.bench.students.student import TrainingSchedule
    from modeltoll.records import Floats, Integers

__all__ = ["PERCEPTRON", "TREES", "ByteClone", "ByteCloneFactory", "ByteCloneKind", "byte_features"]

_HEAD, _TAIL = 64, 32  # codes that are features of their own, at the beginning and the end
_LEAST = 1e-9  # a class's probability in logits


def _codes(images: Floats) -> Integers:
    codes: Integers = np.round(images.reshape(len(images), int(np.prod(images.shape[1:]))) * CODES).astype(np.int64)
    return codes


def byte_features(codes: Integers) -> Floats:
    """Features (n, e) of codes (n, d): the first 64 and the last 32, and the share of each code in both halves."""
    half = codes.shape[1] // 2
    shares = []
    for part in (codes[:, :half], codes[:, half:]):
        places = part + (CODES + 1) * np.arange(len(part))[:, None]
        counts = np.bincount(places.ravel(), minlength=len(part) * (CODES + 1)).reshape(len(part), -1)
        shares.append(counts / max(1, part.shape[1]))
    return np.hstack([codes[:, :_HEAD], codes[:, -_TAIL:], *shares]).astype(np.float64)


def _hashed(codes: Integers) -> Floats:
    return HashedCodes(codes.shape[1]).apply(codes.astype(np.float64))


def _trees(schedule: TrainingSchedule, seed: int) -> Any:
    del schedule  # trees have no epochs
    from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415  slow to import

    return HistGradientBoostingClassifier(
        max_iter=20,
        learning_rate=0.3,
        max_leaf_nodes=8,
        max_features=0.1,
        max_bins=63,
        early_stopping=False,
        random_state=seed,
    )


def _perceptron(schedule: TrainingSchedule, seed: int) -> Any:
    from sklearn.neural_network import MLPClassifier  # noqa: PLC0415  slow to import

    return MLPClassifier((256,), batch_size="auto", max_iter=schedule.epochs, random_state=seed)


@dataclass(frozen=True, slots=True)
class ByteCloneKind:
    """A kind of clones: its features of codes, and what makes its classifier of a schedule and a seed."""

    features: Callable[[Integers], Floats]
    make: Callable[[TrainingSchedule, int], Any]


TREES = ByteCloneKind(byte_features, _trees)
PERCEPTRON = ByteCloneKind(_hashed, _perceptron)


class ByteClone:
    """A classifier of byte features, fitted to the most probable class of each row when it is first asked."""

    def __init__(self, kind: ByteCloneKind, classes: int) -> None:
        self._kind = kind
        self._classes = classes
        self._features: list[Floats] = []
        self._labels: list[Integers] = []
        self._make: Callable[[], Any] = lambda: None
        self._fitted: Any = None

    def train(self, images: Floats, targets: Floats, schedule: TrainingSchedule, rng: np.random.Generator) -> None:
        """Add the rows. Only the perceptron uses the schedule: its epochs."""
        seed = int(rng.integers(2**32))
        self._features.append(self._kind.features(_codes(images)))
        self._labels.append(targets.argmax(axis=1))
        self._make = lambda: self._kind.make(schedule, seed)
        self._fitted = None

    def scores(self, images: Floats) -> Floats:
        """Probabilities (n, classes): 0 for classes that it was not trained on, equal before the first training."""
        labels = np.unique(np.concatenate(self._labels)) if self._labels else np.arange(self._classes)
        scores = np.zeros((len(images), self._classes))
        if len(labels) == 1 or not self._labels:
            scores[:, labels] = 1.0 / len(labels)
        else:
            model = self._model()
            with threadpool_limits(1):
                scores[:, labels] = model.predict_proba(self._kind.features(_codes(images)))
        return scores

    def logits(self, images: Floats) -> Floats:
        """The logarithms of the scores, bounded below."""
        logits: Floats = np.log(np.maximum(self.scores(images), _LEAST))
        return logits

    def input_gradients(self, images: Floats, weights: Floats) -> Floats:
        """Never returns.

        Raises:
            ModeltollError: always; bytes have no gradients.
        """
        raise ModeltollError(
            f"a clone of bytes has no gradients for {len(images)} rows and {weights.shape[1]} classes; choose an attack that needs none"
        )

    def _model(self) -> Any:
        if self._fitted is None:
            with warnings.catch_warnings(), threadpool_limits(1):  # many small trees: threads wait for each other
                warnings.simplefilter("ignore", ConvergenceWarning)  # the schedule says how long it trains
                warnings.filterwarnings("ignore", "The number of unique classes is greater", UserWarning)  # of few rows
                self._fitted = self._make().fit(np.concatenate(self._features), np.concatenate(self._labels))
        return self._fitted


@dataclass(frozen=True, slots=True)
class ByteCloneFactory:
    """Makes students of one kind, ``TREES`` or ``PERCEPTRON``."""

    kind: ByteCloneKind
    classes: int

    def student(self, rng: np.random.Generator) -> ByteClone:
        """An untrained student; ``rng`` is not used."""
        del rng
        return ByteClone(self.kind, self.classes)
