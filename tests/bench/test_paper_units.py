"""Costs and times in the units of the paper, against its published traces and its own definitions."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from modeltoll.bench.leak_measures import PATE_COST, PKNN_COST, pknn_settings
from modeltoll.bench.paper import TABLE_2, TABLE_5
from modeltoll.bench.paper_units import composed_pknn, paper_units
from modeltoll.leak.pate import VoteReadout
from modeltoll.leak.rdp import ORDERS, epsilon, gnmax_rdp, log_q

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
MEASURES = ("entropy", "logit-gap", "pknn-agreement", "pate-cost")
RNG = np.random.default_rng(3)


def traces(dataset):
    """{mode: the summed cost after each thousand queries} of the authors' trace, and that of their standard user."""
    found = {}
    with (REFERENCE / f"model_extraction_attack_accuracy_{dataset}.csv").open() as file:
        for row in csv.DictReader(file):
            found.setdefault(row["mode"], []).append(float(row["privacy cost"]))
    with (REFERENCE / f"time_privacy_cost_{dataset}.csv").open() as file:
        standard = [float(row["privacy"]) for row in csv.DictReader(file)]
    return found, standard


def leaks(costs):
    """Leaks of rows whose PATE costs sum to ``costs`` after each thousand rows."""
    steps = np.repeat(np.diff(costs) / 1000, 1000)
    return np.stack([np.full(len(steps), 0.5), np.full(len(steps), 0.25), np.full(len(steps), 9.0), steps], axis=1)


@pytest.mark.parametrize(
    ("dataset", "mode", "queries"),
    [("mnist", "standard", 10), ("mnist", "copycat", 10), ("cifar10", "standard", 9), ("cifar10", "copycat", 9)],
)
def test_the_authors_costs_give_the_time_of_their_table(dataset, mode, queries):
    found, standard = traces(dataset)
    asked = leaks(found[mode][: queries + 1])
    units = paper_units(dataset, PATE_COST, MEASURES, asked, leaks([0.0, *standard]), 60_000).members
    published = TABLE_2[dataset, mode]
    assert units["pate"] == pytest.approx(found[mode][queries])
    assert units["ratio"] == pytest.approx(published.ratio, rel=0.03)
    assert units["without"] == pytest.approx(published.without, rel=0.03)
    alone = TABLE_5[dataset].inference * 1000 * queries
    assert units["ratio_undefended"] == pytest.approx(units["within"] / alone)
    assert (units["gap"], units["entropy"]) == (pytest.approx(250 * queries), pytest.approx(500 * queries))


def test_the_pknn_cost_is_one_epsilon_of_all_divergences():
    votes = np.stack([np.array([300 - 20 * k, 20 * k, 0]) for k in (0, 1, 2, 7)] * 300)
    sigma = 28.0
    agreement = -log_q(votes, sigma)
    ends = np.array([30.0, 1200.0])
    found = composed_pknn(agreement, sigma, ends)
    for end, total in zip(ends.astype(int), found, strict=True):
        summed = gnmax_rdp(-agreement[:end], sigma, ORDERS, capped=False).sum(axis=0)
        assert total == pytest.approx(float(epsilon(summed, ORDERS, 1e-5)))
    assert found[0] < found[1] < VoteReadout(sigma, "eps-sum").leak(votes).sum()


def test_a_bound_without_a_ceiling_is_never_less_and_equal_where_the_theorem_does_not_hold():
    bounds = -np.geomspace(0.11, 500.0, 60)
    capped, free = (gnmax_rdp(bounds, 28.0, ORDERS, capped=capped) for capped in (True, False))
    assert (free >= capped).all()
    assert (free > capped).any()
    assert np.array_equal(free[0], ORDERS / 28.0**2)


def test_pknn_is_priced_by_its_own_line_and_other_data_sets_have_no_times():
    rng = np.random.default_rng(0)
    sure, unsure = (np.stack([np.full(3000, 0.5), np.full(3000, 0.25), level], axis=1) for level in (
        rng.uniform(30.0, 60.0, 3000), rng.uniform(0.2, 2.0, 3000)
    ))  # fmt: skip
    names = ("entropy", "logit-gap", "pknn-agreement")
    honest = paper_units("mnist", PKNN_COST, names, sure, sure[::-1], 60_000).members
    thief = paper_units("mnist", PKNN_COST, names, unsure, sure, 60_000).members
    assert honest["pate"] is None
    assert honest["ratio"] < 1.5
    assert thief["ratio"] > 20
    assert thief["pknn"] > 5 * honest["pknn"]
    elsewhere = paper_units("digits", PKNN_COST, names, unsure, sure, 700).members
    assert elsewhere["ratio"] is None
    assert elsewhere["pknn"] == pytest.approx(composed_pknn(unsure[:, 2], pknn_settings(700)[1], np.array([3000.0]))[0])
    assert paper_units("mnist", PKNN_COST, names, unsure[:500], sure, 60_000).members["within"] is None
