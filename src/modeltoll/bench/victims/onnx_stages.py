"""The late stages of a trained network, exported to ONNX and run by onnxruntime, as a gateway would run them."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from modeltoll.bench.victims.networks import as_channels

if TYPE_CHECKING:
    from modeltoll.bench.victims.networks import Network
    from modeltoll.records import Floats

__all__ = ["ExportedStages"]

_LATE_STAGES = 3  # the number of stages exported, the last of the network
_ROWS = 500  # per call: onnxruntime never returns the memory of its largest batch


class _ChannelMeans(nn.Module):
    """Maps images (n, h, w) or (n, h, w, 3) to the outputs of the late stages; of convolutions, the channels' means."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self._network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        stages = self._network.stages(as_channels(images))[-_LATE_STAGES:]
        return tuple(stage.mean(dim=(2, 3)) if stage.ndim == 4 else stage for stage in stages)


class ExportedStages:
    """The late stages of a network for images of one ``shape``, (h, w) or (h, w, 3), on one core: a ``FeatureExtractor``."""

    def __init__(self, network: Network, shape: tuple[int, ...]) -> None:
        """Export the network; this needs onnx and onnxruntime."""
        import onnxruntime  # noqa: PLC0415  slow to load

        file = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the newer exporter needs another library
            torch.onnx.export(
                _ChannelMeans(network).eval(),
                (torch.zeros(1, *shape, device=next(network.parameters()).device),),
                file,
                dynamo=False,
                input_names=["images"],
                dynamic_axes={"images": {0: "rows"}},
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
        self._shape = shape

    @property
    def dimensions(self) -> int:
        """The length of a flattened image."""
        return int(np.prod(self._shape))

    def features(self, inputs: Floats) -> list[Floats]:
        """The outputs (rows, f) of each late stage for inputs (rows, dimensions)."""
        images = np.asarray(inputs, np.float32).reshape(-1, *self._shape)
        starts = range(0, max(len(images), 1), _ROWS)
        parts = [self._session.run(None, {"images": images[start : start + _ROWS]}) for start in starts]
        return [np.concatenate(stage).astype(np.float64) for stage in zip(*parts, strict=True)]
