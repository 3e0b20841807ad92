"""The evidence after each row of many accounts at once, for simulations and for the rehearsal of a calibration."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.pricing.evidence_test import log_future, log_weight
from modeltoll.pricing.grouped import grouped_cumsum

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from modeltoll.pricing.evidence_test import EvidenceTest
    from modeltoll.records import Bools, Floats, Integers

__all__ = ["RunningEvidence", "RunningTerms", "running_evidence"]

_EVERY_ROW, _STEP = 60, 1.08  # of the grid: rows to which each is evaluated, and the ratio of later ones
_BELOW, _ABOVE = -7.0, 20.0  # log M of a component that counts as 0; that over the ceiling which is not refined
_CHUNK_ROWS = 20_000


@dataclass(frozen=True, slots=True, eq=False)
class RunningEvidence:
    """``log_evidence`` (rows,): a lower bound after each row. ``frequent`` (rows,): whether the account is suspected and the
    row's own cell is one whose share of its rows exceeds that of the honest law that fits it best.
    """

    log_evidence: Floats
    frequent: Bools


@dataclass(frozen=True, slots=True)
class RunningTerms:
    """``limit``: the log evidence from which on an account is suspected. ``ceiling``: that from which on more changes
    nothing. ``restart_rows``: the lengths of the blocks.
    """

    limit: float
    ceiling: float
    restart_rows: tuple[int, ...]


def running_evidence(
    test: EvidenceTest, terms: RunningTerms, cells: Integers, accounts: Integers, counted: Bools
) -> RunningEvidence:
    """The evidence after each row, as if each were a request of its own.

    ``cells``, ``accounts`` (rows,): of each row. ``counted`` (rows,): False where the account has sent the row before. An
    account is evaluated at every row to 60, then in steps of 8 %, and at every end of a block; in between it keeps the
    value of the evaluation before.
    """
    evidence, frequent = np.zeros(len(cells)), np.zeros(len(cells), np.bool_)
    order = np.argsort(accounts, kind="stable")
    starts = np.flatnonzero(np.diff(accounts[order], prepend=accounts[order[:1]] - 1))
    chunks = np.unique(starts // _CHUNK_ROWS, return_index=True)[1]
    bounds = [*starts[chunks].tolist(), len(cells)]
    for low, high in itertools.pairwise(bounds):
        rows = order[low:high]
        seen = grouped_cumsum(counted[rows], accounts[rows]).astype(np.int64)  # counted rows up to this one
        fresh = counted[rows]
        points = _evaluated(test, terms, cells[rows[fresh]], seen[fresh])
        known = seen > 0
        if known.any():
            place = np.searchsorted(points.rows, np.cumsum(fresh)[known] - 1, "right") - 1
            evidence[rows[known]] = points.log_evidence[place]
            frequent[rows[known]] = points.frequent[place, cells[rows[known]]]
    return RunningEvidence(evidence, frequent)


@dataclass(frozen=True, slots=True, eq=False)
class _Points:
    """Evaluations: after which ``rows`` (points,), ``log_evidence`` (points,), ``frequent`` (points, cells)."""

    rows: Integers
    log_evidence: Floats
    frequent: Bools


def _grid(most: int, restart_rows: Sequence[int]) -> Bools:
    """Whether an account is evaluated after its n-th counted row, by n from 0 to ``most``."""
    chosen = np.zeros(most + 1, np.bool_)
    chosen[1 : _EVERY_ROW + 1] = True
    place = float(_EVERY_ROW)
    while place < most:
        place *= _STEP
        chosen[min(int(place), most)] = True
    for size in restart_rows:
        chosen[size::size] = True
    return chosen


def _evaluated(test: EvidenceTest, terms: RunningTerms, cells: Integers, ranks: Integers) -> _Points:
    """Evaluations of counted rows, sorted by account. ``ranks`` (rows,): the place of each in its account, from 1."""
    points = np.flatnonzero(_grid(int(ranks.max(initial=0)), terms.restart_rows)[ranks])
    if not len(points):
        return _Points(points, np.zeros(0), np.zeros((0, test.cell_count), np.bool_))
    lengths = [ranks[points], *((ranks[points] - 1) % size + 1 for size in terms.restart_rows)]  # of the spans
    keys = np.concatenate(lengths) + np.tile(points, len(lengths)) * (len(cells) + 1)
    unique, places = np.unique(keys, return_inverse=True)
    ends, length = np.divmod(unique, len(cells) + 1)
    sums = np.zeros((len(cells) + 1, test.cell_count), np.int32)
    sums[np.arange(1, len(cells) + 1), cells] = 1
    np.cumsum(sums, axis=0, out=sums)
    counts = (sums[ends + 1] - sums[ends + 1 - length]).astype(np.float64)
    spans = places.reshape(len(lengths), len(points))
    logs = test.log_evidence(counts, _BELOW, terms.ceiling + _ABOVE)[spans]
    weighted = logs + np.log(0.5)
    parts = [weighted[0]]
    for restart, size in enumerate(terms.restart_rows, 1):
        numbers = (ranks[points] - 1) // size + 1
        weighted[restart] = logs[restart] + _logs_of(log_weight, len(terms.restart_rows), numbers)
        parts += [weighted[restart], _logs_of(log_future, len(terms.restart_rows), numbers)]
        parts.append(_finished(weighted[restart], ranks[points], size))
    values: Floats = np.logaddexp.reduce(parts, axis=0)
    frequent = np.zeros((len(points), test.cell_count), np.bool_)
    suspect = np.flatnonzero(values >= terms.limit)
    leading, which = np.unique(spans[weighted[:, suspect].argmax(axis=0), suspect], return_inverse=True)
    frequent[suspect] = test.frequent(counts[leading])[which]
    return _Points(points, values, frequent)


def _logs_of(function: Callable[[int, int], float], restarts: int, numbers: Integers) -> Floats:
    """The function's values (points,) for block numbers (points,)."""
    table = np.array([0.0, *(function(restarts, number) for number in range(1, int(numbers.max()) + 1))])
    values: Floats = table[numbers]
    return values


def _finished(weighted: Floats, ranks: Integers, size: int) -> Floats:
    """Logarithm of the sum of the blocks of that size that ended before each evaluation, (points,).

    ``weighted`` (points,): logarithm of the evidence of the current block, its weight included. ``ranks`` (points,).
    """
    ends = np.flatnonzero(ranks % size == 0)
    accounts = np.cumsum(ranks == 1)
    sums = weighted[ends]
    firsts = np.flatnonzero(ranks[ends] == size)
    for low, high in itertools.pairwise([*firsts.tolist(), len(ends)]):
        sums[low:high] = np.logaddexp.accumulate(sums[low:high])
    before = np.searchsorted(ends, np.arange(len(ranks)), "left") - 1
    finished = np.full(len(ranks), -np.inf)
    known = before >= 0
    known[known] = accounts[ends[before[known]]] == accounts[known]
    finished[known] = sums[before[known]]
    return finished
