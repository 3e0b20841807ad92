"""What novelty does to inputs before it compares them: numbers of any scale are standardised, codes are hashed."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from modeltoll.errors import CalibrationError
from modeltoll.leak.corruptions import channels_first, is_image

if TYPE_CHECKING:
    from modeltoll.leak.corruptions import Shape
    from modeltoll.records import Floats, Integers

__all__ = [
    "BYTE_ROW",
    "HASH_BITS",
    "HashedCodes",
    "InputTransform",
    "Standardised",
    "byte_rows",
    "hold_codes",
    "is_text",
    "pair_hashes",
    "transform_of_arrays",
]

BYTE_ROW = 2048  # codes of a text or of bytes: half of them from the beginning, half from the end
_PADDING = 256.0  # beyond all bytes
_STRAIGHT = 10.0  # deviations up to which a standardised number is kept; beyond, its logarithm counts
HASH_BITS = 32  # of a hashed pair; its upper bits name a bucket
_BUCKET_BITS = 9
_BUCKETS = 1 << _BUCKET_BITS  # of the hashed pairs of one half of a row
_PRIMES = np.array([2_654_435_761, 2_246_822_519], np.uint64)  # multiplicative hashing; xxHash's
_WORD, _BITS = np.uint64(0xFFFFFFFF), np.uint64(15)
_MOST_CODES = 2.0**31
_ROUNDING = 1e-9  # deviations below this share of a column's mean are rounding
_ALIKE = 10.0  # columns whose deviations differ by less are of one unit
_MANY = 16  # columns from which on a row may be of one unit, or of codes
_COMMON_RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))


class InputTransform(Protocol):
    """A fixed function of one row at a time."""

    @property
    def width(self) -> int:
        """How many numbers an input has."""

    @property
    def shape(self) -> Shape:
        """(height, width, channels) of a transformed row; (1, 1, e) where it is no image."""

    def apply(self, inputs: Floats) -> Floats:
        """Transformed rows (rows, e), finite, of inputs (rows, d), which may hold missing values (NaN) but no infinity."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The transform as named arrays, to be saved in a file."""


@dataclass(frozen=True, slots=True, eq=False)
class Standardised:
    """Numbers: (x - ``centre``) / ``spread``, with channels last, then one column for each that had missing values.

    Beyond 10 deviations the logarithm counts, so that numbers up to 1e100 stay comparable. A missing value is the
    column's centre, and its indicator says so; in a column that never had one, it is as strange as 10 deviations.
    ``order`` (d,): the place in the input of each number; ``gaps`` (m,): columns with missing values, after the order;
    ``rates`` (m,): their share among the private rows.
    """

    order: Integers
    centre: Floats
    spread: Floats
    gaps: Integers
    rates: Floats
    sides: Integers

    @classmethod
    def fit(cls, inputs: Floats, shape: Shape) -> Standardised:
        """Fit to private inputs (n, d), which may hold NaN.

        Images and rows of one unit have one centre and one spread, other rows one for each column. A constant column
        is divided by the magnitude of its value, so that another value is seen whatever the unit.
        """
        height, width, channels = shape
        order = np.arange(inputs.shape[1])
        if channels_first(shape):
            order, shape = np.moveaxis(order.reshape(shape), 0, 2).ravel(), (width, channels, height)
        values = inputs[:, order]
        missing = np.isnan(values)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a column of missing values only
            centre, spread = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
        centre, spread = np.nan_to_num(centre), np.nan_to_num(spread)
        if is_image(shape) or _one_unit(values, spread):
            one = np.nanmean(values), np.nanstd(values)
            centre, spread = (np.full(len(order), each) for each in one)
        size = np.abs(centre)
        spread = np.where(spread > _ROUNDING * size, spread, size + (size == 0.0))
        gaps = np.flatnonzero(missing.any(axis=0))
        rates = missing[:, gaps].mean(axis=0)
        sides = np.array(shape if not gaps.size else (1, 1, len(order) + len(gaps)))
        return cls(order, centre, spread, gaps, rates, sides)

    @property
    def width(self) -> int:
        """How many numbers an input has."""
        return len(self.order)

    @property
    def shape(self) -> Shape:
        """(height, width, channels) of a transformed row."""
        height, width, channels = self.sides.tolist()
        return height, width, channels

    def apply(self, inputs: Floats) -> Floats:
        """Transformed rows (rows, d + m) of inputs (rows, d)."""
        values = np.ascontiguousarray(inputs[:, self.order])  # the order of sums must not depend on the number of rows
        missing = np.isnan(values)
        with np.errstate(over="ignore"):
            scaled = (values - self.centre) / self.spread
        far = np.abs(scaled)
        far = np.where(far > _STRAIGHT, _STRAIGHT * (1.0 + np.log(np.maximum(far, _STRAIGHT) / _STRAIGHT)), far)
        expected = np.zeros(self.width, dtype=bool)
        expected[self.gaps] = True
        result = np.where(missing, np.where(expected, 0.0, _STRAIGHT), np.copysign(far, scaled))
        if not self.gaps.size:
            return np.ascontiguousarray(result)
        deviations = np.sqrt(np.maximum(self.rates * (1.0 - self.rates), 1e-4))
        indicators = (missing[:, self.gaps] - self.rates) / deviations
        return np.ascontiguousarray(np.hstack([result, indicators]))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The transform as named arrays."""
        return {f"standard_{name}": np.asarray(getattr(self, name)) for name in Standardised.__slots__}


@dataclass(frozen=True, slots=True)
class HashedCodes:
    """Codes, such as bytes, characters or numbers of tokens: how often each pair of neighbours occurs, in 2 x 512 buckets.

    The first and the second half of a row are counted apart (headers, and ends). A count c becomes log(1 + c), and rows
    get one length. Numbers that are no whole codes are rounded, and a missing value is a code of its own.
    """

    width: int

    @property
    def shape(self) -> Shape:
        """(1, 1, 1024)."""
        return 1, 1, 2 * _BUCKETS

    def apply(self, inputs: Floats) -> Floats:
        """Transformed rows (rows, 1024) of codes (rows, d)."""
        parts = [np.log1p(_pair_counts(hashes)) for hashes in pair_hashes(inputs)]
        counts = np.hstack(parts)
        lengths = np.sqrt(np.einsum("ij,ij->i", counts, counts))[:, None]
        return np.asarray(counts / lengths * np.sqrt(counts.shape[1]))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The transform as named arrays."""
        return {"hashed_width": np.array(self.width)}


def transform_of_arrays(arrays: Mapping[str, NDArray[Any]]) -> InputTransform:
    """The inverse of ``arrays`` of either transform.

    Raises:
        CalibrationError: arrays are missing, or do not fit each other.
    """
    if "hashed_width" in arrays:
        if arrays["hashed_width"].ndim or int(arrays["hashed_width"]) < 1:
            raise CalibrationError("the novelty file lacks a usable width of its codes")
        return HashedCodes(int(arrays["hashed_width"]))
    try:
        found = {name: arrays[f"standard_{name}"] for name in Standardised.__slots__}
    except KeyError:
        raise CalibrationError(
            "the novelty file does not say how its inputs are standardised; fit it anew with fit-novelty"
        ) from None
    width, gaps = len(np.atleast_1d(found["order"])), found["gaps"]
    fits = np.array_equal(np.sort(found["order"]), np.arange(width))
    fits &= found["centre"].shape == found["spread"].shape == (width,) and bool((found["spread"] > 0.0).all())
    fits &= gaps.shape == found["rates"].shape and bool(((gaps >= 0) & (gaps < width)).all())
    if not fits or found["sides"].shape != (3,) or np.prod(found["sides"]) != width + gaps.size:
        raise CalibrationError("the arrays of the novelty file that standardise inputs do not fit each other")
    return Standardised(**found)


def pair_hashes(inputs: Floats) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The hashed pairs of neighbours (rows, pairs), below 2^32, in the first and in the second half of rows (rows, d) of codes.

    Numbers that are no whole codes are rounded, and a missing value is a code of its own. A single code is its own pair.
    """
    rounded = np.clip(np.nan_to_num(np.round(inputs), nan=-1.0), -_MOST_CODES, _MOST_CODES)
    codes, width = rounded.astype(np.int64).astype(np.uint64), inputs.shape[1]
    return _hashes(codes[:, : (width + 1) // 2]), _hashes(codes[:, width // 2 :])


def _hashes(codes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    first, second = (codes[:, :-1], codes[:, 1:]) if codes.shape[1] > 1 else (codes, codes)
    mixed = ((first & _WORD) * _PRIMES[0] + (second & _WORD) * _PRIMES[1]) & _WORD
    return np.asarray((mixed ^ (mixed >> _BITS)) * _PRIMES[0] & _WORD)


def is_text(values: NDArray[Any]) -> bool:
    """Whether an array holds texts or bytes, one for each row."""
    return values.dtype.kind in "US" and values.ndim == 1


def byte_rows(texts: Sequence[str | bytes]) -> Floats:
    """Texts as rows of 2,048 codes: the first and the last 1,024 bytes in UTF-8, with 256 where there are none."""
    half = BYTE_ROW // 2
    rows = np.full((len(texts), BYTE_ROW), _PADDING)
    for row, text in zip(rows, texts, strict=True):
        raw = np.frombuffer(text.encode() if isinstance(text, str) else text, np.uint8)
        row[: min(half, raw.size)] = raw[:half]
        row[BYTE_ROW - min(half, raw.size) :] = raw[-half:]
    return rows


def hold_codes(inputs: NDArray[Any], shape: Shape) -> bool:
    """Whether rows look like codes, not quantities: integers of 16 columns or more, no image, most of which exceed 255.

    Bytes alone (0 to 255) could be pixels: whoever knows says so.
    """
    if inputs.dtype.kind not in "iu" or is_image(shape) or inputs.shape[1] < _MANY or inputs.min() < 0:
        return False
    return bool((inputs.max(axis=0) > 255).mean() > 0.5)


def _one_unit(values: Floats, spread: Floats) -> bool:
    """Whether all of many columns have one unit: deviations that differ little, or a usual range of pixels."""
    changing, low, high = spread[spread > 0.0], np.nanmin(values), np.nanmax(values)
    alike = changing.size and changing.max() < _ALIKE * changing.min()
    usual = any(low >= least and high <= most for least, most in _COMMON_RANGES)
    return values.shape[1] >= _MANY and bool(alike or usual)


def _pair_counts(hashes: NDArray[np.uint64]) -> Floats:
    """How often each bucket occurs, (rows, 512), in rows of hashed pairs."""
    buckets = (hashes >> np.uint64(HASH_BITS - _BUCKET_BITS)).astype(np.int64)
    places = buckets + np.arange(len(hashes))[:, None] * _BUCKETS
    return np.bincount(places.ravel(), minlength=len(hashes) * _BUCKETS).reshape(-1, _BUCKETS).astype(np.float64)
