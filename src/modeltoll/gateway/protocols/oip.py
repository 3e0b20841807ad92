"""Open Inference Protocol V2 over REST, JSON tensors (KServe, Triton, MLServer, OpenVINO, TorchServe)."""

from __future__ import annotations

import json
import math
from hashlib import blake2b
from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from modeltoll.errors import AnswerError, RequestError
from modeltoll.gateway.protocols.protocol import Question, Routes, Service
from modeltoll.leak.scores import probabilities
from modeltoll.records import Answer, Evidence

if TYPE_CHECKING:
    from modeltoll.records import Floats

__all__ = ["OpenInference"]

_MODEL = "/v2/models/{model}"
_VERSION = f"{_MODEL}/versions/{{version}}"
_READY = "/v2/health/ready"

_Kinds = dict[str, np.dtype[Any]]
_WHOLE: _Kinds = {
    f"{sign}INT{bits}": np.dtype(f"{sign}int{bits}".lower()) for sign in ("", "U") for bits in (8, 16, 32, 64)
}
_BROKEN: _Kinds = {"FP16": np.dtype("f2"), "BF16": np.dtype("f4"), "FP32": np.dtype("f4"), "FP64": np.dtype("f8")}
_NUMERIC: _Kinds = {"BOOL": np.dtype("bool"), **_WHOLE, **_BROKEN}  # numpy has no BF16; FP32 has its range
_TEXT = "BYTES"

# Parameters that change what is answered, or where it is read from or written to.
_GO_ROUND = ("binary_data", "binary_data_output", "binary_data_size", "classification", "shared_memory_region")
_COMPLAINT_CHARACTERS = 500
_DIMENSIONS = 32  # of a tensor


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


_requests = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def _load(body: bytes) -> Any:
    """Strict JSON: UTF-8, no member twice, no NaN or Infinity. What the gateway measures is what the upstream reads."""
    try:
        return _requests.decode(body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise RequestError("the request is not JSON") from None


def _list(holder: dict[str, Any], name: str, what: str) -> list[dict[str, Any]]:
    """A member that is a list of objects, empty where it is missing."""
    found = holder.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise RequestError(f"{name!r} is not a list of {what}")
    return found


def _check_parameters(holder: dict[str, Any]) -> None:
    parameters = holder.get("parameters")
    if parameters is None:
        return
    if not isinstance(parameters, dict):
        raise RequestError("'parameters' is not an object")
    for name in _GO_ROUND:
        if parameters.get(name):
            raise RequestError(f"the parameter {name!r} is not served here")


def _inputs(document: Any) -> list[dict[str, Any]]:
    if not isinstance(document, dict):
        raise RequestError("the request is not an object")
    inputs = _list(document, "inputs", "tensors")
    if not inputs:
        raise RequestError("the request has no 'inputs'")
    for holder in (document, *inputs, *_list(document, "outputs", "objects")):
        _check_parameters(holder)
    return inputs


def _shape(tensor: dict[str, Any]) -> tuple[int, ...]:
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not 0 < len(shape) <= _DIMENSIONS:
        raise RequestError(f"an input's 'shape' is not a list of 1..{_DIMENSIONS} integers")
    if not all(type(n) is int and 0 < n < 2**31 for n in shape):
        raise RequestError("an input's 'shape' holds something that is not a positive integer")
    return tuple(shape)


def _flat(data: object, shape: tuple[int, ...], kinds: frozenset[type]) -> list[Any]:
    """A tensor's items row by row, be they written flat or nested as the shape says.

    The items' types are checked one by one: an array made of text and numbers would take the longest text's memory
    for each of its items.

    Raises:
        ValueError: ragged, not as many as the shape says, or an item is of none of the ``kinds``.
    """
    if not isinstance(data, list):
        raise ValueError("is not a list")  # noqa: TRY004  as the other faults
    items = data
    for length in shape[1:]:
        if set(map(type, items)) != {list}:
            break
        if set(map(len, items)) != {length}:
            raise ValueError("is ragged, or not nested as its 'shape' says")
        items = list(chain.from_iterable(items))
    if not kinds.issuperset(map(type, items)):
        raise ValueError(f"holds something that is not {' or '.join(sorted(kind.__name__ for kind in kinds))}")
    if len(items) != math.prod(shape):
        raise ValueError("does not fill its 'shape'")
    return items


_NUMBERS, _SCORES, _TEXTS = frozenset((bool, int, float)), frozenset((int, float)), frozenset((str,))


def _numbers(tensor: dict[str, Any], shape: tuple[int, ...]) -> Floats:
    """An input's numbers, (rows, dimensions), as a model server reads them: rounded to the tensor's datatype."""
    datatype = tensor["datatype"]
    kind = _NUMERIC[datatype]
    try:
        sent = np.array(_flat(tensor.get("data"), shape, _NUMBERS), dtype=np.float64)
    except ValueError as error:
        raise RequestError(f"an input's 'data' {error}") from None
    except OverflowError:
        raise RequestError("an input holds a number that is too large") from None
    read = sent if kind == sent.dtype else _rounded(sent, kind)
    if not np.isfinite(read).all():
        raise RequestError(f"an input holds a number that is no {datatype}, or not finite")
    return (read + 0.0).reshape(shape[0], -1)  # + 0.0: minus zero has the same fingerprint


def _rounded(sent: Floats, kind: np.dtype[Any]) -> Floats:
    """Numbers as that datatype holds them; NaN where a whole or boolean one cannot."""
    with np.errstate(over="ignore", invalid="ignore"):
        cast = sent.astype(kind)
        read: Floats = cast.astype(np.float64)
    return read if kind.kind == "f" else np.where(cast == sent, read, np.nan)


def _texts(tensor: dict[str, Any], shape: tuple[int, ...]) -> list[bytes]:
    """An input's texts, one hashable line per row."""
    try:
        items = _flat(tensor.get("data"), shape, _TEXTS)
    except ValueError as error:
        raise RequestError(f"an input's 'data' {error}") from None
    width = len(items) // shape[0]
    return [json.dumps(items[start : start + width]).encode() for start in range(0, len(items), width)]


def _table(output: _Tensor, rows: int) -> Floats:
    """An output's numbers, one line per row of the question.

    Raises:
        ValueError: another number of rows, more than one further dimension, or not numbers.
    """
    shape = tuple(output.shape[: _DIMENSIONS + 1])
    further = [length for length in shape[1:] if length != 1]
    if shape[:1] != (rows,) or len(shape) > _DIMENSIONS or len(further) > 1:
        raise ValueError(f"is of shape {list(shape)}")
    return np.array(_flat(output.data, shape, _SCORES), dtype=np.float64).reshape(rows, -1)


class OpenInference:
    """Open Inference Protocol V2, REST with JSON tensors."""

    name = "oip"
    routes = Routes(
        infer=(f"{_MODEL}/infer", f"{_VERSION}/infer"),
        passing=("/v2", "/v2/health/live", _READY, _MODEL, f"{_MODEL}/ready", _VERSION, f"{_VERSION}/ready"),
        metadata=_MODEL,
        ready=_READY,
    )

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
            if datatype == _TEXT:
                texts.append(_texts(tensor, shape))
            elif isinstance(datatype, str) and datatype in _NUMERIC:
                numbers.append(_numbers(tensor, shape))
            else:
                raise RequestError("an input's 'datatype' is not one of the protocol's")
        inputs = np.hstack(numbers) if len(numbers) > 1 else numbers[0] if numbers else None
        parts = [row.tobytes() for row in inputs] if inputs is not None else [b""] * rows
        fingerprints = tuple(
            blake2b(b"\0".join((part, *(column[i] for column in texts))), digest_size=8).digest()
            for i, part in enumerate(parts)
        )
        return Question(fingerprints, None if texts else inputs)

    def evidence(self, question: Question, answer: Answer, service: Service) -> Evidence:
        """The declared output, as probabilities, one row per row of the question."""
        try:
            outputs = _answers.decode(answer.body).outputs
        except (msgspec.DecodeError, RecursionError) as error:
            raise AnswerError("the model server's answer is not of the protocol", private=str(error)) from None
        measured = [output for output in outputs if output.name == service.output]
        if len(measured) != 1:
            raise AnswerError(f"the model server's answer does not hold the output {service.output!r} once")
        if any(output.name not in service.unmeasured for output in outputs if output is not measured[0]):
            raise AnswerError(
                "the model server's answer holds an output that is not measured",
                private="ask the model server for the measured output only, or list the others in output.unmeasured",
            )
        try:
            table = _table(measured[0], len(question.fingerprints))
        except (ValueError, OverflowError) as error:
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
        whole = tensor.datatype not in _BROKEN
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
