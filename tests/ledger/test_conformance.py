"""Every ledger passes the conformance suite."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from modeltoll.ledger.locate import ledger_from_url
from modeltoll.ledger.memory import MemoryLedger
from modeltoll.ledger.sqlite import SqliteLedger
from modeltoll.testing.ledgers import LASTING_LAWS, LAWS, check_ledger


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_memory_obeys(law):
    asyncio.run(law(MemoryLedger))


@pytest.mark.parametrize("law", [*LAWS, *LASTING_LAWS], ids=lambda law: law.__name__)
def test_sqlite_obeys(law, tmp_path):
    asyncio.run(law(partial(SqliteLedger, tmp_path / "ledger.db")))


@pytest.mark.parametrize("law", [*LAWS, *LASTING_LAWS], ids=lambda law: law.__name__)
def test_postgresql_obeys(law, postgres):
    asyncio.run(law(partial(ledger_from_url, postgres.url)))


@pytest.mark.parametrize("law", [*LAWS, *LASTING_LAWS], ids=lambda law: law.__name__)
def test_valkey_obeys(law, valkey):
    asyncio.run(law(partial(ledger_from_url, valkey.url)))


@pytest.mark.parametrize("store", ["sqlite", "postgresql", "valkey"])
def test_the_suite_may_be_called_again_on_a_store_in_use(store, stores):
    for _ in range(2):
        check_ledger(partial(ledger_from_url, stores[store]), survives_reopen=True)


class Racy(MemoryLedger):
    """Reads, waits, and then writes: the error that the suite must find."""

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
        check_ledger(Racy, survives_reopen=False)


def test_the_suite_finds_a_ledger_that_is_not_persistent():
    with pytest.raises(AssertionError):
        check_ledger(MemoryLedger, survives_reopen=True)
