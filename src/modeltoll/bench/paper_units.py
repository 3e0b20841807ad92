"""An extraction in the units of Dziedzic et al. 2022: its costs, and its time as their evaluation counts it.

The PATE cost is the sum of the single queries' epsilons. The pkNN cost is one epsilon: the Rényi divergences of all queries
are added and converted once. One puzzle is charged per 1000 queries, by the caller's cost after them against the line of a
standard user; the time without puzzles already holds the estimator of the cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.leak_measures import ENTROPY, LOGIT_GAP, PATE_COST, PKNN_AGREEMENT, PKNN_COST, pknn_settings
from modeltoll.bench.paper import TABLE_5, data_of
from modeltoll.leak.rdp import ORDERS, epsilon, gnmax_rdp
from modeltoll.pricing.published_tariff import PublishedTerms, StandardLine
from modeltoll.simulation.attack_traces import Trace, replay_modes

if TYPE_CHECKING:
    from modeltoll.records import Floats

__all__ = ["QUERIES_PER_PUZZLE", "PaperUnits", "composed_pknn", "paper_units"]

QUERIES_PER_PUZZLE = 1000  # a row of the authors' traces
_PKNN_BASES = {"mnist": 1.18}  # a of the pkNN cost; of other data sets SVHN's
_PKNN_BASE = 1.05
_COUNTED_LESS = {"cifar10": 62.5}  # queries: the first row of these traces is of 15 batches instead of 16
_DELTA = 1e-5


@dataclass(frozen=True, slots=True)
class PaperUnits:
    """Costs of all queries, and seconds of the paper's evaluation; None: the data set has no such measure or time.

    ``pate``, ``gap`` and ``entropy`` are sums, ``pknn`` is composed. ``priced``: the cost that the puzzles follow.
    ``without`` holds the estimator of that cost, ``within`` also the puzzles, ``undefended`` the model alone.
    """

    priced: str
    pate: float | None
    gap: float
    entropy: float
    pknn: float
    undefended: float | None = None
    without: float | None = None
    within: float | None = None

    @property
    def members(self) -> dict[str, float | str | None]:
        """Plain values for a document, with both ratios: as the paper counts, and against the model alone."""
        ratios: dict[str, float | None] = {"ratio": None, "ratio_undefended": None}
        if self.within is not None and self.without and self.undefended:
            ratios = {"ratio": self.within / self.without, "ratio_undefended": self.within / self.undefended}
        return {name: getattr(self, name) for name in self.__slots__} | ratios


def composed_pknn(agreement: Floats, sigma: float, ends: Floats) -> Floats:
    """The epsilon of the first ``ends[i]`` queries together, for each i; of their agreements -log q, (queries,).

    As the authors' code does, without the minimum with the bound that does not depend on the votes.
    """
    totals, state, start = [], np.zeros(ORDERS.size), 0
    for end in ends.astype(int).tolist():
        for first in range(start, end, QUERIES_PER_PUZZLE):  # which bounds the memory for all orders
            same, counts = np.unique(agreement[first : min(first + QUERIES_PER_PUZZLE, end)], return_counts=True)
            state = state + counts @ gnmax_rdp(-same, sigma, ORDERS, capped=False)
        totals.append(float(epsilon(state, ORDERS, _DELTA)))
        start = end
    return np.array(totals)


@dataclass(frozen=True, slots=True, eq=False)
class _Leaks:
    """The leaks (rows, measures) of rows in order, by measure, and the pkNN noise of their data set."""

    values: Floats
    measures: tuple[str, ...]
    sigma: float

    def column(self, name: str) -> Floats:
        return np.asarray(self.values[:, self.measures.index(name)])

    def repeated(self, rows: int) -> _Leaks:
        """So many rows, the given ones again and again."""
        return _Leaks(self.values[np.arange(rows) % len(self.values)], self.measures, self.sigma)

    def costs(self, priced: str, ends: Floats) -> Floats:
        """The cost after each of so many queries."""
        if priced == PKNN_COST:
            return composed_pknn(self.column(PKNN_AGREEMENT), self.sigma, ends)
        return np.asarray(np.cumsum(self.column(priced))[ends.astype(int) - 1])


def _seconds(dataset: str, priced: str) -> tuple[float, float] | None:
    """Seconds per query in the paper: of the model alone, and with the estimator of a cost."""
    times = TABLE_5.get(dataset)
    found = times and {PATE_COST: times.pate, PKNN_COST: times.pknn}.get(priced)
    return (times.inference, found) if times and found else None


def _ends(count: int) -> Floats:
    """The numbers of queries after which a puzzle is charged."""
    return np.append(np.arange(QUERIES_PER_PUZZLE, count, QUERIES_PER_PUZZLE, dtype=np.float64), float(count))


def _with_puzzles(queries: _Leaks, standard: _Leaks, priced: str, dataset: str, seconds: float) -> float:
    """Seconds of all queries with the puzzles; ``seconds`` are those of one query without."""
    count = len(queries.values)
    usual = max(count, len(standard.values))
    line = StandardLine(*map(float, np.polyfit(_ends(usual), standard.repeated(usual).costs(priced, _ends(usual)), 1)))
    ends = _ends(count)
    base = PublishedTerms().base if priced == PATE_COST else _PKNN_BASES.get(dataset, _PKNN_BASE)
    counted, costs = ends - _COUNTED_LESS.get(dataset, 0.0), queries.costs(priced, ends)
    trace = Trace("attack", *(np.append(0.0, each) for each in (seconds * ends, counted, costs)))
    return replay_modes([trace], line, PublishedTerms(base=base, signed=False), ())[-1].seconds_with


def paper_units(
    dataset: str, priced: str, measures: tuple[str, ...], queries: Floats, standard: Floats, private: int
) -> PaperUnits:
    """The units of an extraction's queries, leaks (rows, measures) in order; ``priced``: the PATE or the pkNN cost.

    ``standard``: leaks of honest rows, whose costs after as many queries the standard user's line is fitted to by least
    squares. ``private``: the number of the victim's private rows.
    """
    sigma, data = pknn_settings(private)[1], data_of(dataset)
    asked, usual = (_Leaks(values, measures, sigma) for values in (queries, standard))
    count = np.array([float(len(queries))])
    units = PaperUnits(
        priced,
        float(asked.column(PATE_COST).sum()) if PATE_COST in measures else None,
        float(asked.column(LOGIT_GAP).sum()),
        float(asked.column(ENTROPY).sum()),
        float(composed_pknn(asked.column(PKNN_AGREEMENT), sigma, count)[0]),
    )
    seconds = _seconds(data, priced)
    if seconds is None or len(queries) < 2 * QUERIES_PER_PUZZLE:
        return units
    alone, estimated = (each * len(queries) for each in seconds)
    within = _with_puzzles(asked, usual, priced, data, seconds[1])
    return PaperUnits(priced, units.pate, units.gap, units.entropy, units.pknn, alone, estimated, within)
