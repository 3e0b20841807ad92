"""The simulation charges what a gateway would, and its table is consistent."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeltoll.errors import CalibrationError
from modeltoll.ledger import account_math
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.fit import CalibrationTerms, RowCosts, fit_calibration
from modeltoll.pricing.published_tariff import PublishedTariff, PublishedTerms, StandardLine
from modeltoll.pricing.suspicion import SuspicionTerms
from modeltoll.pricing.tariff import new_account_share
from modeltoll.records import Assessment, Caller, Charge, Leaks
from modeltoll.simulation.batch_tariffs import ConformalBatchTariff, PublishedBatchTariff
from modeltoll.simulation.replay import replay_attackers
from modeltoll.simulation.scenarios import ABANDON, ACCOUNTS, CHEAPEST, FILLERS, HONEST, ThiefPlan, Times
from modeltoll.simulation.traffic import Traffic, mixed_with_fillers, one_account, sample_rows, split_over_accounts

NAMES = ("entropy", "novelty")
PLAN = ThiefPlan(rows=600, accounts=(1, 20, 5000), fillers=(1, 4), honest_callers=5, honest_rows=500)
TIMES = Times(0.01, 0.001)
MEMBER = Caller("key:member", groups=("org:acme",), discount=0.25)


def rows(count, shift=0.0, seed=0):
    return np.random.default_rng(seed).lognormal(shift, size=(count, 2))


@pytest.fixture(scope="module")
def tariff():
    suspicion = SuspicionTerms(alpha=1e-3)
    return ConformalTariff(
        fit_calibration(
            "m", Leaks(NAMES, rows(1000)), RowCosts(unit_seconds=0.01), CalibrationTerms(suspicion=suspicion)
        )
    )


@pytest.fixture(scope="module")
def samples():
    return {
        "calibration": Leaks(NAMES, rows(1000)),
        "honest": Leaks(NAMES, rows(500, seed=1)),
        "thief": Leaks(NAMES, rows(400, 2.0, seed=2)),
    }


@pytest.fixture(scope="module")
def lines(tariff, samples):
    return replay_attackers(samples, [ConformalBatchTariff(tariff, NAMES)], TIMES, PLAN, 0)


def one(lines, family, level=None, kind=None):
    (found,) = [
        line for line in lines if line.family == family and level in (None, line.level) and kind in (None, line.kind)
    ]
    return found


def walk(tariff, traffic, caller):
    """Row by row through the ledger's own arithmetic and the tariff, as a gateway does."""
    assessment = tariff.assess(Leaks(tariff.measures, traffic.leaks), np.random.default_rng(7))
    accounts, seen, seconds, suspected = {}, {}, [], []
    for place, number in enumerate(traffic.accounts.tolist()):
        fingerprint = (place if traffic.fresh[place] else 10**6).to_bytes(8, "big")
        entry = Charge(
            "m", 1, tuple(traffic.leaks[place]), (tuple(assessment.bins[place].tolist()),), (fingerprint,),
            tariff.shape, tariff.identity, 1.0,
        )  # fmt: skip
        after = []
        for name, party in zip((number, *caller.groups), account_math.affected_accounts(caller), strict=True):
            known = seen.setdefault(name, {(10**6).to_bytes(8, "big")})
            accounts[name], learned = account_math.charge(
                accounts.get(name), party, entry, known, account_math.HALF_LIFE
            )
            known.update(learned)
            after.append(accounts[name])
        single = Assessment(
            *(part[place : place + 1] for part in (assessment.factors, assessment.rarest, assessment.bins))
        )
        account = dataclasses.replace(account_math.with_groups(after[0], after[1:]), settled_rows=after[0].rows - 1)
        work = tariff.work(single, account)
        new_account = tariff.new_account_seconds(caller) * new_account_share(1, after[0].rows - 1)
        seconds.append(work.seconds + new_account)
        suspected.append(work.suspected)
    return np.array(seconds), np.array(suspected)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.floats(0.0, 30.0), st.floats(0.0, 30.0), st.booleans()), min_size=1, max_size=60
    ),
    st.sampled_from([Caller("key:a"), Caller("net:10.0.0.1"), MEMBER]),
)
def test_all_rows_at_once_cost_what_a_gateway_charges_one_by_one(tariff, drawn_rows, caller):
    traffic = Traffic(
        np.array([row[1:3] for row in drawn_rows]),
        np.array([row[0] for row in drawn_rows]),
        np.ones(len(drawn_rows), bool),
        np.array([row[3] for row in drawn_rows]),
    )
    charged = ConformalBatchTariff(tariff, NAMES).charge(traffic, caller, np.random.default_rng(7))
    seconds, suspected = walk(tariff, traffic, caller)
    assert np.allclose(charged.seconds, seconds, rtol=1e-9)
    assert np.array_equal(charged.suspected, suspected)


@pytest.mark.parametrize("caller", [Caller("key:a"), MEMBER], ids=lambda caller: caller.name)
def test_a_long_theft_costs_what_a_gateway_charges_one_by_one(tariff, caller):
    """Over so many rows that the surcharge of groups ends."""
    traffic = split_over_accounts(rows(630, 2.0), 3)
    charged = ConformalBatchTariff(tariff, NAMES).charge(traffic, caller, np.random.default_rng(7))
    seconds, suspected = walk(tariff, traffic, caller)
    assert charged.suspected.any()
    assert np.allclose(charged.seconds, seconds, rtol=1e-9)
    assert np.array_equal(charged.suspected, suspected)


@pytest.mark.parametrize("signed", [True, False])
def test_the_published_tariff_is_charged_row_by_row_too(signed):
    tariff = PublishedTariff("novelty", StandardLine(1.6, 0.0), PublishedTerms(base=1.02, signed=signed))
    traffic = split_over_accounts(rows(200, 1.0), 4)
    charged = PublishedBatchTariff(tariff, NAMES).charge(traffic, Caller("key:a"), np.random.default_rng(0))
    for account in range(4):
        own = traffic.leaks[traffic.accounts == account][:, 1]
        leaks, queries = np.cumsum(own), np.arange(1.0, len(own) + 1)
        expected = tariff.terms.seconds(leaks, tariff.line.leak(queries)) / 1000
        assert np.allclose(charged.seconds[traffic.accounts == account], expected, rtol=1e-9)


def test_a_toll_on_a_measure_that_was_not_recorded_is_refused(tariff):
    with pytest.raises(CalibrationError, match="leaks of novelty were not recorded"):
        ConformalBatchTariff(tariff, ("entropy",))
    with pytest.raises(CalibrationError, match="leaks of pate were not recorded"):
        PublishedBatchTariff(PublishedTariff("pate", StandardLine(1.0, 0.0)), NAMES)


def test_every_plan_has_its_line(lines):
    assert [line.level for line in lines if line.family == ACCOUNTS] == [1, 20], (
        "5,000 accounts for 600 rows are left out"
    )
    assert len([line for line in lines if line.family == FILLERS]) == 4 * 2
    assert len([line for line in lines if line.family == ABANDON]) == 2
    assert len([line for line in lines if line.family == HONEST]) == 2
    assert all(line.ratio is None or line.ratio == line.seconds_with / line.seconds_without for line in lines)


def test_honest_callers_pay_a_unit_and_are_not_suspected(lines):
    for kind in ("recorded", "drawn"):
        line = one(lines, HONEST, kind=kind)
        assert line.suspected == 0.0
        assert line.first_alarm is None
        assert 1.3 < line.ratio < 2.5, "the answer itself, the gateway's tenth, and about a unit"


def test_a_thief_with_fewer_accounts_pays_more(lines):
    assert one(lines, ACCOUNTS, 1).ratio > one(lines, ACCOUNTS, 20).ratio > 10.0
    assert one(lines, ACCOUNTS, 1).suspected == 1.0
    assert one(lines, ACCOUNTS, 1).first_alarm < 60


def test_ratios_are_per_stolen_row(lines):
    """Fillers are paid for and waited for, but only stolen rows count as bought."""
    diluted_line = one(lines, FILLERS, 4, "jittered")
    assert (diluted_line.queries, diluted_line.asked) == (600, 3000)
    assert diluted_line.seconds_without == pytest.approx(6.0)
    assert diluted_line.seconds_with > 3000 * 0.011
    assert diluted_line.ratio >= 0.8 * one(lines, ACCOUNTS, 1).ratio


def test_selective_thieves_get_fewer_rows_and_pay_time_for_all(lines):
    half = one(lines, CHEAPEST)
    assert (half.queries, half.asked) == (300, 600)
    assert half.seconds_with < one(lines, ACCOUNTS, 1).seconds_with
    left = one(lines, ABANDON, 10.0)
    assert left.queries < 300
    assert left.p99_seconds <= 0.011 + 10 * 0.01
    assert left.seconds_with >= 600 * 0.011


def test_a_thief_who_buys_nothing_has_no_ratio(tariff, samples):
    hard = samples | {"thief": Leaks(NAMES, np.full((50, 2), 1e6))}
    line = one(
        replay_attackers(hard, [ConformalBatchTariff(tariff, NAMES)], TIMES, dataclasses.replace(PLAN, rows=None), 0),
        ABANDON,
        1.0,
    )
    assert (line.queries, line.ratio) == (0, None)


def test_the_same_seed_gives_the_same_table_and_every_tariff_gets_the_same_rows(tariff, samples):
    tolls = [ConformalBatchTariff(tariff, NAMES, "one"), ConformalBatchTariff(tariff, NAMES, "two")]
    lines = replay_attackers(samples, tolls, TIMES, PLAN, 3)
    one_half, other_half = lines[: len(lines) // 2], lines[len(lines) // 2 :]
    assert [dataclasses.replace(line, tariff="two") for line in one_half] == other_half
    assert lines == replay_attackers(samples, tolls, TIMES, PLAN, 3)


def test_accounts_of_one_organisation_pay_more_than_accounts_without_one(tariff, samples):
    """Too few rows each to be suspected one by one, they are together."""
    toll, plan = ConformalBatchTariff(tariff, NAMES), dataclasses.replace(PLAN, accounts=(300,), fillers=())
    apart = one(replay_attackers(samples, [toll], TIMES, plan, 0), ACCOUNTS)
    together = one(replay_attackers(samples, [toll], TIMES, dataclasses.replace(plan, caller=MEMBER), 0), ACCOUNTS)
    assert together.ratio > 3.0 * apart.ratio
    assert together.suspected == apart.suspected == 0.0


def test_anonymous_accounts_pay_the_new_account_toll(tariff, samples):
    toll, plan = ConformalBatchTariff(tariff, NAMES), dataclasses.replace(PLAN, rows=600, accounts=(20,), fillers=())
    keyed = one(replay_attackers(samples, [toll], TIMES, plan, 0), ACCOUNTS)
    anonymous = one(
        replay_attackers(samples, [toll], TIMES, dataclasses.replace(plan, caller=Caller("net:x")), 0), ACCOUNTS
    )
    assert anonymous.seconds_with - keyed.seconds_with == pytest.approx(20 * 200 * 0.01)


def test_samples_without_honest_rows_are_refused(tariff, samples):
    with pytest.raises(CalibrationError, match="'honest' is needed; there are: thief"):
        replay_attackers({"thief": samples["thief"]}, [ConformalBatchTariff(tariff, NAMES)], TIMES, PLAN, 0)


def test_traffic_has_the_documented_order():
    leaks = rows(6)
    assert split_over_accounts(leaks, 4).accounts.tolist() == [0, 1, 2, 3, 0, 1]
    assert one_account(leaks).accounts.tolist() == [0] * 6
    fillers = np.zeros((6, 2, 2))
    repeated, others = (mixed_with_fillers(leaks, fillers, repeated=repeated) for repeated in (True, False))
    assert repeated.wanted.tolist() == [False, False, True] * 6
    assert repeated.fresh.tolist() == [True, False, True] + [False, False, True] * 5
    assert others.fresh.all()
    assert np.array_equal(others.leaks[others.wanted], leaks)


@given(st.integers(1, 40), st.integers(0, 100))
def test_rows_are_drawn_evenly_from_what_was_recorded(recorded, wanted):
    leaks = np.arange(float(recorded))[:, None]
    counts = np.bincount(sample_rows(leaks, wanted, np.random.default_rng(0))[:, 0].astype(int), minlength=recorded)
    assert counts.sum() == wanted
    assert counts.max() - counts.min() <= 1
    assert np.array_equal(sample_rows(leaks, None, np.random.default_rng(0)), leaks)
