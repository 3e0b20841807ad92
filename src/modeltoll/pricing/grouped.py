"""Cumulative sums and ranks within groups, for the rows of many accounts in any order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from modeltoll.records import Bools, Floats, Integers

__all__ = ["grouped_cumsum", "grouped_rank"]


def _groups(keys: Integers) -> tuple[Integers, Integers, Integers]:
    """A stable order by key, the group of each place in that order, and the start of each group."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.concatenate([np.ones(min(1, len(keys)), np.bool_), ordered[1:] != ordered[:-1]]))
    return order, np.repeat(np.arange(len(starts)), np.diff(starts, append=len(keys))), starts


def grouped_cumsum(values: Floats | Bools, accounts: Integers) -> Floats:
    """The sum of the values of a row's account up to and including the row, (rows,).

    ``values`` (rows,); ``accounts`` (rows,): the account of each row.
    """
    order, groups, starts = _groups(accounts)
    sorted_values = values[order]
    sums = np.cumsum(sorted_values, dtype=np.float64)
    totals = np.empty(len(values))
    totals[order] = sums - (sums[starts] - sorted_values[starts])[groups]
    return totals


def grouped_rank(keys: Integers, counted: Bools | None = None) -> Integers:
    """The number of earlier rows with the same key, (rows,); if ``counted`` (rows,) is given, among those rows only."""
    where = np.arange(len(keys)) if counted is None else np.flatnonzero(counted)
    order, groups, starts = _groups(keys[where])
    ranks = np.zeros(len(keys), dtype=np.int64)
    ranks[where[order]] = np.arange(len(order)) - starts[groups]
    return ranks
