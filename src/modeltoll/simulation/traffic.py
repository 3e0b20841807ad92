"""Simulated traffic: the rows of one caller, or of the accounts of one thief, in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from modeltoll.records import Bools, Floats, Integers

__all__ = ["Traffic", "mixed_with_fillers", "one_account", "sample_rows", "split_over_accounts"]


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """Rows in order, one per request.

    ``leaks`` (rows, measures). ``accounts`` (rows,): the account of each row. ``wanted`` (rows,): False for fillers.
    ``fresh`` (rows,): False for rows that the account has sent before.
    """

    leaks: Floats
    accounts: Integers
    wanted: Bools
    fresh: Bools


def one_account(leaks: Floats) -> Traffic:
    """All rows (rows, measures) by one account, each once."""
    return split_over_accounts(leaks, 1)


def split_over_accounts(leaks: Floats, accounts: int) -> Traffic:
    """The rows (rows, measures) by ``accounts`` accounts in turn."""
    rows = len(leaks)
    every = np.ones(rows, np.bool_)
    return Traffic(leaks, np.arange(rows) % accounts, every, every)


def mixed_with_fillers(stolen: Floats, fillers: Floats, *, repeated: bool) -> Traffic:
    """Fillers (rows, each, measures) before each stolen row (rows, measures), by one account.

    ``repeated`` fillers are all the same input, which the ledger counts once; others are distinct.
    """
    rows = np.concatenate([fillers, stolen[:, None]], axis=1)
    wanted = np.arange(rows.shape[0] * rows.shape[1]) % rows.shape[1] == rows.shape[1] - 1
    fresh = wanted | (not repeated)
    fresh[0] = True
    return Traffic(rows.reshape(-1, rows.shape[-1]), np.zeros(len(wanted), np.int64), wanted, fresh)


def sample_rows(leaks: Floats, rows: int | None, rng: np.random.Generator) -> Floats:
    """``rows`` of the recorded rows (n, measures) in random order, repeated beyond n; None for all in their order."""
    if rows is None:
        return leaks
    whole, rest = divmod(rows, len(leaks))
    indices = [rng.permutation(len(leaks)) for _ in range(whole)] + [rng.permutation(len(leaks))[:rest]]
    return leaks[np.concatenate(indices)]
