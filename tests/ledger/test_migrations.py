"""Ledgers of earlier versions are migrated when they are opened, with all their data."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import struct
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
import redis

from modeltoll.evidence_records import EvidenceState, EvidenceUpdate
from modeltoll.ledger import postgres_pool, sqlite_open
from modeltoll.ledger.from_url import ledger_from_url
from modeltoll.ledger.postgres_codec import account_key
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


def write_old_account(store, url):
    """Write an account as versions 1 to 3 did, with a histogram in place of evidence."""
    values = {
        "caller": ALICE.name,
        "model": MODEL,
        "rows": 2,
        "requests": 1,
        "work": 0.0,
        "tariff": "first",
        "first_seen": NOW,
        "last_seen": NOW,
        "measures": 1,
        "learned": 2,
    }
    if store == "sqlite":
        values |= {"leaks": struct.pack("<d", 0.5), "counts": struct.pack("<3d", 2.0, 0.0, 0.0)}
    else:
        values |= {"key": account_key(ALICE, MODEL), "leaks": [0.5], "counts": [2.0, 0.0, 0.0]}
    insert(store, url, "accounts", list(values), [tuple(values.values())])


def insert(store, url, table, columns, rows):
    """Insert rows into a table of a ledger, as they are."""
    names = ", ".join(columns)
    if store == "sqlite":
        with sqlite3.connect(url.removeprefix("sqlite:///")) as direct:
            marks = ", ".join("?" * len(columns))
            direct.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", rows)
    else:
        with psycopg.connect(url) as direct, direct.cursor() as cursor:
            marks = ", ".join(["%s"] * len(columns))
            statement = f"INSERT INTO modeltoll.{table} ({names}) OVERRIDING SYSTEM VALUE VALUES ({marks})"
            cursor.executemany(statement, rows)
    direct.close()


def write_old_line(store, url):
    """Write a line as earlier versions did: the numbers of its rows are JSON."""
    insert(store, url, "log", list(OLD_LINE), [tuple(OLD_LINE.values())])


@pytest.mark.parametrize(("store", "module"), [("sqlite", sqlite_open), ("postgresql", postgres_pool)])
@pytest.mark.parametrize("version", [1, 2])
def test_an_older_ledger_keeps_its_data_and_can_do_what_is_new(stores, store, module, version, monkeypatch):
    url = stores[store]
    with monkeypatch.context() as before:
        before.setattr(module, "MIGRATIONS", module.MIGRATIONS[:version])
        asyncio.run(ask(url))
    write_old_account(store, url)
    write_old_line(store, url)
    account, spent, day, admission, _, standing, log = asyncio.run(
        ask(
            url,
            lambda ledger: ledger.account(ALICE, MODEL),
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
        assert direct.hget("{modeltoll}:ledger", "version") == b"3"
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


# What the last versions without evidence wrote: Alice and Bob of Acme, their charges, bills, settlements and usage.
EARLIER = json.loads(Path(__file__).with_name("earlier_ledgers.json").read_text("utf-8"))
MEMBER, BOB = Caller("key:alice", groups=("org:acme",)), Caller("key:bob")
DAY = 86_400.0


def restore(store, url, monkeypatch, valkey):
    """Write the ledger of the earlier version that is stored beside this file."""
    if store == "valkey":
        with redis.Redis(port=valkey.port, password=PASSWORD, db=7) as direct:
            for key, entry in EARLIER[store].items():
                write_key(direct, bytes.fromhex(key), entry["type"], entry["value"])
        return
    module = {"sqlite": sqlite_open, "postgresql": postgres_pool}[store]
    with monkeypatch.context() as before:
        before.setattr(module, "MIGRATIONS", module.MIGRATIONS[:3])
        asyncio.run(ask(url))
    for table, content in EARLIER[store].items():
        rows = [tuple(bytes.fromhex(v["hex"]) if isinstance(v, dict) else v for v in row) for row in content["rows"]]
        if table == "meta":
            continue  # the salt is of the file, not of the accounts
        insert(store, url, table, content["columns"], rows)
    if store == "postgresql":
        with psycopg.connect(url) as direct:
            direct.execute("ALTER TABLE modeltoll.accounts ALTER COLUMN id RESTART WITH 100")
        direct.close()


def write_key(direct, key, kind, value):
    if kind == "string":
        direct.set(key, bytes.fromhex(value))
    elif kind == "hash":
        direct.hset(key, mapping={name: bytes.fromhex(text) for name, text in value.items()})
    elif kind == "zset":
        direct.zadd(key, {bytes.fromhex(member): score for member, score in value})
    else:
        for number, fields in value:
            direct.xadd(key, {name: bytes.fromhex(text) for name, text in fields.items()}, number)


@pytest.mark.parametrize("store", ["sqlite", "postgresql", "valkey"])
def test_a_ledger_with_histograms_keeps_its_totals_and_its_evidence_starts_anew(store, stores, monkeypatch, valkey):
    url = stores[store]
    restore(store, url, monkeypatch, valkey)
    later = NOW + 5 * DAY
    before, largest, charged, _, after, standing, usage, log = asyncio.run(
        ask(
            f"{url}?keep_log_days=forever",
            lambda ledger: ledger.account(MEMBER, MODEL),
            lambda ledger: ledger.largest(9),
            lambda ledger: ledger.charge(MEMBER, make_charge(3, 4, 8, cell=1, at=later)),
            lambda ledger: ledger.bill(
                MEMBER,
                replace(make_log_entry(1.0, later), classes=(3, 4)),
                None,
                [EvidenceUpdate("org:acme", "first", 2.0)],
            ),
            lambda ledger: ledger.account(MEMBER, MODEL),
            lambda ledger: ledger.standing(MEMBER),
            lambda ledger: ledger.spent(MEMBER, 20_000),
            lambda ledger: ledger.log(0, 10),
        )
    )
    assert [(account.caller.name, account.work) for account in largest] == [("key:alice", 2.5), ("key:bob", 1.5)]
    assert before.evidence == EvidenceState.new(0, NOW + 3 * DAY)
    assert (before.rows, before.requests, before.leaks, before.work) == (7, 2, (3.5, 1.75), 2.5)
    assert (before.tariff, before.first_seen, before.last_seen) == ("first", NOW, NOW + 3 * DAY)
    assert [(group.rows, group.requests, group.leaks) for group in before.groups] == [(9, 3, (4.5, 2.25))]
    anew = replace(EvidenceState.new(3, later), counts=(0, 1, 0), blocks=((0, 1, 0),) * 5)
    assert charged.evidence == after.evidence == anew  # the rows 3 and 4 were in the sketch
    assert (charged.rows, charged.requests, charged.leaks, charged.work) == (10, 3, (1.5, 0.75), 2.5)
    none = replace(EvidenceState.new(3, later), log_evidence=2.0)
    assert after.groups[0].evidence == none  # the row 8 was Bob's
    assert (after.work, after.groups[0].rows) == (3.5, 12)
    assert standing == Standing(1.25, 0.0, 0.0, 4, NOW)
    assert usage == DailyUsage(20_000, 3, 0.5)
    first, second, third = (line for _, _, line in log)
    assert (first, second) == (make_log_entry(2.5, NOW), make_log_entry(1.5, NOW + 4 * DAY))
    assert (first.classes, third.classes) == ((), (3, 4))
