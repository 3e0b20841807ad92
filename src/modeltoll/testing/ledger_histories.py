"""Random histories of one caller's standing, and their comparison with ``settlement_math``."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from modeltoll.ledger import settlement_math
from modeltoll.settlement_records import RECEIPT_BYTES, Adjustment, Receipt, Reservation, Standing
from modeltoll.testing.ledger_charges import NOW

if TYPE_CHECKING:
    from collections.abc import Iterable

    from modeltoll.ledger.ledger import Ledger
    from modeltoll.records import Caller

__all__ = ["Step", "compare_history", "new_receipt", "random_history"]

_DAY = 86_400.0
_SECONDS = (0.0, 0.1, 0.3, 1 / 3, 0.7, 1.0, 2.5, 10.0, 1e-9, 123456.789)
_SOURCE = random.SystemRandom()  # identities stay counted, and the suite may run twice on one store

# One step of a history: (receipts, reservation, time) of a settlement, or an adjustment.
Step = tuple[tuple[Receipt, ...], Reservation | None, float] | Adjustment


def new_receipt(unsettled: float = 0.0, rows: int = 1, expires: float = NOW + _DAY) -> Receipt:
    """A receipt that was never counted."""
    return Receipt(_SOURCE.randbytes(RECEIPT_BYTES), expires, unsettled, rows)


def random_history(rng: random.Random, steps: int, start: float = NOW) -> list[Step]:
    """Settlements and adjustments whose times mostly grow from ``start``; receipts expire, and some are shown again."""
    shown: list[Receipt] = []
    history: list[Step] = []
    at = start
    for _ in range(steps):
        at += rng.choice((0.0, 0.25, 1.0, 3600.0, -60.0, _DAY / 3, 40 * _DAY))
        if rng.random() < 0.2:
            history.append(
                Adjustment(rng.choice((-1, 1)) * rng.choice(_SECONDS), rng.choice((-1, 1, 0)) * rng.random())
            )
            continue
        new = [_random_receipt(rng, at) for _ in range(rng.choice((0, 0, 1, 2)))]
        old = rng.sample(shown, min(len(shown), rng.choice((0, 1, 2))))
        shown += new
        history.append(((*new, *old), _random_reservation(rng), at))
    return history


def _random_receipt(rng: random.Random, at: float) -> Receipt:
    identity = _SOURCE.randbytes(RECEIPT_BYTES)
    paid = rng.choice(((0.0, 0.0), (rng.choice(_SECONDS), 0.0), (rng.random(), rng.choice(_SECONDS))))
    return Receipt(identity, at + rng.choice((-1.0, 0.0, 5.0, _DAY)), rng.choice(_SECONDS), rng.randrange(2000), *paid)


def _random_reservation(rng: random.Random) -> Reservation | None:
    if rng.random() < 0.1:
        return None
    toll = rng.choice((0.0, 0.0, 3.0, rng.random()))
    return Reservation(rng.choice(_SECONDS), rng.choice((1.0, 2.0, 10.0)), toll, rng.choice((0.0, 0.1, 1 / 3, 1.0)))


async def compare_history(ledger: Ledger, caller: Caller, history: Iterable[Step]) -> None:
    """Do the steps on an open ledger that knows nothing of the caller; each must give what ``settlement_math`` gives.

    Raises:
        AssertionError: an admission or a standing differs, in any bit.
    """
    stored: Standing | None = None
    counted: set[bytes] = set()
    for number, step in enumerate(history):
        if isinstance(step, Adjustment):
            stored = settlement_math.adjust(stored, step)
            await ledger.adjust(caller, step)
        else:
            receipts, reservation, at = step
            fresh = [each for each in receipts if each.identity not in counted and each.expires > at]
            counted |= {each.identity for each in fresh}
            after, expected = settlement_math.settle(stored, fresh, reservation, at)
            stored = after or stored
            found = await ledger.settle(caller, receipts, reservation, at)
            assert found == expected, f"step {number}: {found} is not {expected}"
        standing = await ledger.standing(caller)
        assert standing == (stored or Standing()), f"after step {number}: {standing} is not {stored}"
