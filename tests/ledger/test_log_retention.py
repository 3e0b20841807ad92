"""Retention: old lines are deleted from time to time, and line numbers continue."""

from __future__ import annotations

import asyncio

import pytest

from modeltoll.errors import SettingsError
from modeltoll.ledger import log_retention
from modeltoll.ledger.from_url import ledger_from_url
from modeltoll.ledger.log_retention import Retention
from modeltoll.records import Caller, LogEntry, Work

DAY = 86_400.0
CALLER = Caller("key:a")
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
    monkeypatch.setattr(log_retention, "_EVERY", 3)
    first, *_ = whole = asyncio.run(days_left(stores[store], range(5)))
    assert [day for _, day in whole] == [0, 1, 2, 3, 4]
    left = asyncio.run(days_left(f"{stores[store]}?keep_log_days=2.5", [5, 8.5, 6, 10]))
    # Asked at the bills of the days 5 and 10. The line of day 6 is too old, but lies behind one that is not.
    assert left == [(first[0] + place, day) for place, day in [(6, 8.5), (7, 6), (8, 10)]]


@pytest.mark.parametrize("store", STORES)
def test_the_last_line_stays_and_no_number_is_assigned_twice(store, stores, monkeypatch):
    monkeypatch.setattr(log_retention, "_EVERY", 1)
    url = f"{stores[store]}?keep_log_days=1"
    ((last, _),) = asyncio.run(days_left(url, [0, 10, 20]))
    assert asyncio.run(days_left(url, [-100]))[-1] == (last + 1, -100)
    assert asyncio.run(days_left(url, [50])) == [(last + 2, 50)]


def test_deletions_are_bounded_and_keep_up_with_the_bills(monkeypatch):
    assert log_retention.MAX_LINES_AT_ONCE > log_retention._EVERY
    monkeypatch.setattr(log_retention, "_EVERY", 3)
    kept = Retention(10.0)
    assert [kept.before(at) for at in (100.0, 101.0, 102.0, 103.0)] == [90.0, None, None, 93.0]
    assert Retention().before(100.0) is None


@pytest.mark.parametrize("store", STORES)
def test_invalid_days_are_refused(store, stores):
    for days in ("0", "-1", "ever", ""):
        with pytest.raises(SettingsError, match="keep_log_days must be a number above 0"):
            ledger_from_url(f"{stores[store]}?keep_log_days={days}")
