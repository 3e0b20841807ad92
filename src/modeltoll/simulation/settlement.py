"""Settlement of simulated traffic: what admission costs a caller who throws tolls away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.ledger import settlement_math
from modeltoll.settlement_records import Adjustment, Receipt, Reservation, Standing

if TYPE_CHECKING:
    from modeltoll.records import Bools, Floats, Integers

__all__ = ["SettledWork", "SettlementTerms", "settled_work"]


@dataclass(frozen=True, slots=True)
class SettlementTerms:
    """What a row reserves before the upstream is asked (``unit_seconds``), and the ``credit`` of each account, in seconds."""

    unit_seconds: float
    credit: float


@dataclass(frozen=True, slots=True, eq=False)
class SettledWork:
    """Work in reference seconds by row, (rows,): of ``admission`` tolls before it, and what its own toll ``asked``."""

    admission: Floats
    asked: Floats


def settled_work(seconds: Floats, accounts: Integers, solved: Bools, terms: SettlementTerms) -> SettledWork:
    """What rows of these prices (rows,) cost, where the tolls of those that are not ``solved`` are thrown away.

    The arithmetic is that of the ledgers and of the gate: each row reserves one unit, an account above its credit works for
    what is missing first, which is taken off the toll that follows, and a toll that is thrown away counts at most half the
    credit beyond its reservation. All rows are sent at once, so that no credit drains.
    """
    standings: dict[int, Standing] = {}
    reservation = Reservation(terms.unit_seconds, terms.credit)
    admission, asked = np.zeros(len(seconds)), np.zeros(len(seconds))
    for row, (account, price, is_solved) in enumerate(
        zip(accounts.tolist(), seconds.tolist(), solved.tolist(), strict=True)
    ):
        standing = standings.get(account, Standing())
        after, admitted = settlement_math.settle(standing, (), reservation, 0.0)
        if not admitted.admitted:
            admission[row] = admitted.missing
            payment = Receipt(b"", 0.0, prepaid=admitted.missing)
            after, admitted = settlement_math.settle(standing, (payment,), reservation, 0.0)
        assert after is not None  # an admitted request reserves
        asked[row], adjustment = admitted.asked(price, terms.credit)
        if asked[row] > 0.0 and is_solved:
            adjustment = Adjustment(-admitted.from_credit)  # its receipt takes away what the toll added, too
        standings[account] = settlement_math.adjust(after, adjustment)
    return SettledWork(admission, asked)
