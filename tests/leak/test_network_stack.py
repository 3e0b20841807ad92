"""Stacks of networks: what they compute, that a row stands for itself, and that files are checked."""

from __future__ import annotations

import numpy as np
import pytest

from modeltoll.errors import CalibrationError, RequestError
from modeltoll.leak.array_file import load_arrays, save_arrays
from modeltoll.leak.pate import PateMeasure
from modeltoll.leak.teachers.ensemble import TeacherEnsemble
from modeltoll.leak.teachers.network_stack import Layer, NetworkStack
from modeltoll.leak.teachers.vote_head import VoteHead, load_voters
from modeltoll.records import Evidence
from modeltoll.testing.measures import check_measure

SHAPE = (12, 10, 2)
SIZES = [(2 * 9, 4, 3), (4 * 4, 5, 2), (2 * 1 * 5, 6, 0), (6, 3, 0)]  # (in, out, kernel): 12x10 -> 5x4 -> 2x1


def stack(networks=7, seed=0):
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return (rng.normal(size=shape) / shape[-2] ** 0.5).astype(np.float32)

    return NetworkStack(tuple(Layer(normal(networks, i, o), normal(networks, o), k) for i, o, k in SIZES), SHAPE)


def rows(count, seed=1):
    return np.random.default_rng(seed).uniform(size=(count, int(np.prod(SHAPE))))


def evidence_of(inputs):
    return Evidence(tuple(i.to_bytes(8, "big") for i in range(len(inputs))), inputs=inputs)


def plainly(served, network, row):
    """The arithmetic as plain loops."""
    image = row.reshape(SHAPE)
    for layer in (layer for layer in served.layers if layer.kernel):
        weights, k = layer.weights[network].astype(float), layer.kernel
        height, width = image.shape[0] - k + 1, image.shape[1] - k + 1
        out = np.empty((height, width, weights.shape[1]))
        for i in range(height):
            for j in range(width):
                patch = image[i : i + k, j : j + k].ravel()
                out[i, j] = patch @ weights + layer.biases[network]
        halves = out[: height // 2 * 2, : width // 2 * 2].reshape(height // 2, 2, width // 2, 2, -1)
        image = np.maximum(halves.max(axis=(1, 3)), 0.0)
    values = image.ravel()
    for layer in (layer for layer in served.layers if not layer.kernel):
        values = values @ layer.weights[network] + layer.biases[network]
        values = values if layer is served.layers[-1] else np.maximum(values, 0.0)
    return values


def test_the_outputs_are_convolution_pooling_and_products_as_written_plainly():
    served, inputs = stack(), rows(3)
    expected = [[plainly(served, network, row) for row in inputs] for network in range(served.count)]
    assert served.outputs(inputs) == pytest.approx(np.array(expected), rel=1e-4, abs=1e-5)


def test_votes_pass_the_suite_and_sum_to_the_teachers():
    teachers = TeacherEnsemble(stack(23), np.array([2, 5, 9]), 240)
    inputs = rows(70)
    assert (teachers.votes(inputs).sum(axis=1) == 23).all()
    check_measure(PateMeasure(teachers.votes, 23), evidence_of(inputs))


def test_ties_of_float32_are_decided_in_float64():
    served = stack(1)
    last = served.layers[-1]
    weights = np.concatenate([last.weights[..., :1]] * 3, axis=2)  # three classes that tie but for the biases
    biases = np.array([[0.0, 1e-9, -1.0]], np.float32)
    tied = NetworkStack((*served.layers[:-1], Layer(weights, biases, 0)), SHAPE)
    assert (tied.predict(rows(50) * 100.0) == 1).all()


def test_a_class_that_was_never_seen_is_never_voted_for():
    served = stack(4)
    last = served.layers[-1]
    biases = last.biases.copy()
    biases[:, 2] = -np.inf
    biases[0, 1] = -np.inf
    winners = NetworkStack((*served.layers[:-1], Layer(last.weights, biases, 0)), SHAPE).predict(rows(100))
    assert not (winners == 2).any()
    assert (winners[:, 0] == 0).all()


def test_saved_teachers_vote_the_same_and_have_one_loader(tmp_path):
    path, head_path, inputs = tmp_path / "teachers.npz", tmp_path / "head.npz", rows(40)
    teachers = TeacherEnsemble(stack(), np.array(["ant", "bee", "cow"]), 240)
    teachers.save(path)
    assert np.array_equal(TeacherEnsemble.load(path).votes(inputs), teachers.votes(inputs))
    votes, count, _ = load_voters(path)
    assert count == 7
    assert np.array_equal(votes(inputs), teachers.votes(inputs))
    head = VoteHead(stack(1), 250)
    head.save(head_path)
    votes, count, _ = load_voters(head_path)
    assert count == 250
    assert np.array_equal(votes(inputs), head.votes(inputs))


def test_a_vote_head_gives_whole_votes_nearest_to_its_shares():
    head, inputs = VoteHead(stack(1), 250), rows(60)
    powers = np.exp(head.stack.outputs(inputs)[0].astype(float))
    shares = 250 * powers / powers.sum(axis=1, keepdims=True)
    votes = head.votes(inputs)
    check_measure(PateMeasure(head.votes, 250), evidence_of(inputs))
    assert votes.dtype.kind == "i"
    assert (votes.sum(axis=1) == 250).all()
    assert (np.abs(votes - shares) < 1.0).all()


def test_inputs_of_another_shape_or_not_finite_are_refused():
    for served in (TeacherEnsemble(stack(), np.arange(3), 240), VoteHead(stack(1), 9)):
        for wrong in (np.zeros((2, 239)), np.zeros(240), np.full((1, 240), np.nan)):
            with pytest.raises(RequestError):
                served.votes(wrong)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda a: a.pop("kernel0"),
        lambda a: a.pop("classes"),
        lambda a: a.pop("shape"),
        lambda a: a.update(shape=np.array([12, 10, 3])),
        lambda a: a.update(kernel1=np.array(0)),
        lambda a: a.update(kernel2=np.array(3)),
        lambda a: a.update(weights3=a["weights3"][:, :5]),
        lambda a: a.update(biases3=a["biases3"][:2]),
        lambda a: a.update(weights0=a["weights0"].astype(np.float64)),
        lambda a: a.update(classes=np.arange(2)),
    ],
)
def test_files_whose_arrays_do_not_fit_are_refused(tmp_path, spoil):
    path = tmp_path / "teachers.npz"
    TeacherEnsemble(stack(), np.arange(3), 240).save(path)
    arrays = load_arrays(path, "teacher networks")
    spoil(arrays)
    save_arrays(path, "teacher networks", arrays)
    with pytest.raises(CalibrationError):
        TeacherEnsemble.load(path)


def test_a_vote_head_is_one_network_for_one_or_more_teachers(tmp_path):
    for wrong in (VoteHead(stack(2), 250), VoteHead(stack(1), 0)):
        wrong.save(tmp_path / "head.npz")
        with pytest.raises(CalibrationError, match="one network"):
            VoteHead.load(tmp_path / "head.npz")


def test_features_are_the_channels_means_and_deviations_and_the_units():
    served, inputs = stack(2), rows(70)
    first, second, third = served.features(inputs)
    assert [part.shape for part in (first, second, third)] == [(70, 8), (70, 10), (70, 6)]
    images = np.array([plainly(NetworkStack(served.layers[:1], SHAPE), 0, row) for row in inputs[:1]])
    assert images.size == 5 * 4 * 4
    channels = images.reshape(20, 4)
    assert first[0] == pytest.approx(np.concatenate([channels.mean(axis=0), channels.std(axis=0)]), rel=1e-4)
