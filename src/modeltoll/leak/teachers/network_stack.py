"""Inference of small networks of one shape by matrix products in numpy, independent of the training library."""

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
_Values = NDArray[Any]  # float32, or float64 where close outputs are compared

_ROWS = 32  # rows convolved at a time, which bounds the memory for their patches
_NETWORKS = 10  # networks evaluated at a time, so that their weights stay in the cache
_CLOSE = 1e-4  # relative difference of float32 outputs below which float64 decides which is larger


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One layer of all networks: ``weights`` (networks, in, out), ``biases`` (networks, out), both float32.

    ``kernel``: 0 for a dense layer, else the side of a convolution, whose inputs are ordered (row, column, channel).
    """

    weights: Single
    biases: Single
    kernel: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class NetworkStack:
    """Networks of one shape, evaluated together: convolutions with 2 x 2 max pooling, then dense layers, all with ReLU.

    ``shape``: (height, width, channels) of an input, which matters to convolutions only. Inputs have shape
    (rows, height * width * channels), with images flattened row by row and the channels last.
    """

    layers: tuple[Layer, ...]
    shape: tuple[int, int, int]

    @property
    def count(self) -> int:
        """Number of networks."""
        return len(self.layers[0].biases)

    @property
    def dimensions(self) -> int:
        """The length of an input."""
        return int(np.prod(self.shape))

    @property
    def classes(self) -> int:
        """Number of outputs of each network."""
        return int(self.layers[-1].biases.shape[1])

    def outputs(self, inputs: Floats) -> Single:
        """Each network's outputs, shape (networks, rows, classes)."""
        out = np.empty((self.count, len(inputs), self.classes), np.float32)
        values = inputs.astype(np.float32)
        for chosen in self._groups():
            for start in range(0, len(inputs), _ROWS):
                rows = slice(start, start + _ROWS)
                out[chosen, rows] = self._run(values[rows], chosen)[-1]
        return out

    def predict(self, inputs: Floats) -> Integers:
        """The class of each network's largest output in float64, shape (rows, networks).

        Outputs are computed in float32; close ones are recomputed in float64, so that the predictions for a row do not
        depend on the size of the batch.
        """
        out = self.outputs(inputs)
        top = np.partition(out, -2, axis=2)[:, :, -2:]
        best = out.argmax(axis=2)
        with np.errstate(invalid="ignore"):  # absent classes have minus infinity
            close = ~(top[:, :, 1] - top[:, :, 0] > _CLOSE * (1.0 + np.abs(top).max(axis=2)))
        for network, row in np.argwhere(close):
            precise = self._run(inputs[row : row + 1], slice(network, network + 1))[-1]
            best[network, row] = precise[0, 0].argmax()
        return np.asarray(best.T, np.int64)

    def features(self, inputs: Floats) -> list[Floats]:
        """The features of the first network in each layer but the last, (rows, features) each.

        The mean and the standard deviation of each channel for a convolution, the units for a dense layer.
        """
        parts = []
        for row in range(len(inputs)):  # one at a time: the rounding of a product depends on its size
            stages = self._run(inputs[row : row + 1], slice(0, 1))[:-1]
            parts.append([_pooled_features(stage[0]) for stage in stages])
        return [np.concatenate(same) for same in zip(*parts, strict=True)]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The networks as named arrays, to be saved in a file."""
        named: dict[str, NDArray[Any]] = {"shape": np.array(self.shape)}
        for i, layer in enumerate(self.layers):
            named |= {f"weights{i}": layer.weights, f"biases{i}": layer.biases, f"kernel{i}": np.array(layer.kernel)}
        return named

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> NetworkStack:
        """The inverse of ``arrays``.

        Raises:
            CalibrationError: arrays are missing, or the shapes of consecutive layers do not match.
        """
        count = sum(name.startswith("kernel") for name in arrays)
        try:
            shape = tuple(int(side) for side in arrays["shape"])
            layers = [
                Layer(arrays[f"weights{i}"], arrays[f"biases{i}"], int(arrays[f"kernel{i}"])) for i in range(count)
            ]
        except (KeyError, TypeError, ValueError):
            raise CalibrationError("the file lacks arrays of networks") from None
        if len(shape) != 3 or not layers or not _shapes_match(layers, *shape):
            raise CalibrationError("the shapes of the networks in the file do not match each other")
        return cls(tuple(layers), (shape[0], shape[1], shape[2]))

    def _groups(self) -> Iterator[slice]:
        for start in range(0, self.count, _NETWORKS):
            yield slice(start, min(start + _NETWORKS, self.count))

    def _run(self, inputs: _Values, chosen: slice) -> list[_Values]:
        """The outputs of every layer of the chosen networks, (networks, rows, ...), with the precision of the inputs."""
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
    """Convolve and pool images (networks or 1, rows, height, width, channels); the result has the output channels."""
    few, rows, height, width, channels = values.shape
    lines = values.reshape(few, rows, height, width * channels)  # a patch then consists of long contiguous runs
    windows = sliding_window_view(lines, (kernel, kernel * channels), axis=(2, 3))[:, :, :, ::channels]
    height, width = windows.shape[2:4]
    patches = windows.reshape(few, rows * height * width, -1)
    if few == 1:  # all networks share the inputs: one product
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
    """Whether the shapes of consecutive layers match, with one number of networks, all in float32."""
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
