"""Running totals of many callers at once: what each account holds after each row, whatever the order of the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from modeltoll.records import Bools, Floats, Integers

__all__ = ["grouped_cumsum", "grouped_rank"]


def _groups(keys: Integers) -> tuple[Integers, Integers, Integers]:
    """An order that brings equal keys together and else keeps their order, each place's group, each group's start."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.concatenate([np.ones(min(1, len(keys)), np.bool_), ordered[1:] != ordered[:-1]]))
    return order, np.repeat(np.arange(len(starts)), np.diff(starts, append=len(keys))), starts


def grouped_cumsum(values: Floats | Bools, accounts: Integers) -> Floats:
    """The sum of an account's values up to and with each row, (rows,); ``accounts`` (rows,) says whose row it is."""
    order, groups, starts = _groups(accounts)
    sorted_values = values[order]
    sums = np.cumsum(sorted_values, dtype=np.float64)
    totals = np.empty(len(values))
    totals[order] = sums - (sums[starts] - sorted_values[starts])[groups]
    return totals


def grouped_rank(keys: Integers, counted: Bools | None = None) -> Integers:
    """How many rows of the same key come before each row, (rows,); only ``counted`` rows (rows,) count, or all."""
    where = np.arange(len(keys)) if counted is None else np.flatnonzero(counted)
    order, groups, starts = _groups(keys[where])
    ranks = np.zeros(len(keys), dtype=np.int64)
    ranks[where[order]] = np.arange(len(order)) - starts[groups]
    return ranks
