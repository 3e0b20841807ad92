"""PATE and pkNN: the readouts of votes, and the measures that gather them."""

from __future__ import annotations

import numpy as np
import pytest

from modeltoll.errors import AnswerError, CalibrationError, RequestError, SettingsError
from modeltoll.leak.pate import EPS_SUM, PateMeasure, VoteReadout
from modeltoll.leak.pknn import PknnMeasure, log_scores
from modeltoll.leak.rdp import ORDERS, epsilon, gnmax_rdp, log_q
from modeltoll.records import Evidence
from modeltoll.testing.measures import check_measure


def names(rows):
    return tuple(i.to_bytes(8, "big") for i in range(rows))


def ten_voters(inputs):
    """Ten teachers over three classes, each with a threshold of its own on the first number."""
    above = (inputs[:, :1] > np.linspace(-1, 1, 10)).sum(axis=1)
    return np.stack([10 - above, above // 2, above - above // 2], axis=1)


def private(rng, rows=400, classes=4):
    return rng.dirichlet(np.full(classes, 0.4), rows), rng.integers(0, classes, rows)


READOUTS = [
    VoteReadout(0.4),
    VoteReadout(2.0, order=5.0),
    VoteReadout(0.4, EPS_SUM),
    VoteReadout(2.0, EPS_SUM, delta=1e-6),
]


@pytest.mark.parametrize("readout", [None, *READOUTS])
def test_pate_keeps_the_law_of_measures(readout):
    inputs = np.random.default_rng(0).normal(size=(40, 3))
    check_measure(PateMeasure(ten_voters, 10, readout), Evidence(names(40), inputs=inputs))


@pytest.mark.parametrize("readout", [None, *READOUTS])
def test_pknn_keeps_the_law_of_measures(readout):
    rng = np.random.default_rng(1)
    scores, labels = private(rng)
    measure = PknnMeasure(log_scores(scores), labels, 20, readout)
    check_measure(measure, Evidence(names(30), scores=rng.dirichlet(np.full(4, 0.3), 30)))


def test_readings_are_the_published_mathematics():
    votes = np.random.default_rng(2).multinomial(250, [0.9, 0.06, 0.04], size=50)
    rdp = gnmax_rdp(log_q(votes, 10.0), 10.0, ORDERS)
    assert np.array_equal(VoteReadout(10.0, order=20.0).leak(votes), rdp[:, np.flatnonzero(ORDERS == 20.0)[0]])
    assert np.array_equal(VoteReadout(10.0, EPS_SUM).leak(votes), epsilon(rdp, ORDERS, 1e-5))


def test_the_default_noise_is_the_papers():
    assert PateMeasure(ten_voters, 250).readout.sigma == 10.0
    assert PateMeasure(ten_voters, 50).readout.sigma == 2.0
    points, labels = private(np.random.default_rng(0))
    assert PknnMeasure(log_scores(points), labels).readout.sigma == pytest.approx(28.0)


@pytest.mark.parametrize("sigma", [1.0, 2.0, 5.0, 10.0, 28.0, 40.0])
def test_the_default_order_tells_votes_apart_almost_as_early_as_any(sigma):
    """The smallest -log q from which the leak stays below its ceiling, at the default order and at the best one."""
    values = -np.geomspace(0.5, 20.0, 4000)
    orders = np.arange(1.5, 100.0, 0.5)

    def threshold(order):
        capped = gnmax_rdp(values, sigma, np.array([order]))[:, 0] >= order / sigma**2
        return -values[np.flatnonzero(capped).max()]

    assert threshold(max(2.0, sigma)) <= 1.02 * min(threshold(order) for order in orders)


def test_unanimous_teachers_leak_next_to_nothing_and_tied_ones_the_ceiling():
    votes = np.array([[250, 0, 0], [125, 125, 0]])
    leak = VoteReadout(10.0).leak(votes)
    assert leak[0] < 1e-40
    assert leak[1] == pytest.approx(10.0 / 100.0)


def test_composition_is_addition_of_rdp():
    """Two queries composed by hand cost, at the fixed order, the sum of their leaks; summed epsilons overstate it."""
    votes = np.random.default_rng(0).multinomial(250, [0.8, 0.2], size=100)
    rdp = gnmax_rdp(log_q(votes, 10.0), 10.0, ORDERS)
    composed = epsilon(rdp.sum(axis=0), ORDERS, 1e-5)
    assert composed < VoteReadout(10.0, EPS_SUM).leak(votes).sum()


@pytest.mark.parametrize(
    "votes",
    [
        [[5, 4]],
        [[6, 5]],
        [[11, -1]],
        [[10]],
        [5, 5],
        [[5.0, 5.0]],
        [[5, 5], [5, 5]],
        [["a", "b"]],
        [[np.nan, 10]],
    ],
)
def test_votes_that_are_not_one_per_teacher_are_refused(votes):
    measure = PateMeasure(lambda inputs: np.array(votes), 10)
    with pytest.raises(CalibrationError):
        measure.measure(Evidence(names(1), inputs=np.zeros((1, 2))))


@pytest.mark.parametrize("inputs", [None, [[np.nan]], [[np.inf]], [[1e200]], [1.0], [[]], [["a"]]])
def test_pate_refuses_inputs_that_cannot_be_voted_on(inputs):
    evidence = Evidence(names(1), inputs=None if inputs is None else np.array(inputs))
    with pytest.raises(RequestError):
        PateMeasure(ten_voters, 10).measure(evidence)


def test_a_reading_that_cannot_be_used_names_every_fault():
    with pytest.raises(SettingsError) as caught:
        VoteReadout(0.0, "eps", order=1.0, delta=1.0)
    assert len(caught.value.faults) == 4
    with pytest.raises(SettingsError):
        PateMeasure(ten_voters, 0)


def test_pknn_counts_the_labels_of_the_nearest_private_points():
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.2, 0.8], [0.1, 0.9]])
    measure = PknnMeasure(log_scores(scores), np.array([0, 0, 1, 1, 1]), k=3)
    assert measure.votes(np.array([[0.85, 0.15], [0.05, 0.95]])).tolist() == [[2, 1], [0, 3]]


def test_certain_scores_and_a_class_without_points_are_measured():
    scores = np.eye(3)[[0, 0, 1, 1]]
    measure = PknnMeasure(log_scores(scores), np.array([0, 0, 1, 1]), k=2)
    assert measure.votes(np.eye(3)).tolist()[:2] == [[2, 0, 0], [0, 2, 0]]
    assert measure.votes(np.eye(3)).sum() == 6


def bad_private():
    points, labels = private(np.random.default_rng(0), 20, 3)
    points = log_scores(points)
    holed = points.copy()
    holed[3, 1] = -np.inf
    yield "fewer points than k", points[:4], labels[:4], 5
    yield "no neighbours", points, labels, 0
    yield "one label", points, np.zeros(20, dtype=int), 5
    yield "a label that is no class", points, np.full(20, 3), 5
    yield "negative label", points, labels - 1, 5
    yield "labels that are no whole numbers", points, labels.astype(float), 5
    yield "fewer labels", points, labels[:10], 5
    yield "one class of scores", points[:, :1], labels, 5
    yield "not finite", holed, labels, 5
    yield "one dimension", points[:, 0], labels, 5


@pytest.mark.parametrize(("points", "labels", "k"), [x[1:] for x in bad_private()], ids=[x[0] for x in bad_private()])
def test_private_points_that_cannot_vote_are_refused(points, labels, k):
    with pytest.raises(CalibrationError):
        PknnMeasure(points, labels, k)


def test_pknn_refuses_scores_of_another_number_of_classes():
    points, labels = private(np.random.default_rng(0))
    measure = PknnMeasure(log_scores(points), labels, 5)
    with pytest.raises(AnswerError, match="classes"):
        measure.measure(Evidence(names(1), scores=np.array([[0.5, 0.5]])))
    with pytest.raises(AnswerError):
        measure.votes(np.array([[0.5, 0.5]]))


def test_a_saved_pknn_measures_the_same_bits(tmp_path):
    rng = np.random.default_rng(4)
    points, labels = private(rng)
    measure = PknnMeasure(log_scores(points), labels, 7)
    measure.save(tmp_path / "pknn.npz")
    evidence = Evidence(names(50), scores=rng.dirichlet(np.ones(4), 50))
    again = PknnMeasure.load(tmp_path / "pknn.npz", name="outputs")
    assert np.array_equal(again.measure(evidence), measure.measure(evidence))
    assert again.name == "outputs"
