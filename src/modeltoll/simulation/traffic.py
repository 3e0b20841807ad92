"""Simulated traffic: the rows of one caller, or of the accounts of one thief, in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.records import Bools, Floats, Integers, Leaks

__all__ = [
    "NO_CLASS",
    "Rows",
    "Traffic",
    "after_bank",
    "draw_rows",
    "mixed_with_fillers",
    "one_account",
    "sample_rows",
    "split_over_accounts",
]

NO_CLASS = -1  # the predicted class of a row of which none was recorded, among rows that have one


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Recorded rows. ``leaks`` (rows, measures), by every recorded measure, those fitted without kinds among them.

    ``classes`` (rows,): the predicted class of each; None where none was recorded.
    """

    leaks: Floats
    classes: Integers | None = None

    def __len__(self) -> int:
        return len(self.leaks)

    def __getitem__(self, chosen: Integers | Bools | slice) -> Rows:
        """The chosen rows."""
        return Rows(self.leaks[chosen], None if self.classes is None else self.classes[chosen])

    @classmethod
    def of(cls, leaks: Leaks) -> Rows:
        """The rows of recorded leaks."""
        return cls(leaks.values, leaks.classes)

    @classmethod
    def joined(cls, parts: Sequence[Rows]) -> Rows:
        """All rows of one or more parts, in order. Where some parts have classes, rows of the others have ``NO_CLASS``."""
        leaks = np.concatenate([part.leaks for part in parts])
        if all(part.classes is None for part in parts):
            return cls(leaks)
        return cls(
            leaks,
            np.concatenate([np.full(len(p), NO_CLASS) if p.classes is None else p.classes for p in parts]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """Rows in order, one per request.

    ``leaks`` (rows, measures) and ``classes`` (rows,) as in ``Rows``. ``accounts`` (rows,): the account of each row.
    ``wanted`` (rows,): False for fillers. ``fresh`` (rows,): False for rows that the account has sent before.
    """

    leaks: Floats
    accounts: Integers
    wanted: Bools
    fresh: Bools
    classes: Integers | None = None

    @classmethod
    def of(cls, rows: Rows, accounts: Integers, wanted: Bools, fresh: Bools) -> Traffic:
        """The traffic of these rows."""
        return cls(rows.leaks, accounts, wanted, fresh, rows.classes)


def one_account(rows: Rows) -> Traffic:
    """All rows by one account, each once."""
    return split_over_accounts(rows, 1)


def split_over_accounts(rows: Rows, accounts: int) -> Traffic:
    """The rows by ``accounts`` accounts in turn."""
    every = np.ones(len(rows), np.bool_)
    return Traffic.of(rows, np.arange(len(rows)) % accounts, every, every)


def mixed_with_fillers(stolen: Rows, fillers: Rows, *, repeated: bool) -> Traffic:
    """Fillers, the same number of them before each stolen row, by one account.

    ``fillers``: a multiple of the stolen rows. ``repeated`` fillers are all the same input, which the ledger counts once;
    others are distinct.
    """
    each = len(fillers) // len(stolen)
    before = np.arange(len(fillers)).reshape(len(stolen), each)
    order = np.concatenate([before, len(fillers) + np.arange(len(stolen))[:, None]], axis=1).ravel()
    wanted = order >= len(fillers)
    fresh = wanted | (not repeated)
    fresh[0] = True
    return Traffic.of(Rows.joined([fillers, stolen])[order], np.zeros(len(order), np.int64), wanted, fresh)


def after_bank(bank: Rows, traffic: Traffic) -> Traffic:
    """Each account of the traffic sends all rows of ``bank`` first, none of which is wanted."""
    accounts = int(traffic.accounts.max()) + 1
    rows = Rows.joined([*[bank] * accounts, Rows(traffic.leaks, traffic.classes)])
    banked = np.zeros(accounts * len(bank), np.bool_)
    return Traffic.of(
        rows,
        np.concatenate([np.repeat(np.arange(accounts), len(bank)), traffic.accounts]),
        np.concatenate([banked, traffic.wanted]),
        np.concatenate([~banked, traffic.fresh]),
    )


def sample_rows(rows: Rows, count: int | None, rng: np.random.Generator) -> Rows:
    """``count`` of the recorded rows in random order, all of them again beyond their number; None for all in their order."""
    if count is None:
        return rows
    whole, rest = divmod(count, len(rows))
    indices = [rng.permutation(len(rows)) for _ in range(whole)] + [rng.permutation(len(rows))[:rest]]
    return rows[np.concatenate(indices)]


def draw_rows(rows: Rows, count: int, rng: np.random.Generator) -> Rows:
    """``count`` of the recorded rows, drawn independently with replacement."""
    return rows[rng.integers(0, len(rows), count)]
