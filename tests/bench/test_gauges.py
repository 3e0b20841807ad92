"""The measures that the bench records keep the law of measures, and read votes in both ways."""

from __future__ import annotations

import numpy as np
import pytest

from modeltoll.bench.leak_measures import measure_all
from modeltoll.leak.pate import EPS_SUM, VoteReadout
from modeltoll.leak.pknn import PknnMeasure, log_scores
from modeltoll.records import Evidence
from modeltoll.testing.measures import check_measure


def evidence_of(room, rows):
    images = room.pools.honest.x[:rows]
    prints = tuple(row.to_bytes(8, "big") for row in range(rows))
    return Evidence(prints, room.victim.scores(images), images.reshape(rows, -1))


@pytest.mark.parametrize("name", ["entropy", "gap", "novelty", "pknn", "pknn-eps"])
def test_gauges_are_measures(room, name):
    check_measure(room.gauges[name], evidence_of(room, 8))


def test_votes_are_read_in_both_ways_of_the_same_evidence(room):
    evidence, private = evidence_of(room, 20), room.pools.private
    k = len(private.x) // 20
    measure = PknnMeasure(log_scores(room.victim.scores(private.x)), private.y, k)
    votes, sigma = measure.votes_of(evidence), 28.0 * k / 300
    for name, reading in (("pknn", VoteReadout(sigma)), ("pknn-eps", VoteReadout(sigma, EPS_SUM))):
        assert np.array_equal(room.gauges[name].measure(evidence), reading.leak(votes))
    other = evidence_of(room, 8)
    assert len(room.gauges["pknn"].measure(other)) == 8


def test_all_measures_stand_beside_each_other_in_their_order(room):
    images = room.pools.honest.x[:5]
    leaks = measure_all(room.gauges, room.victim.scores(images), images)
    assert leaks.shape == (5, len(room.gauges))
    assert np.array_equal(leaks[:, 0], room.gauges["entropy"].measure(evidence_of(room, 5)))
    assert measure_all(room.gauges, np.empty((0, 10)), images[:0]).shape == (0, len(room.gauges))
