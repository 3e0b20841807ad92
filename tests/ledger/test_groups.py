"""The steps of one turn of the event loop go together, and each has an outcome of its own."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import psycopg
import pytest
import redis

from modeltoll.errors import LedgerError
from modeltoll.ledger.from_url import ledger_from_url, open_ledger
from modeltoll.ledger.postgres_connection import PostgresConnection
from modeltoll.ledger.valkey_commands import CommandConnection
from modeltoll.records import Caller
from modeltoll.settlement_records import Adjustment, Receipt, Reservation
from modeltoll.testing.ledger_charges import MODEL, NOW, make_charge, make_log_entry
from modeltoll.testing.servers import PASSWORD

CHARGER = Path(__file__).with_name("charging_process.py")
LASTING = ["sqlite", "postgresql", "valkey"]
ALICE, BOB = Caller("key:alice"), Caller("key:bob")
SHARED = Caller("key:shared")


def start(url, caller, count, at_once):
    command = [sys.executable, str(CHARGER), url, caller, str(count), "--at-once", str(at_once)]
    # Without a buffer, or lines that readline() took ahead would be missing from what communicate() returns.
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)


def finish(process):
    said, complaints = process.communicate(timeout=120)
    assert process.returncode == 0, complaints.decode()
    return [int(line) for line in said.split()]


async def stored_rows(url):
    async with open_ledger(url) as ledger:
        account = await ledger.account(SHARED, "m")
        return account.rows, account.requests, account.evidence.rows


@contextlib.contextmanager
def counted_exchanges(monkeypatch, ledger, store):
    """A list that grows by the number of steps of each transaction, or of each group that is sent to the server."""
    sizes = []
    if store == "sqlite":
        run = ledger._file._run_transaction
        monkeypatch.setattr(ledger._file, "_run_transaction", lambda jobs: sizes.append(len(jobs)) or run(jobs))
    else:
        kind = PostgresConnection if store == "postgresql" else CommandConnection
        exchange = kind.exchange

        def counted(self, commands):
            sizes.append(len(commands))
            return exchange(self, commands)

        monkeypatch.setattr(kind, "exchange", counted)
    yield sizes


@pytest.mark.parametrize("store", LASTING)
def test_a_hundred_steps_of_one_turn_are_one_group_and_add_up(store, stores, monkeypatch):
    """Settlements, charges, bills, adjustments and usage of different callers go together."""

    async def go():
        async with open_ledger(stores[store]) as ledger:
            await ledger.charge(ALICE, make_charge(0))
            await ledger.settle(BOB, (), Reservation(0.0, 1.0), NOW)  # a standing of this day, which is not swept
            with counted_exchanges(monkeypatch, ledger, store) as sizes:
                receipts = [Receipt(bytes([number] * 16), NOW + 9.0, rows=1) for number in range(20)]
                results = await asyncio.gather(
                    *(ledger.charge(ALICE, make_charge(number)) for number in range(1, 21)),
                    *(ledger.settle(ALICE, (receipt,), Reservation(1.0, 1e6), NOW) for receipt in receipts),
                    *(ledger.bill(ALICE, make_log_entry(1.0)) for _ in range(20)),
                    *(ledger.adjust(BOB, Adjustment(1.0)) for _ in range(20)),
                    *(ledger.account(ALICE, MODEL) for _ in range(20)),
                )
            assert sizes[0] == 100  # what follows deletes what is old
            assert sorted(account.rows for account in results[:20]) == list(range(2, 22))
            assert all(admission.admitted for admission in results[20:40])
            account, standing = await ledger.account(ALICE, MODEL), await ledger.standing(ALICE)
            assert (account.rows, account.work, standing.unsettled, standing.settled_rows) == (21, 20.0, 20.0, 20)
            assert (await ledger.standing(BOB)).unsettled == 20.0

    asyncio.run(go())


def test_statements_that_may_take_long_hold_up_no_others(stores, monkeypatch):
    async def go():
        async with open_ledger(stores["postgresql"]) as ledger:
            await ledger.charge(ALICE, make_charge(0))
            await ledger.settle(BOB, (), Reservation(0.0, 1.0), NOW)  # a standing of this day, which is not swept
            with counted_exchanges(monkeypatch, ledger, "postgresql") as sizes:
                await asyncio.gather(
                    ledger.largest(3),
                    *(ledger.charge(ALICE, make_charge(number)) for number in range(1, 11)),
                    ledger.log(0, 10),
                    *(ledger.adjust(BOB, Adjustment(1.0)) for _ in range(10)),
                )
            assert sorted(sizes) == [1, 1, 20]
            assert (await ledger.account(ALICE, MODEL)).rows == 11

    asyncio.run(go())


def damage(store, url):
    """Make Alice's account one that nothing can read."""
    if store == "sqlite":
        with sqlite3.connect(url.removeprefix("sqlite:///")) as direct:
            direct.execute("UPDATE accounts SET blocks = x'07' WHERE caller = ?", (ALICE.name,))
    elif store == "postgresql":
        with psycopg.connect(url) as direct:  # a number of rows to which none can be added
            direct.execute("UPDATE modeltoll.accounts SET rows = 9223372036854775807 WHERE caller = %s", (ALICE.name,))
    else:
        port, number = url.rpartition(":")[2].split("/")
        with redis.Redis(port=int(port), password=PASSWORD, db=int(number)) as direct:
            direct.set(f"{{modeltoll}}:account:{ALICE.name}\0{MODEL}", b"\x81\xa4rows\xa1x")
    direct.close()


@pytest.mark.parametrize("store", LASTING)
def test_a_step_that_fails_fails_alone(store, stores):
    """Those of its group before it and after it are done, once."""

    async def go():
        async with open_ledger(stores[store]) as ledger:
            await ledger.charge(ALICE, make_charge(0))
            damage(store, stores[store])
            results = await asyncio.gather(
                *(ledger.charge(BOB, make_charge(number)) for number in range(10)),
                ledger.charge(ALICE, make_charge(1)),
                *(ledger.charge(BOB, make_charge(number)) for number in range(10, 20)),
                ledger.bill(BOB, make_log_entry(1.0)),
                return_exceptions=True,
            )
            assert isinstance(results[10], Exception)
            accounts = [result for result in results[:21] if not isinstance(result, Exception)]
            assert sorted(account.rows for account in accounts) == list(range(1, 21))
            account = await ledger.account(BOB, MODEL)
            assert (account.rows, account.evidence.rows, account.work) == (20, 20, 1.0)
            assert len(await ledger.log(0, 10)) == 1

    asyncio.run(go())


@pytest.mark.parametrize("store", LASTING)
def test_an_invalid_step_is_refused_before_it_joins_a_group(store, stores):
    async def go():
        async with open_ledger(stores[store]) as ledger:
            wrong = replace(make_charge(2), rows=7)
            first, refused, last = await asyncio.gather(
                ledger.charge(ALICE, make_charge(1)),
                ledger.charge(ALICE, wrong),
                ledger.charge(ALICE, make_charge(3)),
                return_exceptions=True,
            )
            assert isinstance(refused, ValueError)
            assert (first.rows, last.rows) == (1, 2)

    asyncio.run(go())


@pytest.mark.parametrize("store", LASTING)
def test_two_processes_with_a_hundred_charges_at_once_add_up_exactly(store, stores):
    processes = [start(stores[store], caller, 1000, 100) for caller in ("one", "two")]
    rows = [number for process in processes for number in finish(process)]
    assert sorted(rows) == list(range(1, 2001))
    assert asyncio.run(stored_rows(stores[store])) == (2000, 2000, 2000)


@pytest.mark.parametrize("store", LASTING)
def test_a_process_killed_in_a_group_leaves_what_it_acknowledged_and_no_half_of_a_charge(store, stores):
    process = start(stores[store], "one", 1_000_000, 100)
    for _ in range(350):
        process.stdout.readline()
    process.kill()
    rest, _ = process.communicate(timeout=60)
    acknowledged = 350 + rest.count(b"\n")
    rows, requests, counted = asyncio.run(stored_rows(stores[store]))
    assert rows == requests == counted
    assert acknowledged <= rows <= acknowledged + 100
    assert finish(start(stores[store], "two", 1, 1)) == [rows + 1]


@pytest.mark.parametrize("store", ["postgresql", "valkey"])
def test_steps_wait_for_a_connection_no_longer_than_their_time(store, stores, request):
    """They fail as those do whose connection waits, and the ledger goes on when the server does."""
    server = request.getfixturevalue({"postgresql": "postgres", "valkey": "valkey"}[store])

    async def go():
        ledger = ledger_from_url(f"{stores[store]}?connections=1&timeout=0.5")
        await ledger.open()
        await ledger.charge(ALICE, make_charge(0))
        with server.paused():
            first = asyncio.create_task(ledger.charge(ALICE, make_charge(1)))
            await asyncio.sleep(0.02)
            for charge in (first, ledger.charge(ALICE, make_charge(2))):  # the second waits for the connection
                with pytest.raises(LedgerError, match="takes too long"):
                    await charge
        assert (await ledger.charge(ALICE, make_charge(3))).rows in (2, 3)  # the second was never sent
        await ledger.close()

    asyncio.run(go())


@pytest.mark.parametrize("store", LASTING)
def test_numbers_of_numpy_are_stored_as_they_are(store, stores):
    async def go():
        at, work = np.float64(NOW) + 1 / 3, np.float64(0.1)
        async with open_ledger(stores[store]) as ledger:
            await ledger.charge(ALICE, replace(make_charge(1), at=at))
            await ledger.settle(ALICE, (), Reservation(work, np.float64(1e6)), at)
            await ledger.bill(ALICE, replace(make_log_entry(1.0), at=at), Adjustment(work))  # with a sweep
            account, standing = await ledger.account(ALICE, MODEL), await ledger.standing(ALICE)
            assert (account.last_seen, standing.unsettled, standing.drained) == (at, 0.2, at)
            assert [line.at for _, _, line in await ledger.log(0, 10)] == [at]

    asyncio.run(go())


@pytest.mark.filterwarnings("ignore")  # of what the first event loop leaves behind
@pytest.mark.parametrize(("store", "turns"), [*(("sqlite", turns) for turns in range(4)), ("postgresql", 0)])
def test_steps_of_an_event_loop_that_was_closed_do_not_hold_up_those_of_the_next(store, stores, turns):
    """As of an application whose requests are handled in one event loop after another, none of which closes the ledger."""
    ledger, begun = ledger_from_url(stores[store]), []

    async def begin():
        await ledger.open()
        begun.extend(
            asyncio.ensure_future(ledger.charge(ALICE, make_charge(*range(number, number + 65)))) for number in range(9)
        )
        for _ in range(turns):
            await asyncio.sleep(0)

    async def go_on():
        await ledger.open()
        charged = [ledger.charge(BOB, make_charge(number)) for number in range(3)]
        async with asyncio.timeout(10):
            accounts = await asyncio.gather(*charged)
            await ledger.close()
        return max(account.rows for account in accounts)

    for _ in range(2):
        first = asyncio.new_event_loop()
        first.run_until_complete(begin())
        first.close()
    assert asyncio.run(go_on()) == 3
