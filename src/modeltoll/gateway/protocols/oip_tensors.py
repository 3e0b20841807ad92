"""Tensors of the Open Inference Protocol, as JSON and raw.

Raw tensors are little-endian, row by row. Texts (BYTES) each have their length before them, 4 bytes.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from modeltoll.record_init import quick_init

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from modeltoll.records import Floats

__all__ = [
    "BROKEN",
    "DIMENSIONS",
    "MOST_TEXTS",
    "NUMERIC",
    "TEXT",
    "TensorRows",
    "flattened",
    "numbers",
    "packed",
    "packed_texts",
    "read_rows",
    "texts",
    "unpacked",
    "unpacked_numbers",
    "unpacked_texts",
]

DIMENSIONS = 32  # of a tensor
TEXT = "BYTES"
MOST_TEXTS = 1 << 18  # of a tensor of a request: each takes a microsecond, however short it is

_Kinds = dict[str, np.dtype[Any]]
_WHOLE: _Kinds = {
    f"{sign}INT{bits}": np.dtype(f"{sign}int{bits}".lower()) for sign in ("", "U") for bits in (8, 16, 32, 64)
}
BROKEN: _Kinds = {"FP16": np.dtype("f2"), "BF16": np.dtype("f4"), "FP32": np.dtype("f4"), "FP64": np.dtype("f8")}
NUMERIC: _Kinds = {"BOOL": np.dtype("bool"), **_WHOLE, **BROKEN}  # numpy has no BF16; FP32 has its range

_FEW = 256  # numbers that are added up faster as a list than checked as an array
_EXACT = 2**53  # whole numbers up to here are exact as floats of 64 bits
_BF16_SHIFT = 16  # BF16 is the upper half of FP32
_LENGTH_BYTES = 4
_NUMBERS, _TEXTS = frozenset((bool, int, float)), frozenset((str,))
_NULL_BITS = 0x7FF8_0000_0000_0001  # of a quiet NaN
_MISSING = frozenset((*_NUMBERS, type(None)))  # in a tensor of floats null is a missing value, NaN


def flattened(data: object, shape: tuple[int, ...], kinds: frozenset[type]) -> list[Any]:
    """A tensor's items row by row, be they written flat or nested as the shape says.

    The items' types are checked one by one: an array made of text and numbers would take the longest text's memory
    for each of its items.

    Raises:
        ValueError: ragged, not as many as the shape says, or an item is of none of the ``kinds``.
    """
    if not isinstance(data, list):
        raise ValueError("is not a list")  # noqa: TRY004  as the other faults
    items, found = data, set(map(type, data))
    for length in shape[1:]:
        if found != {list}:
            break
        if set(map(len, items)) != {length}:
            raise ValueError("is ragged, or not nested as its 'shape' says")
        items = list(chain.from_iterable(items))
        found = set(map(type, items))
    if not kinds.issuperset(found):
        raise ValueError(f"holds something that is not {' or '.join(sorted(kind.__name__ for kind in kinds))}")
    if len(items) != math.prod(shape):
        raise ValueError("does not fill its 'shape'")
    return items


@quick_init
@dataclass(frozen=True, slots=True, eq=False)
class TensorRows:
    """A tensor as the model reads it: the exact bytes of each row, and the rows' numbers, (rows, dimensions).

    ``numbers`` are floats of 64 bits, of which integers beyond 2^53 are rounded; None for texts.
    """

    lines: list[bytes]
    numbers: Floats | None


def read_rows(data: object, datatype: str, shape: tuple[int, ...]) -> TensorRows:
    """A tensor's rows, out of JSON or of raw bytes; both are the same where they hold the same numbers or texts.

    Raises:
        ValueError: not such a tensor, or a number in it that the datatype does not hold, or that is not finite.
    """
    rows = shape[0]
    if datatype == TEXT:
        if math.prod(shape) > MOST_TEXTS:
            raise ValueError(f"holds more than {MOST_TEXTS} texts")
        items = texts(data, shape)
        width = len(items) // rows
        return TensorRows([packed_texts(items[i : i + width]) for i in range(0, len(items), width)], None)
    values = _values(data, datatype, shape).reshape(rows, -1)
    lines = [values.tobytes()] if rows == 1 else [line.tobytes() for line in values]
    return TensorRows(lines, values.astype(np.float64, copy=False))


def numbers(data: object, datatype: str, shape: tuple[int, ...], kinds: frozenset[type] = _NUMBERS) -> Floats:
    """A tensor's numbers, (rows, dimensions): JSON's as floats of 64 bits, raw ones as its datatype holds them.

    Raises:
        ValueError: not such a tensor, or a number in it that is not finite.
        OverflowError: a number that is too large.
    """
    if isinstance(data, memoryview):
        read = unpacked_numbers(data, datatype, shape).astype(np.float64)
    else:
        items = flattened(data, shape, kinds)
        read = np.fromiter(items, np.float64, len(items))
        if not _all_finite(items, read):
            raise ValueError("holds a number that is not finite")
    return np.asarray(read.reshape(shape[0], -1))


def _all_finite(items: list[Any], read: NDArray[Any]) -> bool:
    """Whether all numbers of an array are finite. ``items``: the same as a list, which may be empty or hold null.

    The sum of a few numbers is finite only if each of them is, and is found in less time.
    """
    if 0 < len(items) <= _FEW:
        with suppress(TypeError, OverflowError):  # a null; whole numbers that are finite, but not their sum
            if math.isfinite(sum(items)):
                return True
    return bool(np.isfinite(read).all())


def _values(data: object, datatype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """A tensor's numbers as its datatype holds them, integers exact and floats as floats of 64 bits without minus zero.

    A null among floats is a NaN with bits of its own, for a server may read it as something else than NaN.
    """
    items: list[Any] = []
    if isinstance(data, memoryview):
        read = unpacked_numbers(data, datatype, shape)
    elif datatype == "BF16":
        raise ValueError("is of BF16, which is sent as raw bytes only")
    elif datatype in BROKEN:
        items = flattened(data, shape, _MISSING)
        read = np.fromiter(items, np.float64, len(items))
        if NUMERIC[datatype] != np.float64:
            with np.errstate(over="ignore"):
                read = read.astype(NUMERIC[datatype])
    else:
        return _whole(flattened(data, shape, _NUMBERS), datatype)
    if datatype not in BROKEN:
        return read
    if _all_finite(items if read.dtype == np.float64 else [], read):
        return read.astype(np.float64, copy=False) + 0.0  # + 0.0: minus zero has the same fingerprint
    missing = np.isnan(read)
    if not (missing | np.isfinite(read)).all():
        raise ValueError(f"holds a number that is no {datatype}, or not finite")
    values: NDArray[Any] = np.where(missing, np.nan, read).astype(np.float64) + 0.0
    nulls = [place for place in np.flatnonzero(missing).tolist() if items and items[place] is None]
    values.view(np.uint64)[nulls] = _NULL_BITS
    return values


def _whole(items: list[Any], datatype: str) -> NDArray[Any]:
    """JSON numbers as whole ones or truths; 3.0 is one where its digits are exact."""
    if float in set(map(type, items)):
        exact = (item for item in items if isinstance(item, float))
        if not all(item.is_integer() and abs(item) <= _EXACT for item in exact):
            raise ValueError(f"holds a number that is no {datatype}, or not finite")
        items = [int(item) for item in items]
    kind = NUMERIC[datatype]
    if kind.kind == "b" and not {0, 1}.issuperset(items):
        raise ValueError(f"holds a number that is no {datatype}, or not finite")
    try:
        return np.array(items, dtype=kind)
    except OverflowError:
        raise ValueError(f"holds a number that is no {datatype}, or not finite") from None


def unpacked_numbers(raw: memoryview, datatype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Raw numbers as their datatype, BF16 as FP32.

    Raises:
        ValueError: they do not fill the shape, or a BOOL is neither 0 nor 1.
    """
    kind = np.dtype("<u2") if datatype == "BF16" else NUMERIC[datatype].newbyteorder("<")
    if len(raw) != math.prod(shape) * kind.itemsize:
        raise ValueError("does not fill its 'shape'")
    read = np.frombuffer(raw, kind)
    if datatype == "BF16":
        read = (read.astype("<u4") << _BF16_SHIFT).view("<f4")
    if datatype == "BOOL" and np.frombuffer(raw, np.uint8).max(initial=0) > 1:
        raise ValueError("holds a number that is no BOOL, or not finite")
    return read.astype(NUMERIC[datatype], copy=False)


def texts(data: object, shape: tuple[int, ...]) -> list[bytes]:
    """A tensor's texts, row by row, as bytes: those of JSON in UTF-8, raw ones as they are.

    Raises:
        ValueError: not such a tensor, or a text of JSON that is not Unicode.
    """
    if not isinstance(data, memoryview):
        return [text.encode() for text in flattened(data, shape, _TEXTS)]  # UnicodeEncodeError is a ValueError
    found = unpacked_texts(data, math.prod(shape))
    if len(found) != math.prod(shape):
        raise ValueError("does not fill its 'shape'")
    return found


def unpacked_texts(raw: memoryview, most: int) -> list[bytes]:
    """Texts with their lengths before them.

    Raises:
        ValueError: cut short, or more than ``most``.
    """
    found: list[bytes] = []
    at = 0
    while at < len(raw):
        begin = at + _LENGTH_BYTES
        at = begin + int.from_bytes(raw[at:begin], "little")
        if at > len(raw) or len(found) >= most:
            raise ValueError("does not fill its 'shape'")
        found.append(bytes(raw[begin:at]))
    return found


def unpacked(raw: memoryview, datatype: str, shape: tuple[int, ...]) -> list[Any]:
    """Raw numbers or texts as JSON has them, row by row.

    Raises:
        ValueError: they do not fill the shape, or JSON cannot hold one: a number that is not finite, a text that is not
            UTF-8.
    """
    if datatype == TEXT:
        return [text.decode() for text in texts(raw, shape)]  # UnicodeDecodeError is a ValueError
    values = unpacked_numbers(raw, datatype, shape)
    if datatype in BROKEN and not np.isfinite(values).all():
        raise ValueError("holds a number that is not finite")
    listed: list[Any] = values.tolist()
    return listed


def packed(data: object, datatype: str, shape: tuple[int, ...]) -> bytes:
    """A tensor's raw bytes, of its JSON or of raw bytes themselves; a missing value among floats is NaN.

    Raises:
        ValueError: not such a tensor, or a number in it that the datatype does not hold.
    """
    if isinstance(data, memoryview):
        return bytes(data)
    if datatype == TEXT:
        return packed_texts(texts(data, shape))
    if datatype == "BF16":
        raise ValueError("is of BF16, which is sent as raw bytes only")
    if datatype in BROKEN:
        with np.errstate(over="ignore"):
            values = np.array(flattened(data, shape, _MISSING), dtype=np.float64).astype(NUMERIC[datatype])
    else:
        values = _whole(flattened(data, shape, _NUMBERS), datatype)
    return values.astype(values.dtype.newbyteorder("<")).tobytes()


def packed_texts(items: Iterable[bytes]) -> bytes:
    """Texts with their lengths before them."""
    packed = bytearray()  # a list of its pieces would take many times the memory of short texts
    for item in items:
        packed += len(item).to_bytes(_LENGTH_BYTES, "little")
        packed += item
    return bytes(packed)
