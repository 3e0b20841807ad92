"""Ledgers on servers: refusals, crashes, and secrecy of the password."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import traceback
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
import redis

from modeltoll.errors import LedgerError
from modeltoll.ledger import postgres_pool, valkey_connection
from modeltoll.ledger.from_url import ledger_from_url
from modeltoll.records import Caller, Charge, LogEntry, Work
from modeltoll.settlement_records import Reservation
from modeltoll.testing.ledgers import check_ledger
from modeltoll.testing.servers import PASSWORD, VALKEY_SOCKET

CHARGER = Path(__file__).with_name("charging_process.py")
CALLER = Caller("key:a", groups=("org:b",))
SECRETS = (PASSWORD, quote(PASSWORD, safe=""), "wrong-secret")


def new_charge(number, rows=1, **changes):
    fingerprints = tuple((number * 1000 + row).to_bytes(8, "big") for row in range(rows))
    given = {"model": "m", "leaks": (0.5,), "cells": (1,) * rows, "cell_count": 3, "tariff": "t", "at": 1e9}
    return Charge(rows=rows, fingerprints=fingerprints, **(given | changes))


def log_entry(seconds, **changes):
    given = {"model": "m", "measures": ("gap",), "mode": "sealed"}
    return LogEntry(at=1e9, rows=1, leaks=((0.5,),), rarest=(0.5,), work=Work(seconds, 1, seconds), **(given | changes))


@pytest.fixture(params=["postgresql", "valkey"])
def kind(request):
    return request.param


@pytest.fixture
def url(kind, request):
    return request.getfixturevalue({"postgresql": "database", "valkey": "keyspace"}[kind])


@pytest.fixture
def server(kind, request):
    return request.getfixturevalue({"postgresql": "postgres", "valkey": "valkey"}[kind])


def refused(step, caplog):
    """The message with which a step is refused; neither it nor the log may contain a password."""
    with caplog.at_level(logging.DEBUG), pytest.raises(LedgerError) as caught:
        asyncio.run(step)
    shown = "".join(traceback.format_exception(caught.value)) + caught.value.private + caplog.text
    assert not any(secret in shown for secret in SECRETS)
    assert "127.0.0.1" not in str(caught.value)
    return str(caught.value)


async def opened(url):
    ledger = ledger_from_url(url)
    await ledger.open()
    return ledger


def test_a_server_that_is_down_is_reported_as_unreachable(url, caplog):
    url = url.replace(f":{url.rpartition(':')[2].partition('/')[0]}/", ":1/")
    assert refused(opened(url), caplog) == "the ledger's server cannot be reached"


def test_a_host_that_does_not_exist_is_unreachable(url, caplog):
    assert (
        refused(opened(url.replace("127.0.0.1", "nowhere.invalid")), caplog) == "the ledger's server cannot be reached"
    )


def test_a_wrong_password_is_refused_and_never_shown(url, caplog):
    wrong = url.replace(quote(PASSWORD, safe=""), "wrong-secret")
    assert refused(opened(wrong), caplog) == "the ledger's server refuses the user or the password"


def test_a_missing_password_is_refused(url, caplog):
    without = url.replace(f":{quote(PASSWORD, safe='')}", "")
    assert refused(opened(without), caplog) == "the ledger's server refuses the user or the password"


def test_a_server_that_does_not_answer_is_waited_for_as_long_as_the_url_says(url, server, caplog):
    with server.paused():
        assert refused(opened(f"{url}?timeout=0.05"), caplog) == "the ledger's server takes too long"

    async def go():
        ledger = await opened(f"{url}?timeout=1")
        with server.paused(), pytest.raises(LedgerError, match="takes too long"):
            await ledger.charge(CALLER, new_charge(1))
        rows = (await ledger.charge(CALLER, new_charge(2))).rows
        await ledger.close()
        return rows

    assert asyncio.run(go()) in (1, 2)  # the abandoned charge may have been executed


def test_a_restart_of_the_server_costs_an_open_gateway_nothing(url, server):
    async def go():
        ledger = await opened(url)
        await asyncio.gather(*(ledger.charge(CALLER, new_charge(n)) for n in range(5)))
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        accounts = await asyncio.gather(*(ledger.charge(CALLER, new_charge(n)) for n in range(10)))
        assert sorted(account.rows for account in accounts) == list(range(6, 16))
        assert max(account.evidence.counts[1] for account in accounts) == 10  # the sketch is there again too
        await ledger.close()

    asyncio.run(go())


def test_a_server_killed_in_the_middle_loses_nothing_acknowledged_where_it_is_durable(url, kind, server):
    """PostgreSQL with synchronous_commit, Valkey with appendonly; without, the last moment may be lost."""
    durable = f"{url}?options=-c%20synchronous_commit%3Don" if kind == "postgresql" else url

    async def go():
        ledger, rows = await opened(durable), []

        async def customer(start):
            for number in range(start, start + 1000):
                rows.append((await ledger.charge(CALLER, new_charge(number))).rows)
                if len(rows) == 300:
                    server.kill()

        refusals = await asyncio.gather(*(customer(1000 * n) for n in range(4)), return_exceptions=True)
        assert all(isinstance(refusal, LedgerError) for refusal in refusals)
        with pytest.raises(LedgerError, match="cannot be reached"):
            await ledger.charge(CALLER, new_charge(1))
        server.start()
        known = (await ledger.account(CALLER, "m")).rows
        assert max(rows) <= known <= max(rows) + 4  # what was under way may have been done
        assert (await ledger.charge(CALLER, new_charge(99_999))).rows == known + 1
        await ledger.close()

    asyncio.run(go())


def test_two_processes_on_one_server_add_up_exactly(url):
    commands = [[sys.executable, str(CHARGER), url, caller, "1000"] for caller in ("one", "two")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for command in commands]
    rows = []
    for process in processes:
        said, complaints = process.communicate(timeout=120)
        assert process.returncode == 0, complaints.decode()
        rows += map(int, said.split())
    assert sorted(rows) == list(range(1, 2001))


def test_gateways_that_start_at_once_make_one_ledger(url):
    async def go():
        ledgers = [ledger_from_url(url) for _ in range(12)]
        await asyncio.gather(*(ledger.open() for ledger in ledgers))
        accounts = await asyncio.gather(*(ledger.charge(CALLER, new_charge(n)) for n, ledger in enumerate(ledgers)))
        assert sorted(account.rows for account in accounts) == list(range(1, 13))
        salts = {ledger._salt for ledger in ledgers}
        assert [len(salt) for salt in salts] == [32]
        await asyncio.gather(*(ledger.close() for ledger in ledgers))

    asyncio.run(go())


def test_no_more_connections_are_kept_than_the_url_allows(url, kind, request):
    async def go():
        ledger = await opened(f"{url}?connections=2")
        for _ in range(2):
            accounts = await asyncio.gather(*(ledger.charge(CALLER, new_charge(n)) for n in range(50)))
        assert max(account.rows for account in accounts) == 100
        if kind == "postgresql":
            with direct(url) as owner:
                query = (
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s"
                )
                (count,) = owner.execute(query, ("modeltoll",)).fetchone()
            owner.close()
        else:
            count = sum(line["cmd"] == "evalsha" for line in request.getfixturevalue("keys").client_list())
        assert 1 <= count <= 2
        await ledger.close()

    asyncio.run(go())


def test_charges_of_crossing_groups_never_deadlock(url):
    crossing = [Caller(f"key:{n}", groups=("org:a", "prefix:b")[:: 1 if n % 2 else -1]) for n in range(8)]

    async def go():
        one, other = await opened(url), await opened(url)
        for turn in range(20):
            charges = [
                (one, other)[n % 2].charge(caller, new_charge(turn * 8 + n)) for n, caller in enumerate(crossing)
            ]
            await asyncio.gather(*charges)
        for group in ("org:a", "prefix:b"):
            assert (await one.account(Caller(group), "m")).rows == 160
        await one.close()
        await other.close()

    asyncio.run(go())


def test_a_caller_that_hangs_up_leaves_the_ledger_consistent(url):
    async def go():
        ledger = await opened(f"{url}?connections=1")
        await ledger.charge(CALLER, new_charge(0))
        for number in range(1, 21):
            charge = asyncio.create_task(ledger.charge(CALLER, new_charge(number)))
            for _ in range(number):
                await asyncio.sleep(0)
            charge.cancel()
            await asyncio.gather(charge, return_exceptions=True)
            assert (await ledger.account(CALLER, "m")).rows == (await ledger.account(CALLER, "m")).requests
        account = await ledger.charge(CALLER, new_charge(99))
        assert 2 <= account.rows == account.groups[0].rows <= 22
        await ledger.close()

    asyncio.run(go())


def test_texts_and_numbers_that_a_server_cannot_keep_are_refused_and_others_are_kept_as_they_are(url):
    odd = "'\"\\{}%s\r\n\t☃\U0001f40d" + "x" * 3000

    async def go():
        ledger = await opened(url)
        await ledger.bill(CALLER, log_entry(1.5, model=odd, mode=odd, measures=(odd, "\0")))
        account = await ledger.charge(CALLER, new_charge(1, model=odd, tariff=odd))
        assert (account.model, account.tariff) == (odd, odd)
        ((_, _, line),) = await ledger.log(0, 10)
        assert line == log_entry(1.5, model=odd, mode=odd, measures=(odd, "\0"))
        for name in ("", "a\0b", "\ud800"):
            with pytest.raises(ValueError):
                await ledger.charge(Caller(name), new_charge(1))
            with pytest.raises(ValueError):
                await ledger.account(CALLER, name)
        with pytest.raises(ValueError):
            await ledger.charge(CALLER, new_charge(1, tariff="\ud800"))
        assert (await ledger.charge(CALLER, new_charge(2, model=odd, tariff=odd))).rows == 2
        await ledger.close()

    asyncio.run(go())


def test_a_request_larger_than_the_sketch_is_one_charge(url):
    async def go():
        ledger = await opened(url)
        assert (await ledger.charge(CALLER, new_charge(1, rows=9000))).evidence.counts == (0, 9000, 0)
        again = await ledger.charge(CALLER, new_charge(9, rows=1000))  # the last ones are known
        assert again.evidence.counts == (0, 9000, 0)
        await ledger.close()

    asyncio.run(go())


def direct(postgres_url):
    return psycopg.connect(postgres_url, autocommit=True)


# PostgreSQL alone.


def test_a_database_that_does_not_exist_is_named_as_missing(postgres, caplog):
    assert "does not exist" in refused(opened(f"{postgres.url}_none"), caplog)


@pytest.mark.parametrize(
    "theirs",
    ["CREATE TABLE modeltoll.users ()", "CREATE TABLE modeltoll.meta (name text)", "CREATE SEQUENCE modeltoll.n"],
)
def test_the_schema_of_another_program_is_refused_and_left_as_it_is(database, theirs, caplog):
    with direct(database) as other:
        other.execute("CREATE SCHEMA modeltoll")
        other.execute(theirs)
        assert "to another program" in refused(opened(database), caplog)
        (count,) = other.execute(
            "SELECT count(*) FROM pg_class WHERE relnamespace = 'modeltoll'::regnamespace"
        ).fetchone()
        assert count == 1
    other.close()


def test_an_empty_schema_made_for_a_user_who_may_make_none_is_enough(database, caplog):
    with direct(database) as owner:
        owner.execute(f"CREATE ROLE guest_of_{owner.info.dbname} LOGIN PASSWORD 'wrong-secret'")
        theirs = database.replace("postgres:", f"guest_of_{owner.info.dbname}:").replace(
            quote(PASSWORD, safe=""), "wrong-secret"
        )
        assert "allow the user to create the schema" in refused(opened(theirs), caplog)
        owner.execute(f"CREATE SCHEMA modeltoll AUTHORIZATION guest_of_{owner.info.dbname}")

    async def go():
        ledger = await opened(theirs)
        assert (await ledger.charge(CALLER, new_charge(1))).rows == 1
        await ledger.close()

    asyncio.run(go())
    owner.close()


def test_a_database_of_a_newer_version_is_refused(database, caplog):
    async def make():
        await (await opened(database)).close()

    asyncio.run(make())
    with direct(database) as newer:
        newer.execute("UPDATE modeltoll.meta SET version = %s", (len(postgres_pool.MIGRATIONS) + 1,))
    newer.close()
    assert "upgrade Modeltoll" in refused(opened(database), caplog)


def test_a_read_only_database_and_one_of_another_encoding_are_refused(postgres, database, caplog):
    read_only = f"{database}?options=-c%20default_transaction_read_only%3Don"
    assert "read-only" in refused(opened(read_only), caplog)
    with direct(postgres.url) as owner:
        owner.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    owner.close()
    assert "encoding UTF8, not LATIN1" in refused(opened(f"{postgres.url.rpartition('/')[0]}/latin"), caplog)


def test_tables_that_are_dropped_in_use_are_reported(database, caplog):
    async def go():
        ledger = await opened(database)
        await ledger.charge(CALLER, new_charge(1))
        with direct(database) as owner:
            owner.execute("DROP SCHEMA modeltoll CASCADE")
        owner.close()
        try:
            await ledger.charge(CALLER, new_charge(2))
        finally:
            await ledger.close()

    assert refused(go(), caplog) == "the ledger's tables are missing; restart the gateway"


def test_the_log_is_append_only_and_loses_its_oldest_lines_only_and_never_all(database):
    async def make():
        ledger = await opened(database)
        for seconds in (1.0, 2.0, 3.0):
            await ledger.bill(CALLER, log_entry(seconds))
        await ledger.close()

    asyncio.run(make())
    with direct(database) as owner:
        for statement in (
            "UPDATE modeltoll.log SET work = 0",
            "DELETE FROM modeltoll.log WHERE line = 3",
            "DELETE FROM modeltoll.log",
            "TRUNCATE modeltoll.log",
        ):
            with pytest.raises(psycopg.errors.RaiseException):
                owner.execute(statement)
        assert owner.execute("DELETE FROM modeltoll.log WHERE line <= 2").rowcount == 2
        assert owner.execute("SELECT count(*) FROM modeltoll.log WHERE caller LIKE '%key%'").fetchone() == (0,)
    owner.close()


def test_a_reader_of_the_log_never_sees_a_line_before_those_with_lower_numbers(database):
    """A number is given only when all lower ones can be read: a slow writer delays the next line."""
    insert = "INSERT INTO modeltoll.log SELECT 0, 0, 'c', 'm', 1, '[]', '[]', '[]', 'free', 0, 0, 0, 0, 0, 0"
    waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"

    async def go():
        ledger = await opened(f"{database}?keep_log_days=forever")
        with psycopg.connect(database) as slow, direct(database) as owner:
            slow.execute(insert)
            billing = asyncio.create_task(ledger.bill(CALLER, log_entry(1.0)))
            while owner.execute(waits).fetchone() == (0,):  # noqa: ASYNC110  the server says when, and to no event
                await asyncio.sleep(0)
            assert await ledger.log(0, 10) == []
            slow.commit()
            await billing
        slow.close()
        owner.close()
        assert [line.work.seconds for _, _, line in await ledger.log(0, 10)] == [0.0, 1.0]
        await ledger.close()

    asyncio.run(go())


def test_charges_and_settlements_of_a_day_update_no_index(database):
    """Heap-only updates: the index by age is on the day, which does not change."""

    async def go():
        ledger = await opened(database)
        for number in range(20):
            await ledger.charge(CALLER, new_charge(number, at=1e9 + number))
            await ledger.settle(CALLER, (), Reservation(1.0, 1e6), 1e9 + number)
        await ledger.close()

    asyncio.run(go())
    with direct(database) as owner:
        owner.execute("SELECT pg_stat_force_next_flush()")
        for table, updates in (("accounts", 40), ("standings", 19)):
            query = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = %s"
            found, heap_only = owner.execute(query, (table,)).fetchone()
            assert found == updates
            assert heap_only >= updates - 4  # a full page now and then
    owner.close()


def test_statements_that_are_no_longer_prepared_or_planned_for_other_tables_are_prepared_again(database):
    """As where a pool of connections is between, or a newer gateway has changed the tables."""

    async def go():
        ledger = await opened(database)
        await ledger.charge(CALLER, new_charge(0))
        (connection,) = ledger._server._groups._idle
        connection._names.update(dict.fromkeys(connection._names, b"none"))
        account = await ledger.charge(CALLER, new_charge(1))
        await ledger.standing(CALLER)
        with psycopg.connect(database, autocommit=True) as direct:
            direct.execute("ALTER TABLE modeltoll.standings ALTER COLUMN settled_rows TYPE numeric")
        await ledger.standing(CALLER)
        await ledger.close()
        return account.rows

    assert asyncio.run(go()) == 2


def test_encryption_that_the_server_does_not_offer_is_reported(database, caplog):
    assert "do not agree on encryption" in refused(opened(f"{database}?sslmode=require"), caplog)


# Valkey alone.


@pytest.fixture
def keys(keyspace, valkey):
    with redis.Redis(port=valkey.port, password=PASSWORD, db=int(keyspace.rpartition("/")[2])) as client:
        yield client


def test_keys_of_another_program_are_refused_and_left_as_they_are(keyspace, keys, caplog):
    for make in (lambda: keys.set("{modeltoll}:ledger", "x"), lambda: keys.hset("{modeltoll}:ledger", "program", "x")):
        keys.flushdb()
        make()
        before = keys.dump("{modeltoll}:ledger")
        assert "to another program" in refused(opened(keyspace), caplog)
        assert keys.dump("{modeltoll}:ledger") == before


def test_keys_of_a_newer_version_are_refused(keyspace, keys, caplog):
    async def make():
        await (await opened(keyspace)).close()

    asyncio.run(make())
    keys.hset("{modeltoll}:ledger", "version", valkey_connection.VERSION + 1)
    assert "upgrade Modeltoll" in refused(opened(keyspace), caplog)


def test_a_replica_and_a_full_memory_and_a_number_too_high_are_refused(keyspace, keys, valkey, caplog):
    keys.replicaof("127.0.0.1", 1)
    assert "read-only" in refused(opened(keyspace), caplog)
    keys.replicaof("NO", "ONE")
    keys.config_set("maxmemory", 1)
    assert "memory of the ledger's server is full" in refused(opened(keyspace), caplog)
    keys.config_set("maxmemory", 0)
    assert "no database of that number" in refused(opened(f"{valkey.url}/999"), caplog)


def test_a_user_without_the_right_to_scripts_gets_a_message_with_the_rights(keyspace, keys, caplog):
    keys.acl_setuser("guest", enabled=True, passwords=["+wrong-secret"], keys=["*"], commands=["+get"], reset=True)
    theirs = keyspace.replace(f":{quote(PASSWORD, safe='')}@", "guest:wrong-secret@")
    assert "needs scripts" in refused(opened(theirs), caplog)
    rights = ["+@read", "+@write", "+@scripting", "+@connection"]  # as docs/how-to/ledgers.md says
    keys.acl_setuser(
        "guest", enabled=True, passwords=["+wrong-secret"], keys=["{modeltoll}:*"], commands=rights, reset=True
    )
    check_ledger(lambda: ledger_from_url(theirs), survives_reopen=True)
    keys.acl_deluser("guest")


def test_the_unix_socket_of_a_valkey_server_leads_to_the_same_ledger(keyspace, valkey):
    socket = f"unix://:{quote(PASSWORD, safe='')}@{valkey.folder / VALKEY_SOCKET}?db=7"

    async def story():
        by_port, by_socket = await opened(keyspace), await opened(socket)
        await by_port.charge(CALLER, new_charge(1))
        account = await by_socket.charge(CALLER, new_charge(2))
        await by_port.close()
        await by_socket.close()
        return account.rows

    assert asyncio.run(story()) == 2


def test_postgres_and_postgresql_are_one_scheme(database):
    async def story():
        first, second = await opened(database), await opened(database.replace("postgresql:", "postgres:"))
        await first.charge(CALLER, new_charge(1))
        account = await second.charge(CALLER, new_charge(2))
        await first.close()
        await second.close()
        return account.rows

    assert asyncio.run(story()) == 2


def test_an_encrypted_url_is_never_served_in_the_clear(keyspace, caplog):
    encrypted = keyspace.replace("valkey://", "valkeys://") + "?timeout=0.3"
    assert "the ledger's server" in refused(opened(encrypted), caplog)


def test_scripts_that_the_server_has_forgotten_are_sent_again(keyspace, keys):
    async def go():
        ledger = await opened(keyspace)
        await ledger.charge(CALLER, new_charge(1))
        keys.script_flush()
        assert (await ledger.charge(CALLER, new_charge(2))).rows == 2
        await ledger.close()

    asyncio.run(go())


def test_a_damaged_account_is_reported_as_damaged(keyspace, keys, caplog):
    async def go(step):
        ledger = await opened(keyspace)
        try:
            await ledger.charge(CALLER, new_charge(1))
            keys.set("{modeltoll}:account:key:a\0m", b"\x81\xa4rows\xa1x")
            await step(ledger)
        finally:
            await ledger.close()

    assert "damaged" in refused(go(lambda ledger: ledger.account(CALLER, "m")), caplog)
