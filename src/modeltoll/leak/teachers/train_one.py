"""Trains one teacher of scikit-learn on its part of the private data, and keeps what is trained in a folder of checkpoints."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from modeltoll.errors import CalibrationError
from modeltoll.leak.array_file import load_arrays, save_arrays

if TYPE_CHECKING:
    from modeltoll.leak.teachers.ensemble import Classifier
    from modeltoll.records import Floats

__all__ = ["LogisticCheckpoints", "train_teacher"]

_KIND = "logistic teacher"
_LARGE = 16.0  # numbers beyond are scaled, or the solver needs thousands of steps
_LENGTH = 16.0  # the usual length of a row after that; more is hardly more accurate, and far slower


def train_teacher(teacher: Classifier, inputs: Floats, labels: NDArray[Any]) -> Classifier:
    """The teacher after its training on inputs (rows, d) and labels (rows,), in one thread: its products are small."""
    with threadpool_limits(1):
        if type(teacher) is LogisticRegression:
            _fit_logistic(teacher, inputs, labels)
        else:
            teacher.fit(inputs, labels)
    return teacher


def _fit_logistic(teacher: LogisticRegression, inputs: Floats, labels: NDArray[Any]) -> None:
    """Fit a logistic regression in the span of its rows where these are fewer than the columns.

    The weights of an L2-penalised regression are a combination of the rows, so that the optimum is the same, and the
    problem is as small as the number of rows. Rows with numbers beyond 16 are centred and scaled to a root mean square
    length of 16 first; the weights are given for the numbers as they came.
    """
    centre, scale = np.zeros(inputs.shape[1]), 1.0
    if max(inputs.max(), -inputs.min()) > _LARGE:
        centre = inputs.mean(axis=0)
        scale = float(np.sqrt(np.square(inputs - centre).sum(axis=1).mean())) / _LENGTH or 1.0
    values = (inputs - centre) / scale
    basis = None
    if len(values) < values.shape[1] and teacher.penalty in ("l2", "deprecated"):
        left, sizes, basis = np.linalg.svd(values, full_matrices=False)
        values = left * sizes
        if teacher.solver == "lbfgs":
            teacher.set_params(solver="newton-cg")  # two to three times as fast on so few columns
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a teacher may vote before its last digits are settled
        teacher.fit(values, labels)
    weights = (teacher.coef_ if basis is None else teacher.coef_ @ basis) / scale
    teacher.coef_, teacher.n_features_in_ = weights, inputs.shape[1]
    teacher.intercept_ = teacher.intercept_ - weights @ centre


@dataclass(frozen=True, slots=True)
class LogisticCheckpoints:
    """Trained logistic regressions in a folder, one file each, named for what they were trained on and how."""

    folder: Path

    def find(self, teacher: Any, inputs: Floats, labels: NDArray[Any]) -> Any:
        """The teacher as it was trained on these rows; None where it was not, or is no logistic regression."""
        path = self._path(teacher, inputs, labels)
        if type(teacher) is not LogisticRegression or not path.is_file():
            return None
        try:
            arrays = load_arrays(path, _KIND)
        except CalibrationError:
            return None  # of an interrupted disk: it is trained anew
        teacher.coef_, teacher.intercept_ = arrays["weights"], arrays["biases"]
        teacher.classes_, teacher.n_features_in_ = arrays["classes"], inputs.shape[1]
        return teacher

    def keep(self, teacher: Any, inputs: Floats, labels: NDArray[Any]) -> None:
        """Write a trained logistic regression; any other teacher is not kept."""
        if type(teacher) is LogisticRegression:
            self.folder.mkdir(parents=True, exist_ok=True)
            arrays = {"weights": teacher.coef_, "biases": teacher.intercept_, "classes": teacher.classes_}
            save_arrays(self._path(teacher, inputs, labels), _KIND, arrays)

    def _path(self, teacher: Any, inputs: Floats, labels: NDArray[Any]) -> Path:
        parameters = {
            name: value for name, value in _parameters(teacher).items() if name != "solver"
        }  # as training sets it
        sha = hashlib.sha256(f"{sorted(parameters.items())} {inputs.shape} {labels.dtype.str}".encode())
        for array in (inputs, labels):
            sha.update(np.ascontiguousarray(array).view(np.uint8).data)
        return self.folder / f"{sha.hexdigest()[:24]}.npz"


def _parameters(teacher: Any) -> dict[str, Any]:
    return dict(teacher.get_params()) if hasattr(teacher, "get_params") else {}
