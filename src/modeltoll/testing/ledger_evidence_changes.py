"""Checks of evidence where the tariff, the time or the accounts change, and of updates that are invalid."""

from __future__ import annotations

import math
from dataclasses import replace

from modeltoll.evidence_records import EVIDENCE_SECONDS, RESTART_ROWS, EvidenceState, FinishedBlock, FoldedBlock
from modeltoll.records import Caller, Charge
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
from modeltoll.testing.ledger_evidence import bill_updates, evidence_caller, make_update

__all__ = ["EVIDENCE_CHANGE_CHECKS"]

_SIZE = RESTART_ROWS[0]


async def _updates_of_accounts_that_are_gone_are_dropped(make: LedgerFactory) -> None:
    """A bill whose accounts were reset writes its line and makes no account; the other account of the bill is updated."""
    caller = evidence_caller("gone", "org:suite-evidence-gone")
    group = Caller(caller.groups[0])
    async with open_ledger(make, caller, group) as ledger:
        await ledger.charge(caller, make_charge(*range(_SIZE)))
        await ledger.reset(caller, MODEL)
        await ledger.bill(
            caller,
            make_log_entry(1.0),
            None,
            [make_update(caller, 1.0, FoldedBlock(0, 1, 1.0)), make_update(group, 2.0, FoldedBlock(0, 1, 1.0))],
        )
        assert await ledger.account(caller, MODEL) is None
        assert (await existing_account(ledger, group)).evidence.finished_log == 1.0
        again = await ledger.charge(caller, make_charge(*range(_SIZE)))
        assert again.evidence == replace(
            EvidenceState.new(3, NOW),
            counts=(_SIZE, 0, 0),
            blocks=((0, 0, 0), *((_SIZE, 0, 0),) * 4),
            numbers=(2, 1, 1, 1, 1),
            finished=(FinishedBlock(1, (_SIZE, 0, 0)), None, None, None, None),
        )


async def _evidence_starts_anew_after_its_period(make: LedgerFactory) -> None:
    """After the period evidence starts anew, what was carried too; totals, leaks and the sketch go on."""
    caller, later = evidence_caller("period"), NOW + EVIDENCE_SECONDS
    async with open_ledger(make, caller) as ledger:
        await ledger.charge(caller, make_charge(1, tariff="before"))
        await bill_updates(ledger, caller, make_update(caller, 30.0, tariff="before"))
        assert (await ledger.charge(caller, make_charge(2, at=NOW + 5.0))).evidence.carried_log == 30.0
        within = await ledger.charge(caller, make_charge(3, at=later + 4.0))
        assert (within.evidence.counts, within.evidence.since) == ((2, 0, 0), NOW + 5.0)
        anew = await ledger.charge(caller, make_charge(1, 4, at=later + 5.0, cell=1))
        assert anew.evidence == replace(
            EvidenceState.new(3, later + 5.0), counts=(0, 1, 0), blocks=((0, 1, 0),) * len(RESTART_ROWS)
        )
        assert (anew.rows, anew.requests, anew.leaks) == (5, 4, (2.0, 1.0))


async def _another_tariff_carries_the_evidence(make: LedgerFactory) -> None:
    """The stored evidence is carried by each change of tariff or cells, and stays until a bill replaces it."""
    caller = evidence_caller("carries")
    async with open_ledger(make, caller) as ledger:
        await ledger.charge(caller, make_charge(*range(_SIZE)))
        await bill_updates(ledger, caller, make_update(caller, 30.0, FoldedBlock(0, 1, 2.0)))
        changed = await ledger.charge(caller, make_charge(1, 2000, tariff="second", at=NOW + 9.0))
        anew = replace(EvidenceState.new(3, NOW + 9.0, 30.0), counts=(1, 0, 0), blocks=((1, 0, 0),) * 5)
        assert changed.evidence == replace(anew, log_evidence=30.0)
        late = await bill_updates(
            ledger, caller, make_update(caller, 99.0, FoldedBlock(0, 1, 9.0))
        )  # of the first tariff
        assert late == changed.evidence
        assert (await bill_updates(ledger, caller, make_update(caller, 29.5, tariff="second"))).log_evidence == 29.5
        row = make_charge(3000, tariff="second", at=NOW + 10.0)
        cells = await ledger.charge(caller, replace(row, cell_count=5, cells=(4,)))
        assert (cells.evidence.counts, cells.evidence.carried_log) == ((0, 0, 0, 0, 1), 29.5)
        leaks = await ledger.charge(caller, replace(row, cell_count=5, cells=(4,), leaks=(0.5,)))
        assert (leaks.evidence.counts, leaks.evidence.carried_log, leaks.leaks) == ((0,) * 5, 29.5, (0.5,))


async def _a_tariff_without_cells_counts_nothing(make: LedgerFactory) -> None:
    """Without cells an account has totals and empty counts; then nothing is carried into a tariff with cells."""
    caller = evidence_caller("cells")
    async with open_ledger(make, caller) as ledger:
        row = Charge(MODEL, 1, (), (), (b"one  row",), 0, "free", NOW)
        for number in range(1, 4):
            account = await ledger.charge(caller, replace(row, at=NOW + number))
            assert (account.rows, account.leaks, account.evidence) == (number, (), EvidenceState.new(0, NOW + 1))
        many = replace(row, rows=99, fingerprints=tuple(bytes([7, *[n] * 7]) for n in range(99)))
        assert (await ledger.charge(caller, many)).evidence == EvidenceState.new(0, NOW + 1)
        await bill_updates(ledger, caller, make_update(caller, 4.0, tariff="free"))
        counted = (await ledger.charge(caller, make_charge(5, at=NOW + 9))).evidence
        assert (counted.counts, counted.log_evidence, counted.carried_log) == ((1, 0, 0), 0.0, None)


async def _invalid_updates_are_refused_and_change_nothing(make: LedgerFactory) -> None:
    """Updates of other accounts, two of one, or with numbers that no state may hold raise ``ValueError``."""
    caller, other = evidence_caller("invalid", "org:suite-evidence-invalid"), evidence_caller("invalid-other")
    good = make_update(caller, 1.0, FoldedBlock(0, 1, 1.0))
    invalid = [
        [make_update(other, 1.0)],
        [good, good],
        *[[replace(good, log_evidence=number)] for number in (math.nan, math.inf, 1e16)],
        *[[make_update(caller, 1.0, FoldedBlock(0, 1, number))] for number in (math.nan, math.inf, -1e16)],
        *[[make_update(caller, 1.0, FoldedBlock(restart, 1, 1.0))] for restart in (-1, len(RESTART_ROWS))],
        *[[make_update(caller, 1.0, FoldedBlock(0, number, 1.0))] for number in (0, -1, 2**53)],
    ]
    async with open_ledger(make, caller, Caller(caller.groups[0]), other) as ledger:
        for each in (caller, other):
            await ledger.charge(each, make_charge(*range(_SIZE)))
        before = [await existing_account(ledger, each) for each in (caller, other)]
        for updates in invalid:
            try:
                await ledger.bill(caller, make_log_entry(1.0), None, updates)
            except ValueError:
                continue
            raise AssertionError(f"{updates} were accepted")
        assert [await existing_account(ledger, each) for each in (caller, other)] == before


EVIDENCE_CHANGE_CHECKS: tuple[LedgerCheck, ...] = (
    _updates_of_accounts_that_are_gone_are_dropped,
    _evidence_starts_anew_after_its_period,
    _another_tariff_carries_the_evidence,
    _a_tariff_without_cells_counts_nothing,
    _invalid_updates_are_refused_and_change_nothing,
)
