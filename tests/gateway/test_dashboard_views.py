"""The dashboard's figures are those of the ledger, the tariff and the log, from which they can be reckoned anew."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltoll.errors import CalibrationError
from modeltoll.gateway.admin.dashboard.caller_history import history
from modeltoll.gateway.admin.dashboard.callers import SORTS, caller_rows, suspicion_level
from modeltoll.gateway.admin.dashboard.charts import Chart, Series
from modeltoll.gateway.admin.dashboard.drift import drift_view
from modeltoll.gateway.admin.dashboard.honest_waits import SHARES, honest_waits, quantile
from modeltoll.gateway.admin.dashboard.ledger_reader import LedgerReader
from modeltoll.gateway.admin.dashboard.log_arrays import DAY
from modeltoll.gateway.admin.dashboard.overview import ModelSnapshot, ViewOptions, overview
from modeltoll.gateway.admin.dashboard.price_curve import price_curve
from modeltoll.gateway.admin.dashboard.traffic import STEP, traffic_view
from modeltoll.gateway.admin.dashboard.what_if import compare, fields_of, other_settings
from modeltoll.ledger.memory import MemoryLedger
from modeltoll.pricing.explain import explain_caller
from modeltoll.records import Account, Caller, Leaks
from sample_traffic import (
    MEASURES,
    MODEL,
    THIEF,
    SampleTraffic,
    build_tariff,
    sample_callers,
    simulate_day,
)

NOW = 1_750_000_000.0


class Lived:
    """A believable day without drift, read as the dashboard reads it."""

    def __init__(self, plans):
        self.tariff = build_tariff()
        self.ledger = MemoryLedger()
        asyncio.run(self.ledger.open())
        self.town = SampleTraffic.start(self.ledger, self.tariff, NOW)
        asyncio.run(simulate_day(self.town, plans))
        self.reading = asyncio.run(LedgerReader(self.ledger, self.town.clock).read())
        self.day = self.reading.tail.day(MODEL, MEASURES)
        self.bills = [bill for _, _, bill in asyncio.run(self.ledger.log(0, 100_000))]

    def account(self, caller):
        return asyncio.run(self.ledger.account(caller, MODEL, NOW))

    def hash(self, caller):
        return self.ledger.logged_as(caller)


@pytest.fixture(scope="module")
def lived():
    return Lived([replace(plan, drift=0.0) for plan in sample_callers(0.4)])


def assessed(day, tariff=None):
    return (tariff or build_tariff()).assess(day.leak_record, rng())


def replay(day, other=None):
    tariff = build_tariff()
    return compare(day, tariff, assessed(day), other and (other, assessed(day, other)))


def sums(chart):
    return [sum(value for value in series.values if value is not None) for series in chart.series]


def rng():
    return np.random.default_rng(0)


def test_requests_and_work_over_time_add_up_to_those_of_the_log(lived):
    seen = traffic_view(lived.day)
    asked = [bill for bill in lived.bills if bill.mode != "exempt"]
    suspected = [bill for bill in asked if bill.work.suspected]
    assert seen.requests == len(lived.bills)
    assert seen.rows == sum(bill.rows for bill in lived.bills)
    assert seen.exempt == len(lived.bills) - len(asked) > 0
    assert math.isclose(seen.work, sum(bill.work.seconds for bill in asked))
    assert seen.suspected_requests == len(suspected) > 0
    assert sums(seen.charts[0]) == [len(lived.bills) - len(suspected), len(suspected)]
    assert np.isclose(sum(sums(seen.charts[1])), seen.work)
    assert np.isclose(sums(seen.charts[1])[1], seen.suspected_work)


def test_what_happened_stands_in_its_half_hour(lived):
    chart = traffic_view(lived.day).charts[0]
    for start, (others, suspected) in chart.table:
        inside = [bill for bill in lived.bills if start <= bill.at < start + STEP]
        assert others + suspected == len(inside)
        assert start % STEP == 0
    assert chart.x[0] <= NOW - DAY
    assert chart.x[-1] + STEP > NOW


def test_honest_waits_are_those_of_payers_who_were_not_suspected_beside_the_calibrations_promise(lived):
    seen = honest_waits(lived.day, lived.tariff, assessed(lived.day))
    honest = [bill for bill in lived.bills if bill.mode != "exempt" and not bill.work.suspected]
    alone = [lived.tariff.assess(Leaks(MEASURES, np.array(bill.leaks)), rng()).factors for bill in honest]
    discounts = [
        bill.work.rows_seconds / seen.unit_seconds / each.sum() for bill, each in zip(honest, alone, strict=True)
    ]
    each = seen.unit_seconds * np.concatenate([paid * one for paid, one in zip(discounts, alone, strict=True)])
    assert {round(paid, 9) for paid in discounts} == {0.5, 1.0}
    assert seen.rows == len(each)
    assert np.isclose(seen.mean_seconds, each.mean())
    assert np.isclose(seen.mean_units * seen.unit_seconds, each.mean())
    assert np.isclose(seen.entry_seconds, sum(bill.work.new_account_seconds for bill in honest))
    assert seen.entry_seconds > 0.0
    for line, (share, promised) in zip(seen.lines, lived.tariff.calibration.report.waits, strict=True):
        assert (line.share, line.promised) == (share, promised)
        assert np.mean(each <= line.seen * (1 + 1e-9)) >= share
        assert np.mean(each < line.seen * (1 - 1e-9)) < share
    assert seen.kept


def test_without_a_report_the_promise_is_the_price_itself(lived):
    bare = type(lived.tariff)(replace(lived.tariff.calibration, report=None))
    for line in honest_waits(lived.day, bare, assessed(lived.day)).lines:
        g, unit = bare.calibration.g, bare.calibration.unit_seconds
        assert line.promised == pytest.approx(unit * (1 - g) * (1 - line.share) ** -g)


def test_waits_that_even_tolerated_traffic_would_not_have_are_marked(lived):
    line = honest_waits(lived.day, lived.tariff, assessed(lived.day)).lines[0]
    assert not replace(line, seen=1.25 * line.promised).broken(1.25)
    assert replace(line, seen=1.26 * line.promised).broken(1.25)
    assert not replace(line, seen=None).broken(1.25)


@given(values=st.lists(st.floats(0, 100), min_size=1, max_size=30), share=st.floats(0.01, 1.0))
def test_a_quantile_is_the_smallest_value_that_such_a_share_does_not_exceed(values, share):
    found = quantile(np.array(values), share)
    assert np.mean(np.array(values) <= found) >= share * (1 - 1e-9)
    assert np.mean(np.array(values) < found) < share


def test_there_is_no_quantile_of_nothing():
    assert quantile(np.empty(0), 0.5) is None


@pytest.mark.parametrize("sort", SORTS)
def test_callers_come_in_the_order_asked_for_each_with_what_ledger_and_log_say(lived, sort):
    found, count = caller_rows(lived.reading, lived.day, lived.tariff, sort, None)
    accounts = {account.caller.name: account for account in lived.reading.accounts}
    assert count == len(found) == len(accounts) == len(sample_callers())
    sizes = {
        "work": [-each.work for each in found],
        "rows": [-each.rows for each in found],
        "evidence": [-each.evidence.power for each in found],
    }[sort]
    assert sizes == sorted(sizes)
    for each in found:
        account = accounts[each.name]
        assert (each.hash, each.rows, each.work) == (lived.hash(account.caller), account.rows, account.work)
        assert each.last == account.last_seen
        assert each.day_rows == account.rows  # he came on that day
        standing = explain_caller(lived.tariff, account)
        assert each.evidence.power == pytest.approx(standing.log_evidence / math.log(10))
        assert each.evidence.threshold == pytest.approx(6)
        assert each.evidence.surcharge == standing.surcharge
        assert each.evidence.suspected == (each.name == THIEF.name) == each.suspected_today
        for strip, leak in zip(each.strips, account.leaks, strict=True):
            assert strip.leak == pytest.approx(leak / account.rows)


def test_the_thiefs_leak_lies_above_the_honest_band_and_most_honest_ones_in_it(lived):
    found, _ = caller_rows(lived.reading, lived.day, lived.tariff, "work", None)
    strips = {each.name: each.strips for each in found}
    assert all(strip.leak > strip.high for strip in strips.pop(THIEF.name))
    inside = [strip.low <= strip.leak <= strip.high for each in strips.values() for strip in each]
    assert np.mean(inside) >= 0.8
    for strip in (strip for each in found for strip in each.strips):
        assert 0 <= strip.low_at <= strip.high_at <= 100
        assert 0 <= strip.leak_at <= 100


def test_the_band_holds_95_of_100_honest_callers(lived):
    scores, chance = lived.tariff.calibration.scores, rng()
    for rows in (30, 300):
        _, low, high = suspicion_level(lived.tariff, np.array([float(rows)]))
        totals = chance.choice(scores[0], (2000, rows)).sum(axis=1)
        assert 0.93 <= np.mean((low[0] <= totals) & (totals <= high[0])) <= 0.97


def test_a_few_callers_are_listed_first_and_all_are_counted(lived):
    found, count = caller_rows(lived.reading, lived.day, lived.tariff, "work", 3)
    assert (len(found), count) == (3, len(sample_callers()))
    assert found[0].name == THIEF.name


def test_a_caller_whose_account_is_gone_is_known_by_his_hash(lived):
    reading = replace(lived.reading, accounts=(), hashes=())
    found, _ = caller_rows(reading, lived.day, lived.tariff, "work", None)
    assert found[0].hash == lived.hash(THIEF)
    assert (found[0].name, found[0].evidence, found[0].suspected_today) == (None, None, True)
    assert found[0].rows == found[0].day_rows > 0


def test_evidence_of_another_tariff_is_not_evidence(lived):
    other = build_tariff(seed=1)
    found, _ = caller_rows(lived.reading, lived.day, other, "evidence", None)
    assert {each.evidence for each in found} == {None}


def test_without_a_tariff_callers_are_listed_without_bands_and_evidence(lived):
    found, _ = caller_rows(lived.reading, lived.day, None, "evidence", None)
    assert found[0].name == THIEF.name
    assert {(each.evidence, each.strips) for each in found} == {(None, ())}


def test_a_history_runs_up_to_what_the_account_has_leaked(lived):
    account = lived.account(THIEF)
    seen = history(lived.hash(THIEF), account, lived.day, lived.tariff)
    for chart, leak in zip(seen.leaks, account.leaks, strict=True):
        assert chart.x[-1] == account.rows
        assert chart.series[0].values[-1] == pytest.approx(leak)
        assert chart.series[0].values[-1] > chart.series[1].values[-1]
        assert len(chart.x) <= 300
    assert seen.evidence.suspected
    assert seen.traffic.rows == account.rows
    bills = [bill for (_, hashed, bill) in asyncio.run(lived.ledger.log(0, 100_000)) if hashed == seen.hash]
    assert [visit.at for visit in seen.visits] == [bill.at for bill in reversed(bills)][:25]
    assert [visit.work for visit in seen.visits] == [bill.work.seconds for bill in reversed(bills)][:25]
    assert [visit.rarest for visit in seen.visits] == [bill.rarest[0] for bill in reversed(bills)][:25]


def test_how_rare_a_callers_rows_are_is_said_against_the_calibration(lived):
    account = lived.account(THIEF)
    edges = np.array(lived.tariff.suspicion.edges)
    for chart, counts in zip(history("", account, lived.day, lived.tariff).rarity, account.counts, strict=True):
        densities = np.array(chart.series[0].values[:-1])
        assert np.allclose(densities * np.diff(edges) * sum(counts), counts)


def test_a_caller_without_an_account_or_without_a_day_still_has_a_history(lived):
    gone = history(lived.hash(THIEF), None, lived.day, lived.tariff)
    assert gone.account is None
    assert gone.rarity == ()
    assert len(gone.leaks) == 2
    quiet = history("0" * 16, lived.account(THIEF), lived.day, lived.tariff)
    assert (quiet.visits, quiet.leaks, quiet.traffic.requests) == ((), (), 0)


def test_a_row_with_the_leaks_of_the_price_table_costs_what_the_table_says(lived):
    seen = price_curve(lived.tariff)
    rows = Leaks(MEASURES, np.array([line.leaks for line in seen.lines]))
    factors = lived.tariff.assess(rows, rng()).factors
    p_values = (1 + lived.tariff.count_at_least(rows)) / (seen.honest + 1)
    for line, factor, p_value in zip(seen.lines, factors, p_values, strict=True):
        assert np.all(np.abs(p_value - line.share) <= 2.0 / (seen.honest + 1))
        if line.share >= 0.01:
            assert line.seconds == pytest.approx(seen.unit_seconds * factor, rel=0.15)
    least = seen.lines[-1]
    assert least.share == 1 / (seen.honest + 1)
    assert least.suspected == seen.maximum * least.seconds
    assert seen.lines[0].suspected == seen.lines[0].seconds  # an ordinary row is never surcharged


def test_drift_is_the_watchs_reading_beside_the_logs_honest_rows(lived):
    reading = lived.town.monitor.reading()
    seen = drift_view(lived.day, lived.tariff, assessed(lived.day), reading)
    widths = np.diff(lived.tariff.suspicion.edges)
    for place, chart in enumerate(seen.charts):
        watched, logged = (np.array(series.values[:-1]) * widths for series in chart.series[:2])
        assert np.allclose(watched, reading.shares[place])
        assert logged.sum() == pytest.approx(1.0)
        assert np.abs(watched - logged).sum() < 0.15  # ties, exempt rows and repeats aside, they saw the same
    assert seen.evidence == pytest.approx(reading.log_evidence / math.log(10))
    assert not seen.drifted


def test_the_settings_in_force_replay_what_honest_callers_were_charged(lived):
    plain = lived.day.only(~np.isin(lived.day.callers, [lived.day.names.index(lived.hash(Caller("key:partner")))]))
    compared = replay(plain)
    charged, replayed = compared.reckonings
    assert (compared.suspects, charged.caught, replayed.caught) == (1, 1, 1)
    assert replayed.alarms == 0
    assert replayed.honest_work == pytest.approx(charged.honest_work)
    assert replayed.waits == pytest.approx(charged.waits)
    assert replayed.suspect_work == pytest.approx(charged.suspect_work, rel=0.1)  # chance places his ties anew
    assert compared.honest_callers == len(sample_callers()) - 3  # but the thief, the partner and the exempt one
    assert compared.honest_rows + compared.suspect_rows == plain.rows[~plain.exempt].sum()


def test_a_unit_twice_as_large_makes_everything_twice_as_dear(lived):
    double = other_settings(lived.tariff, {"unit_ms": "20"})
    _, before, after = replay(lived.day, double).reckonings
    assert after.honest_work == pytest.approx(2 * before.honest_work)
    assert after.suspect_work == pytest.approx(2 * before.suspect_work)
    assert after.waits == pytest.approx([2 * wait for wait in before.waits])


def test_a_lower_highest_surcharge_costs_suspects_less_and_honest_callers_the_same(lived):
    milder = other_settings(lived.tariff, {"maximum": "10"})
    _, before, after = replay(lived.day, milder).reckonings
    assert after.honest_work == before.honest_work
    assert after.suspect_work < 0.2 * before.suspect_work


def test_rows_whose_leaks_a_caller_has_shown_before_count_once(lived):
    day = lived.day.only(lived.day.callers == lived.day.names.index(lived.hash(THIEF)))
    day = day.only(np.arange(len(day.at)) < 2)
    many = 400
    repeated = replace(
        day.only(np.arange(2) < 1),
        callers=np.repeat(day.callers[:1], many),
        at=np.repeat(day.at[:1], many),
        rows=np.ones(many, np.int64),
        modes=np.repeat(day.modes[:1], many),
        work=np.repeat(day.work[:1], many, axis=0),
        measured=np.ones(many, bool),
        row_lines=np.arange(many),
        leaks=np.repeat(day.leaks[:1], many, axis=0),
        rarest=np.repeat(day.rarest[:1], many),
    )
    assert [each.caught for each in replay(repeated).reckonings] == [0, 0]


def test_nothing_given_or_nothing_changed_are_no_other_settings(lived):
    assert other_settings(lived.tariff, {}) is None
    shown = {field.name: field.value for field in fields_of(lived.tariff.calibration, {})}
    assert shown["g"] == "0.8"
    assert shown["unit_ms"] == "10"
    assert other_settings(lived.tariff, shown) is None
    assert other_settings(lived.tariff, shown | {"g": "  "}) is None


def test_other_settings_are_those_given_and_the_rest_as_in_force(lived):
    given_ = {"g": "0.5", "rho": "0", "weight_0": "3", "weight_1": "1", "color": "red"}
    other = other_settings(lived.tariff, given_).calibration
    assert (other.g, other.suspicion.rho, other.weights) == (0.5, 0.0, (0.75, 0.25))
    assert (other.unit_seconds, other.suspicion.alpha) == (lived.tariff.calibration.unit_seconds, 1e-6)
    assert [field.value for field in fields_of(lived.tariff.calibration, given_)][:1] == ["0.5"]


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"g": "1"}, "'g' must lie between 0 and 1"),
        ({"g": "nan"}, "g: 'nan' is not a number"),
        ({"alpha": "<b>"}, "alpha: '<b>' is not a number"),
        ({"alpha": "2"}, "'suspicion.alpha' must lie in"),
        ({"rho": "-1"}, "'suspicion.rho' must lie in"),
        ({"maximum": "0"}, "'suspicion.maximum' must lie in"),
        ({"unit_ms": "0"}, "'unit_seconds' must be above 0"),
        ({"unit_ms": "1e300"}, "'unit_seconds' must be above 0, a day at most"),
        ({"weight_0": "-1"}, "weights must be 0 or more"),
        ({"weight_0": "0", "weight_1": "0"}, "not all of them 0"),
        ({"weight_1": "x" * 1000}, "a weight: "),
    ],
)
def test_settings_that_cannot_be_are_refused_with_the_reason(lived, given_, said):
    with pytest.raises(CalibrationError) as caught:
        other_settings(lived.tariff, given_)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 150


def test_a_page_of_an_empty_log_has_every_panel():
    tariff = build_tariff()
    ledger = MemoryLedger()
    asyncio.run(ledger.open())
    town = SampleTraffic.start(ledger, tariff, NOW)
    reading = asyncio.run(LedgerReader(ledger, town.clock).read())
    stand = ModelSnapshot(MODEL, MEASURES, NOW, reading, tariff, town.monitor.reading())
    view = overview(stand, ViewOptions.of({"g": "0.5"}))
    assert (view.traffic.requests, view.callers, view.standings) == (0, 0, ())
    assert [line.seen for line in view.waits.lines] == [None] * len(SHARES)
    assert [each.honest_mean for each in view.compared.reckonings] == [None] * 3
    assert view.curve is not None
    assert not view.drift.drifted
    nothing = {value for chart in view.drift.charts for series in chart.series[:2] for value in series.values}
    assert nothing == {None}


def test_a_page_without_a_ledger_or_without_a_tariff_has_what_there_is(lived):
    drift = lived.town.monitor.reading()
    blind = overview(ModelSnapshot(MODEL, MEASURES, NOW, None, lived.tariff, drift), ViewOptions.of({}))
    assert (blind.traffic, blind.waits, blind.compared, blind.standings) == (None, None, None, ())
    assert blind.curve is not None
    assert blind.drift.rows > 0
    unpriced = overview(ModelSnapshot(MODEL, MEASURES, NOW, lived.reading, None, None), ViewOptions.of({}))
    assert (unpriced.waits, unpriced.curve, unpriced.drift, unpriced.compared) == (None, None, None, None)
    assert unpriced.traffic.requests == len(lived.bills)


def test_what_a_query_says_wrongly_is_as_if_it_were_not_said():
    assert ViewOptions.of({"sort": "name; DROP", "callers": "1"}).sort == "work"
    assert ViewOptions.of({"sort": "rows", "callers": "all"}).every


def test_a_chart_is_json_without_numbers_that_json_does_not_have():
    chart = Chart("t", "x", "y", (1.0, 2.0), (Series("a", (None, 3.0)),))
    assert json.loads(chart.json)["series"][0]["values"] == [None, 3.0]
    assert chart.table == [(1.0, (None,)), (2.0, (3.0,))]


def test_an_account_of_another_shape_is_not_explained(lived):
    account = lived.account(THIEF)
    assert isinstance(account, Account)
    stale = replace(account, tariff="another")
    seen = history(lived.hash(THIEF), stale, lived.day, lived.tariff)
    assert (seen.evidence, seen.rarity) == (None, ())
