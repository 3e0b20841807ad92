"""Every ledger passes the conformance suite, and the suite finds broken ledgers."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from modeltoll.ledger.from_url import ledger_from_url
from modeltoll.ledger.memory import MemoryLedger
from modeltoll.ledger.sqlite import SqliteLedger
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


def test_the_suite_finds_a_ledger_that_does_not_keep_its_data():
    with pytest.raises(AssertionError):
        check_ledger(MemoryLedger, survives_reopen=True)
