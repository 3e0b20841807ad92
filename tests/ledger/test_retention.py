"""Retention: old lines are deleted from time to time, and line numbers continue."""

from __future__ import annotations

import asyncio

import pytest

from modeltoll.errors import SettingsError
from modeltoll.ledger import retention
from modeltoll.ledger.from_url import ledger_from_url
from modeltoll.ledger.retention import Retention
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
