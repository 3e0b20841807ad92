"""Open Inference Protocol V2 over REST (KServe, Triton, MLServer, OpenVINO): JSON and binary tensors, classification."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from modeltoll.errors import AnswerError, RequestError
from modeltoll.gateway.protocols.oip_tensors import (
    BROKEN,
    DIMENSIONS,
    NUMERIC,
    TEXT,
    BinaryTail,
    numbers,
    split_body,
    texts,
)
from modeltoll.gateway.protocols.plain_errors import PlainErrors
from modeltoll.gateway.protocols.protocol import JSON, ParsedRequest, Routes, ServiceDescription
from modeltoll.gateway.protocols.rows import check_row_limit, fingerprint
from modeltoll.gateway.protocols.strict_json import load_object
from modeltoll.leak.scores import check_scores, probabilities
from modeltoll.records import Answer, Evidence

if TYPE_CHECKING:
    from modeltoll.records import Floats

__all__ = ["OpenInference"]

_MODEL = "/v2/models/{model}"
_VERSION = f"{_MODEL}/versions/{{version}}"
_READY = "/v2/health/ready"

_SIZE, _CLASSIFICATION = "binary_data_size", "classification"
_BYPASS = ("shared_memory_region", "shared_memory_offset", "shared_memory_byte_size")  # read or written elsewhere
_SCORES = frozenset((int, float))


class _Tensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: Any = None
    parameters: dict[str, Any] | None = None


class _Answer(msgspec.Struct):
    outputs: list[_Tensor]


class _TensorMetadata(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]


class _Metadata(msgspec.Struct):
    inputs: list[_TensorMetadata]


_answers = msgspec.json.Decoder(_Answer)
_metadata = msgspec.json.Decoder(_Metadata)


def _list(holder: dict[str, Any], name: str, what: str) -> list[dict[str, Any]]:
    """A member that is a list of objects, empty where it is missing."""
    found = holder.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise RequestError(f"{name!r} is not a list of {what}")
    return found


def _parameters(holder: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a request or a tensor, none of which bypasses the gateway."""
    parameters = holder.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise RequestError("'parameters' is not an object")
    for name in _BYPASS:
        if parameters.get(name):
            raise RequestError(f"the parameter {name!r} is not served here")
    return parameters


def _shape(tensor: dict[str, Any]) -> tuple[int, ...]:
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not 0 < len(shape) <= DIMENSIONS:
        raise RequestError(f"an input's 'shape' is not a list of 1..{DIMENSIONS} integers")
    if not all(type(n) is int and 0 < n < 2**31 for n in shape):
        raise RequestError("an input's 'shape' holds something that is not a positive integer")
    return tuple(shape)


def _data(tensor: dict[str, Any], tail: BinaryTail | None) -> object:
    """An input's data: its JSON, or its part of the raw bytes."""
    size = _parameters(tensor).get(_SIZE)
    if size is None:
        return tensor.get("data")
    if tail is None or "data" in tensor:
        raise RequestError(f"{_SIZE!r} is for a request of raw tensors, and in place of 'data'")
    return tail.take(size)


def _classes_shown(document: dict[str, Any], service: ServiceDescription) -> int | None:
    """How many classes of each row the request asks for, by the classification extension; None: all scores.

    Raises:
        RequestError: it cannot be measured.
    """
    if _parameters(document).get(_CLASSIFICATION):
        raise RequestError(f"the parameter {_CLASSIFICATION!r} belongs to an output")
    for output in _list(document, "outputs", "objects"):
        shown = _parameters(output).get(_CLASSIFICATION)
        if output.get("name") != service.output or not shown:
            continue
        if type(shown) is not int or shown < 1:
            raise RequestError(f"{_CLASSIFICATION!r} is not a number of classes")
        if service.kind != "probabilities" or service.classes is None:
            raise RequestError(f"the parameter {_CLASSIFICATION!r} is not served here")
        return min(shown, service.classes)
    return None


def _ranked(items: list[str], rows: int, shown: int, classes: int) -> Floats:
    """The scores of the classes shown, out of ``score:index`` or ``score:index:label``; 0 elsewhere.

    Raises:
        ValueError: not so many, or of another form.
    """
    if len(items) != rows * shown:
        raise ValueError(f"shows {len(items)} classes instead of {rows * shown}")
    table = np.zeros((rows, classes))
    for number, item in enumerate(items):
        score, index = item.split(":", 2)[:2]
        if not 0 <= int(index) < classes:
            raise ValueError("shows a class that is not declared")
        table[number // shown, int(index)] = float(score)
    return table


def _table(output: _Tensor, rows: int, data: object) -> Floats:
    """An output's numbers, one line per row of the request.

    Raises:
        ValueError: another number of rows, more than one further dimension, or not numbers.
    """
    shape = tuple(output.shape[: DIMENSIONS + 1])
    further = [length for length in shape[1:] if length != 1]
    if shape[:1] != (rows,) or len(shape) > DIMENSIONS or len(further) > 1 or min(shape) < 1:
        raise ValueError(f"is of shape {list(shape)}")
    if not isinstance(data, memoryview):
        return numbers(data, "FP64", shape, _SCORES)  # as it is written, whatever its datatype
    if output.datatype not in NUMERIC:
        raise ValueError(f"is of datatype {output.datatype}")
    return numbers(data, output.datatype, shape)


class OpenInference(PlainErrors):
    """Open Inference Protocol V2, REST."""

    name = "oip"
    routes = Routes(
        infer=(f"{_MODEL}/infer", f"{_VERSION}/infer"),
        pass_through=("/v2", "/v2/health/live", _READY, _MODEL, f"{_MODEL}/ready", _VERSION, f"{_VERSION}/ready"),
        metadata=_MODEL,
        ready=_READY,
        binary=True,
    )

    def read(self, body: bytes, service: ServiceDescription, content_type: str = JSON) -> ParsedRequest:
        """Read an inference request: every input tensor has the same first dimension, its rows."""
        try:
            head, tail = split_body(body, content_type)
        except ValueError as error:
            raise RequestError(f"the request {error}") from None
        document = load_object(head)
        tensors = _list(document, "inputs", "tensors")
        if not tensors:
            raise RequestError("the request has no 'inputs'")
        for holder in (document, *tensors, *_list(document, "outputs", "objects")):
            _parameters(holder)
        shapes = [_shape(tensor) for tensor in tensors]
        rows = shapes[0][0]
        if any(shape[0] != rows for shape in shapes):
            raise RequestError("the inputs do not have the same number of rows")
        check_row_limit(rows, service)
        shown = _classes_shown(document, service)
        try:
            parsed = self._parsed(tensors, shapes, tail)
            if tail is not None:
                tail.check_empty()
        except ValueError as error:
            raise RequestError(f"an input's 'data' {error}") from None
        except OverflowError:
            raise RequestError("an input holds a number that is too large") from None
        return ParsedRequest(parsed.fingerprints, parsed.inputs, note=shown)

    def _parsed(
        self, tensors: list[dict[str, Any]], shapes: list[tuple[int, ...]], tail: BinaryTail | None
    ) -> ParsedRequest:
        rows = shapes[0][0]
        parts: list[Floats] = []
        written: list[list[bytes]] = []
        for tensor, shape in zip(tensors, shapes, strict=True):
            datatype = tensor.get("datatype")
            if datatype == TEXT:
                items = texts(_data(tensor, tail), shape)
                width = len(items) // rows
                written.append([json.dumps(items[i : i + width]).encode() for i in range(0, len(items), width)])
            elif isinstance(datatype, str) and datatype in NUMERIC:
                parts.append(numbers(_data(tensor, tail), datatype, shape))
            else:
                raise RequestError("an input's 'datatype' is not one of the protocol's")
        inputs = np.hstack(parts) if len(parts) > 1 else parts[0] if parts else None
        lines = [row.tobytes() for row in inputs] if inputs is not None else [b""] * rows
        prints = tuple(fingerprint(line, *(column[i] for column in written)) for i, line in enumerate(lines))
        return ParsedRequest(prints, None if written else inputs)

    def evidence(self, parsed: ParsedRequest, answer: Answer, service: ServiceDescription) -> Evidence:
        """The declared output, as probabilities, one row per row of the request."""
        try:
            head, tail = split_body(answer.body, answer.content_type)
            outputs = _answers.decode(head).outputs
        except (ValueError, RecursionError) as error:  # msgspec.DecodeError is a ValueError
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
            data = _pieces(outputs, tail)[outputs.index(measured[0])]
            scores = self._scores(measured[0], data, parsed, service)
        except (ValueError, OverflowError) as error:
            raise AnswerError(
                "the model server's answer does not have one row of numbers per input", private=str(error)
            ) from None
        return Evidence(parsed.fingerprints, scores=scores, inputs=parsed.inputs)

    def _scores(self, output: _Tensor, data: object, parsed: ParsedRequest, service: ServiceDescription) -> Floats:
        rows = len(parsed.fingerprints)
        if not isinstance(parsed.note, int) or output.datatype != TEXT:  # servers without the extension show them all
            table = _table(output, rows, data)
            return probabilities(table, service.kind, service.classes, partial=service.partial)
        assert service.classes is not None  # or the request had been refused
        items = texts(data, (rows * parsed.note,))
        table = _ranked(items, rows, parsed.note, service.classes)
        return check_scores(table, service.classes, partial=parsed.note < service.classes or service.partial)

    def ask(self, inputs: Floats, metadata: bytes, service: ServiceDescription) -> bytes:
        """One input tensor, named, shaped and typed as the model's metadata says; the declared output is asked for."""
        try:
            described = _metadata.decode(metadata).inputs
        except (ValueError, RecursionError) as error:  # msgspec.DecodeError is a ValueError
            raise AnswerError("the model's metadata is not of the protocol", private=str(error)) from None
        if len(described) != 1 or described[0].datatype not in NUMERIC:
            raise AnswerError("the model does not take exactly one tensor of numbers; give the requests' leaks instead")
        tensor = described[0]
        shape = [len(inputs), *(tensor.shape[1:] if -1 not in tensor.shape[1:] else inputs.shape[1:])]
        whole = tensor.datatype not in BROKEN
        data = (inputs.astype(np.int64) if whole else inputs).reshape(-1).tolist()
        body = {"name": tensor.name, "shape": shape, "datatype": tensor.datatype, "data": data}
        return msgspec.json.encode({"inputs": [body], "outputs": [{"name": service.output}]})


def _pieces(outputs: list[_Tensor], tail: BinaryTail | None) -> list[object]:
    """The data of each output: its JSON, or its part of the raw bytes.

    Raises:
        ValueError: the sizes are not those of the bytes that came.
    """
    pieces: list[object] = []
    for output in outputs:
        size = (output.parameters or {}).get(_SIZE)
        if size is None:
            pieces.append(output.data)
        elif tail is None or output.data is not None:
            raise ValueError("declares raw bytes that are missing")
        else:
            pieces.append(tail.take(size))
    if tail is not None:
        tail.check_empty()
    return pieces
