"""Strict JSON documents: validated member by member, and written atomically. Imports the standard library alone."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, TypeVar

from modeltoll.errors import CalibrationError
from modeltoll.files import replace_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

__all__ = ["StrictObject", "decode_document", "encode_document", "read_bytes", "write_bytes"]

T = TypeVar("T")


class StrictObject:
    """A JSON object, each member of which is read once.

    Every method that reads raises ``CalibrationError``, with the path of the member, if it is missing or of another type.
    """

    def __init__(self, members: Mapping[str, Any], path: str = "") -> None:
        self._members = dict(members)
        self._path = path

    def fault(self, name: str, what: str) -> CalibrationError:
        """The error to raise for a member: its path, followed by ``what``."""
        return CalibrationError(f"'{self._path}{name}' {what}")

    def _take(self, name: str) -> Any:
        if name not in self._members:
            raise self.fault(name, "is missing")
        return self._members.pop(name)

    def text(self, name: str) -> str:
        """A string."""
        value = self._take(name)
        if not isinstance(value, str):
            raise self.fault(name, "must be a string")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        return tuple(self._each(name, str, "strings"))

    def integer(self, name: str) -> int:
        """An integer."""
        value = self._take(name)
        if type(value) is not int:
            raise self.fault(name, "must be an integer")
        return value

    def integers(self, name: str) -> tuple[int, ...]:
        """A list of integers."""
        values = self._each(name, int, "integers")
        if any(type(value) is not int for value in values):
            raise self.fault(name, "must be a list of integers")
        return tuple(values)

    def boolean(self, name: str) -> bool:
        """True or False."""
        value = self._take(name)
        if type(value) is not bool:
            raise self.fault(name, "must be true or false")
        return value

    def number(self, name: str) -> float:
        """A finite number."""
        return self._finite(name, self._take(name))

    def numbers(self, name: str) -> tuple[float, ...]:
        """A list of finite numbers."""
        return tuple(self._finite(name, value) for value in self._each(name, object, "numbers"))

    def table(self, name: str) -> list[list[float]]:
        """A list of equally long lists of finite numbers."""
        rows = [[self._finite(name, value) for value in row] for row in self._each(name, list, "lists of numbers")]
        if len({len(row) for row in rows}) > 1:
            raise self.fault(name, "must hold lists of one length")
        return rows

    def object(self, name: str) -> StrictObject:
        """An object."""
        value = self._take(name)
        if not isinstance(value, dict):
            raise self.fault(name, "must be an object")
        return StrictObject(value, f"{self._path}{name}.")

    def optional(self, name: str) -> StrictObject | None:
        """An object, or None for null."""
        return None if self.null(name) else self.object(name)

    def objects(self, name: str) -> list[StrictObject]:
        """A list of objects."""
        values = self._each(name, dict, "objects")
        return [StrictObject(value, f"{self._path}{name}[{place}].") for place, value in enumerate(values)]

    def null(self, name: str) -> bool:
        """Whether the member is null, which is then read."""
        if self._members.get(name, ...) is not None:
            return False
        del self._members[name]
        return True

    def names(self) -> tuple[str, ...]:
        """The names of the members that were not read yet."""
        return tuple(self._members)

    def done(self) -> None:
        """Check that every member was read.

        Raises:
            CalibrationError: a member is unknown.
        """
        if self._members:
            raise self.fault(min(self._members), "is not known")

    def _each(self, name: str, kind: type, what: str) -> list[Any]:
        values = self._take(name)
        if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
            raise self.fault(name, f"must be a list of {what}")
        return values

    def _finite(self, name: str, value: Any) -> float:
        if type(value) is int and abs(value) < 2**1023:
            return float(value)
        if type(value) is float and math.isfinite(value):
            return value
        raise self.fault(name, "must be made of finite numbers")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member occurs twice")
    return members


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number")


def _object(data: bytes) -> StrictObject:
    try:
        document = json.loads(data, object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise CalibrationError("not a JSON document", private=str(error)) from None
    if not isinstance(document, dict):
        raise CalibrationError("not a JSON object")
    return StrictObject(document)


def decode_document(data: bytes, read: Callable[[StrictObject], T], where: str, remedy: str) -> T:
    """The result of ``read`` on a JSON object; NaN, infinities, repeated and unknown members are errors.

    Raises:
        CalibrationError: not a valid document. The message has ``where``, the member and the ``remedy``.
    """
    try:
        members = _object(data)
        result = read(members)
        members.done()
    except CalibrationError as error:
        raise CalibrationError(f"{where}: {error}; {remedy}", private=error.private) from None
    return result


def encode_document(members: Mapping[str, Any]) -> bytes:
    """The document as ASCII, one member per line."""
    lines = (f"{json.dumps(name)}: {json.dumps(value, allow_nan=False)}" for name, value in members.items())
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode("ascii")


def read_bytes(path: Path) -> bytes:
    """The whole file.

    Raises:
        CalibrationError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise CalibrationError(f"cannot read {path}: {error.strerror}") from None


def write_bytes(path: Path, data: bytes) -> None:
    """Write the file in one atomic step: a reader sees the old one or the new one, whole.

    Raises:
        CalibrationError: it cannot be written; what was there before is untouched.
    """
    try:
        replace_atomically(path, data)
    except OSError as error:
        raise CalibrationError(f"cannot write {path}: {error.strerror}") from None
