"""Conformance suite for ledgers: ``check_ledger(lambda: MyLedger(tmp_path / "ledger"), survives_reopen=True)``."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from modeltoll.errors import LedgerError
from modeltoll.evidence_records import EvidenceUpdate
from modeltoll.records import Caller
from modeltoll.settlement_records import RECEIPT_BYTES, Adjustment, Receipt, Reservation
from modeltoll.testing.ledger_charges import (
    CHARGE_CHECKS,
    MODEL,
    NOW,
    LedgerCheck,
    LedgerFactory,
    existing_account,
    make_charge,
    make_log_entry,
    open_ledger,
)
from modeltoll.testing.ledger_evidence import EVIDENCE_CHECKS, EVIDENCE_PERSISTENCE_CHECKS
from modeltoll.testing.ledger_evidence_changes import EVIDENCE_CHANGE_CHECKS
from modeltoll.testing.ledger_groups import GROUP_CHECKS
from modeltoll.testing.ledger_quotas import QUOTA_CHECKS, QUOTA_PERSISTENCE_CHECKS
from modeltoll.testing.ledger_settlement import SETTLEMENT_CHECKS, SETTLEMENT_PERSISTENCE_CHECKS

if TYPE_CHECKING:
    from modeltoll.ledger.ledger import Ledger

__all__ = ["CHECKS", "PERSISTENCE_CHECKS", "check_ledger"]


def check_ledger(make: LedgerFactory, *, survives_reopen: bool) -> None:
    """Run every check of the ``Ledger`` protocol. Call it where no event loop is running.

    Args:
        make: returns a ledger that is not opened yet and has the default period of evidence. With ``survives_reopen``
            all ledgers that it returns must share one store, which may hold other data.
        survives_reopen: whether the ledger keeps its data when it is closed, and shares it with others on the same store.

    Raises:
        AssertionError: a check failed; the traceback names it.
    """
    for check in (*CHECKS, *(PERSISTENCE_CHECKS if survives_reopen else ())):
        asyncio.run(check(make))


async def _log_entries_add_work_and_lines(make: LedgerFactory) -> None:
    """Log entries add their work to the account; the log returns them unchanged, in order, page by page."""
    caller, other = Caller("key:suite-bills"), Caller("net:198.51.100.0/24")
    async with open_ledger(make, caller, other) as ledger:
        start = await _last_line(ledger)
        await ledger.charge(caller, make_charge(1))
        entries = [
            make_log_entry(0.5 + number, NOW + number, mode) for number, mode in enumerate(("sealed", "shadow", "free"))
        ]
        entries[1] = replace(entries[1], classes=(70_000, 0))
        entries[2] = replace(entries[2], measures=(), leaks=(), rarest=(), reason="request: 漢字 is no row")
        for entry in entries:
            await ledger.bill(caller, entry)
        await ledger.bill(other, make_log_entry(9.0))
        assert (await existing_account(ledger, caller)).work == 4.5
        assert (
            await ledger.account(other, MODEL) is None
        )  # never charged: the log has an entry, and there is no account
        lines = list(await ledger.log(start, 10))
        assert [line for _, _, line in lines] == [*entries, make_log_entry(9.0)]
        numbers = [number for number, _, _ in lines]
        assert numbers == sorted(set(numbers))
        assert numbers[0] > start
        assert list(await ledger.log(numbers[0], 2)) == lines[1:3]
        assert list(await ledger.log(numbers[-1], 10)) == []
        assert list(await ledger.log(start, 0)) == []


async def _the_log_holds_hashes_in_place_of_names(make: LedgerFactory) -> None:
    """The log has one hash per caller, and no names."""
    caller, other = Caller("key:suite-hidden"), Caller("key:suite-hidden-2")
    async with open_ledger(make) as ledger:
        start = await _last_line(ledger)
        for name in (caller, other, caller):
            await ledger.bill(name, make_log_entry(1.0))
        first, second, third = [hashed for _, hashed, _ in await ledger.log(start, 3)]
        assert first == third != second
        assert [ledger.logged_as(caller), ledger.logged_as(other)] == [first, second]
        assert len(first) == 16
        assert int(first, 16) >= 0
        assert "hidden" not in first


async def _the_accounts_with_the_most_work_come_first(make: LedgerFactory) -> None:
    """``largest`` returns the accounts with the most work first, with their evidence; updates of a group change nothing."""
    callers = [Caller(f"key:suite-largest-{number}", groups=("org:suite-largest",)) for number in range(3)]
    update = EvidenceUpdate("org:suite-largest", "first", 1.0)
    async with open_ledger(make, *callers) as ledger:
        for caller, seconds in zip(callers, (1e12, 3e12, 2e12), strict=True):
            await ledger.charge(caller, make_charge(1, 2))
            await ledger.bill(caller, make_log_entry(seconds), None, [update])
        top = await ledger.largest(2)
        assert [account.caller.name for account in top] == [callers[1].name, callers[2].name]
        assert [account.work for account in top] == [3e12, 2e12]
        assert top[0].evidence.counts == (2, 0, 0)
        assert list(await ledger.largest(0)) == []
        for caller in callers:
            await ledger.reset(caller, MODEL)


async def _a_reset_deletes_an_account_and_its_sketch(make: LedgerFactory) -> None:
    """After a reset the caller has no account, and its old rows count again; the log is unchanged."""
    caller = Caller("key:suite-reset")
    async with open_ledger(make, caller) as ledger:
        start = await _last_line(ledger)
        await ledger.charge(caller, make_charge(1))
        await ledger.bill(caller, make_log_entry(1.0))
        assert await ledger.reset(caller, MODEL) is True
        assert await ledger.account(caller, MODEL) is None
        assert await ledger.reset(caller, MODEL) is False
        assert len(await ledger.log(start, 10)) == 1
        fresh = await ledger.charge(caller, make_charge(1))
        assert (fresh.rows, fresh.requests, fresh.work, fresh.evidence.counts[0]) == (1, 1, 0.0, 1)


async def _steps_of_all_kinds_at_once_are_exact(make: LedgerFactory) -> None:
    """100 requests at once, each a settlement, a charge and a bill, add up; those that are refused change nothing."""
    callers = [Caller(f"key:suite-at-once-{number}", groups=("org:suite-at-once",)) for number in range(10)]
    async with open_ledger(make, *callers, Caller("org:suite-at-once")) as ledger:
        start = await _last_line(ledger)

        async def request(number: int) -> bool:
            caller, refused = callers[number % 10], number % 7 == 0
            receipt = Receipt(secrets.token_bytes(RECEIPT_BYTES), NOW + 9.0, rows=1)
            await ledger.settle(caller, (receipt,), Reservation(1.0, 1e6), NOW)
            try:
                await ledger.charge(caller, replace(make_charge(number), rows=2 if refused else 1))
            except ValueError:
                return False
            await ledger.bill(caller, make_log_entry(1.0), Adjustment(unsettled=0.5))
            return True

        done = await asyncio.gather(*map(request, range(100)))
        accounts = [await existing_account(ledger, caller) for caller in callers]
        assert sum(account.rows for account in accounts) == sum(done) == 85  # 15 of the numbers are multiples of 7
        assert [account.work for account in accounts] == [float(account.rows) for account in accounts]
        assert max(account.groups[0].rows for account in accounts) == 85
        for caller, account in zip(callers, accounts, strict=True):
            standing = await ledger.standing(caller)
            assert (standing.settled_rows, standing.unsettled) == (10, 10.0 + 0.5 * account.rows)
        assert len(await ledger.log(start, 1000)) == 85


async def _a_closed_ledger_raises_an_error(make: LedgerFactory) -> None:
    """Before it is opened and after it is closed, a ledger raises ``LedgerError``; closing twice is allowed."""
    caller, ledger = Caller("key:suite-closed"), make()
    await _assert_closed(ledger, caller)
    await ledger.open()
    await ledger.close()
    await ledger.close()
    await _assert_closed(ledger, caller)


async def _writing_nothing_changes_nothing(make: LedgerFactory) -> None:
    """An open ledger can be written; trying it changes no account and adds no line to the log."""
    caller = Caller("key:suite-writable")
    async with open_ledger(make, caller) as ledger:
        start = await _last_line(ledger)
        before = await ledger.charge(caller, make_charge(1))
        await asyncio.gather(*(ledger.check_writable() for _ in range(3)))
        assert await ledger.account(caller, MODEL) == before
        assert await ledger.log(start, 10) == []


async def _contents_survive_a_reopen(make: LedgerFactory) -> None:
    """Account, sketch, work and log are unchanged after closing and opening."""
    caller = Caller("key:suite-reopen")
    async with open_ledger(make, caller) as ledger:
        start = await _last_line(ledger)
        await ledger.charge(caller, make_charge(1, 2))
        await ledger.bill(caller, make_log_entry(2.0))
        before = await existing_account(ledger, caller)
        lines = list(await ledger.log(start, 10))
    async with open_ledger(make) as ledger:
        assert await existing_account(ledger, caller) == before
        assert list(await ledger.log(start, 10)) == lines
        assert (await ledger.charge(caller, make_charge(2, 3))).evidence.counts[0] == 3


async def _two_ledgers_share_one_store(make: LedgerFactory) -> None:
    """Charges through two ledgers on one store add up exactly, and no two return the same row count."""
    caller = Caller("key:suite-gateways")
    async with open_ledger(make, caller) as first, open_ledger(make) as second:
        charges = [ledger.charge(caller, make_charge(number)) for number in range(50) for ledger in (first, second)]
        accounts = await asyncio.gather(*charges)
        assert sorted(account.rows for account in accounts) == list(range(1, 101))
        last = await existing_account(second, caller)
        assert last == await existing_account(first, caller)
        assert last.evidence.counts[0] == 50  # each row was charged through both, and counted once


CHECKS: tuple[LedgerCheck, ...] = (
    *CHARGE_CHECKS,
    *EVIDENCE_CHECKS,
    *EVIDENCE_CHANGE_CHECKS,
    *GROUP_CHECKS,
    *QUOTA_CHECKS,
    *SETTLEMENT_CHECKS,
    _log_entries_add_work_and_lines,
    _the_log_holds_hashes_in_place_of_names,
    _the_accounts_with_the_most_work_come_first,
    _a_reset_deletes_an_account_and_its_sketch,
    _steps_of_all_kinds_at_once_are_exact,
    _a_closed_ledger_raises_an_error,
    _writing_nothing_changes_nothing,
)
PERSISTENCE_CHECKS: tuple[LedgerCheck, ...] = (
    _contents_survive_a_reopen,
    _two_ledgers_share_one_store,
    *EVIDENCE_PERSISTENCE_CHECKS,
    *QUOTA_PERSISTENCE_CHECKS,
    *SETTLEMENT_PERSISTENCE_CHECKS,
)


async def _last_line(ledger: Ledger) -> int:
    last = 0
    while page := await ledger.log(last, 1000):
        last = page[-1][0]
    return last


async def _assert_closed(ledger: Ledger, caller: Caller) -> None:
    for step in (ledger.charge(caller, make_charge(1)), ledger.check_writable()):
        try:
            await step
        except LedgerError:
            continue
        raise AssertionError("a ledger that is not open accepted a charge or said that it can be written")
