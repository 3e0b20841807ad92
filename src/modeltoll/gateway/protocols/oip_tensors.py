"""Tensors of the Open Inference Protocol, as JSON and as the binary tensor data extension writes them.

The extension puts raw tensors behind the JSON, little-endian, row by row; ``binary_data_size`` says how many bytes each
takes. Texts (BYTES) each have their length before them, 4 bytes.
"""

from __future__ import annotations

import math
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from modeltoll import wire

if TYPE_CHECKING:
    from modeltoll.records import Floats

__all__ = [
    "BROKEN",
    "DIMENSIONS",
    "NUMERIC",
    "TEXT",
    "BinaryTail",
    "flattened",
    "numbers",
    "split_body",
    "texts",
    "unpacked_texts",
]

DIMENSIONS = 32  # of a tensor
TEXT = "BYTES"

_Kinds = dict[str, np.dtype[Any]]
_WHOLE: _Kinds = {
    f"{sign}INT{bits}": np.dtype(f"{sign}int{bits}".lower()) for sign in ("", "U") for bits in (8, 16, 32, 64)
}
BROKEN: _Kinds = {"FP16": np.dtype("f2"), "BF16": np.dtype("f4"), "FP32": np.dtype("f4"), "FP64": np.dtype("f8")}
NUMERIC: _Kinds = {"BOOL": np.dtype("bool"), **_WHOLE, **BROKEN}  # numpy has no BF16; FP32 has its range

_BF16_SHIFT = 16  # BF16 is the upper half of FP32
_LENGTH_BYTES = 4
_NUMBERS, _TEXTS = frozenset((bool, int, float)), frozenset((str,))


class BinaryTail:
    """The raw tensors behind the JSON of a message, taken one after the other."""

    def __init__(self, raw: memoryview) -> None:
        self._raw = raw

    def take(self, size: object) -> memoryview:
        """The next so many bytes.

        Raises:
            ValueError: there are not so many, or that is no number of bytes.
        """
        if type(size) is not int or not 0 <= size <= len(self._raw):
            raise ValueError("does not hold the bytes that its 'binary_data_size' says")
        taken, self._raw = self._raw[:size], self._raw[size:]
        return taken

    def check_empty(self) -> None:
        """Raise ``ValueError`` where bytes are left that belong to no tensor."""
        if len(self._raw):
            raise ValueError("is followed by bytes that belong to no tensor")


def split_body(body: bytes, content_type: str) -> tuple[bytes, BinaryTail | None]:
    """The JSON of a message, and the raw tensors behind it; None where its type names no length of the JSON.

    Raises:
        ValueError: the message is shorter than that.
    """
    length = wire.content_headers(content_type).get(wire.BINARY_HEADER)
    if length is None:
        return body, None
    head = int(length)
    if head > len(body):
        raise ValueError(f"is shorter than its {wire.BINARY_HEADER}")
    return body[:head], BinaryTail(memoryview(body)[head:])


def flattened(data: object, shape: tuple[int, ...], kinds: frozenset[type]) -> list[Any]:
    """A tensor's items row by row, be they written flat or nested as the shape says.

    The items' types are checked one by one: an array made of text and numbers would take the longest text's memory
    for each of its items.

    Raises:
        ValueError: ragged, not as many as the shape says, or an item is of none of the ``kinds``.
    """
    if not isinstance(data, list):
        raise ValueError("is not a list")  # noqa: TRY004  as the other faults
    items = data
    for length in shape[1:]:
        if set(map(type, items)) != {list}:
            break
        if set(map(len, items)) != {length}:
            raise ValueError("is ragged, or not nested as its 'shape' says")
        items = list(chain.from_iterable(items))
    if not kinds.issuperset(map(type, items)):
        raise ValueError(f"holds something that is not {' or '.join(sorted(kind.__name__ for kind in kinds))}")
    if len(items) != math.prod(shape):
        raise ValueError("does not fill its 'shape'")
    return items


def numbers(data: object, datatype: str, shape: tuple[int, ...], kinds: frozenset[type] = _NUMBERS) -> Floats:
    """A tensor's numbers, (rows, dimensions), as its datatype holds them: out of JSON, or of raw bytes.

    Raises:
        ValueError: not such a tensor, or a number in it that the datatype does not hold, or that is not finite.
        OverflowError: a number that is too large.
    """
    if isinstance(data, memoryview):
        read = _unpacked(data, datatype, shape)
    else:
        kind, sent = NUMERIC[datatype], np.array(flattened(data, shape, kinds), dtype=np.float64)
        read = sent if kind == sent.dtype else _rounded(sent, kind)
    if not np.isfinite(read).all():
        raise ValueError(f"holds a number that is no {datatype}, or not finite")
    return (read + 0.0).reshape(shape[0], -1)  # + 0.0: minus zero has the same fingerprint


def _rounded(sent: Floats, kind: np.dtype[Any]) -> Floats:
    """Numbers as that datatype holds them; NaN where a whole or boolean one cannot."""
    with np.errstate(over="ignore", invalid="ignore"):
        cast = sent.astype(kind)
        read: Floats = cast.astype(np.float64)
    return read if kind.kind == "f" else np.where(cast == sent, read, np.nan)


def _unpacked(raw: memoryview, datatype: str, shape: tuple[int, ...]) -> Floats:
    kind = np.dtype("<u2") if datatype == "BF16" else NUMERIC[datatype].newbyteorder("<")
    if len(raw) != math.prod(shape) * kind.itemsize:
        raise ValueError("does not fill its 'shape'")
    read = np.frombuffer(raw, kind)
    if datatype == "BF16":
        read = (read.astype("<u4") << _BF16_SHIFT).view("<f4")
    if datatype == "BOOL" and np.frombuffer(raw, np.uint8).max(initial=0) > 1:
        raise ValueError("holds a number that is no BOOL, or not finite")
    with np.errstate(invalid="ignore"):
        return np.asarray(read.astype(np.float64))


def texts(data: object, shape: tuple[int, ...]) -> list[str]:
    """A tensor's texts, row by row; raw ones are read byte by byte as Latin-1.

    Raises:
        ValueError: not such a tensor.
    """
    if not isinstance(data, memoryview):
        return flattened(data, shape, _TEXTS)
    found = [bytes(item).decode("latin-1") for item in unpacked_texts(data, math.prod(shape))]
    if len(found) != math.prod(shape):
        raise ValueError("does not fill its 'shape'")
    return found


def unpacked_texts(raw: memoryview, most: int) -> list[memoryview]:
    """Texts with their lengths before them.

    Raises:
        ValueError: cut short, or more than ``most``.
    """
    found: list[memoryview] = []
    while len(raw):
        length = int.from_bytes(raw[:_LENGTH_BYTES], "little")
        if len(raw) < _LENGTH_BYTES + length or len(found) >= most:
            raise ValueError("does not fill its 'shape'")
        found.append(raw[_LENGTH_BYTES : _LENGTH_BYTES + length])
        raw = raw[_LENGTH_BYTES + length :]
    return found
