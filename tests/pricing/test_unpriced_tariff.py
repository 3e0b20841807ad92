"""No prices: the conformance suite passes, and nothing is ever charged."""

from __future__ import annotations

import numpy as np

from modeltoll.pricing.unpriced_tariff import UnpricedTariff
from modeltoll.records import Caller, Leaks
from modeltoll.testing.tariffs import check_tariff, new_account

TARIFF = UnpricedTariff(("entropy", "novelty"))


def test_it_keeps_the_law_of_tariffs():
    check_tariff(TARIFF)


def test_whatever_leaks_costs_nothing():
    leaks = Leaks(TARIFF.measures, np.full((5, 2), 1e9))
    account = new_account(TARIFF, Caller("net:10.0.0.1"))
    verdict = TARIFF.verdict(account)
    work = TARIFF.work(TARIFF.assess(leaks, np.random.default_rng(0)), account, verdict)
    assert (work.seconds, work.rows, work.suspected) == (0.0, 5, False)
    assert (TARIFF.cell_count, verdict.updates, verdict.suspected) == (0, (), False)
