"""Checks of ``Ledger.settle``, ``adjust``, ``standing`` and ``derived_key``: what callers owe and have paid."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import TYPE_CHECKING

from modeltoll.errors import LedgerError
from modeltoll.records import Caller
from modeltoll.settlement_records import Adjustment, Admission, Reservation, Standing
from modeltoll.testing.ledger_charges import (
    MODEL,
    NOW,
    LedgerCheck,
    LedgerFactory,
    existing_account,
    make_charge,
    make_log_entry,
    open_ledger,
)
from modeltoll.testing.ledger_histories import compare_history, new_receipt, random_history

if TYPE_CHECKING:
    from collections.abc import Awaitable

__all__ = ["SETTLEMENT_CHECKS", "SETTLEMENT_PERSISTENCE_CHECKS"]

_DAY = 86_400.0


def _caller(check: str) -> Caller:
    return Caller(f"key:suite-settle-{check}")


async def _histories_give_what_the_pure_functions_give(make: LedgerFactory) -> None:
    """Admissions and standings are those of ``settlement_math``, bit for bit, over random histories."""
    for seed in range(6):
        caller = _caller(f"history-{seed}")
        async with open_ledger(make, caller) as ledger:
            await compare_history(ledger, caller, random_history(random.Random(seed), 60))  # noqa: S311  a repeatable test


async def _concurrent_reservations_end_at_the_credit(make: LedgerFactory) -> None:
    """Of 100 concurrent reservations as many are admitted as the credit holds."""
    caller = _caller("credit")
    async with open_ledger(make, caller) as ledger:
        asked = [ledger.settle(caller, (), Reservation(0.5, 10.0), NOW) for _ in range(100)]
        admissions = await asyncio.gather(*asked)
        assert sum(admission.admitted for admission in admissions) == 20
        assert all(admission == Admission(False, missing=0.5) for admission in admissions if not admission.admitted)
        assert await ledger.standing(caller) == Standing(unsettled=10.0, drained=NOW)


async def _a_receipt_shown_100_times_at_once_counts_once(make: LedgerFactory) -> None:
    """Of 100 concurrent settlements with one receipt, one counts it; another caller may show the same identity."""
    caller, other, receipt = _caller("once"), _caller("once-too"), new_receipt(2.0, 7)
    async with open_ledger(make, caller, other) as ledger:
        await ledger.settle(caller, (), Reservation(9.0, 10.0), NOW)
        shown = [ledger.settle(caller, (receipt,), Reservation(0.25, 10.0), NOW) for _ in range(100)]
        admissions = await asyncio.gather(*shown)
        assert sum(admission.admitted for admission in admissions) == 12
        assert (await ledger.standing(caller)).settled_rows == 7
        await ledger.settle(other, (receipt,), None, NOW)
        assert (await ledger.standing(other)).settled_rows == 7


async def _expired_receipts_count_for_nothing(make: LedgerFactory) -> None:
    """A receipt counts before the time at which it expires, and not from that time on."""
    caller = _caller("expired")
    async with open_ledger(make, caller) as ledger:
        late = new_receipt(rows=5, expires=NOW)
        await ledger.settle(caller, (late,), None, NOW)
        assert await ledger.standing(caller) == Standing()
        admission = await ledger.settle(caller, (late, new_receipt(rows=3, expires=NOW)), None, NOW - 0.5)
        assert admission == Admission(True, settled_rows=8)


async def _nothing_is_stored_of_requests_that_are_not_admitted(make: LedgerFactory) -> None:
    """A refused reservation changes no standing: that of a known caller drains with the next request that is admitted."""
    caller = _caller("unknown")
    async with open_ledger(make, caller) as ledger:
        refused = await ledger.settle(caller, (), Reservation(5.0, 2.0), NOW)
        assert refused == Admission(False, missing=3.0)
        assert await ledger.standing(caller) == Standing()  # else it would have the time of the attempt
        await ledger.settle(caller, (), None, NOW)
        assert await ledger.standing(caller) == Standing()
        assert (await ledger.settle(caller, (), Reservation(2.0, 2.0), NOW)).admitted
        assert not (await ledger.settle(caller, (), Reservation(1.5, 2.0), NOW + _DAY / 2)).admitted
        assert await ledger.standing(caller) == Standing(unsettled=2.0, drained=NOW)
        assert (await ledger.settle(caller, (), Reservation(2.0, 2.0), NOW + _DAY)).admitted
        assert await ledger.standing(caller) == Standing(unsettled=2.0, drained=NOW + _DAY)


async def _what_was_paid_is_used_first(make: LedgerFactory) -> None:
    """An admission's receipt pays the new-account toll and the request; the rest stays prepaid, and is given back."""
    caller = _caller("prepaid")
    async with open_ledger(make, caller) as ledger:
        batch = Reservation(8.0, 2.0, new_account=3.0, new_account_share=0.5)
        refused = await ledger.settle(caller, (), batch, NOW)
        assert refused == Admission(False, missing=6.0, missing_new_account=1.5)
        paid = replace(new_receipt(rows=0), prepaid=6.0, new_account=1.5)
        assert await ledger.settle(caller, (paid,), batch, NOW) == Admission(True, 2.0, 6.0)
        await ledger.adjust(caller, Adjustment(unsettled=-2.0, prepaid=6.0))
        assert await ledger.standing(caller) == Standing(0.0, 6.0, 1.5, 0, NOW)
        await ledger.adjust(caller, Adjustment(unsettled=-2.0, prepaid=-99.0))
        assert await ledger.standing(caller) == Standing(0.0, 0.0, 1.5, 0, NOW)


async def _a_bill_adjusts_in_the_same_step(make: LedgerFactory) -> None:
    """A bill with an adjustment adds work, a line and the adjustment; without one, or invalid, it leaves the standing."""
    caller = _caller("bill")
    async with open_ledger(make, caller) as ledger:
        await ledger.charge(caller, make_charge(1))
        await ledger.settle(caller, (), Reservation(1.0, 10.0), NOW)
        await ledger.bill(caller, make_log_entry(2.0), Adjustment(unsettled=0.75))
        await ledger.bill(caller, make_log_entry(1.0))
        await _refuses(ledger.bill(caller, make_log_entry(1.0), Adjustment(unsettled=float("nan"))))
        assert (await existing_account(ledger, caller)).work == 3.0
        assert await ledger.standing(caller) == Standing(unsettled=1.75, drained=NOW)


async def _concurrent_adjustments_and_receipts_add_up(make: LedgerFactory) -> None:
    """Settlements, adjustments and bills of one caller at the same time lose nothing."""
    caller = _caller("adds-up")
    async with open_ledger(make, caller) as ledger:
        steps = [ledger.settle(caller, (new_receipt(rows=3),), None, NOW) for _ in range(40)]
        changes = [ledger.adjust(caller, Adjustment(0.5, 0.25)) for _ in range(40)]
        bills = [ledger.bill(caller, make_log_entry(1.0), Adjustment(1.0)) for _ in range(20)]
        await asyncio.gather(*steps, *changes, *bills)
        found = await ledger.standing(caller)
        assert replace(found, drained=0.0) == Standing(40.0, 10.0, 0.0, 120)


async def _a_reset_deletes_the_standing_and_no_receipt(make: LedgerFactory) -> None:
    """After a reset, even one that found no account, a caller has no standing, and no receipt counts again."""
    caller, other, receipt = _caller("reset"), _caller("reset-not"), new_receipt(rows=4)
    async with open_ledger(make, caller, other) as ledger:
        for each in (caller, other):
            await ledger.settle(each, (receipt,), Reservation(1.0, 10.0), NOW)
        assert await ledger.reset(caller, MODEL) is False
        assert await ledger.standing(caller) == Standing()
        await ledger.settle(caller, (receipt,), None, NOW)
        assert await ledger.standing(caller) == Standing()
        assert (await ledger.standing(other)).settled_rows == 4


async def _standings_are_no_accounts(make: LedgerFactory) -> None:
    """A settlement makes no account, a charge no standing."""
    caller, other = _caller("account"), _caller("no-account")
    async with open_ledger(make, caller, other) as ledger:
        await ledger.settle(caller, (), Reservation(1.0, 10.0), NOW)
        assert await ledger.account(caller, MODEL) is None
        await ledger.charge(other, make_charge(1))
        assert await ledger.standing(other) == Standing()
        assert (await ledger.account(other, MODEL)) is not None


async def _invalid_settlements_are_refused_and_change_nothing(make: LedgerFactory) -> None:
    """Numbers out of range, identities of another length or shown twice in one call raise ``ValueError``."""
    caller, good = _caller("invalid"), new_receipt(rows=1)
    receipts = [
        (good, good),
        (replace(good, identity=b"short"),),
        *[(replace(good, rows=rows),) for rows in (-1, 2**40)],
        *[(replace(good, unsettled=number),) for number in (-1.0, float("nan"), float("inf"), 1e300, 1e-300)],
    ]
    reservations = [Reservation(-1.0, 1.0), Reservation(1.0, float("inf")), Reservation(1.0, 1.0, -1.0)]
    async with open_ledger(make, caller) as ledger:
        for shown in receipts:
            await _refuses(ledger.settle(caller, shown, None, NOW))
        for reservation in reservations:
            await _refuses(ledger.settle(caller, (good,), reservation, NOW))
        await _refuses(ledger.settle(caller, (good,), None, float("nan")))
        await _refuses(ledger.settle(Caller(""), (good,), None, NOW))
        await _refuses(ledger.adjust(caller, Adjustment(prepaid=float("inf"))))
        assert await ledger.standing(caller) == Standing()


async def _derived_keys_differ_by_purpose(make: LedgerFactory) -> None:
    """Each purpose has its own key of 32 bytes, which stays the same."""
    purposes = ("receipts", "fingerprints", "padding", "")
    async with open_ledger(make) as ledger:
        keys = [ledger.derived_key(purpose) for purpose in purposes]
        assert len(set(keys)) == len(purposes)
        assert {len(key) for key in keys} == {32}
        assert keys == [ledger.derived_key(purpose) for purpose in purposes]


async def _a_closed_ledger_settles_nothing(make: LedgerFactory) -> None:
    """A ledger that is not open raises ``LedgerError``, for derived keys too."""
    caller, ledger = _caller("closed"), make()
    for _ in range(2):
        for step in (
            ledger.settle(caller, (), None, NOW),
            ledger.adjust(caller, Adjustment()),
            ledger.standing(caller),
        ):
            await _fails(step)
        try:
            ledger.derived_key("receipts")
        except LedgerError:
            pass
        else:
            raise AssertionError("a ledger that is not open gave a key")
        await ledger.open()
        await ledger.close()


async def _standings_are_shared_and_survive_a_reopen(make: LedgerFactory) -> None:
    """Two ledgers on one store never admit more than the credit, count a receipt once, and have the same keys."""
    caller, receipt = _caller("shared"), new_receipt(4.0, 9)
    async with open_ledger(make, caller) as one, open_ledger(make) as other:
        pairs = [ledger.settle(caller, (), Reservation(0.5, 10.0), NOW) for _ in range(50) for ledger in (one, other)]
        assert sum(admission.admitted for admission in await asyncio.gather(*pairs)) == 20
        await asyncio.gather(
            *(ledger.settle(caller, (receipt,), None, NOW) for _ in range(50) for ledger in (one, other))
        )
        expected = Standing(6.0, 0.0, 0.0, 9, NOW)
        assert await one.standing(caller) == await other.standing(caller) == expected
        keys = {ledger.derived_key("receipts") for ledger in (one, other)}
        assert len(keys) == 1
    async with open_ledger(make) as ledger:
        assert await ledger.standing(caller) == expected
        await ledger.settle(caller, (receipt,), None, NOW)
        assert await ledger.standing(caller) == expected
        assert ledger.derived_key("receipts") in keys


async def _refuses(step: Awaitable[object]) -> None:
    try:
        await step
    except ValueError:
        return
    raise AssertionError("an invalid argument was accepted")


async def _fails(step: Awaitable[object]) -> None:
    try:
        await step
    except LedgerError:
        return
    raise AssertionError("a ledger that is not open did a step")


SETTLEMENT_CHECKS: tuple[LedgerCheck, ...] = (
    _histories_give_what_the_pure_functions_give,
    _concurrent_reservations_end_at_the_credit,
    _a_receipt_shown_100_times_at_once_counts_once,
    _expired_receipts_count_for_nothing,
    _nothing_is_stored_of_requests_that_are_not_admitted,
    _what_was_paid_is_used_first,
    _a_bill_adjusts_in_the_same_step,
    _concurrent_adjustments_and_receipts_add_up,
    _a_reset_deletes_the_standing_and_no_receipt,
    _standings_are_no_accounts,
    _invalid_settlements_are_refused_and_change_nothing,
    _derived_keys_differ_by_purpose,
    _a_closed_ledger_settles_nothing,
)
SETTLEMENT_PERSISTENCE_CHECKS: tuple[LedgerCheck, ...] = (_standings_are_shared_and_survive_a_reopen,)
