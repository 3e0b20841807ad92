"""Every ledger passes the conformance suite, and the suite finds broken ledgers."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from modeltoll.ledger.from_url import ledger_from_url
from modeltoll.ledger.memory import MemoryLedger
from modeltoll.ledger.sqlite import SqliteLedger
from modeltoll.settlement_records import Standing
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
    (one,) = (each for each in CHECKS if each.__name__ == check)
    with pytest.raises(AssertionError):
        asyncio.run(one(broken))


def test_the_suite_finds_a_ledger_that_does_not_keep_its_data():
    with pytest.raises(AssertionError):
        check_ledger(MemoryLedger, survives_reopen=True)
