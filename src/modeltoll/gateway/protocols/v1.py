"""TensorFlow Serving's REST API, which KServe calls its protocol V1: ``instances`` in, ``predictions`` out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from modeltoll.errors import AnswerError, RequestError
from modeltoll.gateway.protocols.named import declared, declared_in_rows
from modeltoll.gateway.protocols.plain_errors import PlainErrors
from modeltoll.gateway.protocols.protocol import JSON, Question, Routes, Service
from modeltoll.gateway.protocols.rows import across, classified, question_of
from modeltoll.gateway.protocols.strict import load_answer, load_object

if TYPE_CHECKING:
    from modeltoll.records import Answer, Evidence, Floats

__all__ = ["TensorFlowServing"]

_MODEL = "/v1/models/{model}"
_VERSION = f"{_MODEL}/versions/{{version}}"
_ROWS, _COLUMNS = "instances", "inputs"  # what a request in row form holds, and one in column form


class TensorFlowServing(PlainErrors):
    """Row form (``instances`` to ``predictions``) and column form (``inputs`` to ``outputs``)."""

    name = "v1"
    routes = Routes(
        infer=(f"{_MODEL}:predict", f"{_VERSION}:predict"),
        passing=(_MODEL, f"{_MODEL}/metadata", _VERSION, f"{_VERSION}/metadata"),
        metadata=None,
        ready=_MODEL,
    )

    def read(self, body: bytes, service: Service, content_type: str = JSON) -> Question:
        """Read a prediction request."""
        del content_type
        document = load_object(body)
        if len({_ROWS, _COLUMNS} & document.keys()) != 1:
            raise RequestError(f"the request has not just one of {_ROWS!r} and {_COLUMNS!r}")
        form = _ROWS if _ROWS in document else _COLUMNS
        rows = document[_ROWS] if form == _ROWS else across(document[_COLUMNS])
        question = question_of(rows, service)
        return Question(question.fingerprints, question.inputs, note=form)

    def evidence(self, question: Question, answer: Answer, service: Service) -> Evidence:
        """The declared output; where rows or outputs have no names, it is all there is."""
        document = load_answer(answer)
        member = "outputs" if question.note == _COLUMNS else "predictions"
        if not isinstance(document, dict) or document.keys() != {member}:
            raise AnswerError(f"the model server's answer does not hold {member!r}, and nothing else")
        found = document[member]
        rows = declared(found, service) if isinstance(found, dict) else declared_in_rows(found, service)
        return classified(question, rows, service)

    def ask(self, inputs: Floats, metadata: bytes, service: Service) -> bytes:
        """Row form."""
        del metadata, service
        return msgspec.json.encode({_ROWS: inputs.tolist()})
