"""The dashboard reads every ledger alike."""

from __future__ import annotations

import asyncio

import numpy as np

from modeltoll.gateway.admin.dashboard.ledger_reader import LedgerReader
from modeltoll.gateway.admin.dashboard.log_tail import TailLimits
from modeltoll.ledger.from_url import ledger_from_url
from sample_traffic import MEASURES, MODEL, SampleTraffic, build_tariff, sample_callers, simulate_day

NOW = 1_750_000_000.0


async def read(url, tariff):
    ledger = ledger_from_url(url)
    await ledger.open()
    try:
        traffic = SampleTraffic.start(ledger, tariff, NOW)
        await simulate_day(traffic, sample_callers(0.03))
        snapshot = await LedgerReader(ledger, traffic.clock, TailLimits(page=16)).read()
        day = snapshot.tail.day(MODEL, MEASURES)
        hashes = [ledger.logged_as(account.caller) for account in snapshot.accounts]
    finally:
        await ledger.close()
    names = dict(zip(hashes, [account.caller.name for account in snapshot.accounts], strict=True))
    return snapshot, day, [names[day.hashes[place]] for place in day.callers]


def test_a_day_reads_back_the_same_from_every_ledger(stores):
    tariff = build_tariff()
    expected, day, names = asyncio.run(read(stores.pop("memory"), tariff))
    assert len(day.at) == sum(plan.requests for plan in sample_callers(0.03))
    assert len(stores) == 3
    for url in stores.values():
        snapshot, other, others = asyncio.run(read(url, tariff))
        assert others == names
        assert [account.caller for account in snapshot.accounts] == [account.caller for account in expected.accounts]
        for column in ("at", "rows", "modes", "leaks", "rarest", "row_lines", "measured"):
            assert np.array_equal(getattr(other, column), getattr(day, column)), column
        assert np.allclose(other.work, day.work, rtol=1e-9)
