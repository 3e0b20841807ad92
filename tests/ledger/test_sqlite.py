"""A SQLite ledger refuses what it cannot keep, shows no path, and waits only in its own thread."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from pathlib import Path

import pytest

from modeltoll.errors import LedgerError
from modeltoll.ledger import sqlite_connection, sqlite_open
from modeltoll.ledger.sqlite import SqliteLedger
from modeltoll.records import Caller, Charge, LogEntry, Work

CALLER = Caller("key:a")


def new_charge(number, rows=1):
    fingerprints = tuple((number * 1000 + row).to_bytes(8, "big") for row in range(rows))
    return Charge("m", rows, (0.5,), (1,) * rows, fingerprints, 3, "t", 1e9)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "secret-folder-name" / "ledger.db"


@pytest.fixture
def made(file):
    """A ledger's file that holds one charge and three bills."""
    file.parent.mkdir()

    async def make():
        ledger = SqliteLedger(file)
        await ledger.open()
        await ledger.charge(CALLER, new_charge(0))
        for seconds in (1.0, 2.0, 3.0):
            await ledger.bill(
                CALLER, LogEntry(1e9, "m", 1, ("gap",), ((0.5,),), (0.5,), Work(seconds, 1, seconds), "sealed")
            )
        await ledger.close()

    asyncio.run(make())
    return file


def refusal(file, **options):
    """The message of a refused opening; the public part must not contain the path, the private part must."""
    ledger = SqliteLedger(file, **options)
    with pytest.raises(LedgerError) as caught:
        asyncio.run(ledger.open())
    assert "secret" not in str(caught.value)
    assert "secret-folder-name" in caught.value.private
    asyncio.run(ledger.close())
    return str(caught.value)


def test_a_file_without_a_folder_is_refused(file):
    assert "folder must exist" in refusal(file)
    assert not file.parent.exists()


def test_a_folder_is_refused(file):
    file.mkdir(parents=True)
    assert "cannot be opened" in refusal(file)


def test_a_device_that_is_always_full_is_refused(file):
    file.parent.mkdir()
    file.symlink_to("/dev/full")
    assert "disk is full" in refusal(file)


def test_a_file_that_is_not_a_database_is_refused_and_left_as_it_is(file):
    file.parent.mkdir()
    file.write_bytes(b"caller,rows\nalice,17\n" * 200)
    before = file.read_bytes()
    assert "not a SQLite database" in refusal(file)
    assert file.read_bytes() == before


def test_the_database_of_another_program_is_refused_and_left_as_it_is(file):
    file.parent.mkdir()
    for mark in ("CREATE TABLE accounts (id)", "PRAGMA user_version = 1", "PRAGMA application_id = 7"):
        file.unlink(missing_ok=True)
        other = sqlite3.connect(file)
        other.execute(mark)
        other.close()
        before = file.read_bytes()
        assert "another program" in refusal(file)
        assert file.read_bytes() == before


def test_the_file_of_a_newer_version_is_refused(made):
    newer = sqlite3.connect(made)
    newer.execute(f"PRAGMA user_version = {len(sqlite_open.MIGRATIONS) + 1}")
    newer.close()
    assert "upgrade Modeltoll" in refusal(made)


def test_a_damaged_file_is_refused(made):
    damaged = bytearray(made.read_bytes())
    damaged[100:2048] = b"\xa5" * 1948
    made.write_bytes(damaged)
    assert "damaged" in refusal(made)


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "9p"])
def test_a_network_file_system_is_refused_with_its_remedy(made, tmp_path, kind):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"rootfs / ext4 rw 0 0\nserver:/x {made.parent.resolve()} {kind} rw 0 0\n")
    with pytest.raises(LedgerError, match=f"network file system \\({kind}\\).*local disk") as caught:
        asyncio.run(sqlite_connection.SqliteConnection(made, mounts=mounts).open())
    assert "secret" not in str(caught.value)


def test_a_system_that_lists_no_mounts_is_accepted(made, tmp_path):
    async def go():
        opened = sqlite_connection.SqliteConnection(made, mounts=tmp_path / "none")
        await opened.open()
        await opened.close()

    asyncio.run(go())


def test_the_log_is_append_only_and_loses_its_oldest_lines_only_and_never_all(made):
    with sqlite3.connect(made) as direct:
        for statement in (
            "UPDATE log SET work = 0",
            "DELETE FROM log WHERE line = 3",
            "DELETE FROM log",
        ):
            with pytest.raises(sqlite3.IntegrityError):
                direct.execute(statement)
        assert direct.execute("DELETE FROM log WHERE line <= 2").rowcount == 2
    direct.close()


def test_the_file_holds_no_caller_in_its_log(made):
    direct = sqlite3.connect(made)
    assert direct.execute("SELECT count(*) FROM log WHERE caller LIKE '%key%'").fetchone() == (0,)
    direct.close()


def test_gateways_that_start_at_once_make_one_ledger(file):
    file.parent.mkdir()

    async def go():
        ledgers = [SqliteLedger(file) for _ in range(8)]
        await asyncio.gather(*(ledger.open() for ledger in ledgers))
        accounts = await asyncio.gather(*(ledger.charge(CALLER, new_charge(n)) for n, ledger in enumerate(ledgers)))
        assert sorted(account.rows for account in accounts) == list(range(1, 9))
        salts = {ledger._salt for ledger in ledgers}
        assert len(salts) == 1
        assert len(salts.pop()) == 32
        await asyncio.gather(*(ledger.close() for ledger in ledgers))

    asyncio.run(go())


def test_event_loops_in_threads_add_up_exactly(made):
    """Where gateways really write at the same moment, waiting in their threads loses and duplicates nothing."""
    rows = []

    async def go(start):
        ledger = SqliteLedger(made)
        await ledger.open()
        group = [ledger.charge(CALLER, new_charge(start + n)) for n in range(100)]
        rows.extend(account.rows for account in await asyncio.gather(*group))
        await ledger.close()

    threads = [threading.Thread(target=lambda start=start: asyncio.run(go(start))) for start in (100, 200, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(rows) == list(range(2, 302))


def held(file):
    """Another process's transaction, as far as SQLite can tell."""
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other


def test_charges_that_wait_for_another_process_go_together_once_it_has_done(made):
    async def go():
        ledger = SqliteLedger(made)
        await ledger.open()
        other = held(made)
        charges = [asyncio.create_task(ledger.charge(CALLER, new_charge(n))) for n in range(1, 21)]
        await asyncio.sleep(0)
        gone = charges.pop(4)
        gone.cancel()  # a caller that hangs up is charged all the same
        assert not any(charge.done() for charge in charges)
        other.execute("COMMIT")
        other.close()
        accounts = await asyncio.gather(*charges)
        assert sorted(account.rows for account in accounts) == [n for n in range(2, 22) if n != 6]
        assert gone.cancelled()
        await ledger.close()

    asyncio.run(go())


def test_closing_finishes_the_jobs_in_the_queue(made):
    async def go():
        ledger = SqliteLedger(made)
        await ledger.open()
        other = held(made)
        charges = [asyncio.create_task(ledger.charge(CALLER, new_charge(n))) for n in range(1, 11)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(ledger.close())
        await asyncio.sleep(0)
        with pytest.raises(LedgerError, match="not open"):
            await ledger.charge(CALLER, new_charge(99))
        other.execute("COMMIT")
        other.close()
        await closing
        assert sorted([(await charge).rows for charge in charges]) == list(range(2, 12))

    asyncio.run(go())


def test_large_requests_leave_the_event_loop_free_and_keep_their_order(made):
    async def go():
        ledger = SqliteLedger(made)
        await ledger.open()
        charges = [
            asyncio.create_task(ledger.charge(CALLER, new_charge(n, rows))) for n, rows in ((1, 900), (2, 1), (3, 99))
        ]
        await asyncio.sleep(0)
        assert not any(charge.done() for charge in charges)
        assert [(await charge).rows for charge in charges] == [901, 902, 1001]
        await ledger.close()

    asyncio.run(go())


def test_a_long_read_delays_no_charge_and_sees_a_snapshot(made):
    """While a reader reads everything, charges go on in the event loop's own thread, and the reader sees none of them."""

    async def go():
        ledger = SqliteLedger(made)
        await ledger.open()
        reading, charged = threading.Event(), threading.Event()

        def rows(connection):
            return connection.execute("SELECT rows FROM accounts").fetchall()

        def slow(connection):
            connection.execute("BEGIN")
            before = rows(connection)
            reading.set()
            assert charged.wait(10)
            return before + rows(connection)

        looking = asyncio.create_task(ledger._file.read(slow))
        await asyncio.to_thread(reading.wait, 10)
        assert (await ledger.charge(CALLER, new_charge(1))).rows == 2
        charged.set()
        assert await looking == [(1,), (1,)]
        (largest,) = await ledger.largest(1)
        assert (largest.rows, len(await ledger.log(0, 10))) == (2, 3)
        await ledger.close()
        with pytest.raises(LedgerError, match="not open"):
            await ledger.largest(1)

    asyncio.run(go())


def test_a_read_changes_nothing_and_reports_errors(made):
    async def go():
        ledger = SqliteLedger(made)
        await ledger.open()
        with pytest.raises(LedgerError) as caught:
            await ledger._file.read(lambda connection: connection.execute("DELETE FROM accounts"))
        assert "secret" not in str(caught.value)
        for part in made.parent.iterdir():
            part.unlink()
        with pytest.raises(LedgerError) as caught:
            await ledger.largest(1)
        assert "secret" not in str(caught.value)
        await ledger.close()

    asyncio.run(go())


def test_a_ledger_behind_a_link_is_the_same_ledger(made, tmp_path):
    link = tmp_path / "link.db"
    link.symlink_to(made)

    async def go():
        one, other = SqliteLedger(made), SqliteLedger(link)
        await one.open()
        await other.open()
        assert (await one.charge(CALLER, new_charge(1))).rows == 2
        assert (await other.charge(CALLER, new_charge(2))).rows == 3
        await one.close()
        await other.close()

    asyncio.run(go())


def test_a_ledger_locked_for_too_long_refuses_and_goes_on_afterwards(made):
    async def go():
        ledger = SqliteLedger(made, patience=0.01)
        await ledger.open()
        other = held(made)
        refused = await asyncio.gather(*(ledger.charge(CALLER, new_charge(n)) for n in (1, 2)), return_exceptions=True)
        assert [str(error) for error in refused] == ["another process locks the ledger for too long"] * 2
        assert all(isinstance(error, LedgerError) and "secret" in error.private for error in refused)
        other.execute("COMMIT")
        other.close()
        assert (await ledger.charge(CALLER, new_charge(3))).rows == 2
        await ledger.close()

    asyncio.run(go())


def test_a_full_disk_refuses_the_charge_and_keeps_its_data(made):
    async def go():
        ledger = SqliteLedger(made)
        await ledger.open()
        await ledger._file.transact(lambda connection: connection.execute("PRAGMA max_page_count = 20").fetchall())
        with pytest.raises(LedgerError, match="disk is full") as caught:
            await ledger.charge(CALLER, new_charge(1, rows=4000))
        assert "secret" not in str(caught.value)
        account = await ledger.account(CALLER, "m")
        assert (account.rows, account.requests, account.evidence.counts) == (1, 1, (0, 1, 0))
        await ledger._file.transact(lambda connection: connection.execute("PRAGMA max_page_count = 2000").fetchall())
        assert (await ledger.charge(CALLER, new_charge(1, rows=4000))).rows == 4001
        await ledger.close()

    asyncio.run(go())


def modes(file):
    """The modes of the ledger's files, while it is open."""

    async def go():
        ledger = SqliteLedger(file)
        await ledger.open()
        await ledger.charge(CALLER, new_charge(1))
        found = {part.name.removeprefix(file.name): part.stat().st_mode & 0o777 for part in file.parent.iterdir()}
        await ledger.close()
        return found

    return asyncio.run(go())


@pytest.fixture
def umask():
    before = os.umask(0)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o777])
def test_the_files_are_private_whatever_the_umask(file, umask, mask):
    file.parent.mkdir()
    umask(mask)
    assert modes(file) == {"": 0o600, "-wal": 0o600, "-shm": 0o600}


@pytest.mark.parametrize(("before", "after"), [(0o644, 0o600), (0o666, 0o600), (0o604, 0o600), (0o660, 0o660)])
def test_a_file_that_others_may_read_becomes_private_and_that_of_a_group_stays(made, before, after):
    """Files of gateways that were killed lie beside it, with the same mode."""
    made.chmod(before)
    held_open = sqlite3.connect(made)
    held_open.execute("SELECT count(*) FROM accounts").fetchone()  # the file, and those beside it, are in use
    assert made.with_name(made.name + "-wal").stat().st_mode & 0o777 == before
    assert modes(made) == {"": after, "-wal": after, "-shm": after}
    held_open.close()


def test_a_file_that_others_may_read_and_that_belongs_to_others_is_refused(made, monkeypatch):
    made.chmod(0o644)

    def denied(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", denied)
    assert "other users may access the ledger's file" in refusal(made)


def test_a_file_that_is_removed_while_in_use_is_noticed(made):
    async def go():
        ledger = SqliteLedger(made)
        await ledger.open()
        for part in made.parent.iterdir():
            part.unlink()
        with pytest.raises(LedgerError, match="was removed") as caught:
            await ledger.charge(CALLER, new_charge(1))
        assert "secret" not in str(caught.value)
        await ledger.close()

    asyncio.run(go())


def test_a_write_ahead_log_that_cannot_be_read_fails_the_step_at_once(made):
    async def go():
        ledger = SqliteLedger(made)
        await ledger.open()
        ledger._file._wal = made / "no folder"
        with pytest.raises(LedgerError, match="cannot be read"):
            await asyncio.wait_for(ledger.charge(CALLER, new_charge(1)), 5)
        await ledger.close()

    asyncio.run(go())


def test_the_write_ahead_log_is_emptied_as_it_grows(made, monkeypatch):
    monkeypatch.setattr(sqlite_connection, "WAL_BYTES", 100_000)
    wal = made.with_name(made.name + "-wal")

    async def go():
        ledger = SqliteLedger(made)
        await ledger.open()
        largest = 0
        for number in range(1, 101):
            assert (await ledger.charge(CALLER, new_charge(number))).rows == number + 1
            await asyncio.sleep(0)
            largest = max(largest, wal.stat().st_size)
        assert 100_000 < largest < 200_000
        await ledger.close()
        assert not wal.exists()

    asyncio.run(go())


def test_a_reader_that_holds_on_to_the_log_does_not_stop_the_charges(made, monkeypatch):
    monkeypatch.setattr(sqlite_connection, "WAL_BYTES", 50_000)
    monkeypatch.setattr(sqlite_connection, "CHECKPOINT_PATIENCE_MS", 1)

    async def go():
        ledger = SqliteLedger(made)
        await ledger.open()
        reader = sqlite3.connect(made, isolation_level=None)
        reader.execute("BEGIN")
        assert reader.execute("SELECT rows FROM accounts").fetchone() == (1,)
        for number in range(1, 101):
            assert (await ledger.charge(CALLER, new_charge(number))).rows == number + 1
        assert ledger._file._checkpoint_above > 100_000  # it is tried at each further 50,000 bytes, not at each charge
        reader.close()
        await ledger.close()

    asyncio.run(go())
