"""Inference of a teacher ensemble: batched matrix products, independent of the library that trained the teachers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from modeltoll.errors import CalibrationError
from modeltoll.leak.array_file import load_any, save_arrays
from modeltoll.leak.inputs import check_inputs
from modeltoll.leak.teachers.network_stack import NetworkStack

if TYPE_CHECKING:
    from modeltoll.records import Floats, Integers

__all__ = ["ACTIVATIONS", "Classifier", "EnsembleMembers", "NetworkMembers", "SeparateMembers", "TeacherEnsemble"]

_KIND, _STACK_KIND = "teachers", "teacher networks"
_ROWS = 128  # rows per batch, which bounds the memory for the hidden layers of all teachers


def _relu(values: Floats) -> Floats:
    return np.maximum(values, 0.0, out=values)


def _tanh(values: Floats) -> Floats:
    return np.asarray(np.tanh(values, out=values))


ACTIVATIONS: dict[str, Callable[[Floats], Floats]] = {"relu": _relu, "tanh": _tanh}


class Classifier(Protocol):
    """A scikit-learn style classifier."""

    classes_: NDArray[Any]

    def fit(self, X: NDArray[Any], y: NDArray[Any]) -> Any:
        """Train on inputs (rows, d) and labels (rows,)."""

    def predict(self, X: NDArray[Any]) -> NDArray[Any]:
        """Labels (rows,) of inputs (rows, d)."""


class EnsembleMembers(Protocol):
    """The teachers of an ensemble, of any implementation."""

    @property
    def count(self) -> int:
        """Number of teachers."""

    def predict(self, inputs: Floats) -> Integers:
        """The class that each teacher predicts, as an index into the full list of classes, shape (rows, teachers)."""


@dataclass(frozen=True, slots=True, eq=False)
class NetworkMembers:
    """Linear classifiers or perceptrons of one shape, evaluated together.

    ``weights[i]`` has shape (teachers, in, out), except for i = 0: (in, teachers, out), because all teachers share the
    inputs and one product evaluates them. ``biases[i]`` has shape (teachers, out). The last layer has one column per
    class of the full list; classes absent from a teacher's data have the bias minus infinity. ``activation``: a key of
    ``ACTIVATIONS``.
    """

    weights: tuple[Floats, ...]
    biases: tuple[Floats, ...]
    activation: str

    @property
    def count(self) -> int:
        """Number of teachers."""
        return len(self.biases[0])

    def predict(self, inputs: Floats) -> Integers:
        """The class of each teacher's largest output, shape (rows, teachers), for inputs (rows, d)."""
        first, *later = self.weights
        dimensions, teachers, width = first.shape
        values = (inputs @ first.reshape(dimensions, -1)).reshape(-1, teachers, width)
        values += self.biases[0]
        for weights, biases in zip(later, self.biases[1:], strict=True):
            hidden = ACTIVATIONS[self.activation](values).transpose(1, 0, 2)
            values = np.matmul(hidden, weights).transpose(1, 0, 2)
            values += biases
        return np.asarray(values.argmax(axis=2))


@dataclass(frozen=True, slots=True, eq=False)
class SeparateMembers:
    """Arbitrary classifiers, evaluated one after the other. They cannot be saved."""

    classifiers: tuple[Classifier, ...]
    classes: NDArray[Any]

    @property
    def count(self) -> int:
        """Number of teachers."""
        return len(self.classifiers)

    def predict(self, inputs: Floats) -> Integers:
        """The class that each teacher predicts, shape (rows, teachers), for inputs (rows, d)."""
        labels = [np.searchsorted(self.classes, teacher.predict(inputs)) for teacher in self.classifiers]
        return np.asarray(np.stack(labels, axis=1))


@dataclass(frozen=True, slots=True, eq=False)
class TeacherEnsemble:
    """An ensemble whose members were trained on disjoint parts of the private data.

    ``classes``: all labels of the private data, sorted, shape (C,). ``dimensions``: length of an input.
    """

    members: EnsembleMembers
    classes: NDArray[Any]
    dimensions: int

    def __len__(self) -> int:
        return self.members.count

    def votes(self, inputs: Floats) -> Integers:
        """Number of teachers that vote for each class, shape (rows, C); each row sums to ``len(self)``.

        Raises:
            RequestError: the inputs are not finite numbers of shape (rows, dimensions).
        """
        values = check_inputs(inputs, self.dimensions)
        counts = np.zeros((len(values), self.classes.size), dtype=np.int64)
        for start in range(0, len(values), _ROWS):
            predicted = self.members.predict(values[start : start + _ROWS])
            cells = predicted + self.classes.size * np.arange(len(predicted))[:, None]
            part = np.bincount(cells.ravel(), minlength=len(predicted) * self.classes.size)
            counts[start : start + _ROWS] = part.reshape(-1, self.classes.size)
        return counts

    def save(self, path: Path) -> None:
        """Write the teachers as plain arrays.

        Raises:
            CalibrationError: the members are ``SeparateMembers``, which cannot be saved.
        """
        if isinstance(self.members, NetworkStack):
            save_arrays(path, _STACK_KIND, {"classes": self.classes} | self.members.arrays())
            return
        if not isinstance(self.members, NetworkMembers):
            raise CalibrationError("only linear classifiers and networks can be saved, not these teachers")
        arrays: dict[str, NDArray[Any]] = {"classes": self.classes, "activation": np.array(self.members.activation)}
        for layer, (weights, biases) in enumerate(zip(self.members.weights, self.members.biases, strict=True)):
            arrays |= {f"weights{layer}": weights, f"biases{layer}": biases}
        save_arrays(path, _KIND, arrays)

    @classmethod
    def load(cls, path: Path) -> TeacherEnsemble:
        """Read a file that ``save`` wrote. The votes are bit for bit the same.

        Raises:
            CalibrationError: the file is missing, damaged, of another kind or version, or its shapes do not match.
        """
        kind, arrays = load_any(path, (_KIND, _STACK_KIND))
        if kind == _STACK_KIND:
            return cls._stacked(arrays, path)
        layers = range((len(arrays) - 2) // 2)
        names = {"classes", "activation"} | {f"{part}{i}" for part in ("weights", "biases") for i in layers}
        if not layers or set(arrays) != names or str(arrays["activation"]) not in ACTIVATIONS:
            raise CalibrationError("the teachers file lacks arrays of teachers", private=str(path))
        weights = [arrays[f"weights{i}"] for i in layers]
        biases = [arrays[f"biases{i}"] for i in layers]
        if not _shapes_match(weights, biases, arrays["classes"]):
            raise CalibrationError("the shapes in the teachers file do not match each other", private=str(path))
        members = NetworkMembers(tuple(weights), tuple(biases), str(arrays["activation"]))
        return cls(members, arrays["classes"], weights[0].shape[0])

    @classmethod
    def _stacked(cls, arrays: Mapping[str, NDArray[Any]], path: Path) -> TeacherEnsemble:
        stack = NetworkStack.of_arrays(arrays)
        classes = arrays.get("classes", np.empty(0))
        if classes.ndim != 1 or classes.size < 2 or classes.size != stack.classes:
            raise CalibrationError("the teachers file does not name as many classes as they have", private=str(path))
        return cls(stack, classes, stack.dimensions)


def _shapes_match(weights: Sequence[NDArray[Any]], biases: Sequence[NDArray[Any]], classes: NDArray[Any]) -> bool:
    """Whether consecutive layers match, have the same number of teachers, and end in one output per class."""
    if classes.ndim != 1 or classes.size < 2 or any(w.ndim != 3 for w in weights):
        return False
    wide, teachers, _ = weights[0].shape
    for layer, (w, b) in enumerate(zip(weights, biases, strict=True)):
        expected = (wide, teachers) if layer == 0 else (teachers, wide)
        if w.dtype != np.float64 or b.dtype != np.float64 or w.shape[:2] != expected:
            return False
        if b.shape != (teachers, w.shape[2]):
            return False
        wide = w.shape[2]
    return bool(wide == classes.size)
