"""Rows as JSON protocols write them: nested numbers, texts, base64, named columns; and tables of scores."""

from __future__ import annotations

import base64
import json
from hashlib import blake2b
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from modeltoll.errors import AnswerError, RequestError
from modeltoll.gateway.protocols.protocol import ParsedRequest
from modeltoll.leak.scores import probabilities
from modeltoll.records import Evidence

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from modeltoll.gateway.protocols.protocol import ServiceDescription
    from modeltoll.records import Floats

__all__ = [
    "check_row_limit",
    "classification_evidence",
    "columns_as_rows",
    "fingerprint",
    "label_evidence",
    "parsed_request",
    "score_table",
]

_DEPTH = 32  # of a row's nesting
_DIGEST_BYTES = 8
_NUMBERS, _SCORES = frozenset((bool, int, float)), frozenset((int, float))


def fingerprint(*parts: bytes) -> bytes:
    """The hash of one row, 8 bytes."""
    return blake2b(b"\0".join(parts), digest_size=_DIGEST_BYTES).digest()


def check_row_limit(rows: int, service: ServiceDescription) -> None:
    """Refuse a request of no rows, or of too many.

    Raises:
        RequestError: it is one.
    """
    if rows < 1:
        raise RequestError("the request has no rows")
    if rows > service.max_rows:
        raise RequestError(f"the request has {rows} rows; at most {service.max_rows} are served at once")


def parsed_request(rows: object, service: ServiceDescription) -> ParsedRequest:
    """Rows of nested numbers, or of texts, base64 objects, nulls and named columns, in any mixture but of one shape.

    A row of named columns is read in the order of ``service.columns``, or of the names where none are declared.

    Raises:
        RequestError: not a list of rows, too many, of different shapes, or with a number that is not finite.
    """
    if not isinstance(rows, list):
        raise RequestError("the request's rows are not a list")
    check_row_limit(len(rows), service)
    if dict in set(map(type, rows)):
        named = [_ordered(row, service.columns) for row in rows]
        return _answered(named, _side_by_side(named))
    return _answered(rows, _numeric(rows))


def _answered(rows: list[Any], numbers: Floats | None) -> ParsedRequest:
    if numbers is not None:
        return ParsedRequest(tuple(fingerprint(row.tobytes()) for row in numbers), numbers)
    return ParsedRequest(tuple(fingerprint(_written(row).encode()) for row in rows), None)


def _side_by_side(rows: list[Any]) -> Floats | None:
    """The numbers of all columns, of whatever shapes; None where one is not of numbers."""
    if not all(isinstance(row, list) and len(row) == len(rows[0]) for row in rows) or not rows[0]:
        return None
    columns = [_numeric(list(column)) for column in zip(*rows, strict=True)]
    return None if any(column is None for column in columns) else np.hstack([c for c in columns if c is not None])


def _ordered(row: object, columns: tuple[str, ...]) -> object:
    """A row of named columns as a list."""
    if not isinstance(row, dict):
        raise RequestError("some rows have named columns and others have not")
    if "b64" in row:
        return row
    if columns and set(row) != set(columns):
        raise RequestError(f"a row must have exactly the columns {', '.join(columns)}")
    return [row[name] for name in columns or sorted(row)]


def _numeric(rows: list[Any]) -> Floats | None:
    """Rows (rows, dimensions) where every item is a number; None where one is not.

    Raises:
        RequestError: rows of numbers that are ragged, or with one that is not finite.
    """
    items = rows
    for _ in range(_DEPTH):
        kinds = set(map(type, items))
        if kinds != {list}:
            break
        if len(set(map(len, items))) != 1:
            if _NUMBERS.issuperset(map(type, chain.from_iterable(items))):
                raise RequestError("the request's rows are not all of one shape")
            return None
        items = list(chain.from_iterable(items))
    if not items or not _NUMBERS.issuperset(kinds):
        return None
    try:
        numbers = np.array(items, dtype=np.float64)
    except OverflowError:
        raise RequestError("a row holds a number that is too large") from None
    if not np.isfinite(numbers).all():
        raise RequestError("a row holds a number that is not finite")
    return (numbers + 0.0).reshape(len(rows), -1)  # + 0.0: minus zero has the same fingerprint


def _written(row: object) -> str:
    """Canonical JSON of a row, whose values are checked at every depth."""
    _check(row, 0)
    return json.dumps(row, sort_keys=True)


def _check(value: object, depth: int) -> None:
    if depth > _DEPTH:
        raise RequestError("a row is nested too deeply")
    if isinstance(value, dict):
        if "b64" in value:
            _check_base64(value)
        for item in value.values():
            _check(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth + 1)
    elif isinstance(value, float) and not np.isfinite(value):
        raise RequestError("a row holds a number that is not finite")


def _check_base64(value: dict[str, Any]) -> None:
    text = value["b64"] if len(value) == 1 else None
    try:
        base64.b64decode(text if isinstance(text, str) else "?", validate=True)
    except ValueError:  # binascii.Error is one
        raise RequestError("a value called 'b64' is not base64") from None


def columns_as_rows(columns: object) -> list[Any]:
    """Rows out of columns: a list of rows as it is, an object of named columns turned round.

    Raises:
        RequestError: neither, or columns of different lengths.
    """
    if isinstance(columns, list):
        return columns
    if not isinstance(columns, dict) or not columns or not all(isinstance(one, list) for one in columns.values()):
        raise RequestError("the request's columns are not lists, or an object of lists")
    if len({len(one) for one in columns.values()}) != 1:
        raise RequestError("the request's columns are not all of one length")
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def score_table(rows: object, count: int) -> Floats:
    """A model server's scores, one line of numbers per row of the request, (count, scores).

    Raises:
        AnswerError: another number of rows, ragged, or not numbers.
    """
    fault = AnswerError("the model server's answer does not have one row of numbers per input")
    if not isinstance(rows, list) or len(rows) != count:
        raise fault
    items = rows
    for _ in range(_DEPTH):
        if set(map(type, items)) != {list}:
            break
        if len(set(map(len, items))) != 1:
            raise fault
        items = list(chain.from_iterable(items))
    if not items or not _SCORES.issuperset(map(type, items)):
        raise fault
    try:
        return np.array(items, dtype=np.float64).reshape(count, -1)
    except (OverflowError, ValueError):
        raise fault from None


def classification_evidence(parsed: ParsedRequest, rows: object, service: ServiceDescription) -> Evidence:
    """The evidence of an answer whose rows are scores of the declared kind.

    Raises:
        AnswerError: they are not.
    """
    table = score_table(rows, len(parsed.fingerprints))
    scores = probabilities(table, service.kind, service.classes, partial=service.partial)
    return Evidence(parsed.fingerprints, scores=scores, inputs=parsed.inputs)


def label_evidence(rows: Iterable[Sequence[tuple[str, float]]], labels: tuple[str, ...]) -> Floats:
    """Scores by label as a table in the order of ``labels``; a label that is not shown has 0.

    Raises:
        AnswerError: a label that is not declared, or twice in a row.
    """
    places = {label: place for place, label in enumerate(labels)}
    lines = []
    for row in rows:
        line = [0.0] * len(labels)
        if len({label for label, _ in row}) != len(row) or not places.keys() >= {label for label, _ in row}:
            raise AnswerError("the model server's answer has a label twice, or one that is not in output.labels")
        for label, score in row:
            line[places[label]] = score
        lines.append(line)
    return np.array(lines, dtype=np.float64).reshape(-1, len(labels))
