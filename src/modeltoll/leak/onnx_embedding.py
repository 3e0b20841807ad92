"""An embedding that is an ONNX model; needs onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modeltoll.errors import CalibrationError, SettingsError

if TYPE_CHECKING:
    from modeltoll.records import Floats

__all__ = ["OnnxEmbedding"]


class OnnxEmbedding:
    """Features as an ONNX model computes them, row by row: whatever is not rows is flattened."""

    def __init__(self, path: Path, shape: tuple[int, ...] = (), output: str | None = None) -> None:
        """Read a model of one float32 input.

        Args:
            path: the model.
            shape: shape of one row as the model takes it, as (3, 32, 32); empty where it takes (rows, d).
            output: name of the output that holds the features; the first by default.

        Raises:
            SettingsError: onnxruntime is not installed.
            CalibrationError: no such file, not an ONNX model, more than one input, or no such output.
        """
        try:
            import onnxruntime  # noqa: PLC0415  optional
            from onnxruntime.capi import onnxruntime_pybind11_state as faults  # noqa: PLC0415
        except ImportError:
            raise SettingsError(["an ONNX embedding needs onnxruntime: pip install onnxruntime"]) from None
        kinds = (faults.Fail, faults.InvalidGraph, faults.InvalidProtobuf, faults.NoSuchFile, faults.NotImplemented)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except (*kinds, faults.InvalidArgument) as error:
            raise CalibrationError("the embedding is not a readable ONNX model", private=f"{path}: {error}") from None
        if len(session.get_inputs()) != 1:
            raise CalibrationError("the ONNX model of an embedding must have one input", private=str(path))
        names = [given.name for given in session.get_outputs()]
        if output is not None and output not in names:
            raise CalibrationError(f"the ONNX model has no output {output!r}; it has {', '.join(names)}")
        self._faults = (faults.InvalidArgument, faults.Fail, faults.RuntimeException)
        self._session = session
        self._shape = shape
        self._output = output or names[0]

    def __call__(self, inputs: Floats) -> Floats:
        """Features (rows, e) of inputs (rows, d).

        One row is asked for at a time, for a model may compute a batch in another order than its rows.

        Raises:
            CalibrationError: the model does not take rows of this shape.
        """
        name = self._session.get_inputs()[0].name
        parts = []
        for row in np.asarray(inputs, np.float32):
            try:
                given = row.reshape(1, *(self._shape or row.shape))
                (features,) = self._session.run([self._output], {name: given})
            except (ValueError, *self._faults) as error:
                raise CalibrationError("the ONNX model does not take such rows", private=str(error)) from None
            parts.append(np.asarray(features, np.float64).reshape(1, -1))
        return np.concatenate(parts)
