"""The bench's leak measures pass the conformance suite, and votes have two readouts."""

from __future__ import annotations

import numpy as np
import pytest

from modeltoll.bench.leak_measures import measure_all
from modeltoll.leak.pate import EPS_SUM, VoteReadout
from modeltoll.leak.pknn import PknnMeasure, log_scores
from modeltoll.records import Evidence
from modeltoll.testing.measures import check_measure


def evidence_of(prepared, rows):
    images = prepared.data_split.honest.x[:rows]
    prints = tuple(row.to_bytes(8, "big") for row in range(rows))
    return Evidence(prints, prepared.victim.scores(images), images.reshape(rows, -1))


@pytest.mark.parametrize("name", ["entropy", "gap", "novelty", "pknn", "pknn-eps"])
def test_leak_measures_pass_the_conformance_suite(prepared, name):
    check_measure(prepared.leak_measures[name], evidence_of(prepared, 8))


def test_the_same_votes_have_two_readouts(prepared):
    evidence, private = evidence_of(prepared, 20), prepared.data_split.private
    k = len(private.x) // 20
    measure = PknnMeasure(log_scores(prepared.victim.scores(private.x)), private.y, k)
    votes, sigma = measure.votes_of(evidence), 28.0 * k / 300
    for name, reading in (("pknn", VoteReadout(sigma)), ("pknn-eps", VoteReadout(sigma, EPS_SUM))):
        assert np.array_equal(prepared.leak_measures[name].measure(evidence), reading.leak(votes))
    other = evidence_of(prepared, 8)
    assert len(prepared.leak_measures["pknn"].measure(other)) == 8


def test_measure_all_has_one_column_per_measure_in_order(prepared):
    images = prepared.data_split.honest.x[:5]
    leaks = measure_all(prepared.leak_measures, prepared.victim.scores(images), images)
    assert leaks.shape == (5, len(prepared.leak_measures))
    assert np.array_equal(leaks[:, 0], prepared.leak_measures["entropy"].measure(evidence_of(prepared, 5)))
    assert measure_all(prepared.leak_measures, np.empty((0, 10)), images[:0]).shape == (0, len(prepared.leak_measures))
