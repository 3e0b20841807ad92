"""Open Inference Protocol V2 over REST, JSON tensors (KServe, Triton, MLServer, OpenVINO, TorchServe)."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from modeltoll.errors import AnswerError, RequestError
from modeltoll.gateway.protocols.protocol import Question, Service
from modeltoll.leak.scores import probabilities
from modeltoll.records import Answer, Evidence

if TYPE_CHECKING:
    from modeltoll.records import Floats

__all__ = ["OpenInference"]

_NUMERIC = frozenset(
    ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BF16")
)
_GO_ROUND = ("binary_data_output", "shared_memory_region", "classification")  # parameters that change what is answered
_COMPLAINT_CHARACTERS = 500


class _Tensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: Any


class _Answer(msgspec.Struct):
    outputs: list[_Tensor]


class _TensorMetadata(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]


class _Metadata(msgspec.Struct):
    inputs: list[_TensorMetadata]


class _Complaint(msgspec.Struct):
    error: str


_answers = msgspec.json.Decoder(_Answer)
_metadata = msgspec.json.Decoder(_Metadata)
_complaints = msgspec.json.Decoder(_Complaint)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise RequestError("the request repeats a member; gateway and model server might read it differently")
    return members


def _no_constant(token: str) -> float:
    raise RequestError(f"the request holds {token}, which is not JSON")


def _load(body: bytes) -> Any:
    """Strict JSON: UTF-8, no member twice, no NaN or Infinity. What the gateway measures is what the upstream reads."""
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise RequestError("the request is not JSON") from None


def _parameters(holder: dict[str, Any]) -> None:
    parameters = holder.get("parameters", {})
    if not isinstance(parameters, dict):
        raise RequestError("'parameters' is not an object")
    for name in _GO_ROUND:
        if parameters.get(name):
            raise RequestError(f"the parameter {name!r} is not served here")


def _shape(tensor: dict[str, Any]) -> tuple[int, ...]:
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not shape or not all(type(n) is int and 0 < n < 2**31 for n in shape):
        raise RequestError("an input's 'shape' is not a list of positive integers")
    return tuple(shape)


def _array(data: object) -> np.ndarray[Any, Any]:
    try:
        return np.asarray(data)
    except ValueError:  # ragged
        raise RequestError("an input's 'data' is ragged") from None


def _numbers(tensor: dict[str, Any], shape: tuple[int, ...]) -> Floats:
    array = _array(tensor.get("data"))
    if array.dtype.kind not in "biuf":
        raise RequestError(f"an input of datatype {tensor['datatype']} holds something that is not a number")
    if array.size != np.prod(shape, dtype=np.float64):
        raise RequestError("an input's 'data' does not fill its 'shape'")
    rows = np.asarray(array.reshape(shape[0], -1), dtype=np.float64) + 0.0  # + 0.0: minus zero has the same fingerprint
    if not np.isfinite(rows).all():
        raise RequestError("an input holds a number that is not finite")
    return rows


def _texts(tensor: dict[str, Any], shape: tuple[int, ...]) -> list[bytes]:
    array = np.asarray(_array(tensor.get("data")), dtype=object)
    if array.size != np.prod(shape, dtype=np.float64):
        raise RequestError("an input's 'data' does not fill its 'shape'")
    return [json.dumps(row.tolist()).encode() for row in array.reshape(shape[0], -1)]


def _inputs(document: Any) -> list[dict[str, Any]]:
    if not isinstance(document, dict):
        raise RequestError("the request is not an object")
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or not inputs or not all(isinstance(tensor, dict) for tensor in inputs):
        raise RequestError("'inputs' is not a list of tensors")
    outputs = document.get("outputs", [])
    if not isinstance(outputs, list) or not all(isinstance(output, dict) for output in outputs):
        raise RequestError("'outputs' is not a list of objects")
    for holder in (document, *inputs, *outputs):
        _parameters(holder)
    return inputs


class OpenInference:
    """Open Inference Protocol V2, REST with JSON tensors."""

    name = "oip"

    def infer_path(self, service: Service) -> str:
        """``/v2/models/MODEL/infer``."""
        return f"{self.metadata_path(service)}/infer"

    def metadata_path(self, service: Service) -> str:
        """``/v2/models/MODEL``."""
        return f"/v2/models/{service.model}"

    def read(self, body: bytes, service: Service) -> Question:
        """Read an inference request: every input tensor has the same first dimension, its rows."""
        tensors = _inputs(_load(body))
        shapes = [_shape(tensor) for tensor in tensors]
        rows = shapes[0][0]
        if any(shape[0] != rows for shape in shapes):
            raise RequestError("the inputs do not have the same number of rows")
        if rows > service.max_rows:
            raise RequestError(f"the request has {rows} rows; at most {service.max_rows} are served at once")
        numbers: list[Floats] = []
        texts: list[list[bytes]] = []
        for tensor, shape in zip(tensors, shapes, strict=True):
            datatype = tensor.get("datatype")
            if datatype == "BYTES":
                texts.append(_texts(tensor, shape))
            elif datatype in _NUMERIC:
                numbers.append(_numbers(tensor, shape))
            else:
                raise RequestError("an input's 'datatype' is not one of the protocol's")
        inputs = np.hstack(numbers) if len(numbers) > 1 else numbers[0] if numbers else None
        parts = [row.tobytes() for row in inputs] if inputs is not None else [b""] * rows
        fingerprints = tuple(
            blake2b(b"\0".join((part, *(column[i] for column in texts))), digest_size=8).digest()
            for i, part in enumerate(parts)
        )
        return Question(body, fingerprints, None if texts else inputs)

    def evidence(self, question: Question, answer: Answer, service: Service) -> Evidence:
        """The declared output, as probabilities, one row per row of the question."""
        try:
            outputs = _answers.decode(answer.body).outputs
        except (msgspec.DecodeError, RecursionError) as error:
            raise AnswerError("the model server's answer is not of the protocol", private=str(error)) from None
        found = [output for output in outputs if output.name == service.output]
        if len(found) != 1:
            raise AnswerError(f"the model server's answer does not hold the output {service.output!r} once")
        rows = len(question.fingerprints)
        try:
            raw = np.asarray(found[0].data)
            if raw.dtype.kind not in "biuf":
                raise ValueError(f"data of kind {raw.dtype.kind}")  # noqa: TRY301  one message for all that is no table
            table = raw.astype(np.float64).reshape(rows, -1)
        except ValueError as error:
            raise AnswerError(
                "the model server's answer has not one row of numbers per input", private=str(error)
            ) from None
        scores = probabilities(table, service.kind, service.classes)
        return Evidence(question.fingerprints, scores=scores, inputs=question.inputs)

    def ask(self, inputs: Floats, metadata: bytes, service: Service) -> bytes:
        """One input tensor, named, shaped and typed as the model's metadata says; the declared output is asked for."""
        try:
            described = _metadata.decode(metadata).inputs
        except (msgspec.DecodeError, RecursionError) as error:
            raise AnswerError("the model's metadata is not of the protocol", private=str(error)) from None
        if len(described) != 1 or described[0].datatype not in _NUMERIC:
            raise AnswerError("the model does not take exactly one tensor of numbers; give the requests' leaks instead")
        tensor = described[0]
        shape = [len(inputs), *(tensor.shape[1:] if -1 not in tensor.shape[1:] else inputs.shape[1:])]
        whole = not tensor.datatype.startswith(("FP", "BF"))
        data = (inputs.astype(np.int64) if whole else inputs).reshape(-1).tolist()
        body = {"name": tensor.name, "shape": shape, "datatype": tensor.datatype, "data": data}
        return msgspec.json.encode({"inputs": [body], "outputs": [{"name": service.output}]})

    def error(self, message: str) -> bytes:
        """``{"error": message}``."""
        return msgspec.json.encode({"error": message})

    def error_member(self, message: str) -> object:
        """The protocol's ``error`` is a string."""
        return message

    def complaint(self, answer: Answer) -> str:
        """The upstream's ``error`` string, shortened."""
        try:
            return _complaints.decode(answer.body).error[:_COMPLAINT_CHARACTERS]
        except (msgspec.DecodeError, RecursionError):
            return ""
