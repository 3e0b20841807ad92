"""Rows as JSON protocols write them: nested numbers, texts, base64, named columns; and tables of scores."""

from __future__ import annotations

import base64
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from modeltoll.errors import AnswerError, RequestError
from modeltoll.gateway.protocols.answer_lengths import scores_bound
from modeltoll.gateway.protocols.fingerprints import fingerprint, row_fingerprints
from modeltoll.gateway.protocols.protocol import ParsedRequest
from modeltoll.gateway.protocols.strict_json import canonical
from modeltoll.leak.scores import probabilities
from modeltoll.records import Evidence

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from modeltoll.gateway.protocols.protocol import DeclaredInput, ServiceDescription
    from modeltoll.records import Bools, Floats

__all__ = [
    "check_declared_names",
    "check_row_limit",
    "check_width",
    "classification_evidence",
    "classification_scores",
    "columns_as_rows",
    "fingerprint",
    "label_evidence",
    "named_rows",
    "parsed_request",
    "score_table",
    "split_rows",
]

_DEPTH = 32  # of a row's nesting
_EXACT = 2.0**53  # whole numbers below are exact as floats of 64 bits
_SCORES = frozenset((int, float))
_VALUES = frozenset((bool, int, float, type(None)))  # numbers, and missing ones
_BASE64 = "b64"
_URL_SAFE = str.maketrans("-_", "+/")


def check_row_limit(rows: int, service: ServiceDescription) -> None:
    """Refuse a request of no rows, or of too many.

    Raises:
        RequestError: it is one.
    """
    if rows < 1:
        raise RequestError("the request has no rows")
    if rows > service.max_rows:
        raise RequestError(f"the request has {rows} rows; at most {service.max_rows} are served at once")


def check_declared_names(names: Iterable[str], inputs: Sequence[DeclaredInput]) -> None:
    """Refuse a request whose named inputs are not exactly the declared ones.

    Raises:
        RequestError: one is missing, or not declared.
    """
    if set(names) != {declared.name for declared in inputs}:
        raise RequestError(f"a row must have exactly the inputs {', '.join(declared.name for declared in inputs)}")


def check_width(width: int, declared: int | None) -> None:
    """Refuse an input of another width than the declared one.

    Raises:
        RequestError: it is one.
    """
    if declared is not None and width != declared:
        raise RequestError(f"a row of an input has {width} values where the model takes {declared}")


def parsed_request(rows: object, service: ServiceDescription, context: bytes = b"") -> ParsedRequest:
    """Rows of nested numbers and missing values (null or NaN), or of texts, base64 objects and named columns, in any mixture.

    Rows of named columns are read in the order of ``service.inputs``. Where none are declared, only rows of one column
    are numbers for the measures: nothing says in which order the model reads several. ``context`` holds what else the
    model reads of the request. Rows without names are read in the order in which they stand.

    Raises:
        RequestError: not a list of rows, too many, of other columns or widths than those declared, or with a number that
            is not finite.
    """
    if not isinstance(rows, list):
        raise RequestError("the request's rows are not a list")
    check_row_limit(len(rows), service)
    bound = scores_bound(len(rows), service)
    if any(isinstance(row, dict) and _BASE64 not in row for row in rows):
        if len(service.inputs) != 1:
            return _named(rows, service, context, bound)
        rows = [_only_value(row, service) for row in rows]
    lines, numbers = _encoded(rows)
    widths = [declared.width for declared in service.inputs]
    if numbers is not None and None not in widths and widths:
        check_width(numbers.shape[1], sum(width or 0 for width in widths))
    prints = row_fingerprints((b"rows", context), ((line,) for line in lines))
    return ParsedRequest(prints, numbers, answer_bound=bound)


def _only_value(row: object, service: ServiceDescription) -> object:
    """The value of a row's one declared input: named or not, the model reads the same."""
    if not isinstance(row, dict):
        raise RequestError("some rows have named columns and others have not")
    check_declared_names(row, service.inputs)
    return row[service.inputs[0].name]


def _named(rows: list[Any], service: ServiceDescription, context: bytes, bound: int | None) -> ParsedRequest:
    """Rows of named columns."""
    if not all(isinstance(row, dict) and row.keys() == rows[0].keys() and row for row in rows):
        raise RequestError("the request's rows do not all have the same named columns")
    if service.inputs:
        check_declared_names(rows[0], service.inputs)
    names = [declared.name for declared in service.inputs] or sorted(rows[0])
    if not service.inputs and len(names) > 1:
        lines = ((canonical([_with_base64(row[name], 0) for name in names]),) for row in rows)
        return ParsedRequest(row_fingerprints((b"named", context, canonical(names)), lines), None, answer_bound=bound)
    columns = [_encoded([row[name] for row in rows]) for name in names]
    parts: list[Floats] = []
    for place, (_, numbers) in enumerate(columns):
        if numbers is not None:
            check_width(numbers.shape[1], service.inputs[place].width if service.inputs else None)
            parts.append(numbers)
    prints = row_fingerprints((b"named", context, canonical(names)), zip(*(lines for lines, _ in columns), strict=True))
    return ParsedRequest(prints, np.hstack(parts) if len(parts) == len(columns) else None, answer_bound=bound)


def _encoded(rows: list[Any]) -> tuple[list[bytes], Floats | None]:
    """The canonical bytes of each row, and the rows' numbers, (rows, dimensions); None where an item is no number.

    Whole numbers are exact, also where the floats, which the measures read, are not.
    """
    numbers, shape = _numeric(rows)
    if numbers is None:
        return [canonical(_with_base64(row, 0)) for row in rows], None
    head = b"numbers" + canonical(shape)
    # False for a row with a missing value: null and NaN are two values.
    exact: Bools = np.all(np.abs(numbers) < _EXACT, axis=1)
    if exact.all():
        return [head + row.tobytes() for row in numbers], numbers
    return [
        head + line.tobytes() if plain else canonical(row)
        for row, line, plain in zip(rows, numbers, exact, strict=True)
    ], numbers


def _numeric(rows: list[Any]) -> tuple[Floats | None, list[int]]:
    """Rows (rows, dimensions) and the shape of one; None where an item is neither a number nor missing (NaN), or rows are ragged.

    Raises:
        RequestError: a number that is not finite, or too large.
    """
    items, shape = rows, []
    for _ in range(_DEPTH):
        kinds = set(map(type, items))
        if kinds != {list}:
            break
        if len(set(map(len, items))) != 1:
            return None, []
        shape.append(len(items[0]))
        items = list(chain.from_iterable(items))
    if not items or not _VALUES.issuperset(kinds):
        return None, []
    try:
        numbers = np.array(items, dtype=np.float64)  # null is NaN
    except OverflowError:
        raise RequestError("a row holds a number that is too large") from None
    if np.isinf(numbers).any():
        raise RequestError("a row holds a number that is not finite")
    return (numbers + 0.0).reshape(len(rows), -1), shape  # + 0.0: minus zero has the same fingerprint


def _with_base64(value: Any, depth: int) -> Any:
    """A row whose base64 values are checked, and written in the one way in which their bytes are.

    They may also be unpadded, in lines, or of the alphabet for URLs.
    """
    if depth > _DEPTH:
        raise RequestError("a row is nested too deeply")
    if isinstance(value, list):
        return [_with_base64(item, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    if _BASE64 not in value:
        return {name: _with_base64(item, depth + 1) for name, item in value.items()}
    text = value[_BASE64] if len(value) == 1 else None
    plain = "".join(text.split()).translate(_URL_SAFE).rstrip("=") if isinstance(text, str) else "?"
    plain += "=" * (-len(plain) % 4)
    try:
        raw = base64.b64decode(plain, validate=True)
    except ValueError:  # binascii.Error is one
        raise RequestError("a value called 'b64' is not base64") from None
    if text != plain:
        return value  # as it is written: servers do not all read line breaks and other alphabets alike
    return {_BASE64: base64.b64encode(raw).decode()}


def columns_as_rows(columns: object, service: ServiceDescription) -> list[Any]:
    """Rows out of columns: a list of rows as it is, an object of named columns turned round.

    Raises:
        RequestError: neither, columns of different lengths, or too many rows.
    """
    if isinstance(columns, list):
        return columns
    if not isinstance(columns, dict) or not columns or not all(isinstance(one, list) for one in columns.values()):
        raise RequestError("the request's columns are not lists, or an object of lists")
    if len({len(one) for one in columns.values()}) != 1:
        raise RequestError("the request's columns are not all of one length")
    check_row_limit(len(next(iter(columns.values()))), service)
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def split_rows(inputs: Floats, declared: Sequence[DeclaredInput]) -> list[Floats]:
    """Rows (rows, dimensions) as one table per declared input, each of its width; one table where there are none.

    Raises:
        AnswerError: the widths of several inputs are not declared, or are not those of the rows.
    """
    if len(declared) < 2:
        return [inputs]
    widths = [one.width or 0 for one in declared]
    if min(widths) < 1 or sum(widths) != inputs.shape[1]:
        raise AnswerError(f"the widths of the setting inputs do not sum to the {inputs.shape[1]} numbers of a row")
    return np.split(inputs, np.cumsum(widths)[:-1], axis=1)


def named_rows(columns: Sequence[str], rows: list[list[Any]]) -> list[Any]:
    """Rows as objects of named values; without names as lists, or where a row has one value as that value."""
    if columns:
        return [dict(zip(columns, row, strict=True)) for row in rows]
    return [row[0] if len(row) == 1 else row for row in rows]


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
    scores = classification_scores(score_table(rows, len(parsed.fingerprints)), service)
    return Evidence(parsed.fingerprints, scores=scores, inputs=parsed.inputs, scores_checked=not service.partial)


def classification_scores(table: Floats, service: ServiceDescription) -> Floats:
    """Scores of the declared kind, (rows, columns), as probabilities, (rows, classes).

    Raises:
        AnswerError: they are not of that kind.
    """
    return probabilities(table, service.kind, service.classes, partial=service.partial, tolerance=service.tolerance)


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
