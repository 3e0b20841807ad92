"""Messages of the Open Inference Protocol over gRPC, read as the documents of its JSON, and parameters written from these."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf.message import DecodeError

from modeltoll.errors import AnswerError, RequestError
from modeltoll.gateway.protocols.oip import OipAnswer, OipTensor
from modeltoll.gateway.protocols.oip_bodies import BinaryTail
from modeltoll.gateway.protocols.oip_requests import SIZE
from modeltoll.gateway.protocols.oip_tensors import MOST_TEXTS, NUMERIC, TEXT, packed_texts
from modeltoll.open_inference_messages import ModelInferRequest, ModelInferResponse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["parsed_request", "read_answer_message", "read_request_message", "request_document", "write_parameters"]

_FIELDS = {  # of the values, by datatype; FP16 and BF16 have none
    "BOOL": "bool_contents",
    **{f"INT{bits}": "int_contents" for bits in (8, 16, 32)},
    "INT64": "int64_contents",
    **{f"UINT{bits}": "uint_contents" for bits in (8, 16, 32)},
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    TEXT: "bytes_contents",
}
_MOST_FIELDS = 4096  # of a request: inputs, their raw contents, outputs and parameters
_VARINT, _LENGTH, _FIXED = 0, 2, {1: 8, 5: 4}  # wire types; bytes of numbers of fixed width
_VARINT_BITS = 63
_LARGEST_SIGNED, _LARGEST = 2**63, 2**64


def parsed_request(body: bytes) -> Any:
    """A ``ModelInferRequest`` of which nothing is checked but that it has not too many fields: an empty one takes a hundred
    times the memory of its bytes.

    Raises:
        RequestError: it is none, or has more fields than ``_MOST_FIELDS``.
    """
    if len(body) > 2 * _MOST_FIELDS and _has_too_many_fields(body):
        raise RequestError(f"the request has more than {_MOST_FIELDS} inputs, outputs and parameters")
    try:
        return ModelInferRequest.FromString(body)
    except DecodeError:
        raise RequestError("the request is not a ModelInferRequest") from None


def _has_too_many_fields(body: bytes) -> bool:
    """Whether a message has too many fields, those in its fields not counted. What is no message is left to the parser."""
    place = 0
    try:
        for _ in range(_MOST_FIELDS):
            if place >= len(body):
                return False
            tag, place = _varint(body, place)
            kind = tag & 7
            if kind == _LENGTH:
                length, place = _varint(body, place)
                place += length
            elif kind == _VARINT:
                _, place = _varint(body, place)
            else:
                place += _FIXED.get(kind, 0)
    except IndexError:
        return False
    return place < len(body)


def _varint(body: bytes, place: int) -> tuple[int, int]:
    """The number at a place, and the place behind it."""
    number = shift = 0
    while (byte := body[place]) & 0x80 and shift < _VARINT_BITS:
        number |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
    return number | byte << shift, place + 1


def read_request_message(body: bytes) -> Any:
    """A ``ModelInferRequest``.

    Raises:
        RequestError: it is none, or has a field that is not known here and that the model server might read.
    """
    message = parsed_request(body)
    if _has_unknown_fields(message):
        raise RequestError("the request has a field that is not served here: it could change the answer")
    return message


def request_document(message: Any) -> tuple[dict[str, Any], BinaryTail]:
    """A request as a document, and its tensors as raw bytes, whichever way they were written.

    Raises:
        RequestError: its values are not where its datatypes say, or a parameter has no value.
    """
    try:
        if any(len(tensor.contents.bytes_contents) > MOST_TEXTS for tensor in message.inputs):
            raise ValueError(f"has an input of more than {MOST_TEXTS} texts")  # noqa: TRY301  one of several faults
        raws = _raw_contents(message.inputs, message.raw_input_contents)
        inputs = [
            {**_described(tensor), "parameters": _sized(tensor, raw)}
            for tensor, raw in zip(message.inputs, raws, strict=True)
        ]
        document = {
            "model_name": message.model_name,
            "id": message.id,
            "parameters": _parameters(message),
            "inputs": inputs,
            "outputs": [{"name": output.name, "parameters": _parameters(output)} for output in message.outputs],
        }
    except ValueError as error:
        raise RequestError(f"the request {error}") from None
    return document, BinaryTail(memoryview(raws[0] if len(raws) == 1 else b"".join(raws)))


def read_answer_message(body: bytes) -> tuple[OipAnswer, list[memoryview]]:
    """A ``ModelInferResponse``: the answer without data, and the raw data of each output.

    Raises:
        AnswerError: it is none, has a field that is not known here, or its values are not where its datatypes say.
    """
    try:
        message = _known_answer(body)
        raws = _raw_contents(message.outputs, message.raw_output_contents)
        outputs = [
            OipTensor(tensor.name, list(tensor.shape), tensor.datatype, parameters=_parameters(tensor))
            for tensor in message.outputs
        ]
        answer = OipAnswer(outputs, message.model_name, message.model_version, message.id, _parameters(message))
    except (DecodeError, ValueError) as error:
        raise AnswerError("the model server's answer is not of the protocol", private=f"it {error}") from None
    return answer, [memoryview(raw) for raw in raws]


def _known_answer(body: bytes) -> Any:
    message = ModelInferResponse.FromString(body)
    if _has_unknown_fields(message):
        raise ValueError("has a field that is not known here, and is not measured")
    return message


def write_parameters(holder: Any, parameters: Mapping[str, Any]) -> None:
    """Write a document's parameters into a message; those that are null are left out, lists and objects become JSON.

    Raises:
        ValueError: a whole number that 64 bits do not hold.
    """
    for name, value in parameters.items():
        if value is None:
            continue
        parameter = holder.parameters[name]
        if isinstance(value, bool):
            parameter.bool_param = value
        elif isinstance(value, int):
            if not -_LARGEST_SIGNED <= value < _LARGEST:
                raise ValueError("has a parameter that is too large")
            field = "int64_param" if value < _LARGEST_SIGNED else "uint64_param"
            setattr(parameter, field, value)
        elif isinstance(value, float):
            parameter.double_param = value
        else:
            parameter.string_param = value if isinstance(value, str) else json.dumps(value)


def _has_unknown_fields(message: Any) -> bool:
    """Whether a message, or one in it, has a field that its type does not declare; they are discarded.

    The library does it for millions of them in no time; a walk through so many takes a minute.
    """
    size = message.ByteSize()
    message.DiscardUnknownFields()
    return bool(message.ByteSize() != size)


def _described(tensor: Any) -> dict[str, Any]:
    return {"name": tensor.name, "shape": list(tensor.shape), "datatype": tensor.datatype}


def _sized(tensor: Any, raw: bytes) -> dict[str, Any]:
    """The parameters with the size in bytes. KServe's client states the size itself, as over HTTP."""
    parameters = _parameters(tensor)
    stated = parameters.get(SIZE, len(raw))
    if type(stated) is not int or stated != len(raw):
        raise ValueError(f"has the parameter {SIZE!r}, which is not the size of its tensor")
    return {**parameters, SIZE: len(raw)}


def _parameters(holder: Any) -> dict[str, Any]:
    found = {}
    for name, parameter in holder.parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is None:
            raise ValueError(f"has the parameter {name[:64]!r} without a value")
        found[name] = getattr(parameter, choice)
    return found


def _raw_contents(tensors: Sequence[Any], raw: Sequence[bytes]) -> list[bytes]:
    """The raw bytes of each tensor. MLServer puts typed contents beside them that are there and hold nothing.

    Raises:
        ValueError: raw contents beside typed ones, not as many as tensors, or typed ones in another field.
    """
    if not raw:
        return [_packed_contents(tensor) for tensor in tensors]
    if len(raw) != len(tensors):
        raise ValueError(f"has {len(raw)} raw contents for {len(tensors)} tensors")
    if any(tensor.contents.ListFields() for tensor in tensors):
        raise ValueError("has raw contents beside typed ones")
    return list(raw)


def _packed_contents(tensor: Any) -> bytes:
    """Typed contents as raw bytes."""
    used = [field.name for field, _ in tensor.contents.ListFields()]
    datatype, field = tensor.datatype, _FIELDS.get(tensor.datatype)
    if field is None or used not in ([field], []):
        raise ValueError(
            f"has a tensor of datatype {datatype[:16]!r} whose values are not in {field or 'raw_input_contents'}"
        )
    values = getattr(tensor.contents, field)
    if datatype == TEXT:
        return packed_texts(values)
    wide = {"b": np.bool_, "i": np.int64, "u": np.uint64, "f": np.float64}[NUMERIC[datatype].kind]
    read: NDArray[Any] = np.fromiter(values, dtype=wide, count=len(values))
    exact = read.astype(NUMERIC[datatype])
    if NUMERIC[datatype].kind in "iu" and not np.array_equal(exact, read):
        raise ValueError(f"holds a number that is no {datatype}")
    return exact.astype(exact.dtype.newbyteorder("<")).tobytes()
