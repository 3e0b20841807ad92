"""The laws of kinds over the cells, and their caps: how often rows of a kind fall into each cell, as far as known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import CalibrationError
from modeltoll.pricing.kinds import CLASS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.pricing.kinds import FittedKind
    from modeltoll.records import Floats, Integers

__all__ = ["SURE_ROWS", "KindLaws", "smoothed_law"]

SURE_ROWS = 1000  # rows from which on a kind's law is its cap
_PARENT_ROWS = 7.0  # weight of the parent law, in rows
_OWN_DEVIATIONS = (
    2.0  # standard errors by which the cap of a caller's own log lies above its law, and a row in each cell
)
_SHARE_DEVIATIONS = 2.0  # standard errors of a class's share of all traffic
_BELOW_ONE = 1.0 - 1e-12  # rounding must not lift the sum of a law above 1


def smoothed_law(counts: Integers, parent: Floats) -> Floats:
    """The law (cells,) of a kind from its counts (cells,): (counts + 7 * parent) / (rows + 7), just below it."""
    law: Floats = (counts + _PARENT_ROWS * parent) / (counts.sum() + _PARENT_ROWS) * _BELOW_ONE
    return law


def _own_cap(law: Floats, rows: int) -> Floats:
    """The cap of a caller's own log: two standard errors and one row in each cell, for it hides nobody but that caller."""
    if rows >= SURE_ROWS:
        return law
    cap: Floats = np.minimum(law + _OWN_DEVIATIONS * _standard_errors(law, rows) + 1.0 / rows, 1.0)
    return cap


def _cap(law: Floats, kind: FittedKind, traffic: _Traffic | None) -> Floats:
    """The cap of a kind that counts for every caller: one standard error, and in cells without rows what was not seen.

    The share of rows that fall into cells without rows is estimated by that of cells with a single one (Good 1953).
    ``traffic``: where the kind is a part of all traffic; then no cell holds more of it than all its rows in all traffic.
    """
    if kind.rows >= SURE_ROWS:
        return law
    empty = kind.counts == 0
    unseen = (1.0 + (kind.counts == 1).sum()) / kind.rows
    cap = law + _standard_errors(law, kind.rows) + np.where(empty, unseen / max(1, empty.sum()), 0.0)
    if traffic is not None:
        cap = np.minimum(cap, traffic.most_of(kind.rows))
    return np.minimum(np.maximum(cap, law), 1.0)


def _standard_errors(law: Floats, rows: int) -> Floats:
    errors: Floats = np.sqrt(law * (1.0 - law) / rows)
    return errors


@dataclass(frozen=True, slots=True, eq=False)
class _Traffic:
    """All traffic: its ``cap`` (cells,), and its ``rows``."""

    cap: Floats
    rows: int

    def most_of(self, rows: int) -> Floats:
        """The largest share of a cell in the law of a part of so many rows: P(cell | part) <= P(cell) / P(part)."""
        most: Floats = self.cap * (self.rows / rows) * (1.0 + _SHARE_DEVIATIONS / np.sqrt(rows))
        return most


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
        """Laws as of ``smoothed_law``; the parent of all traffic is ``widths`` (cells,), of others all traffic.

        The caps of kinds of fewer than ``SURE_ROWS`` rows lie above their laws, by what so few rows leave open.

        Raises:
            CalibrationError: there is no kind, or one has no rows or other cells.
        """
        if not kinds:
            raise CalibrationError("a calibration needs the kind of all traffic")
        for kind in kinds:
            _check(kind, len(widths))
        everything = smoothed_law(kinds[0].counts, widths)
        traffic = _Traffic(_cap(everything, kinds[0], None), kinds[0].rows)
        laws = [everything, *(smoothed_law(kind.counts, everything) for kind in kinds[1:])]
        caps = [_cap(law, kind, traffic if kind.role == CLASS else None) for law, kind in zip(laws, kinds, strict=True)]
        return cls(tuple(kind.name for kind in kinds), np.array(laws), np.array(caps))

    def with_kind(self, kind: FittedKind) -> KindLaws:
        """These laws and that of a caller's own log, which is shrunk towards all traffic. Raises as ``of`` does."""
        _check(kind, self.laws.shape[1])
        law = smoothed_law(kind.counts, self.laws[0])
        caps = np.vstack([self.caps, _own_cap(law, kind.rows)])
        return KindLaws((*self.names, kind.name), np.vstack([self.laws, law]), caps)


def _check(kind: FittedKind, cells: int) -> None:
    if kind.counts.shape != (cells,):
        raise CalibrationError(f"the kind '{kind.name}' has {kind.counts.size} cells, the calibration {cells}")
    if kind.rows < 1:
        raise CalibrationError(f"the kind '{kind.name}' has no rows")
