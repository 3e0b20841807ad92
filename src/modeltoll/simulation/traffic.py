"""Who asks what: the rows of one caller or of one thief's many accounts, in the order in which they are asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from modeltoll.records import Bools, Floats, Integers

__all__ = ["Traffic", "mixed_with_fillers", "one_account", "sample_rows", "split_over_accounts"]


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """Rows, one a request, in the order in which they are asked.

    ``leaks`` (rows, measures); ``accounts`` (rows,) which account asks; ``wanted`` (rows,) is False for fillers;
    ``fresh`` (rows,) is False for a row that its account has sent before.
    """

    leaks: Floats
    accounts: Integers
    wanted: Bools
    fresh: Bools


def one_account(leaks: Floats) -> Traffic:
    """One account asks for all rows (rows, measures), each once."""
    return split_over_accounts(leaks, 1)


def split_over_accounts(leaks: Floats, accounts: int) -> Traffic:
    """So many accounts take the rows (rows, measures) in turns."""
    rows = len(leaks)
    every = np.ones(rows, np.bool_)
    return Traffic(leaks, np.arange(rows) % accounts, every, every)


def mixed_with_fillers(stolen: Floats, fillers: Floats, *, repeated: bool) -> Traffic:
    """One account asks for fillers (rows, each, measures) before each stolen row (rows, measures).

    ``repeated`` fillers are one and the same input, which the ledger counts once; others are always new to it.
    """
    rows = np.concatenate([fillers, stolen[:, None]], axis=1)
    wanted = np.arange(rows.shape[0] * rows.shape[1]) % rows.shape[1] == rows.shape[1] - 1
    fresh = wanted | (not repeated)
    fresh[0] = True
    return Traffic(rows.reshape(-1, rows.shape[-1]), np.zeros(len(wanted), np.int64), wanted, fresh)


def sample_rows(leaks: Floats, rows: int | None, rng: np.random.Generator) -> Floats:
    """So many of the recorded rows (n, measures) in a new order; beyond n, rows are drawn again. None: all, as they are."""
    if rows is None:
        return leaks
    whole, rest = divmod(rows, len(leaks))
    places = [rng.permutation(len(leaks)) for _ in range(whole)] + [rng.permutation(len(leaks))[:rest]]
    return leaks[np.concatenate(places)]
