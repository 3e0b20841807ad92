"""The figures of the dashboard equal those computed from the ledger, the tariff and the log."""

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
from modeltoll.gateway.admin.dashboard.callers import SORTS, suspicion_level
from modeltoll.gateway.admin.dashboard.callers import caller_rows as all_caller_rows
from modeltoll.gateway.admin.dashboard.charts import DashboardChart, Series
from modeltoll.gateway.admin.dashboard.drift import drift_view
from modeltoll.gateway.admin.dashboard.honest_waits import SHARES, honest_waits, quantile
from modeltoll.gateway.admin.dashboard.ledger_reader import LedgerReader
from modeltoll.gateway.admin.dashboard.log_arrays import DAY
from modeltoll.gateway.admin.dashboard.overview import ModelSnapshot, ViewOptions, overview
from modeltoll.gateway.admin.dashboard.price_curve import price_curve
from modeltoll.gateway.admin.dashboard.suspects import findings
from modeltoll.gateway.admin.dashboard.traffic import SLOT_SECONDS, traffic_view
from modeltoll.gateway.admin.dashboard.what_if import compare
from modeltoll.gateway.admin.dashboard.what_if_form import fields_of, other_settings
from modeltoll.ledger.memory import MemoryLedger
from modeltoll.pricing.explain import explain_caller
from modeltoll.records import Account, Caller, Leaks
from modeltoll.settlement_records import Standing
from modeltoll.simulation.p_value_mixture import leaks_at
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


class SampleDay:
    """One day of sample traffic without drift, read as the dashboard reads it."""

    def __init__(self, plans):
        self.tariff = build_tariff()
        self.ledger = MemoryLedger()
        asyncio.run(self.ledger.open())
        self.traffic = SampleTraffic.start(self.ledger, self.tariff, NOW)
        asyncio.run(simulate_day(self.traffic, plans))
        self.snapshot = asyncio.run(LedgerReader(self.ledger, self.traffic.clock).read())
        self.day = self.snapshot.tail.day(MODEL, MEASURES)
        self.entries = [entry for _, _, entry in asyncio.run(self.ledger.log(0, 100_000))]

    def account(self, caller):
        return asyncio.run(self.ledger.account(caller, MODEL))

    def hash(self, caller):
        return self.ledger.logged_as(caller)


@pytest.fixture(scope="module")
def sample():
    return SampleDay([replace(plan, drift=0.0) for plan in sample_callers(0.4)])


def assessed(day, tariff=None):
    return (tariff or build_tariff()).assess(day.leak_record, rng())


def replay(day, other=None, found=None):
    tariff = build_tariff()
    return compare(day, found or {}, tariff, assessed(day), other and (other, assessed(day, other)))


def caller_rows(snapshot, day, tariff, sort, limit):
    return all_caller_rows(snapshot, day, tariff, findings(snapshot, MODEL, tariff), sort, limit)


def sums(chart):
    return [sum(value for value in series.values if value is not None) for series in chart.series]


def rng():
    return np.random.default_rng(0)


def test_requests_and_work_over_time_add_up_to_those_of_the_log(sample):
    seen = traffic_view(sample.day)
    asked = [entry for entry in sample.entries if entry.mode != "exempt"]
    suspected = [entry for entry in asked if entry.work.suspected]
    assert seen.requests == len(sample.entries)
    assert seen.rows == sum(entry.rows for entry in sample.entries)
    assert seen.exempt == len(sample.entries) - len(asked) > 0
    assert math.isclose(seen.work, sum(entry.work.seconds for entry in asked))
    assert seen.suspected_requests == len(suspected) > 0
    assert sums(seen.charts[0]) == [len(sample.entries) - len(suspected), len(suspected)]
    assert np.isclose(sum(sums(seen.charts[1])), seen.work)
    assert np.isclose(sums(seen.charts[1])[1], seen.suspected_work)


def test_requests_are_counted_in_their_half_hour(sample):
    chart = traffic_view(sample.day).charts[0]
    for start, (others, suspected) in chart.table:
        inside = [entry for entry in sample.entries if start <= entry.at < start + SLOT_SECONDS]
        assert others + suspected == len(inside)
        assert start % SLOT_SECONDS == 0
    assert chart.x[0] <= NOW - DAY
    assert chart.x[-1] + SLOT_SECONDS > NOW


def test_waits_are_those_of_all_who_pay_and_of_those_who_were_not_suspected(sample):
    seen = honest_waits(sample.day, sample.tariff, assessed(sample.day))
    paying = [entry for entry in sample.entries if entry.mode != "exempt"]
    honest = [entry for entry in paying if not entry.work.suspected]
    assert seen.all_rows == sum(entry.rows for entry in paying) > seen.rows
    assert seen.all_mean_seconds == pytest.approx(sum(entry.work.rows_seconds for entry in paying) / seen.all_rows)
    alone = [sample.tariff.assess(Leaks(MEASURES, np.array(entry.leaks)), rng()).factors for entry in honest]
    discounts = [
        entry.work.rows_seconds / seen.unit_seconds / each.sum() for entry, each in zip(honest, alone, strict=True)
    ]
    each = seen.unit_seconds * np.concatenate([paid * one for paid, one in zip(discounts, alone, strict=True)])
    assert {round(paid, 9) for paid in discounts} == {0.5, 1.0}
    assert seen.rows == len(each)
    assert np.isclose(seen.mean_seconds, each.mean())
    assert np.isclose(seen.mean_units * seen.unit_seconds, each.mean())
    assert np.isclose(seen.new_account_seconds, sum(entry.work.new_account_seconds for entry in paying))
    assert seen.new_account_seconds > 0.0
    for line, (share, calibrated) in zip(seen.lines, sample.tariff.calibration.report.waits, strict=True):
        assert (line.share, line.calibrated) == (share, calibrated)
        assert np.mean(each <= line.observed * (1 + 1e-9)) >= share
        assert np.mean(each < line.observed * (1 - 1e-9)) < share
        assert line.everyone >= line.observed
    assert seen.tolerates(seen.mean_units)
    assert not seen.tolerates(seen.all_mean_units)  # the thief's rows cost more


def test_without_a_report_the_calibrated_wait_is_the_price(sample):
    bare = type(sample.tariff)(replace(sample.tariff.calibration, report=None))
    for line in honest_waits(sample.day, bare, assessed(sample.day)).lines:
        rows = leaks_at(bare.calibration.scores, np.array([1.0 - line.share - 1e-9]))
        price = bare.assess(Leaks(MEASURES, rows), rng()).factors[0]
        assert line.calibrated == pytest.approx(bare.unit_seconds * price)


def test_waits_longer_than_those_of_tolerated_traffic_are_marked(sample):
    line = honest_waits(sample.day, sample.tariff, assessed(sample.day)).lines[0]
    assert not line.exceeds(1.25 * line.calibrated, 1.25)
    assert line.exceeds(1.26 * line.calibrated, 1.25)
    assert not line.exceeds(None, 1.25)


@given(values=st.lists(st.floats(0, 100), min_size=1, max_size=30), share=st.floats(0.01, 1.0))
def test_a_quantile_is_the_smallest_value_that_the_share_does_not_exceed(values, share):
    found = quantile(np.array(values), share)
    assert np.mean(np.array(values) <= found) >= share * (1 - 1e-9)
    assert np.mean(np.array(values) < found) < share


def test_there_is_no_quantile_of_nothing():
    assert quantile(np.empty(0), 0.5) is None


@pytest.mark.parametrize("sort", SORTS)
def test_callers_are_sorted_and_have_the_figures_of_ledger_and_log(sample, sort):
    found, count = caller_rows(sample.snapshot, sample.day, sample.tariff, sort, None)
    accounts = {account.caller.name: account for account in sample.snapshot.accounts}
    assert count == len(found) == len(accounts) == len(sample_callers())
    sizes = {
        "work": [-each.work for each in found],
        "rows": [-each.rows for each in found],
        "evidence": [-each.evidence.power for each in found],
    }[sort]
    assert sizes == sorted(sizes)
    for each in found:
        account = accounts[each.name]
        assert (each.hash, each.rows, each.work) == (sample.hash(account.caller), account.rows, account.work)
        assert each.last == account.last_seen
        assert each.day_rows == account.rows  # all its requests are of that day
        explanation = explain_caller(sample.tariff, account, Standing())
        assert each.evidence.power <= (explanation.log_evidence + 0.2) / math.log(10)  # a lower bound
        assert each.evidence.threshold == pytest.approx(6)
        assert each.evidence.surcharge == explanation.surcharge
        assert (explanation.log_evidence >= explanation.log_threshold) == each.evidence.suspected
        assert each.evidence.suspected == (each.name == THIEF.name) == each.suspected_today
        for band, leak in zip(each.bands, account.leaks, strict=True):
            assert band.leak == pytest.approx(leak / account.rows)


def test_the_thiefs_leak_lies_above_the_honest_band_and_most_honest_ones_in_it(sample):
    found, _ = caller_rows(sample.snapshot, sample.day, sample.tariff, "work", None)
    bands = {each.name: each.bands for each in found}
    assert all(band.leak > band.high for band in bands.pop(THIEF.name))
    inside = [band.low <= band.leak <= band.high for each in bands.values() for band in each]
    assert np.mean(inside) >= 0.8
    for band in (band for each in found for band in each.bands):
        assert 0 <= band.low_at <= band.high_at <= 100
        assert 0 <= band.leak_at <= 100


def test_the_band_holds_95_of_100_honest_callers(sample):
    scores, generator = sample.tariff.calibration.scores, rng()
    for rows in (30, 300):
        _, low, high = suspicion_level(sample.tariff, np.array([float(rows)]))
        totals = generator.choice(scores[0], (2000, rows)).sum(axis=1)
        assert 0.93 <= np.mean((low[0] <= totals) & (totals <= high[0])) <= 0.97


def test_a_few_callers_are_listed_first_and_all_are_counted(sample):
    found, count = caller_rows(sample.snapshot, sample.day, sample.tariff, "work", 3)
    assert (len(found), count) == (3, len(sample_callers()))
    assert found[0].name == THIEF.name


def test_a_caller_without_an_account_is_listed_by_hash(sample):
    snapshot = replace(sample.snapshot, accounts=(), hashes=())
    found, _ = caller_rows(snapshot, sample.day, sample.tariff, "work", None)
    assert found[0].hash == sample.hash(THIEF)
    assert (found[0].name, found[0].evidence, found[0].suspected_today) == (None, None, True)
    assert found[0].rows == found[0].day_rows > 0


def test_counts_of_another_tariff_are_no_evidence(sample):
    other = build_tariff(seed=1)
    found, _ = caller_rows(sample.snapshot, sample.day, other, "evidence", None)
    assert {each.evidence for each in found} == {None}


def test_without_a_tariff_callers_are_listed_without_bands_and_evidence(sample):
    found, _ = caller_rows(sample.snapshot, sample.day, None, "evidence", None)
    assert found[0].name == THIEF.name
    assert {(each.evidence, each.bands) for each in found} == {(None, ())}


def test_a_history_ends_at_the_total_leak_of_the_account(sample):
    account = sample.account(THIEF)
    seen = history(sample.hash(THIEF), account, sample.day, sample.tariff)
    for chart, leak in zip(seen.leaks, account.leaks, strict=True):
        assert chart.x[-1] == account.rows
        assert chart.series[0].values[-1] == pytest.approx(leak)
        assert chart.series[0].values[-1] > chart.series[1].values[-1]
        assert len(chart.x) <= 300
    assert seen.evidence.suspected
    assert seen.traffic.rows == account.rows
    entries = [entry for (_, hashed, entry) in asyncio.run(sample.ledger.log(0, 100_000)) if hashed == seen.hash]
    assert [request.at for request in seen.requests] == [entry.at for entry in reversed(entries)][:25]
    assert [request.work for request in seen.requests] == [entry.work.seconds for entry in reversed(entries)][:25]
    assert [request.rarest for request in seen.requests] == [entry.rarest[0] for entry in reversed(entries)][:25]


def test_the_p_value_chart_is_relative_to_the_calibration(sample):
    account, cells = sample.account(THIEF), sample.tariff.cells
    counts = np.array(account.evidence.counts).reshape(cells.shape)
    charts = history("", account, sample.day, sample.tariff).rarity
    assert len(charts) == len(sample.tariff.calibration.coordinates) == 2
    for axis, (chart, edges) in enumerate(zip(charts, cells.edges, strict=True)):
        densities = np.array(chart.series[0].values[:-1])
        assert np.allclose(densities * np.diff(edges) * counts.sum(), counts.sum(axis=1 - axis))


def test_a_caller_without_an_account_or_without_a_day_still_has_a_history(sample):
    gone = history(sample.hash(THIEF), None, sample.day, sample.tariff)
    assert gone.account is None
    assert gone.rarity == ()
    assert len(gone.leaks) == 2
    quiet = history("0" * 16, sample.account(THIEF), sample.day, sample.tariff)
    assert (quiet.requests, quiet.leaks, quiet.traffic.requests) == ((), (), 0)


def test_a_row_with_the_leaks_of_the_price_table_costs_what_the_table_says(sample):
    seen = price_curve(sample.tariff)
    rows = Leaks(MEASURES, np.array([line.leaks for line in seen.lines]))
    factors = sample.tariff.assess(rows, rng()).factors
    p_values = sample.tariff.p_values(rows)
    for line, factor, p_value in zip(seen.lines, factors, p_values, strict=True):
        assert np.all(np.abs(p_value - line.share) <= 2.0 / (seen.honest + 1))
        if line.share >= 0.01:
            assert line.seconds == pytest.approx(seen.unit_seconds * factor, rel=0.15)
    least = seen.lines[-1]
    assert least.share == 1 / (seen.honest + 1)
    assert least.suspected == seen.maximum * max(least.seconds, seen.unit_seconds)
    assert seen.lines[0].suspected == seen.lines[0].seconds  # a row with p = 1 is never surcharged


def test_drift_shows_the_monitors_figures_beside_the_log_of_all_who_pay(sample):
    snapshot, cells = sample.traffic.monitor.reading(), sample.tariff.cells
    assessment = assessed(sample.day)
    seen = drift_view(sample.day, sample.tariff, assessment, snapshot)
    for axis, (chart, edges) in enumerate(zip(seen.charts, cells.edges, strict=True)):
        watched, logged, unsuspected = (np.array(series.values[:-1]) * np.diff(edges) for series in chart.series[:3])
        assert np.allclose(watched, snapshot.shares.reshape(cells.shape).sum(axis=1 - axis))
        assert logged.sum() == pytest.approx(1.0)
        assert np.abs(watched - logged).sum() < 0.05  # equal but for ties
        assert logged[0] > unsuspected[0]  # the suspect's rare rows are not left out
    assert seen.evidence == pytest.approx(snapshot.log_evidence / math.log(10))
    assert seen.drifted  # a fifth of the rows of the day are stolen


def test_the_settings_in_force_replay_what_honest_callers_were_charged(sample):
    plain = sample.day.select(
        ~np.isin(sample.day.callers, [sample.day.hashes.index(sample.hash(Caller("key:partner")))])
    )
    comparison = replay(plain)
    charged, replayed = comparison.costs
    assert (comparison.suspects, charged.detected, replayed.detected) == (1, 1, 1)
    assert replayed.false_alarms == 0
    assert replayed.honest_work == pytest.approx(charged.honest_work)
    assert replayed.waits == pytest.approx(charged.waits)
    assert replayed.suspect_work == pytest.approx(
        charged.suspect_work, rel=0.1
    )  # ties are broken by other random numbers
    assert comparison.honest_callers == len(sample_callers()) - 3  # all but the thief, the partner and the exempt one
    assert comparison.honest_rows + comparison.suspect_rows == plain.rows[~plain.exempt].sum()


def test_twice_the_unit_doubles_all_costs(sample):
    double = other_settings(sample.tariff, {"unit_ms": "20"})
    _, before, after = replay(sample.day, double).costs
    assert after.honest_work == pytest.approx(2 * before.honest_work)
    assert after.suspect_work == pytest.approx(2 * before.suspect_work)
    assert after.waits == pytest.approx([2 * wait for wait in before.waits])


def test_a_lower_highest_surcharge_costs_suspects_less_and_honest_callers_the_same(sample):
    milder = other_settings(sample.tariff, {"maximum": "10"})
    _, before, after = replay(sample.day, milder).costs
    assert after.honest_work == before.honest_work
    assert after.suspect_work < 0.2 * before.suspect_work


def test_rows_with_equal_leaks_of_one_caller_count_once(sample):
    day = sample.day.select(sample.day.callers == sample.day.hashes.index(sample.hash(THIEF)))
    day = day.select(np.arange(len(day.at)) < 2)
    many = 400
    repeated = replace(
        day.select(np.arange(2) < 1),
        callers=np.repeat(day.callers[:1], many),
        at=np.repeat(day.at[:1], many),
        rows=np.ones(many, np.int64),
        modes=np.repeat(day.modes[:1], many),
        work=np.repeat(day.work[:1], many, axis=0),
        measured=np.ones(many, bool),
        row_lines=np.arange(many),
        leaks=np.repeat(day.leaks[:1], many, axis=0),
        clean=np.repeat(day.clean[:1], many, axis=0),
        rarest=np.repeat(day.rarest[:1], many),
        classes=np.repeat(day.classes[:1], many),
    )
    assert [each.detected for each in replay(repeated).costs] == [0, 0]


def test_empty_or_unchanged_values_are_no_other_settings(sample):
    assert other_settings(sample.tariff, {}) is None
    shown = {field.name: field.value for field in fields_of(sample.tariff.calibration, {})}
    assert shown["g"] == "0.8"
    assert shown["unit_ms"] == "10"
    assert other_settings(sample.tariff, shown) is None
    assert other_settings(sample.tariff, shown | {"g": "  "}) is None


def test_other_settings_have_the_given_values_and_the_rest_as_in_force(sample):
    query = {"g": "0.5", "rho": "0", "weight_0": "3", "weight_1": "1", "color": "red"}
    other = other_settings(sample.tariff, query).calibration
    assert (other.g, other.suspicion.rho, other.weights) == (0.5, 0.0, (0.75, 0.25))
    assert (other.unit_seconds, other.suspicion.alpha) == (sample.tariff.calibration.unit_seconds, 1e-6)
    assert [field.value for field in fields_of(sample.tariff.calibration, query)][:1] == ["0.5"]


@pytest.mark.parametrize(
    ("query", "message"),
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
def test_invalid_settings_are_refused_with_the_reason(sample, query, message):
    with pytest.raises(CalibrationError) as caught:
        other_settings(sample.tariff, query)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 150


def test_a_page_of_an_empty_log_has_every_panel():
    tariff = build_tariff()
    ledger = MemoryLedger()
    asyncio.run(ledger.open())
    traffic = SampleTraffic.start(ledger, tariff, NOW)
    snapshot = asyncio.run(LedgerReader(ledger, traffic.clock).read())
    snapshot = ModelSnapshot(MODEL, MEASURES, NOW, snapshot, tariff, traffic.monitor.reading())
    view = overview(snapshot, ViewOptions.of({"g": "0.5"}))
    assert (view.traffic.requests, view.caller_count, view.callers) == (0, 0, ())
    assert [line.observed for line in view.waits.lines] == [None] * len(SHARES)
    assert [each.honest_mean for each in view.comparison.costs] == [None] * 3
    assert view.curve is not None
    assert not view.drift.drifted
    nothing = {value for chart in view.drift.charts for series in chart.series[:2] for value in series.values}
    assert nothing == {None}


def test_without_a_ledger_or_a_tariff_the_other_panels_are_there(sample):
    drift = sample.traffic.monitor.reading()
    blind = overview(ModelSnapshot(MODEL, MEASURES, NOW, None, sample.tariff, drift), ViewOptions.of({}))
    assert (blind.traffic, blind.waits, blind.comparison, blind.callers) == (None, None, None, ())
    assert blind.curve is not None
    assert blind.drift.rows > 0
    unpriced = overview(ModelSnapshot(MODEL, MEASURES, NOW, sample.snapshot, None, None), ViewOptions.of({}))
    assert (unpriced.waits, unpriced.curve, unpriced.drift, unpriced.comparison) == (None, None, None, None)
    assert unpriced.traffic.requests == len(sample.entries)


def test_invalid_query_values_are_replaced_by_defaults():
    assert ViewOptions.of({"sort": "name; DROP", "callers": "1"}).sort == "work"
    assert ViewOptions.of({"sort": "rows", "callers": "all"}).all_callers


def test_a_chart_is_valid_json():
    chart = DashboardChart("t", "x", "y", (1.0, 2.0), (Series("a", (None, 3.0)),))
    assert json.loads(chart.json)["series"][0]["values"] == [None, 3.0]
    assert chart.table == [(1.0, (None,)), (2.0, (3.0,))]


def test_an_account_of_another_tariff_has_no_evidence(sample):
    account = sample.account(THIEF)
    assert isinstance(account, Account)
    stale = replace(account, tariff="another")
    seen = history(sample.hash(THIEF), stale, sample.day, sample.tariff)
    assert (seen.evidence, seen.rarity) == (None, ())
