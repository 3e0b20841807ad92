"""The bench's leak measures pass the conformance suite, and votes have two readouts."""

from __future__ import annotations

import numpy as np
import pytest

from modeltoll.bench.leak_measures import Teachers, measure_all, pknn_settings, vote_measures
from modeltoll.leak.pate import EPS_SUM, VoteReadout
from modeltoll.leak.pknn import PknnMeasure, log_scores
from modeltoll.leak.rdp import gnmax_rdp
from modeltoll.records import Evidence
from modeltoll.testing.measures import check_measure


def evidence_of(prepared, rows):
    images = prepared.data_split.honest.x[:rows]
    prints = tuple(row.to_bytes(8, "big") for row in range(rows))
    return Evidence(prints, prepared.victim.scores(images), images.reshape(rows, -1))


@pytest.mark.parametrize("name", ["entropy", "gap", "logit-gap", "novelty", "pknn", "pknn-eps", "pknn-agreement"])
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


def test_the_gap_of_the_logits_is_that_of_the_softmax_of_the_two_largest(prepared):
    logits = np.array([[3.0, 1.0, 0.5], [2.0, 2.0, -9.0], [40.0, 0.0, 0.0]])
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    two = np.exp(logits[:, :2]) / np.exp(logits[:, :2]).sum(axis=1, keepdims=True)
    found = prepared.leak_measures["logit-gap"].measure(Evidence((b"a", b"b", b"c"), scores))
    assert found == pytest.approx(1.0 - (two[:, 0] - two[:, 1]))


def test_the_privacy_loss_of_a_vote_follows_from_its_agreement(prepared):
    evidence = evidence_of(prepared, 40)
    agreement = prepared.leak_measures["pknn-agreement"].measure(evidence)
    sigma = pknn_settings(len(prepared.data_split.private.x))[1]
    order = np.array([max(2.0, sigma)])
    assert np.allclose(gnmax_rdp(-agreement, sigma, order)[:, 0], prepared.leak_measures["pknn"].measure(evidence))


def test_teachers_have_the_noise_and_the_delta_of_their_data_set(prepared):
    votes = np.tile([[40, 10, *[0] * 8], [50, 0, *[0] * 8]], (3, 1))
    teachers = Teachers(lambda inputs: votes[: len(inputs)], 50, 2.0, 1e-6)
    measures = vote_measures(teachers)
    found = measures["pate-cost"].measure(evidence_of(prepared, 6))
    assert np.array_equal(found, VoteReadout(2.0, EPS_SUM, delta=1e-6).leak(votes))
    assert measures["pate"].measure(evidence_of(prepared, 2)).shape == (2,)
