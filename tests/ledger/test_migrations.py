"""Ledgers of earlier versions are migrated when they are opened, with all their data."""

from __future__ import annotations

import asyncio
import sqlite3

import psycopg
import pytest
import redis

from modeltoll.ledger import postgres_pool, sqlite_open
from modeltoll.ledger.from_url import ledger_from_url
from modeltoll.records import Caller, DailyQuota, DailyUsage
from modeltoll.settlement_records import Adjustment, Admission, Reservation, Standing
from modeltoll.testing.ledger_charges import MODEL, NOW, make_charge, make_log_entry
from modeltoll.testing.servers import PASSWORD

ALICE = Caller("key:alice")


async def ask(url, *steps):
    """The results of steps, one after the other, on a ledger that is opened for them."""
    ledger = ledger_from_url(url)
    await ledger.open()
    try:
        return [await step(ledger) for step in steps]
    finally:
        await ledger.close()


OLD_LINE = {
    "at": NOW,
    "caller": "0123456789abcdef",
    "model": MODEL,
    "rows": 2,
    "measures": '["entropy","gap"]',
    "leaks": "[[0.1,0.3333333333333333],[0.0,1e-300]]",
    "rarest": "[0.2,0.0016638935108153079]",
    "mode": "sealed",
    "work": 2.5,
    "work_rows": 2,
    "rows_seconds": 2.4,
    "entry_seconds": 0.1,
    "surcharge": 1.5,
    "group_surcharge": 2.5,
}


def write_old_line(store, url):
    """Write a line as earlier versions did: the numbers of its rows are JSON."""
    names = ", ".join(OLD_LINE)
    if store == "sqlite":
        with sqlite3.connect(url.removeprefix("sqlite:///")) as direct:
            marks = ", ".join("?" * len(OLD_LINE))
            direct.execute(f"INSERT INTO log ({names}) VALUES ({marks})", tuple(OLD_LINE.values()))
        direct.close()
    else:
        with psycopg.connect(url, autocommit=True) as direct:
            marks = ", ".join(["%s"] * len(OLD_LINE))
            direct.execute(f"INSERT INTO modeltoll.log ({names}) VALUES ({marks})", tuple(OLD_LINE.values()))
        direct.close()


@pytest.mark.parametrize(("store", "module"), [("sqlite", sqlite_open), ("postgresql", postgres_pool)])
@pytest.mark.parametrize("version", [1, 2])
def test_an_older_ledger_keeps_its_data_and_can_do_what_is_new(stores, store, module, version, monkeypatch):
    url = stores[store]
    with monkeypatch.context() as before:
        before.setattr(module, "MIGRATIONS", module.MIGRATIONS[:version])
        asyncio.run(ask(url, lambda ledger: ledger.charge(ALICE, make_charge(1, 2))))
    write_old_line(store, url)
    account, spent, day, admission, _, standing, log = asyncio.run(
        ask(
            url,
            lambda ledger: ledger.account(ALICE, MODEL, NOW),
            lambda ledger: ledger.spend(ALICE, DailyUsage(20_000, 3, 0.5), DailyQuota(rows=3)),
            lambda ledger: ledger.spent(ALICE, 20_000),
            lambda ledger: ledger.settle(ALICE, (), Reservation(1.0, 2.0), NOW),
            lambda ledger: ledger.bill(ALICE, make_log_entry(2.5), Adjustment(unsettled=0.5)),
            lambda ledger: ledger.standing(ALICE),
            lambda ledger: ledger.log(0, 10),
        )
    )
    assert account.rows == 2
    assert (spent, day) == (True, DailyUsage(20_000, 3, 0.5))
    assert (admission, standing) == (Admission(True, 1.0), Standing(1.5, drained=NOW))
    assert [line for _, _, line in log] == [make_log_entry(2.5)] * 2
    assert (log[0][:2], len(log)) == ((1, OLD_LINE["caller"]), 2)


def test_an_older_ledger_on_valkey_is_read_and_gets_the_new_version(keyspace, valkey):
    asyncio.run(ask(keyspace))
    with redis.Redis(port=valkey.port, password=PASSWORD, db=7) as direct:
        direct.hset("{modeltoll}:ledger", "version", 1)
        direct.xadd("{modeltoll}:log", OLD_LINE, "1-0")
        direct.set("{modeltoll}:line", 1)
        _, log = asyncio.run(
            ask(keyspace, lambda ledger: ledger.bill(ALICE, make_log_entry(2.5)), lambda ledger: ledger.log(0, 10))
        )
        assert direct.hget("{modeltoll}:ledger", "version") == b"2"
    assert [line for _, _, line in log] == [make_log_entry(2.5)] * 2


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
