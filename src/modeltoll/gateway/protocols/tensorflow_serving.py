"""TensorFlow Serving's REST API, which KServe calls its protocol V1: ``instances`` in, ``predictions`` out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from modeltoll.errors import RequestError
from modeltoll.gateway.protocols.declared_outputs import declared_output, declared_row_outputs, only_member
from modeltoll.gateway.protocols.plain_errors import PlainErrors
from modeltoll.gateway.protocols.protocol import JSON, ParsedRequest, Routes, ServiceDescription
from modeltoll.gateway.protocols.request_members import other_members
from modeltoll.gateway.protocols.rows import (
    classification_evidence,
    columns_as_rows,
    named_rows,
    parsed_request,
    split_rows,
)
from modeltoll.gateway.protocols.strict_json import canonical, load_answer, load_object

if TYPE_CHECKING:
    from modeltoll.records import Answer, Evidence, Floats

__all__ = ["TensorFlowServing"]

_MODEL = "/v1/models/{model}"
_VERSION = f"{_MODEL}/versions/{{version}}"
_ROWS, _COLUMNS = "instances", "inputs"  # what a request in row form holds, and one in column form
_SIGNATURE, _DEFAULT_SIGNATURE = "signature_name", "serving_default"


class TensorFlowServing(PlainErrors):
    """Row form (``instances`` to ``predictions``) and column form (``inputs`` to ``outputs``)."""

    name = "v1"
    routes = Routes(
        infer=(f"{_MODEL}:predict", f"{_VERSION}:predict"),
        pass_through=(_MODEL, f"{_MODEL}/metadata", _VERSION, f"{_VERSION}/metadata"),
        metadata=None,
        ready=_MODEL,
    )

    def read(self, body: bytes, service: ServiceDescription, content_type: str = JSON) -> ParsedRequest:
        """Read a prediction request. Another signature is another function of the model: the settings must allow it."""
        del content_type
        document = load_object(body)
        if len({_ROWS, _COLUMNS} & document.keys()) != 1:
            raise RequestError(f"the request must have exactly one of {_ROWS!r} and {_COLUMNS!r}")
        form = _ROWS if _ROWS in document else _COLUMNS
        others = other_members(document, (_ROWS, _COLUMNS, _SIGNATURE), service, of="the request")
        signature = document.get(_SIGNATURE, _DEFAULT_SIGNATURE)
        if not isinstance(signature, str):
            raise RequestError(f"{_SIGNATURE!r} is not a text")
        if signature != _DEFAULT_SIGNATURE and _SIGNATURE not in service.allow_members:
            raise RequestError(f"{_SIGNATURE!r} is not {_DEFAULT_SIGNATURE}; another signature is not served here")
        rows = document[_ROWS] if form == _ROWS else columns_as_rows(document[_COLUMNS], service)
        context = others if signature == _DEFAULT_SIGNATURE else canonical(signature) + others
        return replace(parsed_request(rows, service, context), note=form)

    def evidence(self, parsed: ParsedRequest, answer: Answer, service: ServiceDescription) -> Evidence:
        """The declared output; where rows or outputs have no names, the whole of it."""
        document = load_answer(answer)
        member = "outputs" if parsed.note == _COLUMNS else "predictions"
        found = only_member(document, member, service)
        rows = declared_output(found, service) if isinstance(found, dict) else declared_row_outputs(found, service)
        return classification_evidence(parsed, rows, service)

    def ask(self, inputs: Floats, metadata: bytes, service: ServiceDescription) -> bytes:
        """Row form; the rows of several declared inputs are split among them."""
        del metadata
        columns = split_rows(inputs, service.inputs)
        if len(columns) < 2:
            return msgspec.json.encode({_ROWS: inputs.tolist()})
        rows = zip(*(column.tolist() for column in columns), strict=True)
        names = [declared.name for declared in service.inputs]
        return msgspec.json.encode({_ROWS: [dict(zip(names, row, strict=True)) for row in rows]})

    def ask_values(
        self, columns: tuple[str, ...], rows: list[list[Any]], metadata: bytes, service: ServiceDescription
    ) -> bytes:
        """Row form; a row of one value is that value, without its name where the model has one input."""
        del metadata
        return msgspec.json.encode({_ROWS: named_rows(columns if len(service.inputs) != 1 else (), rows)})
