"""An embedding computed by an ONNX model; requires onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modeltoll.errors import CalibrationError, SettingsError

if TYPE_CHECKING:
    from modeltoll.records import Floats

__all__ = ["OnnxEmbedding"]


class OnnxEmbedding:
    """Features (rows, e) of an ONNX model; the dimensions of an output after the first are flattened."""

    def __init__(self, path: Path, shape: tuple[int, ...] = (), output: str | None = None) -> None:
        """Load a model with one float32 input.

        Args:
            path: the ONNX file.
            shape: the model's input shape for one row, for example (3, 32, 32); empty for (rows, d).
            output: name of the output with the features; the first output by default.

        Raises:
            SettingsError: onnxruntime is not installed.
            CalibrationError: no such file, not an ONNX model, more than one input, or no such output.
        """
        try:
            import onnxruntime  # noqa: PLC0415  optional
            from onnxruntime.capi import onnxruntime_pybind11_state as errors  # noqa: PLC0415
        except ImportError:
            raise SettingsError(["an ONNX embedding needs onnxruntime: pip install onnxruntime"]) from None
        kinds = (errors.Fail, errors.InvalidGraph, errors.InvalidProtobuf, errors.NoSuchFile, errors.NotImplemented)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except (*kinds, errors.InvalidArgument) as error:
            raise CalibrationError("the embedding is not a readable ONNX model", private=f"{path}: {error}") from None
        if len(session.get_inputs()) != 1:
            raise CalibrationError("the ONNX model of an embedding must have one input", private=str(path))
        names = [tensor.name for tensor in session.get_outputs()]
        if output is not None and output not in names:
            raise CalibrationError(f"the ONNX model has no output {output!r}; it has {', '.join(names)}")
        self._errors = (errors.InvalidArgument, errors.Fail, errors.RuntimeException)
        self._session = session
        self._shape = shape
        self._output = output or names[0]

    def __call__(self, inputs: Floats) -> Floats:
        """Features (rows, e) of inputs (rows, d).

        The model runs on one row at a time, because the rounding of a batch may depend on its size.

        Raises:
            CalibrationError: the model does not accept rows of this shape.
        """
        name = self._session.get_inputs()[0].name
        parts = []
        for row in np.asarray(inputs, np.float32):
            try:
                batch = row.reshape(1, *(self._shape or row.shape))
                (features,) = self._session.run([self._output], {name: batch})
            except (ValueError, *self._errors) as error:
                raise CalibrationError("the ONNX model does not accept such rows", private=str(error)) from None
            parts.append(np.asarray(features, np.float64).reshape(1, -1))
        return np.concatenate(parts)
