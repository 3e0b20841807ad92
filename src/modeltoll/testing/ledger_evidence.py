"""Checks of evidence: the counts of an account's fresh rows, their blocks, and the updates that come with bills."""

from __future__ import annotations

import asyncio
import math
import random
from dataclasses import replace
from typing import TYPE_CHECKING

from modeltoll.evidence_records import (
    RESTART_ROWS,
    EvidenceState,
    EvidenceUpdate,
    FinishedBlock,
    FoldedBlock,
)
from modeltoll.records import Caller
from modeltoll.testing.ledger_charges import (
    LedgerCheck,
    LedgerFactory,
    existing_account,
    make_charge,
    make_log_entry,
    open_ledger,
)
from modeltoll.testing.ledger_evidence_histories import compare_evidence_history, random_evidence_history

if TYPE_CHECKING:
    from modeltoll.ledger.ledger import Ledger
    from modeltoll.records import Account

__all__ = [
    "EVIDENCE_CHECKS",
    "EVIDENCE_PERSISTENCE_CHECKS",
    "bill_updates",
    "evidence_caller",
    "folded_rows",
    "folding_updates",
    "make_update",
]

_SIZE = RESTART_ROWS[0]


def evidence_caller(check: str, *groups: str) -> Caller:
    """A caller whose name contains the check's."""
    return Caller(f"key:suite-evidence-{check}", groups=groups)


def make_update(caller: Caller, log_evidence: float, *folded: FoldedBlock, tariff: str = "first") -> EvidenceUpdate:
    """An update of the caller's own account."""
    return EvidenceUpdate(caller.name, tariff, log_evidence, folded)


def folding_updates(account: Account) -> tuple[EvidenceUpdate, ...]:
    """Updates that fold all blocks that wait in an account and in those of its groups.

    The term of a block is the logarithm of its number of rows; the evidence is the number of rows of the account.
    """
    return tuple(
        EvidenceUpdate(
            each.caller.name,
            each.tariff,
            float(each.rows),
            tuple(
                FoldedBlock(restart, block.number, math.log(sum(block.counts)))
                for restart, block in enumerate(each.evidence.finished)
                if block is not None
            ),
        )
        for each in (account, *account.groups)
    )


def folded_rows(state: EvidenceState) -> int:
    """The number of rows of the blocks that were folded, of all restarts together."""
    waiting = [0 if block is None else sum(block.counts) for block in state.finished]
    return sum(state.rows - sum(block) - rows for block, rows in zip(state.blocks, waiting, strict=True))


async def bill_updates(ledger: Ledger, caller: Caller, *updates: EvidenceUpdate) -> EvidenceState:
    """The state of the caller's evidence after a bill with these updates."""
    await ledger.bill(caller, make_log_entry(1.0), None, updates)
    return (await existing_account(ledger, caller)).evidence


async def _histories_give_what_the_pure_functions_give(make: LedgerFactory) -> None:
    """Accounts are those of ``account_math``, bit for bit, over random charges and bills of a caller and its group."""
    for seed in range(6):
        caller = evidence_caller(f"history-{seed}", f"org:suite-evidence-history-{seed}")
        async with open_ledger(make, caller, Caller(caller.groups[0])) as ledger:
            history = random_evidence_history(random.Random(seed), 60, caller)  # noqa: S311  a repeatable test
            await compare_evidence_history(ledger, caller, history)


async def _a_block_ends_with_the_request_that_reaches_its_rows(make: LedgerFactory) -> None:
    """A block of s rows waits in its slot from the request on that reaches s rows, with all rows of that request."""
    caller = evidence_caller("ends")
    async with open_ledger(make, caller) as ledger:
        before = (await ledger.charge(caller, make_charge(*range(_SIZE - 1)))).evidence
        assert (before.numbers[0], before.finished[0]) == (1, None)
        await ledger.charge(caller, make_charge(*range(_SIZE - 1), cell=1))  # repeated rows end no block
        after = (await ledger.charge(caller, make_charge(*range(_SIZE - 1, _SIZE + 4), cell=2))).evidence
        assert after.finished == (FinishedBlock(1, (_SIZE - 1, 0, 5)), None, None, None, None)
        assert (after.blocks[0], after.numbers) == ((0, 0, 0), (2, 1, 1, 1, 1))
        assert after.counts == after.blocks[1] == after.blocks[-1] == (_SIZE - 1, 0, 5)
        large = (await ledger.charge(caller, make_charge(*range(1000, 1000 + RESTART_ROWS[2]), cell=1))).evidence
        assert large.finished[1:] == (
            FinishedBlock(1, (_SIZE - 1, RESTART_ROWS[2], 5)),
            FinishedBlock(1, (_SIZE - 1, RESTART_ROWS[2], 5)),
            None,
            None,
        )


async def _a_block_grows_while_its_slot_is_taken(make: LedgerFactory) -> None:
    """While the block before it waits a block grows; it ends with the first charge after the slot is empty."""
    caller = evidence_caller("grows")
    async with open_ledger(make, caller) as ledger:
        await ledger.charge(caller, make_charge(*range(_SIZE)))
        grown = (await ledger.charge(caller, make_charge(*range(100, 100 + 3 * _SIZE), cell=1))).evidence
        assert (grown.finished[0], grown.numbers[0]) == (FinishedBlock(1, (_SIZE, 0, 0)), 2)
        assert grown.blocks[0] == (0, 3 * _SIZE, 0)
        folded = await bill_updates(ledger, caller, make_update(caller, 0.5, FoldedBlock(0, 1, -2.0)))
        assert (folded.finished[0], folded.blocks[0], folded.numbers[0]) == (None, (0, 3 * _SIZE, 0), 2)
        ended = (await ledger.charge(caller, make_charge(0))).evidence  # a row that is not fresh
        assert (ended.finished[0], ended.numbers[0]) == (FinishedBlock(2, (0, 3 * _SIZE, 0)), 3)
        assert ended.blocks[0] == (0, 0, 0)


async def _a_block_is_folded_once_and_by_its_number(make: LedgerFactory) -> None:
    """A block folds if it waits under its number: not twice, not by another number, restart, tariff or account."""
    caller = evidence_caller("once")
    async with open_ledger(make, caller) as ledger:
        await ledger.charge(caller, make_charge(*range(RESTART_ROWS[1])))
        wrong = [FoldedBlock(0, 2, 9.0), FoldedBlock(2, 1, 9.0)]
        unfolded = await bill_updates(ledger, caller, make_update(caller, 1.5, *wrong))
        assert (unfolded.finished_log, unfolded.log_evidence) == (-math.inf, 1.5)
        other = await bill_updates(ledger, caller, make_update(caller, 7.0, FoldedBlock(0, 1, 9.0), tariff="second"))
        assert other == unfolded
        first = await bill_updates(ledger, caller, make_update(caller, 2.5, FoldedBlock(0, 1, -3.0)))
        assert (first.finished_log, first.log_evidence) == (-3.0, 2.5)
        assert first.finished == (None, FinishedBlock(1, (RESTART_ROWS[1], 0, 0)), None, None, None)
        again = await bill_updates(
            ledger, caller, make_update(caller, -4.0, FoldedBlock(0, 1, -3.0), FoldedBlock(1, 1, -3.0))
        )
        assert (again.finished_log, again.log_evidence) == (-3.0 + math.log(2.0), -4.0)
        assert again.finished == (None,) * len(RESTART_ROWS)
        assert (again.counts, again.blocks, again.numbers) == (first.counts, first.blocks, first.numbers)


async def _logarithms_add_as_numbers_do(make: LedgerFactory) -> None:
    """Terms of any size add to ``finished_log``: nothing overflows, and minus infinity adds nothing."""
    caller, number = evidence_caller("logs"), 0
    expected = -math.inf
    async with open_ledger(make, caller) as ledger:
        for term in (-math.inf, -1e6, -math.inf, 3.0, 2.0, -800.0, -36.5, 1e6, 1e6, 1e15):
            number += 1
            await ledger.charge(caller, make_charge(*range(_SIZE * number, _SIZE * (number + 1))))
            state = await bill_updates(ledger, caller, make_update(caller, -math.inf, FoldedBlock(0, number, term)))
            high, low = max(expected, term), min(expected, term)
            expected = high if low - high < -700.0 or low == -math.inf else high + math.log(1.0 + math.exp(low - high))
            assert (state.finished_log, state.log_evidence, state.finished[0]) == (expected, -math.inf, None)


async def _bills_update_groups(make: LedgerFactory) -> None:
    """A bill updates the accounts of the caller's groups; other callers' blocks, and work of groups, stay."""
    alice, bob = (evidence_caller(name, "org:suite-evidence") for name in ("alice", "bob"))
    group = Caller("org:suite-evidence")
    async with open_ledger(make, alice, bob, group) as ledger:
        for start, caller in ((0, alice), (1000, bob)):
            await ledger.charge(caller, make_charge(*range(start, start + _SIZE)))
        both = make_update(alice, 1.0, FoldedBlock(0, 1, 0.25)), make_update(group, 5.0, FoldedBlock(0, 1, 0.5))
        await bill_updates(ledger, alice, *both)
        own, others = [await existing_account(ledger, caller) for caller in (alice, bob)]
        assert (own.evidence.finished_log, own.evidence.log_evidence, own.work) == (0.25, 1.0, 1.0)
        assert (others.evidence.finished_log, others.evidence.log_evidence, others.work) == (-math.inf, 0.0, 0.0)
        assert own.groups == others.groups
        state = own.groups[0].evidence
        assert (state.finished_log, state.log_evidence, own.groups[0].work) == (0.5, 5.0, 0.0)
        await bill_updates(ledger, bob, make_update(group, 6.0, FoldedBlock(0, 1, 0.5)))  # folded already
        after = await existing_account(ledger, bob)
        assert after.groups[0].evidence == replace(state, log_evidence=6.0)
        assert (after.evidence, after.work) == (others.evidence, 1.0)


async def _concurrent_charges_and_bills_fold_every_block_once(make: LedgerFactory) -> None:
    """Of many requests at once, each of which folds the blocks that it finds, every block is folded once."""
    caller = evidence_caller("concurrent", "org:suite-evidence-concurrent")
    owners = (caller, Caller(caller.groups[0]))

    async def requests(ledger: Ledger, first: int) -> None:
        for number in range(first, first + 3):
            account = await ledger.charge(caller, make_charge(*range(40 * number, 40 * number + 40)))
            await ledger.bill(caller, make_log_entry(1.0), None, folding_updates(account))

    async with open_ledger(make, *owners) as ledger:
        await asyncio.gather(*(requests(ledger, first) for first in range(0, 60, 3)))
        for owner in owners:
            state = (await existing_account(ledger, owner)).evidence
            assert state.rows == 2400
            assert math.isclose(math.exp(state.finished_log), folded_rows(state), rel_tol=1e-9)
            assert folded_rows(state) > 0


async def _evidence_is_shared_and_survives_a_reopen(make: LedgerFactory) -> None:
    """A block that one ledger leaves behind is folded by another on the same store, once, after closing and opening."""
    caller = evidence_caller("shared")
    async with open_ledger(make, caller) as one, open_ledger(make) as other:
        left = await one.charge(caller, make_charge(*range(RESTART_ROWS[1])))
        assert await existing_account(other, caller) == left
        await bill_updates(other, caller, make_update(caller, 3.0, FoldedBlock(0, 1, 1.0)))
        state = await bill_updates(one, caller, make_update(caller, 4.0, FoldedBlock(0, 1, 1.0)))
        assert (state.finished_log, state.log_evidence) == (1.0, 4.0)
    async with open_ledger(make) as ledger:
        assert (await existing_account(ledger, caller)).evidence == state
        state = await bill_updates(
            ledger, caller, make_update(caller, 5.0, FoldedBlock(0, 1, 1.0), FoldedBlock(1, 1, 1.0))
        )
        assert state.finished_log == 1.0 + math.log(2.0)


EVIDENCE_CHECKS: tuple[LedgerCheck, ...] = (
    _histories_give_what_the_pure_functions_give,
    _a_block_ends_with_the_request_that_reaches_its_rows,
    _a_block_grows_while_its_slot_is_taken,
    _a_block_is_folded_once_and_by_its_number,
    _logarithms_add_as_numbers_do,
    _bills_update_groups,
    _concurrent_charges_and_bills_fold_every_block_once,
)
EVIDENCE_PERSISTENCE_CHECKS: tuple[LedgerCheck, ...] = (_evidence_is_shared_and_survives_a_reopen,)
