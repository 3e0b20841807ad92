"""The laws of kinds over the cells, and their caps: how often rows of a kind fall into each cell, as far as known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import CalibrationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.pricing.kinds import FittedKind
    from modeltoll.records import Floats

__all__ = ["SURE_ROWS", "KindLaws"]

SURE_ROWS = 1000  # rows from which on a kind's law is its cap
_PARENT_ROWS = 7.0  # weight of the parent law, in rows
_DEVIATIONS = 2.0  # standard errors by which the cap of a kind of fewer rows lies above its law
_BELOW_ONE = 1.0 - 1e-12  # rounding must not lift the sum of a law above 1


def _law(kind: FittedKind, parent: Floats) -> Floats:
    law: Floats = (kind.counts + _PARENT_ROWS * parent) / (kind.rows + _PARENT_ROWS) * _BELOW_ONE
    return law


def _cap(law: Floats, rows: int) -> Floats:
    """The law, of a kind of few rows widened by its uncertainty."""
    if rows >= SURE_ROWS:
        return law
    cap: Floats = np.minimum(law + _DEVIATIONS * np.sqrt(law * (1.0 - law) / rows) + 1.0 / rows, 1.0)
    return cap


@dataclass(frozen=True, slots=True, eq=False)
class KindLaws:
    """Laws of kinds. ``laws`` (kinds, cells): positive, the sum over the cells is at most 1. ``caps`` (kinds, cells): at
    least the laws; how much of a caller's traffic a cell may hold at most, for a caller of that kind alone, before
    tolerance. The first kind is all traffic.
    """

    names: tuple[str, ...]
    laws: Floats
    caps: Floats

    @classmethod
    def of(cls, kinds: Sequence[FittedKind], widths: Floats) -> KindLaws:
        """law = (counts + 7 * parent) / (rows + 7); the parent of all traffic is ``widths`` (cells,), of others all traffic.

        Raises:
            CalibrationError: there is no kind, or one has no rows or other cells.
        """
        if not kinds:
            raise CalibrationError("a calibration needs the kind of all traffic")
        for kind in kinds:
            _check(kind, len(widths))
        everything = _law(kinds[0], widths)
        laws = [everything, *(_law(kind, everything) for kind in kinds[1:])]
        caps = [_cap(law, kind.rows) for law, kind in zip(laws, kinds, strict=True)]
        return cls(tuple(kind.name for kind in kinds), np.array(laws), np.array(caps))

    def with_kind(self, kind: FittedKind) -> KindLaws:
        """These laws and that of one more kind, which is shrunk towards all traffic. Raises as ``of`` does."""
        _check(kind, self.laws.shape[1])
        law = _law(kind, self.laws[0])
        return KindLaws(
            (*self.names, kind.name), np.vstack([self.laws, law]), np.vstack([self.caps, _cap(law, kind.rows)])
        )


def _check(kind: FittedKind, cells: int) -> None:
    if kind.counts.shape != (cells,):
        raise CalibrationError(f"the kind '{kind.name}' has {kind.counts.size} cells, the calibration {cells}")
    if kind.rows < 1:
        raise CalibrationError(f"the kind '{kind.name}' has no rows")
