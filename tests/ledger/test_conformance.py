"""Every ledger passes the conformance suite, and the suite finds broken ledgers."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

import pytest

from modeltoll.evidence_records import FinishedBlock
from modeltoll.ledger.from_url import ledger_from_url
from modeltoll.ledger.memory import MemoryLedger
from modeltoll.ledger.sqlite import SqliteLedger
from modeltoll.settlement_records import Standing
from modeltoll.testing.ledger_evidence import EVIDENCE_CHECKS
from modeltoll.testing.ledger_evidence_changes import EVIDENCE_CHANGE_CHECKS
from modeltoll.testing.ledger_settlement import SETTLEMENT_CHECKS
from modeltoll.testing.ledgers import CHECKS, PERSISTENCE_CHECKS, check_ledger


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.strip("_"))
def test_memory_passes(check):
    asyncio.run(check(MemoryLedger))


@pytest.mark.parametrize("check", [*CHECKS, *PERSISTENCE_CHECKS], ids=lambda check: check.__name__.strip("_"))
def test_sqlite_passes(check, tmp_path):
    asyncio.run(check(partial(SqliteLedger, tmp_path / "ledger.db")))


@pytest.mark.parametrize("check", [*CHECKS, *PERSISTENCE_CHECKS], ids=lambda check: check.__name__.strip("_"))
def test_postgresql_passes(check, postgres):
    asyncio.run(check(partial(ledger_from_url, postgres.url)))


@pytest.mark.parametrize("check", [*CHECKS, *PERSISTENCE_CHECKS], ids=lambda check: check.__name__.strip("_"))
def test_valkey_passes(check, valkey):
    asyncio.run(check(partial(ledger_from_url, valkey.url)))


@pytest.mark.parametrize("store", ["sqlite", "postgresql", "valkey"])
def test_the_suite_can_run_twice_on_one_store(store, stores):
    for _ in range(2):
        check_ledger(partial(ledger_from_url, stores[store]), survives_reopen=True)


class ReadThenWrite(MemoryLedger):
    """Reads, waits, and then writes, so that concurrent charges get lost."""

    async def charge(self, caller, entry):
        key = caller.name, entry.model
        before = self._pages[key].account if key in self._pages else None
        await asyncio.sleep(0)
        if before is None:
            self._pages.pop(key, None)
        else:
            self._pages[key].account = before
        return await super().charge(caller, entry)


def test_the_suite_finds_a_ledger_that_reads_and_then_writes():
    with pytest.raises(AssertionError):
        check_ledger(ReadThenWrite, survives_reopen=False)


class CountsReceiptsTwice(MemoryLedger):
    """Knows no identities."""

    async def settle(self, caller, receipts, reservation, at):
        self._receipts.clear()
        return await super().settle(caller, receipts, reservation, at)


class ReservesLate(MemoryLedger):
    """Decides, waits, and then writes, so that concurrent reservations exceed the credit."""

    async def settle(self, caller, receipts, reservation, at):
        before = self._standings.get(caller.name, Standing(drained=at))
        await asyncio.sleep(0)
        self._standings[caller.name] = before
        return await super().settle(caller, receipts, reservation, at)


class RemembersTheRefused(MemoryLedger):
    """Stores a standing for whoever asks."""

    async def settle(self, caller, receipts, reservation, at):
        admission = await super().settle(caller, receipts, reservation, at)
        self._standings.setdefault(caller.name, Standing(drained=at))
        return admission


class OneKeyForAll(MemoryLedger):
    """Derives the same key for every purpose."""

    def derived_key(self, purpose):
        return super().derived_key("")


class KeepsTheStanding(MemoryLedger):
    """Resets accounts only."""

    async def reset(self, caller, model):
        before = self._standings.get(caller.name)
        found = await super().reset(caller, model)
        if before is not None:
            self._standings[caller.name] = before
        return found


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (CountsReceiptsTwice, "_a_receipt_shown_100_times_at_once_counts_once"),
        (ReservesLate, "_concurrent_reservations_end_at_the_credit"),
        (RemembersTheRefused, "_nothing_is_stored_of_requests_that_are_not_admitted"),
        (OneKeyForAll, "_derived_keys_differ_by_purpose"),
        (KeepsTheStanding, "_a_reset_deletes_the_standing_and_no_receipt"),
    ],
)
def test_the_suite_finds_a_ledger_that_settles_wrongly(broken, check):
    (one,) = (each for each in SETTLEMENT_CHECKS if each.__name__ == check)
    with pytest.raises(AssertionError):
        asyncio.run(one(broken))


class FoldsOwnAccountOnly(MemoryLedger):
    """Ignores the updates of groups."""

    async def bill(self, caller, entry, adjustment=None, updates=()):
        own = [update for update in updates if update.account == caller.name]
        await super().bill(caller, entry, adjustment, own)


class FoldsWhateverWaits(MemoryLedger):
    """Does not compare the numbers of blocks."""

    async def bill(self, caller, entry, adjustment=None, updates=()):
        renumbered = []
        for update in updates:
            page = self._pages.get((update.account, entry.model))
            waiting = page.account.evidence.finished if page else (None,) * 5
            folded = tuple(
                replace(block, number=waiting[block.restart].number)
                if 0 <= block.restart < 5 and waiting[block.restart]
                else block
                for block in update.folded
            )
            renumbered.append(replace(update, folded=folded))
        await super().bill(caller, entry, adjustment, renumbered)


class UpdatesAnyTariff(MemoryLedger):
    """Does not compare tariffs."""

    async def bill(self, caller, entry, adjustment=None, updates=()):
        pages = [(self._pages.get((update.account, entry.model)), update) for update in updates]
        as_now = [replace(update, tariff=page.account.tariff) if page else update for page, update in pages]
        await super().bill(caller, entry, adjustment, as_now)


class NeverStartsAnew(MemoryLedger):
    """Has no period."""

    def __init__(self):
        super().__init__(period=1e18)


class ChangesEvidence(MemoryLedger):
    """Changes what ``change`` says in the evidence after each charge."""

    async def charge(self, caller, charge):
        before = {name: page.account.evidence for (name, _), page in self._pages.items()}
        await super().charge(caller, charge)
        for (name, _), page in self._pages.items():
            if name in {caller.name, *caller.groups}:
                page.account = replace(page.account, evidence=self.change(before.get(name), page.account.evidence))
        return await self.account(caller, charge.model)


class ForgivesWithATariff(ChangesEvidence):
    """Carries nothing."""

    def change(self, before, after):
        return replace(after, carried_log=None)


class LosesTheWaitingBlock(ChangesEvidence):
    """Ends a block, though the one before it waits in its slot."""

    def change(self, before, after):
        if before is None or before.finished[0] is None or sum(after.blocks[0]) < 64:
            return after
        finished = (FinishedBlock(after.numbers[0], after.blocks[0]), *after.finished[1:])
        return replace(
            after,
            finished=finished,
            numbers=(after.numbers[0] + 1, *after.numbers[1:]),
            blocks=((0,) * after.cells, *after.blocks[1:]),
        )


class FoldsLate(MemoryLedger):
    """Reads, waits, and then folds, so that concurrent bills fold a block twice."""

    async def bill(self, caller, entry, adjustment=None, updates=()):
        page = self._pages.get((caller.name, entry.model))
        before = page and page.account
        await asyncio.sleep(0)
        if page is not None:
            page.account = before
        await super().bill(caller, entry, adjustment, updates)


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (FoldsOwnAccountOnly, "_bills_update_groups"),
        (FoldsWhateverWaits, "_a_block_is_folded_once_and_by_its_number"),
        (UpdatesAnyTariff, "_a_block_is_folded_once_and_by_its_number"),
        (UpdatesAnyTariff, "_another_tariff_carries_the_evidence"),
        (NeverStartsAnew, "_evidence_starts_anew_after_its_period"),
        (ForgivesWithATariff, "_another_tariff_carries_the_evidence"),
        (LosesTheWaitingBlock, "_a_block_grows_while_its_slot_is_taken"),
        (FoldsLate, "_concurrent_charges_and_bills_fold_every_block_once"),
        (FoldsOwnAccountOnly, "_updates_of_accounts_that_are_gone_are_dropped"),
        *[
            (each, "_histories_give_what_the_pure_functions_give")
            for each in (FoldsWhateverWaits, UpdatesAnyTariff, NeverStartsAnew, ForgivesWithATariff)
        ],
    ],
)
def test_the_suite_finds_a_ledger_that_keeps_evidence_wrongly(broken, check):
    found = [each for each in EVIDENCE_CHECKS + EVIDENCE_CHANGE_CHECKS if each.__name__ == check]
    assert len(found) == 1
    with pytest.raises(AssertionError):
        asyncio.run(found[0](broken))


def test_the_suite_finds_a_ledger_that_does_not_keep_its_data():
    with pytest.raises(AssertionError):
        check_ledger(MemoryLedger, survives_reopen=True)
