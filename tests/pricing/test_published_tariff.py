"""The published tariff gives the published numbers; with its sign a smaller leak never costs more."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltoll.errors import CalibrationError
from modeltoll.pricing.published_tariff import PublishedTariff, PublishedTerms, StandardLine, leading_zero_bits
from modeltoll.records import Caller, Leaks
from modeltoll.simulation.attack_traces import fit_standard, read_trace, replay_modes
from modeltoll.testing.tariffs import check_tariff, new_account

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
MNIST = StandardLine(0.25867, -16.50)


def costs_of(dataset, terms, at):
    traces = read_trace(REFERENCE / f"model_extraction_attack_accuracy_{dataset}.csv")
    return replay_modes(traces, fit_standard(REFERENCE / f"time_privacy_cost_{dataset}.csv"), terms, at)


@pytest.mark.parametrize(("dataset", "slope", "intercept"), [("mnist", 0.25867, -16.50), ("cifar10", 2.80287, -46.01)])
def test_the_standard_line_is_the_published_one(dataset, slope, intercept):
    line = fit_standard(REFERENCE / f"time_privacy_cost_{dataset}.csv")
    assert line.slope == pytest.approx(slope, rel=1e-5)
    assert line.intercept == pytest.approx(intercept, abs=0.005)


@pytest.mark.parametrize(
    ("dataset", "mode", "at", "ratio"),
    [
        ("mnist", "standard", 10_000, 1.140),
        ("mnist", "copycat", 10_000, 289.17),
        ("mnist", "adaptiveknockoff", 10_000, 288.52),
        ("mnist", "data free", 2_000_000, 19.11),
        ("cifar10", "standard", 9_000, 1.230),
        ("cifar10", "copycat", 9_000, 161.28),
        ("cifar10", "copycat", 30_000, 174.32),
        ("cifar10", "adaptiveknockoff", 9_000, 158.63),
        ("cifar10", "data free", 20_000_000, 9.170),
    ],
)
def test_a_replay_of_the_authors_traces_gives_the_published_ratios(dataset, mode, at, ratio):
    costs = costs_of(dataset, PublishedTerms(signed=False), [at])
    up_to = [cost for cost in costs if cost.mode == mode and cost.queries <= at]
    assert up_to[-1].ratio == pytest.approx(ratio, rel=1e-3)
    assert up_to[-1].ratio == up_to[-1].seconds_with / up_to[-1].seconds_without


def test_a_replay_reports_each_mode_at_its_end_and_at_the_counts_asked_for():
    costs = costs_of("cifar10", PublishedTerms(), [9_000, 30_000, 10**9])
    assert [cost.queries for cost in costs if cost.mode == "copycat"] == [8_938, 29_938, 30_938]
    assert [cost.queries for cost in costs if cost.mode == "standard"] == [8_938]


def test_signed_never_costs_more_than_the_absolute_value():
    for signed, absolute in zip(
        costs_of("mnist", PublishedTerms(), []), costs_of("mnist", PublishedTerms(signed=False), []), strict=True
    ):
        assert signed.seconds_with <= absolute.seconds_with


@given(st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=20), st.floats(0.0, 1e7))
def test_signed_never_charges_more_for_leaking_less(leaks, queries):
    seconds = PublishedTerms().seconds(np.sort(leaks), MNIST.leak(np.float64(queries)))
    assert (np.diff(seconds) >= 0.0).all()
    assert seconds.min() >= 0.1
    assert seconds.max() <= 2948.468


def test_the_absolute_value_charges_more_for_leaking_less():
    """The flaw of the paper that ``signed`` corrects, available as an option."""
    frugal, standard = PublishedTerms(signed=False).seconds(np.array([1000.0, 2500.0]), np.array([2500.0, 2500.0]))
    assert frugal > 1000.0 * standard


@pytest.mark.parametrize(("seconds", "bits"), [(0.1, 16), (0.239, 16), (2.93, 20), (151.0, 26), (2948.468, 30)])
def test_the_bits_are_the_published_regression(seconds, bits):
    assert (
        leading_zero_bits(np.array([seconds]))[0]
        == bits
        == max(16, math.floor(3.51429 * math.log10(seconds) + 18.53175))
    )


@pytest.mark.parametrize("signed", [True, False])
def test_the_published_tariff_keeps_the_law_of_tariffs(signed):
    """With its running total spread over rows, batching changes nothing even here."""
    check_tariff(PublishedTariff("pate", MNIST, PublishedTerms(signed=signed)))
    check_tariff(PublishedTariff("pate", StandardLine(1.0, 0.0), PublishedTerms(base=1.2, rows_per_step=10)))


def test_a_step_of_rows_costs_one_puzzle():
    """1000 rows far above the standard line pay the longest puzzle between them; one row a thousandth of it."""
    tariff = PublishedTariff("pate", MNIST)
    leaks = Leaks(("pate",), np.full((1000, 1), 10.0))
    account = dataclasses.replace(new_account(tariff, Caller("key:a")), rows=11_000, leaks=(110_000.0,))
    verdict = tariff.verdict(account)
    work = tariff.work(tariff.assess(leaks, np.random.default_rng(0)), account, verdict)
    assert work.seconds == pytest.approx(2948.468)
    single = tariff.work(tariff.assess(Leaks(("pate",), leaks.values[:1]), np.random.default_rng(0)), account, verdict)
    assert single.seconds == pytest.approx(2.948468)


@given(st.floats(0.0, 5.0), st.floats(0.0, 5.0), st.integers(1, 20_000))
def test_a_signed_tariff_charges_a_caller_with_less_leak_no_more(one, two, rows):
    tariff = PublishedTariff("pate", MNIST)
    seconds = []
    for leak in sorted([one, two]):
        account = dataclasses.replace(new_account(tariff, Caller("key:a")), rows=rows, leaks=(leak * rows,))
        assessment = tariff.assess(Leaks(("pate",), np.array([[leak]])), np.random.default_rng(0))
        seconds.append(tariff.work(assessment, account, tariff.verdict(account)).seconds)
    assert seconds[0] <= seconds[1]


def test_the_identity_changes_with_line_and_terms():
    tariffs = [
        PublishedTariff("pate", MNIST),
        PublishedTariff("pknn", MNIST),
        PublishedTariff("pate", StandardLine(1.0, 0.0)),
        PublishedTariff("pate", MNIST, PublishedTerms(base=1.18)),
    ]
    assert len({tariff.identity for tariff in tariffs}) == 4


def test_one_puzzle_per_row_of_a_trace_is_the_papers_and_other_steps_share_it_by_queries():
    """The copycat run of MNIST has ten rows of 1000 queries: per 1000 rows it costs what the paper says, less a second."""
    (paper,) = [c for c in costs_of("mnist", PublishedTerms(signed=False), []) if c.mode == "copycat"]
    for step, factor in ((1000, 1.0), (64, 1000 / 64), (10_000, 0.1)):
        terms = PublishedTerms(signed=False, rows_per_step=step)
        (cost,) = [c for c in costs_of("mnist", terms, []) if c.mode == "copycat"]
        work, papers = cost.seconds_with - cost.seconds_without, paper.seconds_with - paper.seconds_without
        assert work == pytest.approx(factor * papers, rel=1e-4)


@pytest.mark.parametrize(
    "terms", [{"base": 0.9}, {"base": math.nan}, {"longest": 0.01}, {"shortest": -1.0}, {"rows_per_step": 0}]
)
def test_terms_out_of_range_are_refused_by_name(terms):
    with pytest.raises(CalibrationError, match=f"'{next(iter(terms))}'"):
        PublishedTerms(**terms)
