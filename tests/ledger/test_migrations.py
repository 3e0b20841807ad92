"""Ledgers of the first version are migrated when they are opened, with all their data."""

from __future__ import annotations

import asyncio

import pytest

from modeltoll.ledger import postgres_pool, sqlite_open
from modeltoll.ledger.from_url import ledger_from_url
from modeltoll.records import Caller, DailyQuota, DailyUsage
from modeltoll.testing.ledger_charges import MODEL, NOW, make_charge, make_log_entry

ALICE = Caller("key:alice")


async def ask(url, *steps):
    """The results of steps, one after the other, on a ledger that is opened for them."""
    ledger = ledger_from_url(url)
    await ledger.open()
    try:
        return [await step(ledger) for step in steps]
    finally:
        await ledger.close()


@pytest.mark.parametrize(("store", "module"), [("sqlite", sqlite_open), ("postgresql", postgres_pool)])
def test_a_ledger_of_version_1_keeps_its_data_and_gets_daily_usage(stores, store, module, monkeypatch):
    url = stores[store]
    with monkeypatch.context() as before:
        before.setattr(module, "MIGRATIONS", module.MIGRATIONS[:1])
        asyncio.run(
            ask(
                url,
                lambda ledger: ledger.charge(ALICE, make_charge(1, 2)),
                lambda ledger: ledger.bill(ALICE, make_log_entry(2.5)),
            )
        )
    account, spent, day, log = asyncio.run(
        ask(
            url,
            lambda ledger: ledger.account(ALICE, MODEL, NOW),
            lambda ledger: ledger.spend(ALICE, DailyUsage(20_000, 3, 0.5), DailyQuota(rows=3)),
            lambda ledger: ledger.spent(ALICE, 20_000),
            lambda ledger: ledger.log(0, 10),
        )
    )
    assert (account.rows, account.work, len(log)) == (2, 2.5, 1)
    assert (spent, day) == (True, DailyUsage(20_000, 3, 0.5))


@pytest.mark.parametrize(("store", "module"), [("sqlite", sqlite_open), ("postgresql", postgres_pool)])
def test_many_gateways_that_migrate_at_once_do_it_once(stores, store, module, monkeypatch):
    url = stores[store]
    with monkeypatch.context() as before:
        before.setattr(module, "MIGRATIONS", module.MIGRATIONS[:1])
        asyncio.run(ask(url))

    async def at_once():
        spend = [
            ask(url, lambda ledger: ledger.spend(ALICE, DailyUsage(20_000, 1), DailyQuota(rows=5))) for _ in range(8)
        ]
        return await asyncio.gather(*spend)

    assert sum(granted for (granted,) in asyncio.run(at_once())) == 5
