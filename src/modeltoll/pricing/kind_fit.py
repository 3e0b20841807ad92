"""Count the rows of kinds and strangers in cells, for a calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from modeltoll.pricing.calibration import KIND_PRICE_ROWS
from modeltoll.pricing.cells import Cells
from modeltoll.pricing.kinds import ALL_TRAFFIC, CALLER, CLASS, DECLARED, FittedKind, FittedStranger
from modeltoll.pricing.leak_ranks import LeakRanks, rounded_leaks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from modeltoll.pricing.kinds import KindSample, StrangerSample
    from modeltoll.records import Floats, Integers, Leaks

__all__ = ["OTHER_CLASSES", "CellSorter", "TrafficClasses", "ascending", "traffic_kinds"]

OTHER_CLASSES: Final = "other classes"  # the kind of all predicted classes of too few rows for a kind of their own
CALLER_ROWS = 50  # from so many rows on a caller's own log is tried as a kind


@dataclass(frozen=True, slots=True, eq=False)
class TrafficClasses:
    """The predicted classes of all traffic, as kinds: ``large`` ones each by itself, ``small`` ones together.

    ``small``: labels and their rows, the largest first; a caller who sends rows of one of these alone is promised nothing.
    """

    large: tuple[int, ...]
    small: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, classes: Integers | None, least: int) -> TrafficClasses:
        """From the classes of rows, below 0 where unknown. Classes of ``least`` rows or more are large."""
        if classes is None:
            return cls((), ())
        labels, sizes = np.unique(classes[classes >= 0], return_counts=True)
        small = zip(labels[sizes < least].tolist(), sizes[sizes < least].tolist(), strict=True)
        return cls(tuple(labels[sizes >= least].tolist()), tuple(sorted(small, key=lambda each: (-each[1], each[0]))))

    def members(self, classes: Integers | None) -> Iterator[tuple[str, Integers]]:
        """Of rows of these classes, the places (rows,) of those of each kind by its name; none where classes are unknown."""
        if classes is None:
            return
        for label in self.large:
            yield f"class {label}", np.flatnonzero(classes == label)
        yield OTHER_CLASSES, np.flatnonzero((classes >= 0) & ~np.isin(classes, self.large))


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
    class_rows: int,
    callers: tuple[Sequence[str] | None, Mapping[str, str]],
    rng: np.random.Generator,
) -> list[FittedKind]:
    """All traffic, its predicted classes of ``class_rows`` rows or more and the others together where they have so many,
    and its callers of ``CALLER_ROWS`` or known to be honest.

    The p-value of each row is that among the other rows. ``honest``: the rows of the calibration's scores, of the priced
    measures. ``callers``: the caller of each row; and of those known to be honest the names, and labels for people.
    """
    cells = sorter.cells_of(honest.values, rng, among=True)
    kinds = [FittedKind(ALL_TRAFFIC, ALL_TRAFFIC, sorter.counts(cells))]
    of_classes = TrafficClasses.of(honest.classes, class_rows).members(honest.classes)
    kinds += [
        FittedKind(name, CLASS, sorter.counts(cells[rows])) for name, rows in of_classes if len(rows) >= class_rows
    ]
    names_of_rows, known_honest = callers
    if names_of_rows is not None:
        names = np.array(names_of_rows, dtype=np.str_)
        for name, size in zip(*np.unique(names, return_counts=True), strict=True):
            if name and (size >= CALLER_ROWS or str(name) in known_honest):
                of_caller = names == name
                scores, label = ascending(honest.values[of_caller]), known_honest.get(str(name), "")
                kinds.append(FittedKind(str(name), CALLER, sorter.counts(cells[of_caller]), scores, label))
    return kinds
