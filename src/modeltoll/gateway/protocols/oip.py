"""Open Inference Protocol V2 over REST (KServe, Triton, MLServer, OpenVINO): JSON and binary tensors, classification."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from modeltoll.errors import AnswerError, RequestError
from modeltoll.gateway.protocols.oip_bodies import BinaryTail, split_body
from modeltoll.gateway.protocols.oip_encoding import encode_numbers, encode_values
from modeltoll.gateway.protocols.oip_requests import MAX_ID, SIZE, read_inference_request
from modeltoll.gateway.protocols.oip_tensors import (
    DIMENSIONS,
    NUMERIC,
    TEXT,
    numbers,
    texts,
)
from modeltoll.gateway.protocols.plain_errors import PlainErrors
from modeltoll.gateway.protocols.protocol import JSON, ParsedRequest, Routes, ServiceDescription
from modeltoll.gateway.protocols.rows import classification_scores
from modeltoll.gateway.protocols.strict_json import load_json_answer
from modeltoll.leak.scores import check_scores
from modeltoll.records import Answer, Evidence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from modeltoll.gateway.protocols.oip_requests import InferenceRequest
    from modeltoll.records import Floats

__all__ = ["OipAnswer", "OipTensor", "OpenInference", "check_shown", "input_errors"]

_MODEL = "/v2/models/{model}"
_VERSION = f"{_MODEL}/versions/{{version}}"
_READY = "/v2/health/ready"

_SCORES = frozenset((int, float))
_MODEL_CHARACTERS = 256  # of the texts of an answer that say which model answered
_SHOWN_PARAMETERS = frozenset(  # of answers: they say nothing of the model
    (
        SIZE,
        "content_type",
        "sequence_id",
        "sequence_start",
        "sequence_end",
        "triton_final_response",
        "triton_enable_empty_final_response",
    )
)


class OipTensor(msgspec.Struct, forbid_unknown_fields=True):
    """An output of an answer."""

    name: str
    shape: list[int]
    datatype: str
    data: Any = None
    parameters: dict[str, Any] | None = None


class OipAnswer(msgspec.Struct, forbid_unknown_fields=True):
    """An answer to an inference request."""

    outputs: list[OipTensor]
    model_name: str | None = None
    model_version: str | None = None
    id: str | None = None
    parameters: dict[str, Any] | None = None


@contextmanager
def input_errors() -> Iterator[None]:
    """Errors of an input's data, which begin with a verb, as ``RequestError``."""
    try:
        yield
    except ValueError as error:
        raise RequestError(f"an input's 'data' {error}") from None
    except OverflowError:
        raise RequestError("an input holds a number that is too large") from None


def check_shown(answer: OipAnswer, service: ServiceDescription) -> None:
    """Every member of an answer beside its outputs' data says nothing of the model, or ``ValueError`` is raised."""
    for text in (answer.model_name, answer.model_version, answer.id):
        if text is not None and len(text) > _MODEL_CHARACTERS + MAX_ID:
            raise ValueError("has a name that is too long")
    for parameters in (answer.parameters, *(output.parameters for output in answer.outputs)):
        for name, value in (parameters or {}).items():
            if name in service.unmeasured or value is None:
                continue
            if name not in _SHOWN_PARAMETERS or not isinstance(value, bool | int | str):
                raise ValueError(f"holds the parameter {name!r}, which is not measured; list it in output.unmeasured")
            if isinstance(value, str) and len(value) > _MODEL_CHARACTERS:
                raise ValueError(f"holds the parameter {name!r}, which is too long")


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


def _table(output: OipTensor, rows: int, data: object, *, batched: bool) -> Floats:
    """An output's numbers, one line per row of the request.

    Raises:
        ValueError: another number of rows, more than one further dimension, or not numbers.
    """
    shape = tuple(output.shape[: DIMENSIONS + 1])
    if not batched:
        shape = (1, *shape)
        data = [data] if isinstance(data, list) and data and isinstance(data[0], list) else data
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
        with input_errors():
            request = read_inference_request(head, tail, service)
        return self.parsed(request, service)

    def parsed(self, request: InferenceRequest, service: ServiceDescription) -> ParsedRequest:
        """What the measures may use of a request."""
        parts = [tensor.rows.numbers for tensor in request.inputs]
        numbers_only = [part for part in parts if part is not None]
        ordered = bool(service.inputs) or len(parts) == 1  # or nothing says in which order the model reads them
        inputs = None
        if ordered and len(numbers_only) == len(parts):
            inputs = numbers_only[0] if len(parts) == 1 else np.hstack(numbers_only)
        return ParsedRequest(
            request.fingerprints,
            inputs,
            note=request.classes_shown,
            answer_bound=request.answer_bound(service),
        )

    def evidence(self, parsed: ParsedRequest, answer: Answer, service: ServiceDescription) -> Evidence:
        """The declared output, as probabilities, one row per row of the request."""
        try:
            head, tail = split_body(answer.body, answer.content_type)
            read = msgspec.convert(load_json_answer(head), OipAnswer)
            check_shown(read, service)
        except (ValueError, RecursionError) as error:  # msgspec.ValidationError is a ValueError
            raise AnswerError("the model server's answer is not of the protocol", private=str(error)) from None
        return self.evidence_of(read, lambda: _pieces(read.outputs, tail), parsed, service)

    def evidence_of(
        self,
        read: OipAnswer,
        pieces: Callable[[], Sequence[object]],
        parsed: ParsedRequest,
        service: ServiceDescription,
    ) -> Evidence:
        """The evidence of an answer that was read. ``pieces``: the data of each output; it raises ``ValueError``."""
        outputs = read.outputs
        measured = [output for output in outputs if output.name == service.output]
        if len(measured) != 1:
            raise AnswerError(f"the model server's answer does not hold the output {service.output!r} once")
        if any(output.name not in service.unmeasured for output in outputs if output is not measured[0]):
            raise AnswerError(
                "the model server's answer holds an output that is not measured",
                private="ask the model server for the measured output only, or list the others in output.unmeasured",
            )
        try:
            data = pieces()[outputs.index(measured[0])]
            scores = self._scores(measured[0], data, parsed, service)
        except (ValueError, OverflowError) as error:
            raise AnswerError(
                "the model server's answer does not have one row of numbers per input", private=str(error)
            ) from None
        checked = not (service.partial or parsed.note)
        return Evidence(parsed.fingerprints, scores=scores, inputs=parsed.inputs, scores_checked=checked)

    def _scores(self, output: OipTensor, data: object, parsed: ParsedRequest, service: ServiceDescription) -> Floats:
        rows = len(parsed.fingerprints)
        if not isinstance(parsed.note, int) or output.datatype != TEXT:  # servers without the extension show them all
            table = _table(output, rows, data, batched=service.batched)
            return classification_scores(table, service)
        assert service.classes is not None  # or the request had been refused
        items = [item.decode() for item in texts(data, (rows * parsed.note,))]
        table = _ranked(items, rows, parsed.note, service.classes)
        partial = parsed.note < service.classes or service.partial
        return check_scores(table, service.classes, partial=partial, tolerance=service.tolerance)

    def ask(self, inputs: Floats, metadata: bytes, service: ServiceDescription) -> bytes:
        """A request for rows of numbers. Raises as ``encode_numbers``."""
        return encode_numbers(inputs, metadata, service)

    def ask_values(
        self, columns: tuple[str, ...], rows: list[list[Any]], metadata: bytes, service: ServiceDescription
    ) -> bytes:
        """A request for rows of values of any kind. Raises as ``encode_values``."""
        return encode_values(columns, rows, metadata, service)


def _pieces(outputs: list[OipTensor], tail: BinaryTail | None) -> list[object]:
    """The data of each output: its JSON, or its part of the raw bytes.

    Raises:
        ValueError: the sizes are not those of the bytes that came.
    """
    pieces: list[object] = []
    for output in outputs:
        size = (output.parameters or {}).get(SIZE)
        if size is None:
            pieces.append(output.data)
        elif tail is None or output.data is not None:
            raise ValueError("declares raw bytes that are missing")
        else:
            pieces.append(tail.take(size))
    if tail is not None:
        tail.check_empty()
    return pieces
