"""How a caller's rows lie in the cells: what speaks against it, and how far it is from each kind."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.pricing.explanations import CellReading, KindDistance
from modeltoll.pricing.kinds import CALLER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.pricing.conformal_tariff import ConformalTariff
    from modeltoll.pricing.kinds import FittedKind

__all__ = ["cell_readings", "kind_distances"]


def cell_readings(
    tariff: ConformalTariff, counts: Sequence[int], own: FittedKind | None = None
) -> tuple[CellReading, ...]:
    """The cells with rows, strongest against the caller first, from its ``counts`` (cells,)."""
    rows = np.array(counts)
    total = int(rows.sum())
    if total == 0:
        return ()
    fitted = tariff.suspicion.fitted(rows, own)
    readings = []
    for cell in np.flatnonzero(rows).tolist():
        share, honest = float(rows[cell]) / total, float(fitted[cell])
        reading = CellReading(
            cell=cell,
            bounds=tariff.cells.bounds(cell),
            rows=int(rows[cell]),
            share=share,
            honest=honest,
            log_ratio=float(rows[cell]) * math.log(share / honest),
            against=share > honest * (1.0 + 1e-9),
        )
        readings.append(reading)
    return tuple(sorted(readings, key=lambda reading: -reading.log_ratio))


def kind_distances(
    tariff: ConformalTariff, counts: Sequence[int], own: FittedKind | None = None
) -> tuple[KindDistance, ...]:
    """How far rows in cells (``counts``) lie from each kind, nearest first; none without rows."""
    rows = np.array(counts, np.float64)
    if not rows.any():
        return ()
    kinds = [kind for kind in tariff.calibration.kinds if kind.role != CALLER]
    laws = tariff.suspicion.laws
    if own is not None:
        kinds, laws = [*kinds, own], laws.with_kind(own)
    seen = rows > 0.0
    shares = rows[seen] / rows.sum()
    nats = (shares * np.log(shares / laws.laws[:, seen])).sum(axis=1).tolist()
    distances = [
        KindDistance(kind.name, kind.role, kind.label, kind.rows, each) for kind, each in zip(kinds, nats, strict=True)
    ]
    return tuple(sorted(distances, key=lambda distance: distance.nats))
