"""The points of a novelty measure: private rows, and as many private rows of the declared kinds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from modeltoll.leak.corruptions import FAMILIES, apply, value_range

if TYPE_CHECKING:
    from modeltoll.leak.corruptions import Corruption, Shape
    from modeltoll.records import Floats, Integers

__all__ = ["NO_KIND_ROWS", "CorruptedRows", "KindRows", "choose_points"]

KindRows: TypeAlias = "Mapping[str, Floats]"  # rows (m, d) of each kind of honest callers, by its name

NO_KIND_ROWS: KindRows = MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False)
class CorruptedRows:
    """Rows of declared corruptions, made from private rows (n, d) of this shape when they are needed."""

    kinds: tuple[Corruption, ...]
    private: Floats
    shape: Shape

    def of(self, kind: Corruption, most: int, rng: np.random.Generator) -> tuple[Floats, Integers]:
        """At most so many rows of one kind, and the private rows that they were made from, (m,)."""
        chosen = rng.permutation(len(self.private))[:most]
        if FAMILIES[kind.family].images:
            return apply(kind, self.private[chosen], self.shape, rng, value_range(self.private)), chosen
        return apply(kind, self.private, self.shape, rng)[chosen], chosen  # a column's distribution needs all rows

    def rows(self, most: int, rng: np.random.Generator) -> dict[str, Floats]:
        """Rows of each kind, with equal shares, at most so many in all."""
        share = max(1, most // max(1, len(self.kinds)))
        return {kind.name: self.of(kind, share, rng)[0] for kind in self.kinds}


def choose_points(private: Floats, kinds: KindRows, most: int | None, rng: np.random.Generator) -> tuple[Floats, int]:
    """At most ``most`` points (None: no limit), drawn from private rows (n, d) and from kinds; and how many are private.

    Private rows come first. Where there are kinds, half of the points are of kinds, each with the same share.
    """
    limit = 2 * len(private) if most is None else most
    if not kinds:
        chosen = _drawn(private, limit, rng)
        return chosen, len(chosen)
    own = _drawn(private, limit - limit // 2, rng)
    share = max(1, min(limit // 2, len(own)) // len(kinds))
    return np.concatenate([own, *(_drawn(rows, share, rng) for rows in kinds.values())]), len(own)


def _drawn(rows: Floats, most: int, rng: np.random.Generator) -> Floats:
    return rows if len(rows) <= most else rows[rng.permutation(len(rows))[:most]]
