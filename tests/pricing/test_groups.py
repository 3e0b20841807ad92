"""Groups and discounts: others can raise a caller's price through groups groups, on the rarest rows, and not otherwise."""

from __future__ import annotations

import asyncio
import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeltoll.errors import CalibrationError
from modeltoll.evidence_records import EvidenceState
from modeltoll.ledger.memory import MemoryLedger
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.suspicion import SuspicionTerms
from modeltoll.records import Caller, Charge, Leaks
from modeltoll.testing.tariffs import new_account

LEAKS = st.lists(st.tuples(st.floats(0.0, 50.0), st.floats(0.0, 50.0)), min_size=1, max_size=20)


def assessed(tariff, rows, seed=0):
    return tariff.assess(Leaks(tariff.measures, np.asarray(rows, dtype=np.float64)), np.random.default_rng(seed))


def after(tariff, caller, thefts):
    """An account after so many rows of the rarest cell."""
    counts = np.zeros(tariff.cell_count, np.int64)
    counts[0] = thefts
    evidence = dataclasses.replace(EvidenceState.new(tariff.cell_count, 0.0), counts=tuple(counts.tolist()))
    return dataclasses.replace(new_account(tariff, caller), rows=20 + thefts, evidence=evidence)


def work_of(tariff, assessment, account):
    return tariff.work(assessment, account, tariff.verdict(account))


@given(LEAKS, st.integers(0, 300), st.lists(st.integers(0, 3000), max_size=3), st.sampled_from([0.0, 0.3, 1.0]))
def test_a_row_pays_the_larger_of_its_own_surcharge_and_its_groups(tariff, rows, own, others, discount):
    """Own: rows below p = 0.5 or of frequent cells, at most 100 times, a unit at least. Groups: rows below 0.1, at most 10
    times. A suspected caller has no discount."""
    assessment = assessed(tariff, rows)
    alone = after(tariff, Caller("key:a", discount=discount), own)
    groups = tuple(after(tariff, Caller(f"org:{place}"), thefts) for place, thefts in enumerate(others))
    work = work_of(tariff, assessment, dataclasses.replace(alone, groups=groups))
    assert work.surcharge == work_of(tariff, assessment, alone).surcharge
    assert 1.0 <= work.group_surcharge <= 10.0 * (1.0 + 1e-12)
    assert (work.group_surcharge > 1.0) == any(work_of(tariff, assessment, one).surcharge > 1.0 for one in groups)
    verdict = tariff.verdict(alone)
    frequent = np.zeros(tariff.cell_count, bool) if verdict.frequent is None else verdict.frequent
    units = []
    for factor, rarest, cell in zip(assessment.factors, assessment.rarest, assessment.cells, strict=True):
        own = work.surcharge * max(1.0, factor) if work.suspected and (frequent[cell] or rarest < 0.5) else factor
        units.append(max(own, factor * work.group_surcharge if rarest < 0.1 else 0.0))
    kept = 1.0 if work.suspected else 1.0 - discount
    assert work.rows_seconds == pytest.approx(0.01 * kept * sum(units), rel=1e-9, abs=1e-15)


def test_the_terms_of_groups_are_the_operators(make_calibration):
    terms = SuspicionTerms(group_maximum=3.0, group_rare_below=0.02)
    tariff = ConformalTariff(make_calibration([np.arange(999.0)], suspicion=terms))
    account = dataclasses.replace(after(tariff, Caller("key:a"), 0), groups=(after(tariff, Caller("org:a"), 500),))
    rare, rarest = assessed(tariff, [[950.0]]), assessed(tariff, [[990.0]])
    assert work_of(tariff, rare, account).rows_seconds == pytest.approx(0.01 * rare.factors[0])
    assert work_of(tariff, rarest, account).rows_seconds == pytest.approx(0.03 * rarest.factors[0])


@pytest.mark.parametrize("terms", [{"group_maximum": 10.1}, {"group_rare_below": 0.11}])
def test_a_group_costs_at_most_ten_times_as_much_and_only_rare_rows(terms):
    with pytest.raises(CalibrationError, match=next(iter(terms))):
        SuspicionTerms(**terms)


def test_a_caller_with_200_settled_rows_pays_no_surcharge_of_its_groups(tariff):
    assessment = assessed(tariff, [[40.0, 40.0], [0.1, 0.0]])
    alone = after(tariff, Caller("key:a"), 0)
    member = dataclasses.replace(alone, groups=(after(tariff, Caller("org:a"), 500),))
    assert work_of(tariff, assessment, dataclasses.replace(member, settled_rows=199)).group_surcharge == pytest.approx(
        10.0
    )
    assert work_of(tariff, assessment, dataclasses.replace(member, settled_rows=200)) == work_of(
        tariff, assessment, alone
    )


def test_a_discount_ends_with_suspicion_of_the_caller_and_not_of_its_group(tariff):
    assessment = assessed(tariff, [[0.1, 0.0]])
    friend = Caller("key:friend", discount=0.75)
    full = work_of(tariff, assessment, after(tariff, Caller("key:a"), 0)).rows_seconds
    suspect_group = dataclasses.replace(after(tariff, friend, 0), groups=(after(tariff, Caller("org:a"), 500),))
    assert work_of(tariff, assessment, after(tariff, friend, 0)).rows_seconds == pytest.approx(0.25 * full)
    assert work_of(tariff, assessment, suspect_group).rows_seconds == pytest.approx(0.25 * full)
    assert work_of(tariff, assessment, after(tariff, friend, 500)).rows_seconds == pytest.approx(full)


def test_a_group_kept_under_another_tariff_is_refused(tariff):
    group = dataclasses.replace(new_account(tariff, Caller("org:a")), evidence=EvidenceState.new(1, 0.0))
    account = dataclasses.replace(new_account(tariff, Caller("key:a")), rows=1, groups=(group,))
    with pytest.raises(CalibrationError, match="another tariff"):
        tariff.verdict(account)


async def walk(tariff, steps):
    """What each step (caller, leaks) costs, one after another through one ledger; every row is another input."""
    ledger, paid = MemoryLedger(), []
    await ledger.open()
    for place, (caller, leaks) in enumerate(steps):
        assessment = assessed(tariff, [leaks], seed=round(1000 * leaks[0]))
        entry = Charge(
            "model", 1, leaks, tuple(assessment.cells.tolist()), (place.to_bytes(8, "big"),), tariff.cell_count,
            tariff.identity, 0.0,
        )  # fmt: skip
        account = await ledger.charge(caller, entry)
        paid.append((caller, account, work_of(tariff, assessment, account)))
    return paid


CALLERS = (
    Caller("key:a"),
    Caller("net:10.0.0.1"),
    Caller("key:b", groups=("org:x",)),
    Caller("key:c", groups=("org:x",), discount=0.5),
    Caller("net:10.0.1.1", groups=("prefix:10.0.1.0/24", "prefix:10.0.0.0/16")),
)
STEPS = st.lists(
    st.tuples(st.sampled_from(CALLERS), st.sampled_from([(0.2, 0.0), (1.0, 1.0), (9.0, 9.0), (40.0, 40.0)])),
    min_size=1,
    max_size=120,
)


@settings(max_examples=30, deadline=None)
@given(STEPS)
def test_others_change_a_callers_price_through_groups_and_nothing_else(tariff, steps):
    """What a caller without groups pays is what it pays alone; for others the same holds apart from ``groups``."""
    together = asyncio.run(walk(tariff, steps))
    for caller in CALLERS:
        own = [step for step in together if step[0] == caller]
        alone = asyncio.run(walk(tariff, [step for step in steps if step[0] == caller]))
        for (_, account, work), (_, lonely, lonely_work) in zip(own, alone, strict=True):
            bare = dataclasses.replace(account, groups=(), first_seen=0.0)
            assert bare == dataclasses.replace(lonely, groups=(), first_seen=0.0)
            assert work.surcharge == lonely_work.surcharge
            if not caller.groups:
                assert work == lonely_work


def test_a_group_of_honest_callers_is_not_suspected_and_one_of_thieves_is(tariff, calibration):
    rng = np.random.default_rng(3)
    honest = rng.lognormal(size=600)
    steps = [
        (Caller(f"key:{place % 60}", groups=("org:x",)), (leak, float(np.floor(leak))))
        for place, leak in enumerate(honest)
    ]
    assert all(work.group_surcharge == 1.0 for _, _, work in asyncio.run(walk(tariff, steps)))
    rare = float(calibration.scores[0, -20])
    steps = [(Caller(f"key:{place}", groups=("org:x",)), (rare, rare)) for place in range(60)]
    works = [work for _, _, work in asyncio.run(walk(tariff, steps))]
    assert works[-1].group_surcharge == pytest.approx(10.0)
    assert not any(work.suspected for work in works), "one row each"
