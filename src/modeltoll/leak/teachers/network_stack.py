"""Small networks of one shape as they are served: matrix products in numpy, without the library that trained them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from modeltoll.errors import CalibrationError

if TYPE_CHECKING:
    from modeltoll.records import Floats, Integers

__all__ = ["Layer", "NetworkStack", "Single"]

Single = NDArray[np.float32]
_Values = NDArray[Any]  # float32, or float64 where doubt is settled

_ROWS = 32  # rows convolved at a time: their patches are what takes room
_NETWORKS = 10  # networks worked on at a time, so that their weights stay in the cache
_DOUBT = 1e-4  # relative difference of float32 outputs up to which the larger is decided in float64


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One layer of all networks: ``weights`` (networks, in, out), ``biases`` (networks, out), float32.

    ``kernel`` is 0 for a full layer, else the side of a convolution, whose inputs are ordered (row, column, channel).
    """

    weights: Single
    biases: Single
    kernel: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class NetworkStack:
    """Networks of one shape, served at once: convolutions, each pooled to half the side, then full layers, all with ReLU.

    ``shape`` is (height, width, channels) of an input; it only matters to convolutions. Inputs have
    shape (rows, height * width * channels), images row by row with the channels last.
    """

    layers: tuple[Layer, ...]
    shape: tuple[int, int, int]

    @property
    def count(self) -> int:
        """How many networks there are."""
        return len(self.layers[0].biases)

    @property
    def dimensions(self) -> int:
        """The length of an input."""
        return int(np.prod(self.shape))

    @property
    def classes(self) -> int:
        """How many outputs each network has."""
        return int(self.layers[-1].biases.shape[1])

    def outputs(self, inputs: Floats) -> Single:
        """Each network's outputs, shape (networks, rows, classes)."""
        out = np.empty((self.count, len(inputs), self.classes), np.float32)
        values = inputs.astype(np.float32)
        for chosen in self._shares():
            for start in range(0, len(inputs), _ROWS):
                rows = slice(start, start + _ROWS)
                out[chosen, rows] = self._run(values[rows], chosen)[-1]
        return out

    def winners(self, inputs: Floats) -> Integers:
        """Each network's class of the largest output, shape (rows, networks), as float64 would have it.

        So a row's votes do not depend on how many rows are asked for at once.
        """
        out = self.outputs(inputs)
        top = np.partition(out, -2, axis=2)[:, :, -2:]
        best = out.argmax(axis=2)
        with np.errstate(invalid="ignore"):  # a class that was never seen has minus infinity
            doubt = ~(top[:, :, 1] - top[:, :, 0] > _DOUBT * (1.0 + np.abs(top).max(axis=2)))
        for network, row in np.argwhere(doubt):
            precise = self._run(inputs[row : row + 1], slice(network, network + 1))[-1]
            best[network, row] = precise[0, 0].argmax()
        return np.asarray(best.T, np.int64)

    def features(self, inputs: Floats) -> list[Floats]:
        """What the first network sees in its inputs, for each layer but the last, (rows, features).

        Of a convolution it is the mean and the deviation of each channel, of a full layer its units.
        """
        parts = []
        for row in range(len(inputs)):  # one at a time: a product of several may round each otherwise
            stages = self._run(inputs[row : row + 1], slice(0, 1))[:-1]
            parts.append([_pooled_features(stage[0]) for stage in stages])
        return [np.concatenate(same) for same in zip(*parts, strict=True)]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The networks as named arrays, for a file."""
        named: dict[str, NDArray[Any]] = {"shape": np.array(self.shape)}
        for i, layer in enumerate(self.layers):
            named |= {f"weights{i}": layer.weights, f"biases{i}": layer.biases, f"kernel{i}": np.array(layer.kernel)}
        return named

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> NetworkStack:
        """What ``arrays`` gave.

        Raises:
            CalibrationError: arrays are missing, or their shapes do not follow on each other.
        """
        count = sum(name.startswith("kernel") for name in arrays)
        try:
            shape = tuple(int(side) for side in arrays["shape"])
            layers = [
                Layer(arrays[f"weights{i}"], arrays[f"biases{i}"], int(arrays[f"kernel{i}"])) for i in range(count)
            ]
        except (KeyError, TypeError, ValueError):
            raise CalibrationError("the file does not hold what networks need") from None
        if len(shape) != 3 or not layers or not _shapes_match(layers, *shape):
            raise CalibrationError("the shapes of the networks in the file do not fit each other")
        return cls(tuple(layers), (shape[0], shape[1], shape[2]))

    def _shares(self) -> Iterator[slice]:
        for start in range(0, self.count, _NETWORKS):
            yield slice(start, min(start + _NETWORKS, self.count))

    def _run(self, inputs: _Values, chosen: slice) -> list[_Values]:
        """The outputs of every layer of the chosen networks, (networks, rows, ...), in the precision of the inputs."""
        values: _Values = inputs.reshape(1, len(inputs), *self.shape)  # one image for all networks
        stages = []
        for i, layer in enumerate(self.layers):
            weights, biases = (part[chosen].astype(inputs.dtype, copy=False) for part in (layer.weights, layer.biases))
            if layer.kernel:
                values = _convolve(values, weights, biases, layer.kernel)
            else:
                flat = values.reshape(*values.shape[:2], -1)
                values = np.matmul(flat, weights) + biases[:, None]
            if i + 1 < len(self.layers):
                np.maximum(values, 0.0, out=values)
            stages.append(values)
        return stages


def _convolve(values: _Values, weights: _Values, biases: _Values, kernel: int) -> _Values:
    """Images (networks or 1, rows, height, width, channels) convolved and pooled: the same with other channels."""
    few, rows, height, width, channels = values.shape
    lines = values.reshape(few, rows, height, width * channels)  # so that a patch is made of long runs
    windows = sliding_window_view(lines, (kernel, kernel * channels), axis=(2, 3))[:, :, :, ::channels]
    height, width = windows.shape[2:4]
    patches = windows.reshape(few, rows * height * width, -1)
    if few == 1:  # all networks see the same: one product
        wide = weights.transpose(1, 0, 2).reshape(weights.shape[1], -1)
        out = (patches[0] @ wide).reshape(-1, len(weights), weights.shape[2]).transpose(1, 0, 2)
    else:
        out = np.matmul(patches, weights)
    images = out.reshape(len(weights), rows, height, width, -1)
    halves = [images[:, :, i : height - 1 + i : 2, j : width - 1 + j : 2] for i in (0, 1) for j in (0, 1)]
    pooled = np.maximum(np.maximum(halves[0], halves[1]), np.maximum(halves[2], halves[3]))
    return np.asarray(pooled + biases[:, None, None, None])


def _pooled_features(stage: _Values) -> _Values:
    return np.concatenate([stage.mean(axis=(1, 2)), stage.std(axis=(1, 2))], axis=1) if stage.ndim == 4 else stage


def _shapes_match(layers: list[Layer], height: int, width: int, channels: int) -> bool:
    """Whether each layer takes what the one before gives, for one number of networks, all in float32."""
    networks, flat = len(layers[0].biases), False
    for layer in layers:
        if layer.weights.dtype != np.float32 or layer.biases.dtype != np.float32 or layer.weights.ndim != 3:
            return False
        if layer.kernel and (flat or min(height, width) <= layer.kernel):
            return False
        entering = channels * (layer.kernel**2 if layer.kernel else height * width)
        if layer.weights.shape[:2] != (networks, entering) or layer.biases.shape != (networks, layer.weights.shape[2]):
            return False
        if layer.kernel:
            height, width = ((side - layer.kernel + 1) // 2 for side in (height, width))
        else:
            height, width, flat = 1, 1, True
        channels = layer.weights.shape[2]
    return flat and channels >= 1
