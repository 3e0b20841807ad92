"""Teachers as they are served: batched matrix products, without the library that trained them."""

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
_ROWS = 128  # rows worked on at a time, so that the hidden layers of all teachers stay small


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
    """The teachers of an ensemble, whatever they are made of."""

    @property
    def count(self) -> int:
        """How many teachers there are."""

    def winners(self, inputs: Floats) -> Integers:
        """Each teacher's class, as an index into the full list of classes, shape (rows, teachers)."""


@dataclass(frozen=True, slots=True, eq=False)
class NetworkMembers:
    """Linear classifiers or perceptrons of one shape, computed all at once.

    Layer i has ``weights[i]`` of shape (teachers, in, out), but (in, teachers, out) where i = 0, for all share the inputs
    and one product serves them; ``biases[i]`` has shape (teachers, out). The last layer has a column per class of the
    full list; a class that a teacher has never seen has the bias minus infinity.
    """

    weights: tuple[Floats, ...]
    biases: tuple[Floats, ...]
    activation: str

    @property
    def count(self) -> int:
        """How many teachers there are."""
        return len(self.biases[0])

    def winners(self, inputs: Floats) -> Integers:
        """Each teacher's class of the largest output, shape (rows, teachers)."""
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
    """Any classifiers, asked one after the other. They live in memory only."""

    classifiers: tuple[Classifier, ...]
    classes: NDArray[Any]

    @property
    def count(self) -> int:
        """How many teachers there are."""
        return len(self.classifiers)

    def winners(self, inputs: Floats) -> Integers:
        """Each teacher's class, shape (rows, teachers)."""
        labels = [np.searchsorted(self.classes, teacher.predict(inputs)) for teacher in self.classifiers]
        return np.asarray(np.stack(labels, axis=1))


@dataclass(frozen=True, slots=True, eq=False)
class TeacherEnsemble:
    """An ensemble whose members were trained on disjoint parts of the private data.

    ``classes`` is the full sorted list of labels, shape (C,), whichever of them a member has seen; ``dimensions`` is
    the length of an input.
    """

    members: EnsembleMembers
    classes: NDArray[Any]
    dimensions: int

    def __len__(self) -> int:
        return self.members.count

    def votes(self, inputs: Floats) -> Integers:
        """How many teachers vote for each class, shape (rows, C); each row sums to ``len(self)``.

        Raises:
            RequestError: the inputs are not finite numbers of shape (rows, dimensions).
        """
        values = check_inputs(inputs, self.dimensions)
        counts = np.zeros((len(values), self.classes.size), dtype=np.int64)
        for start in range(0, len(values), _ROWS):
            winners = self.members.winners(values[start : start + _ROWS])
            cells = winners + self.classes.size * np.arange(len(winners))[:, None]
            part = np.bincount(cells.ravel(), minlength=len(winners) * self.classes.size)
            counts[start : start + _ROWS] = part.reshape(-1, self.classes.size)
        return counts

    def save(self, path: Path) -> None:
        """Write the teachers as plain arrays.

        Raises:
            CalibrationError: they are classifiers of another library than ours; those live in memory.
        """
        if isinstance(self.members, NetworkStack):
            save_arrays(path, _STACK_KIND, {"classes": self.classes} | self.members.arrays())
            return
        if not isinstance(self.members, NetworkMembers):
            raise CalibrationError("only linear classifiers and networks can be saved; these teachers live in memory")
        arrays: dict[str, NDArray[Any]] = {"classes": self.classes, "activation": np.array(self.members.activation)}
        for layer, (weights, biases) in enumerate(zip(self.members.weights, self.members.biases, strict=True)):
            arrays |= {f"weights{layer}": weights, f"biases{layer}": biases}
        save_arrays(path, _KIND, arrays)

    @classmethod
    def load(cls, path: Path) -> TeacherEnsemble:
        """Read what ``save`` wrote; the votes are the same.

        Raises:
            CalibrationError: the file is missing, damaged, of another kind or version, or its shapes do not fit.
        """
        kind, arrays = load_any(path, (_KIND, _STACK_KIND))
        if kind == _STACK_KIND:
            return cls._stacked(arrays, path)
        layers = range((len(arrays) - 2) // 2)
        names = {"classes", "activation"} | {f"{part}{i}" for part in ("weights", "biases") for i in layers}
        if not layers or set(arrays) != names or str(arrays["activation"]) not in ACTIVATIONS:
            raise CalibrationError("the teachers file does not hold what teachers need", private=str(path))
        weights = [arrays[f"weights{i}"] for i in layers]
        biases = [arrays[f"biases{i}"] for i in layers]
        if not _shapes_match(weights, biases, arrays["classes"]):
            raise CalibrationError("the shapes in the teachers file do not fit each other", private=str(path))
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
    """Whether the layers follow on each other, have one number of teachers, and end in the classes."""
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
