"""The features that layered novelty compares: standardised or hashed inputs, the layers of a small network, rare pairs of codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from modeltoll.errors import CalibrationError
from modeltoll.leak.input_transform import transform_of_arrays
from modeltoll.leak.pair_rarity import PairRarity
from modeltoll.leak.teachers.network_stack import NetworkStack

if TYPE_CHECKING:
    from modeltoll.leak.input_transform import InputTransform
    from modeltoll.records import Floats, Integers

__all__ = ["FeatureExtractor", "FittedExtractor", "NoveltyNetwork"]


class FeatureExtractor(Protocol):
    """A network that maps inputs to the features of its layers.

    An extractor that can read missing values has the attribute ``reads_missing``, which is True; others get no NaN.
    """

    @property
    def dimensions(self) -> int:
        """The length of an input."""

    def features(self, inputs: Floats) -> list[Floats]:
        """The features of inputs (rows, d): one array (rows, f) per layer; rows do not affect each other."""


@runtime_checkable
class FittedExtractor(FeatureExtractor, Protocol):
    """A feature extractor that was fitted to the private rows one by one, so that its features of those differ."""

    def features_of_own(self, inputs: Floats) -> list[Floats]:
        """The features of private rows (rows, d), each as if the extractor had not been fitted to it."""


@dataclass(frozen=True, slots=True, eq=False)
class NoveltyNetwork:
    """A transform of the inputs, and the network behind it; None: no network. ``rarity``: of codes, else None.

    The first layer of features is the transformed inputs themselves, except where the network is convolutional: then
    only its layers are compared. The last one is the rarity of pairs of codes, without a network the only one
    of rows of many codes.
    """

    transform: InputTransform
    stack: NetworkStack | None
    rarity: PairRarity | None = None

    @property
    def reads_missing(self) -> bool:
        """True: both transforms read missing values."""
        return True

    @property
    def dimensions(self) -> int:
        """The length of an input."""
        return self.transform.width

    def features(self, inputs: Floats) -> list[Floats]:
        """The features of inputs (rows, d), which may hold NaN, in each layer, (rows, f)."""
        rarity = [] if self.rarity is None else [self.rarity.features(inputs)]
        return [*self._layers(inputs), *rarity]

    def features_of_own(self, inputs: Floats) -> list[Floats]:
        """The features of private rows that the rarity was fitted to, each as if it had not been among them."""
        rarity = [] if self.rarity is None else [self.rarity.features_of_own(inputs)]
        return [*self._layers(inputs), *rarity]

    def _layers(self, inputs: Floats) -> list[Floats]:
        if self.stack is None:
            alone = self.rarity is not None and self.rarity.suffices(self.dimensions)
            return [] if alone else [self.transform.apply(inputs)]
        values = self.transform.apply(inputs)
        convolutional = any(layer.kernel for layer in self.stack.layers)
        return [*([] if convolutional else [values]), *self.stack.features(values)]

    def predict(self, inputs: Floats) -> Integers:
        """The network's class, an index (rows,), of each of the inputs (rows, d).

        Raises:
            ValueError: there is no network.
        """
        if self.stack is None:
            raise ValueError("without a network there is no prediction")
        return self.stack.predict(self.transform.apply(inputs))[:, 0]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The transform, the network and the rarity as named arrays, to be saved in a file."""
        parts = [part.arrays() for part in (self.stack, self.rarity) if part is not None]
        return {name: array for arrays in (self.transform.arrays(), *parts) for name, array in arrays.items()}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> NoveltyNetwork:
        """The inverse of ``arrays``.

        Raises:
            CalibrationError: arrays are missing, or do not fit each other.
        """
        transform = transform_of_arrays(arrays)
        stack = NetworkStack.of_arrays(arrays) if "shape" in arrays or "kernel0" in arrays else None
        if stack is not None and stack.shape != transform.shape:
            raise CalibrationError("the network in the novelty file does not fit its inputs")
        return cls(transform, stack, PairRarity.of_arrays(arrays))
