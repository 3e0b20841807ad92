"""Count the rows of kinds and strangers in cells, for a calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.pricing.calibration import KIND_PRICE_ROWS
from modeltoll.pricing.cells import Cells
from modeltoll.pricing.kinds import ALL_TRAFFIC, CALLER, CLASS, DECLARED, FittedKind, FittedStranger
from modeltoll.pricing.leak_ranks import LeakRanks, rounded_leaks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modeltoll.pricing.kinds import KindSample, StrangerSample
    from modeltoll.records import Floats, Integers, Leaks

__all__ = ["CLASS_ROWS", "CellSorter", "ascending", "class_name", "traffic_kinds"]

CLASS_ROWS = 25  # from so many rows on a predicted class is a kind
CALLER_ROWS = 50  # from so many rows on a caller's own log is tried as a kind


def class_name(label: int) -> str:
    """The name of the kind of one predicted class."""
    return f"class {label}"


@dataclass(frozen=True, slots=True, eq=False)
class CellSorter:
    """Sorts rows into cells by their smoothed p-values among all traffic.

    ``columns``: of the coordinates among the priced measures. ``ranks``: by coordinate, among the leaks of all traffic.
    """

    columns: tuple[int, ...]
    ranks: tuple[LeakRanks, ...]
    cells: Cells

    @classmethod
    def of(cls, measures: tuple[str, ...], coordinates: tuple[str, ...], scores: Floats) -> CellSorter:
        """For all traffic's ``scores`` (measures, n), ascending, and the coordinates among the measures."""
        columns = tuple(measures.index(name) for name in coordinates)
        return cls(
            columns, tuple(LeakRanks(scores[column]) for column in columns), Cells(len(columns), scores.shape[1])
        )

    def cells_of(self, values: Floats, rng: np.random.Generator, *, among: bool = False) -> Integers:
        """The cells (rows,) of leaks (rows, measures).

        ``among``: the rows are those of all traffic's scores. Each is then compared with the others alone, so that its
        p-value is distributed as that of a fresh row.
        """
        uniforms = rng.random((len(values), len(self.columns)))
        p_values = np.empty_like(uniforms)
        for place, (column, ranks) in enumerate(zip(self.columns, self.ranks, strict=True)):
            leaks = rounded_leaks(values[:, column])
            above, ties = ranks.count(leaks, "right"), ranks.count(leaks) - ranks.count(leaks, "right")
            others = ranks.rows - 1 if among else ranks.rows
            p_values[:, place] = (above + uniforms[:, place] * (ties if among else 1 + ties)) / (others + 1)
        return self.cells.of(p_values)

    def counts(self, cells: Integers) -> Integers:
        """How many of the rows are in each cell, (cells,)."""
        return np.bincount(cells, minlength=self.cells.count)

    def kind(self, sample: KindSample, values: Floats, rng: np.random.Generator) -> FittedKind:
        """The kind of ``values`` (n, measures), the part of a sample that is not held back."""
        scored = sample.role == CALLER or (sample.role == DECLARED and len(values) >= KIND_PRICE_ROWS)
        counts = self.counts(self.cells_of(values, rng))
        return FittedKind(sample.name, sample.role, counts, ascending(values) if scored else None, sample.label)

    def stranger(self, sample: StrangerSample, values: Floats, rng: np.random.Generator) -> FittedStranger:
        """The stranger of ``values`` (n, measures)."""
        return FittedStranger(sample.name, self.counts(self.cells_of(values, rng)), sample.generic)


def ascending(values: Floats) -> Floats:
    """Leaks (n, measures) as scores (measures, n), each ascending, read-only."""
    scores = np.sort(values.T.astype(np.float64), axis=1)
    scores.setflags(write=False)
    return scores


def traffic_kinds(
    sorter: CellSorter,
    honest: Leaks,
    callers: Sequence[str] | None,
    known_honest: Mapping[str, str],
    rng: np.random.Generator,
) -> list[FittedKind]:
    """All traffic, its predicted classes of ``CLASS_ROWS`` rows or more, and its callers of ``CALLER_ROWS`` or known to be honest.

    The p-value of each row is that among the other rows. ``honest``: the rows of the calibration's scores, of the priced
    measures. ``callers``: the caller of each row. ``known_honest``: their names, and labels for people.
    """
    cells = sorter.cells_of(honest.values, rng, among=True)
    kinds = [FittedKind(ALL_TRAFFIC, ALL_TRAFFIC, sorter.counts(cells))]
    if honest.classes is not None:
        labels, sizes = np.unique(honest.classes[honest.classes >= 0], return_counts=True)
        kinds += [
            FittedKind(class_name(label), CLASS, sorter.counts(cells[honest.classes == label]))
            for label in labels[sizes >= CLASS_ROWS].tolist()
        ]
    if callers is not None:
        names = np.array(callers, dtype=np.str_)
        for name, size in zip(*np.unique(names, return_counts=True), strict=True):
            if name and (size >= CALLER_ROWS or str(name) in known_honest):
                of_caller = names == name
                scores, label = ascending(honest.values[of_caller]), known_honest.get(str(name), "")
                kinds.append(FittedKind(str(name), CALLER, sorter.counts(cells[of_caller]), scores, label))
    return kinds
