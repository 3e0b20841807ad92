"""How rare the pairs of neighbouring codes in a row are among the private rows: what tells changed files from files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modeltoll.errors import CalibrationError
from modeltoll.leak.input_transform import HASH_BITS, pair_hashes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from modeltoll.records import Floats, Integers

__all__ = ["PairRarity"]

_BUCKET_BITS = 18  # four times as many as there are pairs of bytes
_BUCKETS = 1 << _BUCKET_BITS
# Levels of rarity: shares of the private rows that hold a pair. The first means none.
_SHARES = np.array([0.0002, 0.0007, 0.0017, 0.005, 0.017, 0.05, 0.13, 0.33])
_LEVELS = len(_SHARES) + 1
_SMALL = 0.002  # added to a share of pairs before its logarithm is taken
_ROWS = 200  # at once
_REFERENCES = 2000  # rows that show whether their features differ
_ENOUGH_CODES = 100  # in a row, of which rare pairs alone tell more than together with other views


@dataclass(frozen=True, slots=True, eq=False)
class PairRarity:
    """The pairs of private rows of codes, in hashed buckets: ``holders`` (2^18,) of ``rows`` private rows hold the bucket.

    The features of a row are the shares of its pairs at each of nine levels of rarity, as logarithms, of the first and of the
    second half: (rows, 18). Bytes that were changed make pairs that hardly any file holds, and a head and a tail of
    different files have levels that do not go together. A row has one code or more: rows of none are a ``ValueError``.
    """

    holders: NDArray[np.int32]
    rows: int

    @classmethod
    def fit(cls, inputs: Floats) -> PairRarity:
        """Count the pairs of private rows (n, d) of codes."""
        holders = np.zeros(_BUCKETS, np.int32)
        for start in range(0, len(inputs), _ROWS):
            for row in np.hstack(_buckets(inputs[start : start + _ROWS])):
                holders[np.unique(row)] += 1
        return cls(holders, len(inputs))

    def features(self, inputs: Floats) -> Floats:
        """The features (rows, 18) of rows (rows, d) of codes."""
        return self._features(inputs, self.holders, self.rows)

    def features_of_own(self, inputs: Floats) -> Floats:
        """The features (n, 18) of rows that were counted: each as if it alone had not been."""
        return self._features(inputs, self.holders - 1, max(self.rows - 1, 1))

    @staticmethod
    def suffices(width: int) -> bool:
        """Whether rows of so many codes are compared by their rare pairs alone.

        Other views would dilute those of files and long texts. Tables of codes have few columns, each with codes of its own, of
        which all pairs are frequent; they need other views, too.
        """
        return width >= _ENOUGH_CODES

    def tells_apart(self, inputs: Floats) -> bool:
        """Whether most of these counted rows, of which 2,000 are looked at, have features that no other one has.

        Short rows have few pairs and thus few different shares.
        """
        features = self.features_of_own(inputs[:_REFERENCES])
        times = np.unique(features, axis=0, return_counts=True)[1]
        return bool((times == 1).sum() > len(features) / 2)

    def _features(self, inputs: Floats, holders: NDArray[np.int32], rows: int) -> Floats:
        halves = []
        for buckets in _buckets(inputs):
            levels = np.searchsorted(_SHARES * rows, holders[buckets])
            places = levels + np.arange(len(inputs))[:, None] * _LEVELS
            counts = np.bincount(places.ravel(), minlength=len(inputs) * _LEVELS).reshape(-1, _LEVELS)
            halves.append(np.log(counts / buckets.shape[1] + _SMALL))
        return np.hstack(halves)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The counts as named arrays, to be saved in a file."""
        return {"pair_holders": self.holders, "pair_rows": np.array(self.rows)}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> PairRarity | None:
        """The inverse of ``arrays``; None: the file holds no counts of pairs.

        Raises:
            CalibrationError: the counts are unusable.
        """
        if "pair_holders" not in arrays:
            return None
        holders, rows = arrays["pair_holders"], arrays.get("pair_rows", np.array(0))
        whole = holders.dtype.kind == "i" and rows.dtype.kind == "i"
        usable = whole and holders.shape == (_BUCKETS,) and not rows.ndim and int(rows) > 0
        if not usable or holders.min() < 0 or holders.max() > int(rows):
            raise CalibrationError("the counts of pairs in the novelty file are unusable; fit it anew with fit-novelty")
        return cls(holders, int(rows))


def _buckets(inputs: Floats) -> list[Integers]:
    """The bucket of each pair (rows, pairs), in the first and in the second half of each row."""
    if not inputs.shape[1]:
        raise ValueError("rows without codes have no pairs")
    return [(hashes >> np.uint64(HASH_BITS - _BUCKET_BITS)).astype(np.int64) for hashes in pair_hashes(inputs)]
