"""A student for small images that needs no torch: kernel ridge regression of the targets."""

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

_FLOOR = 1e-3  # lower limit of a class's value before the scores are normalised


class KernelClone:
    """Kernel ridge regression on all rows it was trained on; its logits are the regression's predictions.

    The kernel is Gaussian; its width follows from the variance of the images. Fitting takes O(rows^3), about a second
    for 5,000 rows.
    """

    def __init__(self, classes: int, ridge: float) -> None:
        self._classes = classes
        self._ridge = ridge
        self._images: list[Floats] = []
        self._targets: list[Floats] = []
        self._fitted: Any = None  # fitted at the first prediction after new rows

    def train(self, images: Floats, targets: Floats, schedule: TrainingSchedule, rng: np.random.Generator) -> None:
        """Add the rows. The fit has a closed form: ``schedule`` and ``rng`` are not used."""
        del schedule, rng
        self._images.append(images.reshape(len(images), -1))
        self._targets.append(targets)
        self._fitted = None

    def logits(self, images: Floats) -> Floats:
        """The regression's predictions (n, classes); equal for all classes before the first training."""
        if not self._images:
            return np.full((len(images), self._classes), 1.0 / self._classes)
        predicted: Floats = self._model().predict(images.reshape(len(images), -1))
        return predicted

    def scores(self, images: Floats) -> Floats:
        """The predictions, bounded below and normalised to sum to 1."""
        bounded = np.maximum(self.logits(images), _FLOOR)
        scores: Floats = bounded / bounded.sum(axis=1, keepdims=True)
        return scores

    def input_gradients(self, images: Floats, weights: Floats) -> Floats:
        """The kernel's gradient in closed form."""
        if not self._images:
            return np.zeros_like(images)
        model = self._model()
        flat = images.reshape(len(images), -1)
        kernel = rbf_kernel(flat, model.X_fit_, gamma=model.gamma) * (weights @ model.dual_coef_.T)
        gradients: Floats = 2.0 * model.gamma * (kernel @ model.X_fit_ - kernel.sum(axis=1, keepdims=True) * flat)
        return gradients.reshape(images.shape)

    def _model(self) -> Any:
        if self._fitted is None:
            x, y = np.concatenate(self._images), np.concatenate(self._targets)
            variance = float(x.var())
            gamma = 1.0 / (x.shape[1] * (variance if variance > 0.0 else 1.0))
            self._fitted = KernelRidge(alpha=self._ridge, kernel="rbf", gamma=gamma).fit(x, y)
        return self._fitted


@dataclass(frozen=True, slots=True)
class KernelCloneFactory:
    """Makes students with ``classes`` classes; ``ridge`` is the weight of the penalty."""

    classes: int = 10
    ridge: float = 0.01

    def student(self, rng: np.random.Generator) -> KernelClone:
        """An untrained student; ``rng`` is not used."""
        del rng
        return KernelClone(self.classes, self.ridge)
