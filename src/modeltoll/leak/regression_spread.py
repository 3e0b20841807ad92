"""Leak measure ``spread``: the disagreement of regression teachers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from modeltoll.errors import CalibrationError, SettingsError
from modeltoll.leak.inputs import inputs_of

if TYPE_CHECKING:
    from modeltoll.records import Evidence, Floats

__all__ = ["Predict", "SpreadMeasure"]

Predict = Callable[["Floats"], "Floats"]  # inputs (rows, d) to each teacher's answer, (rows, teachers)


class SpreadMeasure:
    """Standard deviation of the answers of regressors trained on disjoint parts of the private data, over ``scale``.

    Where the teachers agree, the answer reveals little about any one part; they disagree where private data is sparse.
    """

    inputs_alone: ClassVar[bool] = True

    __slots__ = ("_predict", "_scale", "name")

    def __init__(self, predict: Predict, scale: float = 1.0, name: str = "spread") -> None:
        """``scale`` is the unit, for example the standard deviation of the private targets."""
        if not 0.0 < scale < np.inf:
            raise SettingsError(["the scale of the spread must be above 0"])
        self.name = name
        self._predict = predict
        self._scale = scale

    def measure(self, evidence: Evidence) -> Floats:
        """The spread of the teachers on each row, shape (rows,).

        Raises:
            RequestError: the inputs are missing, of a wrong shape, or not finite.
            CalibrationError: the teachers do not give finite answers of shape (rows, two or more).
        """
        inputs = inputs_of(evidence)
        answers = np.asarray(self._predict(inputs), np.float64)
        if answers.ndim != 2 or len(answers) != len(inputs) or answers.shape[1] < 2 or not np.isfinite(answers).all():
            raise CalibrationError("the teachers did not give finite answers of shape (rows, teachers)")
        return np.asarray(answers.std(axis=1) / self._scale)
