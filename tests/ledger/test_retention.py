"""Retention: what is old is deleted in bounded steps, from every ledger, and line numbers continue."""

from __future__ import annotations

import asyncio
import importlib
import random
import sqlite3

import psycopg
import pytest
import redis

from modeltoll.errors import SettingsError
from modeltoll.ledger import retention, sqlite_sweep
from modeltoll.ledger.from_url import ledger_from_url, open_ledger
from modeltoll.ledger.memory import MemoryLedger
from modeltoll.ledger.retention import Retention
from modeltoll.ledger.row_codec import LOG_COLUMNS, encode_line
from modeltoll.records import Caller, Charge, DailyQuota, DailyUsage, LogEntry, Work
from modeltoll.settlement_records import Receipt, Reservation
from modeltoll.testing.servers import PASSWORD

DAY = 86_400.0
CALLER = Caller("key:a")
SWEEP, POSTGRES = "modeltoll.ledger.sqlite_sweep", "modeltoll.ledger.postgres_codec"
STORES = ["sqlite", "postgresql", "valkey"]


def log_entry(day):
    return LogEntry(1e9 + day * DAY, "m", 1, ("gap",), ((0.5,),), (0.5,), Work(1.0, 1, 1.0), "free")


async def days_left(url, days):
    """(line number, day) of the lines that are left after bills of these days."""
    ledger = ledger_from_url(url)
    await ledger.open()
    for day in days:
        await ledger.bill(CALLER, log_entry(day))
    lines = [(number, (line.at - 1e9) / DAY) for number, _, line in await ledger.log(0, 10_000)]
    await ledger.close()
    return lines


@pytest.mark.parametrize("store", STORES)
def test_old_lines_are_deleted_and_the_others_keep_their_numbers(store, stores, monkeypatch):
    monkeypatch.setattr(retention, "_EVERY", 3)
    first, *_ = whole = asyncio.run(days_left(stores[store], range(5)))
    assert [day for _, day in whole] == [0, 1, 2, 3, 4]
    left = asyncio.run(days_left(f"{stores[store]}?keep_log_days=2.5", [5, 8.5, 6, 10]))
    # Asked at the bills of the days 5 and 10. The line of day 6 is too old, but lies behind one that is not.
    assert left == [(first[0] + place, day) for place, day in [(6, 8.5), (7, 6), (8, 10)]]


@pytest.mark.parametrize("store", STORES)
def test_the_last_line_stays_and_no_number_is_assigned_twice(store, stores, monkeypatch):
    monkeypatch.setattr(retention, "_EVERY", 1)
    url = f"{stores[store]}?keep_log_days=1"
    ((last, _),) = asyncio.run(days_left(url, [0, 10, 20]))
    assert asyncio.run(days_left(url, [-100]))[-1] == (last + 1, -100)
    assert asyncio.run(days_left(url, [50])) == [(last + 2, 50)]


def test_deletions_are_bounded_and_keep_up_with_the_bills(monkeypatch):
    assert retention.MAX_LINES_AT_ONCE > retention._EVERY
    monkeypatch.setattr(retention, "_EVERY", 3)
    kept = Retention(10.0)
    sweeps = [kept.sweep(at) for at in (100.0, 101.0, 102.0, 103.0)]
    assert [sweep and sweep.lines_before for sweep in sweeps] == [90.0, None, None, 93.0]
    kept.swept(more=False)
    assert kept.sweep(104.0) is None
    kept.swept(more=True)  # the next bill goes on at once
    assert kept.sweep(105.0) is not None
    assert kept.sweep(106.0) is None


def test_the_log_keeps_30_days_by_default_and_for_ever_where_the_url_says_so():
    assert Retention.from_options({}).sweep(0.0).lines_before == -30 * DAY
    assert Retention.from_options({"keep_log_days": "7"}).sweep(0.0).lines_before == -7 * DAY
    assert Retention.from_options({"keep_log_days": "forever"}).sweep(0.0).lines_before is None


@pytest.mark.parametrize("store", ["memory", *STORES])
def test_invalid_days_are_refused(store, stores):
    for days in ("0", "-1", "ever", ""):
        with pytest.raises(SettingsError, match="keep_log_days must be a number above 0"):
            ledger_from_url(f"{stores[store]}?keep_log_days={days}")


LONG = retention.UNTOUCHED
START = 1e9
ROUNDS = 6
QUOTA = DailyQuota(rows=9)


async def leave_traces(ledger, number, at):
    """One caller's account of two fingerprints, with a group's; standing, counted receipt and usage of the day."""
    caller = Caller(f"net:198.51.{number}.0/24", groups=(f"prefix:198.{number}.0.0/16",))
    fingerprints = tuple(bytes([row, number]) * 4 for row in range(2))
    await ledger.charge(caller, Charge("m", 2, (0.5,), (1,) * 2, fingerprints, 3, "t", at))
    receipt = Receipt(bytes([number]) * 16, at + 5.0, rows=1)
    await ledger.settle(caller, (receipt,), Reservation(1.0, 10.0), at)
    await ledger.spend(caller, DailyUsage(int(at // DAY), 1), QUOTA)
    return caller


def count_rows(url):
    """Rows of each table in which callers leave traces."""
    tables = ["accounts", "sketch", "standings", "receipts", "days"]
    tables += [] if url.startswith("sqlite") else ["evidence"]
    if url.startswith("sqlite"):
        direct, schema = sqlite3.connect(url.removeprefix("sqlite:///").partition("?")[0]), ""
    else:
        direct, schema = psycopg.connect(url.partition("?")[0]), "modeltoll."
    with direct:
        counts = {table: direct.execute(f"SELECT count(*) FROM {schema}{table}").fetchone()[0] for table in tables}
    direct.close()
    return counts


def bills(at):
    return LogEntry(at, "m", 1, ("gap",), ((0.5,),), (0.5,), Work(1.0, 1, 1.0), "free")


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_traces_that_nobody_touched_are_deleted_in_bounded_steps(store, stores, monkeypatch):
    for module in (retention, importlib.import_module({"sqlite": SWEEP, "postgresql": POSTGRES}[store])):
        monkeypatch.setattr(module, "MAX_LINES_AT_ONCE", 4)
        monkeypatch.setattr(module, "MAX_ACCOUNTS_AT_ONCE", 4)
        monkeypatch.setattr(module, "MAX_SLOTS_AT_ONCE", 3)
    if store == "sqlite":  # these statements hold the limit as a number
        for name, columns in {
            "_STANDINGS": ("standings", "caller", "drained"),
            "_DAYS": ("days", "caller", "day"),
        }.items():
            monkeypatch.setattr(sqlite_sweep, name, sqlite_sweep._oldest(*columns))
        monkeypatch.setattr(sqlite_sweep, "_RECEIPTS", sqlite_sweep._oldest("receipts", "key", "expires"))

    async def go():
        async with open_ledger(stores[store]) as ledger:
            await ledger.bill(CALLER, bills(START))  # the first sweep
            for number in range(ROUNDS):
                await leave_traces(ledger, number, START)
            kept = await leave_traces(ledger, 99, START + LONG)
            before = count_rows(stores[store])
            ledger._retention._until_due = 0
            await ledger.bill(CALLER, bills(START + LONG + DAY))
            first = count_rows(stores[store])
            for _ in range(6):  # the step reported more, so that each bill goes on
                await ledger.bill(CALLER, bills(START + LONG + DAY))
            last = count_rows(stores[store])
            still = (await ledger.account(kept, "m")).rows, (await ledger.standing(kept)).settled_rows
            return before, first, last, still

    before, first, last, still = asyncio.run(go())
    if store == "postgresql":  # where each account has a row in another table
        assert [counts.pop("evidence") for counts in (before, first, last)] == [14, 12, 2]
    assert before == {"accounts": 14, "sketch": 28, "standings": 7, "receipts": 7, "days": 7}
    assert first == {"accounts": 12, "sketch": 24, "standings": 3, "receipts": 3, "days": 3}
    assert last == {"accounts": 2, "sketch": 4, "standings": 1, "receipts": 0, "days": 1}
    assert still == (2, 1)


def test_the_memory_forgets_the_same():
    async def go():
        ledger = MemoryLedger()
        await ledger.open()
        await ledger.bill(CALLER, bills(START))
        for number in range(ROUNDS):
            await leave_traces(ledger, number, START)
        await leave_traces(ledger, 99, START + LONG)
        ledger._retention._until_due = 0
        await ledger.bill(CALLER, bills(START + LONG + DAY))
        stored = ledger._pages, ledger._standings, ledger._receipts, ledger._days, ledger._lines
        return [len(each) for each in stored]

    assert asyncio.run(go()) == [2, 1, 0, 1, 1]


def test_on_valkey_traces_expire_by_themselves_and_leave_the_ranking(keyspace, valkey):
    async def go(direct):
        async with open_ledger(keyspace) as ledger:
            caller = await leave_traces(ledger, 1, START)
            await ledger.bill(caller, bills(START))  # does not change when the account expires
            lifetimes = {key: direct.ttl(key) for key in direct.keys("{modeltoll}:*")}
            account = f"{{modeltoll}}:account:{caller.name}\0m"
            assert direct.pexpire(account, 1)
            while direct.exists(account):  # noqa: ASYNC110  the server says when
                await asyncio.sleep(0)
            assert await ledger.largest(10) == []
            assert direct.zcard("{modeltoll}:ranking") == 1
            ledger._retention._until_due = 0
            await ledger.bill(CALLER, bills(START))
            assert direct.zcard("{modeltoll}:ranking") == 0
            return lifetimes

    with redis.Redis(port=valkey.port, password=PASSWORD, db=7, decode_responses=False) as direct:
        lifetimes = asyncio.run(go(direct))
    lasting = {b"ledger", b"log", b"line", b"ranking"}
    found = {}
    for key, seconds in lifetimes.items():
        found.setdefault(key.split(b":")[1], set()).add(seconds)
    assert {kind for kind, seconds in found.items() if seconds == {-1}} == lasting
    for kind in (b"account", b"sketch", b"standing"):
        assert all(LONG - 60 <= seconds <= LONG for seconds in found[kind])
    assert all(3600 - 60 <= seconds <= 3605 for seconds in found[b"receipt"])  # expires in 5 s, and an hour of grace


@pytest.mark.parametrize("store", ["memory", *STORES])
def test_a_receipt_counts_once_after_it_was_forgotten_too(store, stores):
    """A receipt is forgotten an hour after it expired; from its expiry on it counts for nothing, whatever is stored."""

    async def go():
        async with open_ledger(stores[store]) as ledger:
            receipt = Receipt(b"r" * 16, START + 5.0, rows=1)
            await ledger.settle(CALLER, (receipt,), None, START)
            for at in (START + 4.9, START + 5.0, START + 10 * DAY):
                ledger._retention._until_due = 0
                await ledger.bill(CALLER, bills(at))
                await ledger.settle(CALLER, (receipt,), None, at)
            return (await ledger.standing(CALLER)).settled_rows

    assert asyncio.run(go()) == 1


@pytest.mark.parametrize("store", STORES)
def test_a_line_of_1024_rows_takes_25_kilobytes(store, stores):
    """8 bytes for each leak and p-value, two leaks a row; as JSON they took 64 KiB."""
    dice = random.Random(0)
    rows = 1024
    entry = LogEntry(
        START,
        "m",
        rows,
        ("entropy", "gap"),
        tuple((dice.random(), dice.random()) for _ in range(rows)),
        tuple(dice.random() for _ in range(rows)),
        Work(1.0, rows, 1.0),
        "sealed",
    )
    line = encode_line("0123456789abcdef", entry)
    packed = line[list(LOG_COLUMNS).index("numbers")]
    assert len(packed) == 12 + 8 * 3 * rows
    assert sum(len(str(value)) for value in line if value is not packed) < 200

    async def go():
        async with open_ledger(stores[store]) as ledger:
            await ledger.bill(CALLER, entry)
            return await ledger.log(0, 10)

    ((_, _, found),) = asyncio.run(go())
    assert found == entry
