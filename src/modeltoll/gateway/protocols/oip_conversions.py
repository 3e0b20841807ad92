"""Requests, answers and descriptions of the Open Inference Protocol, from JSON to messages and back.

For a gateway whose callers speak one of them and whose model server speaks the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from google.protobuf.message import DecodeError

from modeltoll import wire
from modeltoll.errors import AnswerError, RequestError
from modeltoll.gateway.protocols.oip import OipAnswer
from modeltoll.gateway.protocols.oip_bodies import split_body
from modeltoll.gateway.protocols.oip_messages import (
    read_answer_message,
    read_request_message,
    request_document,
    write_parameters,
)
from modeltoll.gateway.protocols.oip_requests import SIZE
from modeltoll.gateway.protocols.oip_tensors import packed, unpacked
from modeltoll.gateway.protocols.protocol import JSON
from modeltoll.gateway.protocols.strict_json import load_json_answer, load_object
from modeltoll.open_inference_messages import (
    ModelInferRequest,
    ModelInferResponse,
    ModelMetadataResponse,
    ServerMetadataResponse,
)
from modeltoll.records import Answer

if TYPE_CHECKING:
    from modeltoll.gateway.protocols.oip_bodies import BinaryTail

__all__ = [
    "json_of_answer",
    "json_of_metadata",
    "json_of_request",
    "message_of_answer",
    "message_of_metadata",
    "message_of_request",
]

_BINARY, _ALL_BINARY = "binary_data", "binary_data_output"
_OF_HTTP = (SIZE, _BINARY, _ALL_BINARY)  # parameters that say how tensors are written
_RAW_ONLY = ("FP16", "BF16")


def json_of_request(body: bytes) -> tuple[bytes, str]:
    """A request's JSON, and its content type. Tensors that JSON cannot hold stand behind it as raw bytes.

    Raises:
        RequestError: it is no request.
    """
    document, tail = request_document(read_request_message(body))
    raws: list[memoryview] = []
    for tensor in document["inputs"]:
        parameters = tensor["parameters"]
        raw, shape = tail.take(parameters.pop(SIZE)), tuple(tensor["shape"])
        try:
            if tensor["datatype"] in _RAW_ONLY:
                raise ValueError("JSON does not hold it")  # noqa: TRY301  as of a number that is not finite
            tensor["data"] = unpacked(raw, tensor["datatype"], shape)
        except (ValueError, KeyError):
            parameters[SIZE] = len(raw)
            raws.append(raw)
    members = {name: document[name] for name in ("id", "parameters", "inputs", "outputs") if document[name]}
    return _with_raw(members, raws)


def _with_raw(document: dict[str, Any], raws: list[memoryview]) -> tuple[bytes, str]:
    """JSON with raw tensors behind it, and the content type that says how long it is."""
    head = msgspec.json.encode(document)
    if not raws:
        return head, JSON
    return b"".join((head, *raws)), wire.with_binary_length("application/octet-stream", str(len(head)))


def message_of_request(model: tuple[str, str], body: bytes, content_type: str) -> tuple[bytes, frozenset[str] | None]:
    """The message of a request in JSON. ``model``: the model and its version, which may be empty.

    The second part are the outputs that are asked for as raw bytes, for ``json_of_answer``; None: all of them.

    Raises:
        RequestError: it is no request.
    """
    try:
        head, tail = split_body(body, content_type)
        document = load_object(head)
        message = ModelInferRequest(model_name=model[0], model_version=model[1], id=document.get("id") or "")
        parameters = document.get("parameters") or {}
        raw = {one["name"] for one in document.get("outputs") or () if (one.get("parameters") or {}).get(_BINARY)}
        _write_parameters(message, parameters)
        for tensor in document["inputs"]:
            written = message.inputs.add(
                name=tensor["name"], datatype=tensor["datatype"], shape=_written_shape(tensor["shape"])
            )
            _write_parameters(written, tensor.get("parameters") or {})
            message.raw_input_contents.append(_raw_data(tensor, tail))
        for output in document.get("outputs") or ():
            _write_parameters(message.outputs.add(name=output["name"]), output.get("parameters") or {})
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError):
        raise RequestError("the request cannot be written as a ModelInferRequest") from None
    return message.SerializeToString(deterministic=True), None if parameters.get(_ALL_BINARY) else frozenset(raw)


def _written_shape(shape: Any) -> list[int]:
    if not isinstance(shape, list) or not all(type(length) is int for length in shape):
        raise ValueError("is not a shape")
    return shape


def _write_parameters(holder: Any, parameters: dict[str, Any]) -> None:
    write_parameters(holder, {name: value for name, value in parameters.items() if name not in _OF_HTTP})


def _raw_data(tensor: dict[str, Any], tail: BinaryTail | None) -> bytes:
    size = (tensor.get("parameters") or {}).get(SIZE)
    if size is not None:
        if tail is None:
            raise ValueError("declares raw bytes that are missing")
        return bytes(tail.take(size))
    return packed(tensor["data"], tensor["datatype"], tuple(tensor["shape"]))


def json_of_answer(answer: Answer, raw: frozenset[str] | None) -> Answer:
    """The answer in JSON. ``raw``: the outputs that are written as raw bytes behind it; None: all of them.

    Raises:
        AnswerError: it is no answer, or JSON cannot hold it.
    """
    read, pieces = read_answer_message(answer.body)
    outputs, behind = [], list[memoryview]()
    for output, piece in zip(read.outputs, pieces, strict=True):
        written: dict[str, Any] = {"name": output.name, "shape": output.shape, "datatype": output.datatype}
        parameters = dict(output.parameters or {})
        if raw is None or output.name in raw:
            parameters[SIZE] = len(piece)
            behind.append(piece)
        else:
            written["data"] = _json_data(output.datatype, tuple(output.shape), piece)
        outputs.append(written | ({"parameters": parameters} if parameters else {}))
    members = {
        "model_name": read.model_name,
        "model_version": read.model_version,
        "id": read.id,
        "parameters": read.parameters,
    }
    document = {name: value for name, value in members.items() if value} | {"outputs": outputs}
    written_body, content_type = _with_raw(document, behind)
    return Answer(200, content_type, written_body)


def _json_data(datatype: str, shape: tuple[int, ...], piece: memoryview) -> list[Any]:
    try:
        return unpacked(piece, datatype, shape)
    except (ValueError, LookupError) as error:
        raise AnswerError(
            "the model server's answer cannot be written as JSON",
            private=f"an output of datatype {datatype[:16]} {error}",
        ) from None


def message_of_answer(answer: Answer) -> bytes:
    """The message of an answer in JSON.

    Raises:
        AnswerError: it is no answer.
    """
    try:
        head, tail = split_body(answer.body, answer.content_type)
        read = msgspec.convert(load_json_answer(head), OipAnswer)
        message = ModelInferResponse(
            model_name=read.model_name or "", model_version=read.model_version or "", id=read.id or ""
        )
        write_parameters(message, read.parameters or {})
        for output in read.outputs:
            parameters = dict(output.parameters or {})
            size = parameters.pop(SIZE, None)
            written = message.outputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
            write_parameters(written, parameters)
            if size is not None and tail is None:
                raise ValueError("declares raw bytes that are missing")  # noqa: TRY301  one of several faults
            data = tail.take(size) if tail is not None and size is not None else output.data
            message.raw_output_contents.append(packed(data, output.datatype, tuple(output.shape)))
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
        raise AnswerError("the model server's answer cannot be written as a message", private=str(error)) from None
    body: bytes = message.SerializeToString(deterministic=True)
    return body


def json_of_metadata(kind: Any, body: bytes) -> bytes:
    """A description of a server or a model as JSON. ``kind``: the class of the message.

    Raises:
        AnswerError: it is no such message.
    """
    try:
        message = kind.FromString(body)
    except DecodeError as error:
        raise AnswerError("the model server's answer is not of the protocol", private=str(error)) from None
    if kind is ServerMetadataResponse:
        document = {"name": message.name, "version": message.version, "extensions": list(message.extensions)}
    else:
        document = {
            "name": message.name,
            "versions": list(message.versions),
            "platform": message.platform,
            "inputs": [_described(tensor) for tensor in message.inputs],
            "outputs": [_described(tensor) for tensor in message.outputs],
        }
    return msgspec.json.encode(document)


def _described(tensor: Any) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


class _Tensor(msgspec.Struct):
    name: str
    datatype: str = ""
    shape: list[int] = []


class _Metadata(msgspec.Struct):
    name: str = ""
    version: str = ""
    platform: str = ""
    extensions: list[str] = []
    versions: list[str] | None = None
    inputs: list[_Tensor] = []
    outputs: list[_Tensor] = []


_metadata = msgspec.json.Decoder(_Metadata)


def message_of_metadata(kind: Any, body: bytes) -> bytes:
    """The message of a description in JSON; the inverse of ``json_of_metadata``.

    Raises:
        AnswerError: it is no description.
    """
    try:
        read = _metadata.decode(body)
    except (ValueError, RecursionError) as error:  # msgspec.DecodeError is a ValueError
        raise AnswerError("the model server's answer is not of the protocol", private=str(error)) from None
    if kind is ServerMetadataResponse:
        message = kind(name=read.name, version=read.version, extensions=read.extensions)
    else:
        message = ModelMetadataResponse(name=read.name, versions=read.versions or [], platform=read.platform)
        for tensors, written in ((read.inputs, message.inputs), (read.outputs, message.outputs)):
            for tensor in tensors:
                written.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
    encoded: bytes = message.SerializeToString()
    return encoded
