"""The arithmetic of accounts, which SQLite follows bit for bit."""

from __future__ import annotations

import asyncio
import math
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeltoll.ledger import account_math
from modeltoll.ledger.memory import MemoryLedger
from modeltoll.ledger.sqlite import SqliteLedger
from modeltoll.records import Caller, Charge, LogEntry, Work

CALLER = Caller("key:a")
DAY = 86_400.0
SEEN = (b"\0" * 8, b"\xff" * 8, b"\x80" + b"\0" * 7, *(bytes([n]) * 8 for n in range(1, 8)))


@st.composite
def entries(draw):
    measures, cells = draw(st.sampled_from([(1, 3), (2, 3), (2, 14), (0, 0)]))
    rows = draw(st.lists(st.sampled_from(SEEN), min_size=0, max_size=6))
    return Charge(
        model=draw(st.sampled_from(["m", "n"])),
        rows=len(rows),
        leaks=tuple(draw(st.lists(st.floats(0, 1e6), min_size=measures, max_size=measures))),
        cells=tuple(draw(st.integers(0, cells - 1)) for _ in (rows if cells else ())),
        fingerprints=tuple(rows),
        cell_count=cells,
        tariff=draw(st.sampled_from(["t", "u"])),
        at=draw(st.floats(0.0, 400 * DAY)),
    )


@given(st.lists(entries(), min_size=1, max_size=12))
def test_totals_are_sums_and_counts_never_exceed_rows(sequence):
    after = None
    for entry in sequence:
        after, fresh = account_math.charge(after, CALLER, entry, (), 30 * DAY)
        assert sorted(fresh) == sorted(set(entry.fingerprints))
    assert after.rows == sum(entry.rows for entry in sequence)
    assert after.requests == len(sequence)
    assert after.last_seen == max(entry.at for entry in sequence)
    assert after.first_seen == sequence[0].at
    assert after.evidence.rows <= after.rows


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.sampled_from(["key:a", "net:198.51.100.0/24"]), st.one_of(entries(), st.floats(0.0, 1e3))),
        max_size=20,
    )
)
def test_any_sequence_gives_the_same_accounts_in_memory_and_in_sqlite(sequence):
    """Charges and bills in any order, with a sketch so small that its ring turns."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(account_math, "SKETCH_SIZE", 4)
        asyncio.run(_compare(sequence, MemoryLedger(salt=b"s"), SqliteLedger(Path(folder) / "ledger.db")))


async def _compare(sequence, memory, sqlite):
    await memory.open()
    await sqlite.open()
    for name, step in sequence:
        caller = Caller(name)
        if isinstance(step, Charge):
            assert await memory.charge(caller, step) == await sqlite.charge(caller, step)
        else:
            bill = LogEntry(step, "m", 1, ("gap",), ((step,),), (0.5,), Work(step, 1, step), "sealed")
            await memory.bill(caller, bill)
            await sqlite.bill(caller, bill)
    assert await memory.largest(9) == await sqlite.largest(9)
    shown = [[line[::2] for line in await ledger.log(0, 99)] for ledger in (memory, sqlite)]
    assert shown[0] == shown[1]
    for name in ("key:a", "net:198.51.100.0/24"):
        for model in ("m", "n"):
            found = [await ledger.account(Caller(name), model) for ledger in (memory, sqlite)]
            assert found[0] == found[1]
    await sqlite.close()


def test_the_ring_takes_the_latest_fingerprints_in_order(monkeypatch):
    monkeypatch.setattr(account_math, "SKETCH_SIZE", 4)
    fresh = tuple(bytes([n]) * 8 for n in range(6))
    assert list(account_math.sketch_slots(3, fresh[:2])) == [(3, fresh[0]), (0, fresh[1])]
    assert list(account_math.sketch_slots(0, fresh)) == [(2, fresh[2]), (3, fresh[3]), (0, fresh[4]), (1, fresh[5])]


def test_a_hash_depends_on_the_salt_and_on_the_caller():
    hashes = {account_math.hashed_name(Caller(name), salt) for name in ("key:a", "key:b") for salt in (b"one", b"two")}
    assert len(hashes) == 4
    assert account_math.hashed_name(CALLER, b"one") == account_math.hashed_name(Caller("key:a", exempt=True), b"one")


@pytest.mark.parametrize("name", ["", "key:\0", "key:\ud800"])
def test_names_that_a_ledger_cannot_store_are_refused(name):
    with pytest.raises(ValueError):
        account_math.check_names(Caller(name), "m")


@pytest.mark.parametrize(
    "work", [Work(math.nan, 1, 0.0), Work(-1.0, 1, 0.0), Work(1.0, 1, math.inf), Work(1.0, 1, 1.0, surcharge=math.nan)]
)
def test_invalid_log_entries_are_refused(work):
    good = LogEntry(0.0, "m", 1, ("gap",), ((0.5,),), (0.5,), Work(1.0, 1, 1.0), "sealed")
    account_math.check_log_entry(CALLER, good)
    for bad in (
        replace(good, work=work),
        replace(good, at=math.inf),
        replace(good, leaks=((math.nan,),)),
        replace(good, classes=(1, 2)),
        replace(good, classes=(-1,)),
        replace(good, classes=(2**31,)),
    ):
        with pytest.raises(ValueError):
            account_math.check_log_entry(CALLER, bad)
