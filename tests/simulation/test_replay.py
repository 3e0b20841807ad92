"""The simulation charges what a gateway would, and its table is consistent."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeltoll.errors import CalibrationError
from modeltoll.evidence_records import EVIDENCE_SECONDS
from modeltoll.gateway.core.credit import DEFAULT_CREDIT
from modeltoll.ledger import account_math
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.fit import CalibrationTerms, FitSamples, RowCosts, fit_calibration
from modeltoll.pricing.kinds import DECLARED, KindSample, StrangerSample
from modeltoll.pricing.published_tariff import PublishedTariff, PublishedTerms, StandardLine
from modeltoll.pricing.suspicion import SuspicionTerms
from modeltoll.pricing.tariff import new_account_share
from modeltoll.records import Assessment, Caller, Charge, Leaks
from modeltoll.simulation.batch_tariffs import ConformalBatchTariff, PublishedBatchTariff
from modeltoll.simulation.engine import run_scenario
from modeltoll.simulation.replay import replay_attackers
from modeltoll.simulation.scenarios import (
    ABANDON,
    ACCOUNTS,
    BANK,
    CHEAPEST,
    FILLERS,
    HONEST,
    Scenario,
    ThiefPlan,
    Times,
    mixed_rows,
    switching_rows,
    take_up_to,
)
from modeltoll.simulation.settlement import SettlementTerms, settled_work
from modeltoll.simulation.traffic import (
    NO_CLASS,
    Rows,
    Traffic,
    after_bank,
    draw_rows,
    mixed_with_fillers,
    one_account,
    sample_rows,
    split_over_accounts,
)

NAMES = ("entropy", "novelty")
RECORDED = (*NAMES, "novelty:clean")
PLAN = ThiefPlan(rows=600, accounts=(1, 20, 5000), fillers=(1, 4), honest_callers=5, honest_rows=500)
TIMES = Times(0.01, 0.001)
MEMBER = Caller("key:member", groups=("org:acme",), discount=0.25)


def rows(count, shift=0.0, seed=0):
    return np.random.default_rng(seed).lognormal(shift, size=(count, 2))


def recorded(count, shift=0.0, seed=0):
    """Rows of ``RECORDED``, with classes: each measure sees the shift, the one without kinds twice."""
    rng = np.random.default_rng(seed)
    values = rng.lognormal(shift, size=(count, 3))
    values[:, 2] = values[:, 1] * np.exp(shift)
    return Rows(values, rng.integers(0, 3, count))


def leaks(some):
    return Leaks(RECORDED, some.leaks, some.classes)


@pytest.fixture(scope="module")
def tariff():
    """A tariff with one declared kind, classes, a stranger, and a measure that is known without kinds too."""
    kinds = [KindSample("wider", DECLARED, leaks(recorded(1500, 0.4, seed=4)))]
    strangers = [StrangerSample("far", leaks(recorded(300, 3.0, seed=5)))]
    samples = FitSamples(leaks(recorded(1000)), kinds, strangers)
    terms = CalibrationTerms(suspicion=SuspicionTerms(alpha=1e-3))
    return ConformalTariff(fit_calibration("m", samples, RowCosts(unit_seconds=0.01), terms))


@pytest.fixture(scope="module")
def samples():
    return {
        "calibration": leaks(recorded(1000)),
        "honest": leaks(recorded(500, seed=1)),
        "kind:wider": leaks(recorded(500, 0.4, seed=3)),
        "thief": leaks(recorded(400, 2.0, seed=2)),
    }


@pytest.fixture(scope="module")
def lines(tariff, samples):
    return replay_attackers(samples, [ConformalBatchTariff(tariff, RECORDED)], TIMES, PLAN, 0)


def one(lines, family, level=None, kind=None):
    (found,) = [
        line for line in lines if line.family == family and level in (None, line.level) and kind in (None, line.kind)
    ]
    return found


def walk(tariff, traffic, caller):
    """Row by row through the ledger's own arithmetic and the tariff, as a gateway does."""
    priced = Leaks(NAMES, traffic.leaks[:, :2], traffic.classes)
    assessment = tariff.assess(priced, np.random.default_rng(7))
    accounts, seen, seconds, suspected = {}, {}, [], []
    for place, number in enumerate(traffic.accounts.tolist()):
        fingerprint = (place if traffic.fresh[place] else 10**6).to_bytes(8, "big")
        entry = Charge(
            "m", 1, tuple(priced.values[place]), (int(assessment.cells[place]),), (fingerprint,), tariff.cell_count,
            tariff.identity, 1.0,
        )  # fmt: skip
        names = (number, *caller.groups)
        for name, party in zip(names, account_math.affected_accounts(caller), strict=True):
            known = seen.setdefault(name, {(10**6).to_bytes(8, "big")})
            accounts[name], learned = account_math.charge(accounts.get(name), party, entry, known, EVIDENCE_SECONDS)
            known.update(learned)
        own, *groups = (accounts[name] for name in names)
        account = dataclasses.replace(account_math.with_groups(own, groups), settled_rows=own.rows - 1)
        row = slice(place, place + 1)
        classes = None if traffic.classes is None else traffic.classes[row]
        single = Assessment(
            assessment.factors[row], assessment.rarest[row], assessment.cells[row],
            Leaks(NAMES, priced.values[row], classes),
        )  # fmt: skip
        verdict = tariff.verdict(account)
        work = tariff.work(single, account, verdict, traffic.leaks[row][:, [0, 2]])
        parties = {party.name: name for name, party in zip(names, account_math.affected_accounts(caller), strict=True)}
        for update in verdict.updates:
            accounts[parties[update.account]] = account_math.updated(accounts[parties[update.account]], update)
        new_account = tariff.new_account_seconds(caller) * new_account_share(1, own.rows - 1)
        seconds.append(work.seconds + new_account)
        suspected.append(work.suspected)
    return np.array(seconds), np.array(suspected)


CERTIFICATE = 0.06  # the evidence is known to a tenth of a nat, the surcharge to half of that


@settings(max_examples=12, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.floats(0.0, 30.0), st.floats(0.0, 30.0), st.booleans()), min_size=1, max_size=60
    ),
    st.sampled_from([Caller("key:a"), Caller("net:10.0.0.1"), MEMBER]),
)
def test_all_rows_at_once_cost_what_a_gateway_charges_one_by_one(tariff, drawn_rows, caller):
    traffic = Traffic(
        np.array([(*row[1:3], 1.5 * row[2]) for row in drawn_rows]),
        np.array([row[0] for row in drawn_rows]),
        np.ones(len(drawn_rows), bool),
        np.array([row[3] for row in drawn_rows]),
        np.array([row[0] - 1 for row in drawn_rows]),
    )
    charged = ConformalBatchTariff(tariff, RECORDED).charge(traffic, caller, np.random.default_rng(7))
    seconds, suspected = walk(tariff, traffic, caller)
    assert np.allclose(charged.seconds, seconds, rtol=CERTIFICATE)
    assert np.array_equal(charged.suspected, suspected)


@pytest.mark.parametrize("caller", [Caller("key:a"), MEMBER], ids=lambda caller: caller.name)
def test_a_long_theft_costs_what_a_gateway_charges_one_by_one(tariff, caller):
    """Over so many rows that the surcharge of groups ends; after 60 rows the evidence is evaluated every 8 % of them."""
    traffic = split_over_accounts(recorded(630, 2.0), 3)
    charged = ConformalBatchTariff(tariff, RECORDED).charge(traffic, caller, np.random.default_rng(7))
    seconds, suspected = walk(tariff, traffic, caller)
    assert charged.suspected.any()
    assert np.array_equal(charged.suspected, suspected)
    assert np.allclose(charged.seconds[:180], seconds[:180], rtol=CERTIFICATE)
    assert charged.seconds.sum() == pytest.approx(seconds.sum(), rel=0.02)


@pytest.mark.parametrize("signed", [True, False])
def test_the_published_tariff_is_charged_row_by_row_too(signed):
    tariff = PublishedTariff("novelty", StandardLine(1.6, 0.0), PublishedTerms(base=1.02, signed=signed))
    traffic = split_over_accounts(Rows(rows(200, 1.0)), 4)
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
    assert len([line for line in lines if line.family == BANK]) == 1
    assert len([line for line in lines if line.family == ABANDON]) == 2
    assert [line.kind for line in lines if line.family == HONEST] == [
        "recorded",
        "wider",
        "drawn",
        "mixtures",
        "switching",
    ]
    assert all(line.ratio is None or line.ratio == line.seconds_with / line.seconds_without for line in lines)


def test_honest_callers_pay_a_unit_and_are_not_suspected(lines):
    for kind in ("recorded", "wider", "drawn", "mixtures", "switching"):
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
    hard = samples | {"thief": Leaks(RECORDED, np.full((50, 3), 1e6))}
    line = one(
        replay_attackers(
            hard, [ConformalBatchTariff(tariff, RECORDED)], TIMES, dataclasses.replace(PLAN, rows=None), 0
        ),
        ABANDON,
        1.0,
    )
    assert (line.queries, line.ratio) == (0, None)


def test_the_same_seed_gives_the_same_table_and_every_tariff_gets_the_same_rows(tariff, samples):
    tolls = [ConformalBatchTariff(tariff, RECORDED, "one"), ConformalBatchTariff(tariff, RECORDED, "two")]
    lines = replay_attackers(samples, tolls, TIMES, PLAN, 3)
    one_half, other_half = lines[: len(lines) // 2], lines[len(lines) // 2 :]
    assert [dataclasses.replace(line, tariff="two") for line in one_half] == other_half
    assert lines == replay_attackers(samples, tolls, TIMES, PLAN, 3)


def test_accounts_of_one_organisation_pay_more_than_accounts_without_one(tariff, samples):
    """Too few rows each to be suspected one by one, they are together."""
    toll, plan = ConformalBatchTariff(tariff, RECORDED), dataclasses.replace(PLAN, accounts=(300,), fillers=())
    apart = one(replay_attackers(samples, [toll], TIMES, plan, 0), ACCOUNTS)
    together = one(replay_attackers(samples, [toll], TIMES, dataclasses.replace(plan, caller=MEMBER), 0), ACCOUNTS)
    assert together.ratio > 3.0 * apart.ratio
    assert together.suspected == apart.suspected < 0.1


def test_anonymous_accounts_pay_the_new_account_toll(tariff, samples):
    toll, plan = ConformalBatchTariff(tariff, RECORDED), dataclasses.replace(PLAN, rows=600, accounts=(20,), fillers=())
    keyed = one(replay_attackers(samples, [toll], TIMES, plan, 0), ACCOUNTS)
    anonymous = one(
        replay_attackers(samples, [toll], TIMES, dataclasses.replace(plan, caller=Caller("net:x")), 0), ACCOUNTS
    )
    assert anonymous.seconds_with - keyed.seconds_with == pytest.approx(20 * 200 * 0.01)


def test_samples_without_honest_rows_are_refused(tariff, samples):
    with pytest.raises(CalibrationError, match="'honest' is needed; there are: thief"):
        replay_attackers({"thief": samples["thief"]}, [ConformalBatchTariff(tariff, RECORDED)], TIMES, PLAN, 0)


def test_traffic_has_the_documented_order():
    stolen = Rows(rows(6), np.arange(6))
    assert split_over_accounts(stolen, 4).accounts.tolist() == [0, 1, 2, 3, 0, 1]
    assert one_account(stolen).accounts.tolist() == [0] * 6
    fillers = Rows(np.zeros((12, 2)), np.full(12, 9))
    repeated, others = (mixed_with_fillers(stolen, fillers, repeated=repeated) for repeated in (True, False))
    assert repeated.wanted.tolist() == [False, False, True] * 6
    assert repeated.fresh.tolist() == [True, False, True] + [False, False, True] * 5
    assert others.fresh.all()
    assert np.array_equal(others.leaks[others.wanted], stolen.leaks)
    assert others.classes.tolist() == [label for row in range(6) for label in (9, 9, row)]


def test_rows_without_a_class_stay_without_one_among_others():
    joined = Rows.joined([Rows(rows(2)), Rows(rows(1), np.array([4]))])
    assert joined.classes.tolist() == [NO_CLASS, NO_CLASS, 4]
    assert Rows.joined([Rows(rows(2)), Rows(rows(1))]).classes is None


def test_every_account_sends_the_bank_first():
    banked = after_bank(Rows(rows(3)), split_over_accounts(Rows(rows(4)), 2))
    assert banked.accounts.tolist() == [0, 0, 0, 1, 1, 1, 0, 1, 0, 1]
    assert banked.wanted.tolist() == [False] * 6 + [True] * 4
    assert np.array_equal(banked.leaks[6:], rows(4))


@given(st.integers(1, 40), st.integers(0, 100))
def test_rows_are_drawn_evenly_from_what_was_recorded(count, wanted):
    known = Rows(np.arange(float(count))[:, None])
    drawn = sample_rows(known, wanted, np.random.default_rng(0))
    counts = np.bincount(drawn.leaks[:, 0].astype(int), minlength=count)
    assert counts.sum() == wanted
    assert counts.max() - counts.min() <= 1
    assert np.array_equal(sample_rows(known, None, np.random.default_rng(0)).leaks, known.leaks)
    assert len(draw_rows(known, wanted, np.random.default_rng(0))) == wanted


def test_a_caller_who_switches_sends_fifty_rows_of_a_kind_and_a_mixture_has_all():
    kinds = [Rows(np.full((7, 1), float(kind))) for kind in range(4)]
    switching = switching_rows(kinds, 230, np.random.default_rng(0)).leaks[:, 0]
    assert len(switching) == 230
    assert all(len(set(switching[start : start + 50])) == 1 for start in range(0, 230, 50))
    assert len(set(switching)) > 1
    mixed = mixed_rows(kinds, 400, np.random.default_rng(1)).leaks[:, 0]
    assert set(mixed) == {0.0, 1.0, 2.0, 3.0}
    assert np.abs(np.diff(mixed)).astype(bool).sum() > 100, "the kinds are not sent one after another"


def test_what_an_account_throws_away_is_worth_its_credit():
    """Up to the credit unpaid rows cost nothing, and beyond it each is worked for before it is answered."""
    terms = SettlementTerms(unit_seconds=1.0, credit=10.0)
    prices, nobody = np.full(100, 1.0), np.zeros(100, np.int64)
    thrown = settled_work(prices, nobody, np.zeros(100, bool), terms)
    assert thrown.admission[:10].sum() == 0.0
    assert thrown.admission[10:].tolist() == [1.0] * 90
    assert thrown.asked[10:].tolist() == [0.0] * 90, "what was paid for admission is taken off the toll"
    paid = settled_work(prices, nobody, np.ones(100, bool), terms)
    assert paid.admission.sum() == 0.0
    assert np.array_equal(paid.asked, prices)
    apart = settled_work(prices, np.arange(100) % 10, np.zeros(100, bool), terms)
    assert apart.admission.sum() == 0.0, "every account has a credit of its own"


def test_a_dear_toll_that_is_refused_shuts_nobody_out():
    """It counts half the credit at most, and the request after two of them is admitted for one unit of work."""
    terms = SettlementTerms(unit_seconds=1.0, credit=10.0)
    prices = np.array([1000.0, 1000.0, 1000.0, 1.0])
    settled = settled_work(prices, np.zeros(4, np.int64), np.array([False, False, False, True]), terms)
    assert settled.admission.tolist() == [0.0, 0.0, 1.0, 1.0]
    assert settled.asked[3] == 0.0


def test_tolls_thrown_away_cost_a_thief_where_they_are_settled(tariff):
    stolen = one_account(recorded(3000, 2.0))
    scenario = Scenario("thief", ABANDON, "abandon", 0.0, stolen, take_up_to(0.0))
    free, settled = (
        run_scenario(scenario, toll, Caller("key:a"), TIMES, np.random.default_rng(0))
        for toll in (
            ConformalBatchTariff(tariff, RECORDED),
            ConformalBatchTariff(tariff, RECORDED, credit=DEFAULT_CREDIT.at),
        )
    )
    assert free.seconds_with == pytest.approx(3000 * 0.011)
    assert settled.queries == free.queries == 0
    assert settled.seconds_with > 3000 * 0.011 + 2900 * 0.01
