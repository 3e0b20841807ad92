"""MLflow's scoring protocol: ``/invocations`` in its four JSON forms."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from modeltoll.errors import RequestError
from modeltoll.gateway.protocols.declared_outputs import declared_row_outputs, only_member
from modeltoll.gateway.protocols.protocol import JSON, ParsedRequest, Routes, ServiceDescription
from modeltoll.gateway.protocols.request_members import other_members
from modeltoll.gateway.protocols.rows import (
    check_row_limit,
    classification_evidence,
    columns_as_rows,
    parsed_request,
    split_rows,
)
from modeltoll.gateway.protocols.strict_json import error_text_at, load_answer, load_object

if TYPE_CHECKING:
    from modeltoll.records import Answer, Evidence, Floats

__all__ = ["MlflowScoring"]

_SPLIT, _RECORDS, _INSTANCES, _INPUTS = _FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_PARAMS = "params"
_KEYS = frozenset((int, float, str))  # of an index


def _split(frame: object, service: ServiceDescription) -> list[Any]:
    """The rows of a data frame in pandas' split form, each with its columns' names where they are given."""
    if not isinstance(frame, dict) or not {"columns", "index", "data"} >= frame.keys():
        raise RequestError(f"{_SPLIT!r} is not an object of 'columns', 'index' and 'data'")
    data, columns, index = frame.get("data"), frame.get("columns"), frame.get("index")
    if not isinstance(data, list) or not all(isinstance(row, list) for row in data):
        raise RequestError(f"the 'data' of {_SPLIT!r} is not a list of rows")
    check_row_limit(len(data), service)
    if index is not None and (
        not isinstance(index, list) or len(index) != len(data) or not _KEYS.issuperset(map(type, index))
    ):
        raise RequestError(f"the 'index' of {_SPLIT!r} is not one number or text per row")
    if columns is None:
        return data
    if not isinstance(columns, list) or not all(type(column) in (str, int) for column in columns):
        raise RequestError(f"the 'columns' of {_SPLIT!r} are not a list of names")
    if len(set(map(str, columns))) != len(columns):
        raise RequestError(f"the 'columns' of {_SPLIT!r} are not a list of different names")
    if any(len(row) != len(columns) for row in data):
        raise RequestError(f"a row of {_SPLIT!r} does not have one item per column")
    return [dict(zip(map(str, columns), row, strict=True)) for row in data]


def _records(frame: object) -> list[Any]:
    """The rows of a data frame in pandas' records form."""
    if not isinstance(frame, list) or not all(isinstance(row, dict) for row in frame):
        raise RequestError(f"{_RECORDS!r} is not a list of objects")
    columns = dict.fromkeys(name for row in frame for name in row)  # what a row lacks is missing, as pandas has it
    return [{name: row.get(name, math.nan) for name in columns} for row in frame]


def _has_list(columns: dict[str, Any]) -> bool:
    """Whether columns are several rows: one of them is a list."""
    return any(isinstance(column, list) for column in columns.values())


class MlflowScoring:
    """A model server started by ``mlflow models serve``, SageMaker's among them."""

    name = "mlflow"
    routes = Routes(
        infer=("/invocations",), pass_through=("/ping", "/health", "/version"), metadata=None, ready="/ping"
    )

    def read(self, body: bytes, service: ServiceDescription, content_type: str = JSON) -> ParsedRequest:
        """Read a scoring request. Each of its ``params`` must be allowed by name; nothing declares what they do."""
        del content_type
        document = load_object(body)
        forms = [form for form in _FORMS if form in document]
        if len(forms) != 1:
            raise RequestError(f"the request must have exactly one of {', '.join(_FORMS)}")
        params = document.get(_PARAMS) or {}
        if not isinstance(params, dict):
            raise RequestError(f"{_PARAMS!r} is not an object")
        context = other_members(document, (*_FORMS, _PARAMS), service, of="the request")
        context += other_members(params, (), service, of=repr(_PARAMS))
        given = document[forms[0]]
        if forms[0] == _SPLIT:
            rows = _split(given, service)
        elif forms[0] == _RECORDS:
            rows = _records(given)
        elif isinstance(given, str) or (isinstance(given, dict) and given and not _has_list(given)):
            rows = [given]
        else:
            rows = columns_as_rows(given, service)
        return parsed_request(rows, service, context)

    def evidence(self, parsed: ParsedRequest, answer: Answer, service: ServiceDescription) -> Evidence:
        """The predictions: rows of scores, or objects of named columns."""
        found = only_member(load_answer(answer), "predictions", service)
        return classification_evidence(parsed, declared_row_outputs(found, service), service)

    def ask(self, inputs: Floats, metadata: bytes, service: ServiceDescription) -> bytes:
        """The form of tensors, or of split frames where there are as many declared inputs as numbers in a row."""
        del metadata
        if len(service.inputs) == inputs.shape[1]:
            columns = [declared.name for declared in service.inputs]
            return msgspec.json.encode({_SPLIT: {"columns": columns, "data": inputs.tolist()}})
        if len(parts := split_rows(inputs, service.inputs)) > 1:
            named = zip(service.inputs, parts, strict=True)
            return msgspec.json.encode({_INPUTS: {declared.name: part.tolist() for declared, part in named}})
        return msgspec.json.encode({_INPUTS: inputs.tolist()})

    def ask_values(
        self, columns: tuple[str, ...], rows: list[list[Any]], metadata: bytes, service: ServiceDescription
    ) -> bytes:
        """A split frame of named columns; rows without names in the form of tensors."""
        del metadata
        names = columns or tuple(one.name for one in service.inputs if len(service.inputs) == len(rows[0]))
        if names:
            return msgspec.json.encode({_SPLIT: {"columns": names, "data": rows}})
        return msgspec.json.encode({_INPUTS: rows})

    def error(self, message: str) -> bytes:
        """``{"error_code": ..., "message": message}``."""
        return msgspec.json.encode({"error_code": "BAD_REQUEST", "message": message})

    def error_member(self, message: str) -> object:
        """MLflow has no such member; it is a text."""
        return message

    def error_text(self, answer: Answer) -> str:
        """The upstream's ``message``, shortened."""
        return error_text_at(answer, "message")
