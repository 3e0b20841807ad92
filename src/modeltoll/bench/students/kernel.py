"""A student for small images that needs no torch: kernel ridge regression of the probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import rbf_kernel

if TYPE_CHECKING:
    from modeltoll.bench.students.student import TrainingSchedule
    from modeltoll.records import Floats

__all__ = ["KernelClone", "KernelCloneFactory"]

_FLOOR = 1e-3  # the least that a class has before the probabilities are made to sum to 1


class KernelClone:
    """Remembers every row it was taught and fits them all at once; its logits are the regression itself.

    The kernel is a Gaussian one, as wide as the images vary. Time grows with the cube of the rows: a second for 5,000.
    """

    def __init__(self, classes: int, ridge: float) -> None:
        self._classes = classes
        self._ridge = ridge
        self._images: list[Floats] = []
        self._targets: list[Floats] = []
        self._fitted: Any = None  # made when first asked for after a lesson

    def learn(self, images: Floats, targets: Floats, course: TrainingSchedule, rng: np.random.Generator) -> None:
        """Remember the rows; there is a closed form, so that neither ``course`` nor chance has a say."""
        del course, rng
        self._images.append(images.reshape(len(images), -1))
        self._targets.append(targets)
        self._fitted = None

    def logits(self, images: Floats) -> Floats:
        """The regression, (n, classes); equal everywhere before the first lesson."""
        if not self._images:
            return np.full((len(images), self._classes), 1.0 / self._classes)
        said: Floats = self._model().predict(images.reshape(len(images), -1))
        return said

    def scores(self, images: Floats) -> Floats:
        """The regression, cut off below and made to sum to 1."""
        raised = np.maximum(self.logits(images), _FLOOR)
        scores: Floats = raised / raised.sum(axis=1, keepdims=True)
        return scores

    def slopes(self, images: Floats, weights: Floats) -> Floats:
        """The kernel's own gradient, in closed form."""
        if not self._images:
            return np.zeros_like(images)
        model = self._model()
        flat = images.reshape(len(images), -1)
        pulls = rbf_kernel(flat, model.X_fit_, gamma=model.gamma) * (weights @ model.dual_coef_.T)
        slopes: Floats = 2.0 * model.gamma * (pulls @ model.X_fit_ - pulls.sum(axis=1, keepdims=True) * flat)
        return slopes.reshape(images.shape)

    def _model(self) -> Any:
        if self._fitted is None:
            x, y = np.concatenate(self._images), np.concatenate(self._targets)
            variance = float(x.var())
            gamma = 1.0 / (x.shape[1] * (variance if variance > 0.0 else 1.0))
            self._fitted = KernelRidge(alpha=self._ridge, kernel="rbf", gamma=gamma).fit(x, y)
        return self._fitted


@dataclass(frozen=True, slots=True)
class KernelCloneFactory:
    """Students of one number of classes; ``ridge`` is the weight of the penalty."""

    classes: int = 10
    ridge: float = 0.01

    def student(self, rng: np.random.Generator) -> KernelClone:
        """One that has learnt nothing; chance has no part in it."""
        del rng
        return KernelClone(self.classes, self.ridge)
