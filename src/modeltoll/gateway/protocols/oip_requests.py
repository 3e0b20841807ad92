"""Requests of the Open Inference Protocol V2: which members they have, and what of them can change an answer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from modeltoll.errors import RequestError
from modeltoll.gateway.protocols.answer_lengths import (
    ANSWER_OVERHEAD,
    NUMBER_BYTES,
    declared_text_bytes,
    numbers_per_row,
    scores_bound,
    text_bytes,
)
from modeltoll.gateway.protocols.fingerprints import row_fingerprints
from modeltoll.gateway.protocols.oip_bodies import BinaryTail
from modeltoll.gateway.protocols.oip_tensors import DIMENSIONS, NUMERIC, TEXT, read_rows
from modeltoll.gateway.protocols.request_members import other_members
from modeltoll.gateway.protocols.rows import check_declared_names, check_row_limit, check_width
from modeltoll.gateway.protocols.strict_json import canonical, check_text, load_object
from modeltoll.record_init import quick_init

if TYPE_CHECKING:
    from modeltoll.gateway.protocols.oip_tensors import TensorRows
    from modeltoll.gateway.protocols.protocol import DeclaredInput, ServiceDescription

__all__ = ["MAX_ID", "SIZE", "InferenceRequest", "InputTensor", "read_inference_document", "read_inference_request"]

SIZE, _CLASSIFICATION, _CODEC = "binary_data_size", "classification", "content_type"
_BYPASS = ("shared_memory_region", "shared_memory_offset", "shared_memory_byte_size")  # read or written elsewhere
_NAME = "model_name"  # KServe's SDK writes it; the path names the model
_REQUEST = frozenset((_NAME, "id", "inputs", "outputs", "parameters"))
_TENSOR = frozenset(("name", "shape", "datatype", "data", "parameters"))
_OUTPUT = frozenset(("name", "parameters"))
_DATATYPES = frozenset((*NUMERIC, TEXT))
_BINARY, _ALL_BINARY = "binary_data", "binary_data_output"
_SCHEDULING = ("priority", "timeout")  # of Triton: they change when the model answers, not what
MAX_ID = 1024  # characters
_MAX_INPUTS = 256  # of a request, or as many as the settings declare
_RAW_BYTES = 8  # of a number of the widest datatype


@quick_init
@dataclass(frozen=True, slots=True, eq=False)
class InputTensor:
    """One input: its name, its datatype, its shape, and its rows."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    codec: bytes
    rows: TensorRows


@quick_init
@dataclass(frozen=True, slots=True, eq=False)
class InferenceRequest:
    """A request that has been read: its inputs in the model's order, and the outputs that are asked for.

    ``classes_shown``: how many classes of each row, by the classification extension; None: all scores. ``raw``: the
    measured output is asked for as raw bytes. ``context``: what else can change the answer. ``id`` is echoed.
    """

    inputs: tuple[InputTensor, ...]
    outputs: frozenset[str]
    classes_shown: int | None
    raw: bool
    context: bytes
    id: str

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.inputs[0].shape[0]

    @property
    def fingerprints(self) -> tuple[bytes, ...]:
        """The fingerprint of each row."""
        described = [[one.name, one.datatype, one.shape[1:]] for one in self.inputs]
        shared = msgspec.json.encode([described, sorted(self.outputs), self.classes_shown])  # of texts and integers
        codecs = b"".join(one.codec for one in self.inputs)
        lines = zip(*(one.rows.lines for one in self.inputs), strict=True)
        return row_fingerprints((b"tensors", shared, codecs, self.context), lines)

    def answer_bound(self, service: ServiceDescription, raw_bytes: int = _RAW_BYTES) -> int | None:
        """The most bytes of an answer's body; None where the settings do not say how much it can hold.

        ``raw_bytes``: the most of a number that is not written in digits.
        """
        if self.outputs != {service.output}:
            return None
        head = ANSWER_OVERHEAD + declared_text_bytes((service.served_as or service.model, service.output))
        head += text_bytes(self.id) if self.id else len('""')
        if self.classes_shown is not None:
            if not service.labels:
                return None
            item = max(map(text_bytes, service.labels)) + NUMBER_BYTES + len(f"::{len(service.labels)}, ")
            return head + self.rows * (self.classes_shown * item + 1)
        numbers = numbers_per_row(service)
        if self.raw and numbers is not None:
            return head + self.rows * numbers * raw_bytes
        bound = scores_bound(self.rows, service, alone=True)
        return None if bound is None else head + bound


@quick_init
@dataclass(frozen=True, slots=True)
class _Output:
    """An output that is asked for: its parameters, and the canonical bytes of those that can change the answer."""

    parameters: dict[str, Any]
    context: bytes


def read_inference_request(head: bytes, tail: BinaryTail | None, service: ServiceDescription) -> InferenceRequest:
    """Read the JSON of a request, and the raw tensors behind it.

    Raises:
        RequestError: not a request of the protocol, or not one that can be measured.
        ValueError: an input's data is not what its shape and datatype say; the message begins with a verb.
    """
    return read_inference_document(load_object(head), tail, service)


def read_inference_document(
    document: dict[str, Any], tail: BinaryTail | None, service: ServiceDescription
) -> InferenceRequest:
    """The same, of JSON that has been decoded."""
    context = other_members(document, _REQUEST, service, of="the request")
    if document.get(_NAME) not in (None, service.model, service.served_as):
        raise RequestError(f"{_NAME!r} is not the name of the model that the path names")
    parameters, more = _parameters(document, (_ALL_BINARY, *_SCHEDULING, _CODEC), service, "the request's parameters")
    if _CLASSIFICATION in parameters:
        raise RequestError(f"the parameter {_CLASSIFICATION!r} belongs to an output")
    tensors = _list(document, "inputs", "tensors")
    if not tensors:
        raise RequestError("the request has no 'inputs'")
    outputs = _outputs(document, service)
    identity = document.get("id") or ""
    if not isinstance(identity, str) or len(check_text(identity)) > MAX_ID:
        raise RequestError(f"'id' is not a text of at most {MAX_ID} characters")
    if len(tensors) > max(len(service.inputs), _MAX_INPUTS):
        raise RequestError(f"the request has {len(tensors)} inputs, which is too many")
    check_row_limit(_row_shape(tensors[0], service)[0], service)
    widths = {declared.name: declared.width for declared in service.inputs}
    read = [_tensor(tensor, tail, service, widths) for tensor in tensors]
    if tail is not None:
        tail.check_empty()
    asked = outputs[service.output].parameters
    return InferenceRequest(
        inputs=_in_order(read, service.inputs),
        outputs=frozenset(outputs),
        classes_shown=_classes_shown(asked, service),
        raw=bool(asked.get(_BINARY, parameters.get(_ALL_BINARY, False))),
        context=context + more + b"".join(outputs[name].context for name in sorted(outputs)),
        id=identity,
    )


def _list(holder: dict[str, Any], name: str, what: str) -> list[dict[str, Any]]:
    """A member that is a list of objects, empty where it is missing."""
    found = holder.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise RequestError(f"{name!r} is not a list of {what}")
    return found


def _parameters(
    holder: dict[str, Any], known: tuple[str, ...], service: ServiceDescription, what: str
) -> tuple[dict[str, Any], bytes]:
    """The parameters of a request, a tensor or an output, and the canonical bytes of those that can change the answer.

    Raises:
        RequestError: one that bypasses the gateway, that is not known and not allowed, or of another type.
    """
    parameters = holder.get("parameters")
    if parameters is None:
        return {}, b""
    if not isinstance(parameters, dict):
        raise RequestError("'parameters' is not an object")
    for name in _BYPASS:
        if name in parameters:
            raise RequestError(f"the parameter {name!r} is not served here")
    others = other_members(parameters, known, service, of=what)
    for name in (_BINARY, _ALL_BINARY):
        if not isinstance(parameters.get(name, False), bool):
            raise RequestError(f"the parameter {name!r} is not true or false")
    for name in _SCHEDULING:
        if type(parameters.get(name, 0)) is not int:
            raise RequestError(f"the parameter {name!r} is not a whole number")
    codec = parameters.get(_CODEC)
    if codec is not None and not isinstance(codec, str):
        raise RequestError(f"the parameter {_CODEC!r} is not a text")
    return parameters, others if codec is None else others + canonical(codec)


def _outputs(document: dict[str, Any], service: ServiceDescription) -> dict[str, _Output]:
    """Each output that is asked for; a request that names none asks for all declared ones.

    Raises:
        RequestError: an output that is not declared, or twice, or the measured one is not among them.
    """
    served, found = (service.output, *service.unmeasured), dict[str, _Output]()
    for output in _list(document, "outputs", "objects"):
        name = output.get("name")
        if name not in served:
            raise RequestError(f"an output is asked for that is not served here; there are: {', '.join(served)}")
        if name in found:
            raise RequestError(f"the output {name!r} is asked for twice")
        context = other_members(output, _OUTPUT, service, of="an output")
        parameters, more = _parameters(output, (_BINARY, _CLASSIFICATION, _CODEC), service, "an output's parameters")
        found[name] = _Output(parameters, context + more)
    if found and service.output not in found:
        raise RequestError(f"the output {service.output!r} must be among those that are asked for")
    return found or {name: _Output({}, b"") for name in served}


def _shape(tensor: dict[str, Any]) -> tuple[int, ...]:
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not 0 < len(shape) <= DIMENSIONS:
        raise RequestError(f"an input's 'shape' is not a list of 1..{DIMENSIONS} integers")
    if not all(type(n) is int and 0 < n < 2**31 for n in shape):
        raise RequestError("an input's 'shape' holds something that is not a positive integer")
    return tuple(shape)


def _row_shape(tensor: dict[str, Any], service: ServiceDescription) -> tuple[int, ...]:
    """The shape of a tensor with its rows as the first dimension."""
    return _shape(tensor) if service.batched else (1, *_shape(tensor))


def _tensor(
    tensor: dict[str, Any], tail: BinaryTail | None, service: ServiceDescription, widths: dict[str, int | None]
) -> InputTensor:
    """One input, with its data in JSON or its part of the raw bytes. ``widths`` are the declared ones, by name."""
    name, datatype, shape = tensor.get("name"), tensor.get("datatype"), _row_shape(tensor, service)
    if not isinstance(name, str) or not check_text(name):
        raise RequestError("an input has no 'name'")
    check_width(math.prod(shape[1:]), widths.get(name))
    if not isinstance(datatype, str) or datatype not in _DATATYPES:
        raise RequestError("an input's 'datatype' is not one of the protocol's")
    codec = other_members(tensor, _TENSOR, service, of="an input")
    parameters, more = _parameters(tensor, (SIZE, _CODEC), service, "an input's parameters")
    data, size = tensor.get("data"), parameters.get(SIZE)
    if size is not None:
        if tail is None or "data" in tensor:
            raise RequestError(f"{SIZE!r} is for a request of raw tensors, and in place of 'data'")
        data = tail.take(size)
    elif not service.batched and isinstance(data, list) and data and isinstance(data[0], list):
        data = [data]
    return InputTensor(name, datatype, shape, codec + more, read_rows(data, datatype, shape))


def _in_order(read: list[InputTensor], inputs: tuple[DeclaredInput, ...]) -> tuple[InputTensor, ...]:
    """The inputs in the model's order, or by their names where it is not declared.

    Raises:
        RequestError: a name twice, missing or not declared, another width or datatype than the declared one, or inputs
            of different numbers of rows.
    """
    by_name = {tensor.name: tensor for tensor in read}
    if len(by_name) != len(read):
        raise RequestError("the request has an input twice")
    if len({tensor.shape[0] for tensor in read}) != 1:
        raise RequestError("the inputs do not have the same number of rows")
    if not inputs:
        return tuple(by_name[name] for name in sorted(by_name))
    check_declared_names(by_name, inputs)
    for declared in inputs:
        tensor = by_name[declared.name]
        if declared.datatype and tensor.datatype != declared.datatype:
            raise RequestError(f"the input {declared.name!r} is of datatype {declared.datatype}, not {tensor.datatype}")
    return tuple(by_name[declared.name] for declared in inputs)


def _classes_shown(parameters: dict[str, Any], service: ServiceDescription) -> int | None:
    """How many classes of each row the request asks for, by the classification extension; None: all scores.

    Raises:
        RequestError: it cannot be measured.
    """
    shown = parameters.get(_CLASSIFICATION)
    if shown is None or shown is False or shown == 0:
        return None
    if type(shown) is not int or shown < 1:
        raise RequestError(f"{_CLASSIFICATION!r} is not a number of classes")
    if service.kind != "probabilities" or service.classes is None:
        raise RequestError(f"the parameter {_CLASSIFICATION!r} is not served here")
    return min(shown, service.classes)
