"""Networks trained by torch: their votes do not need torch, and interrupted training resumes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from modeltoll.errors import CalibrationError  # noqa: E402  torch first: without it there is nothing to test
from modeltoll.leak.corruptions import parse_kinds  # noqa: E402
from modeltoll.leak.fit_novelty import TORCH, NoveltyPlan, PrivateData, fit_novelty  # noqa: E402
from modeltoll.leak.layered_novelty import NoveltyTerms  # noqa: E402
from modeltoll.leak.novelty_report import report_novelty  # noqa: E402
from modeltoll.leak.pate import PateMeasure  # noqa: E402
from modeltoll.leak.private_rows import private_rows  # noqa: E402
from modeltoll.leak.teachers import distil, fit_torch  # noqa: E402
from modeltoll.leak.teachers.fit_torch import NetworkPlan, TrainingBatch, fit_network_teachers  # noqa: E402
from modeltoll.leak.teachers.network_stack import NetworkStack  # noqa: E402
from modeltoll.records import Evidence  # noqa: E402

pytestmark = pytest.mark.torch

SHAPE = (16, 16, 1)
SMALL = NetworkPlan(convolutions=((3, 3),), hidden=(8,), epochs=12, batch=10, rate=1e-2)
FLAT = replace(SMALL, convolutions=())


def stripes(count, seed=0):
    """Images of horizontal, vertical or no stripes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    wave = np.sin(np.arange(16) * 1.5)
    patterns = np.stack([np.tile(wave[:, None], (1, 16)), np.tile(wave, (16, 1)), np.zeros((16, 16))])
    return (patterns[labels] + rng.normal(size=(count, 16, 16)) * 0.5).reshape(count, -1), labels


def parameters_of(members):
    """Weights (teachers, in, out) and biases of either kind of ensemble, as torch trained them."""
    if isinstance(members, NetworkStack):
        return [(torch.from_numpy(layer.weights), torch.from_numpy(layer.biases)) for layer in members.layers]
    weights = [members.weights[0].transpose(1, 0, 2), *members.weights[1:]]
    pairs = zip(weights, members.biases, strict=True)
    return [tuple(torch.from_numpy(part.astype(np.float32)) for part in pair) for pair in pairs]


@pytest.mark.parametrize("plan", [SMALL, FLAT], ids=["convolution", "perceptron"])
def test_served_without_torch_they_vote_as_with_it(plan):
    """The same class for every teacher and row, over 10,000 rows, except where torch's float32 cannot distinguish two classes."""
    inputs, labels = stripes(240)
    teachers = fit_network_teachers(inputs, labels, SHAPE, plan, teachers=8)
    queries = np.random.default_rng(5).normal(size=(10_000, 256))
    parameters = parameters_of(teachers.members)
    images = torch.from_numpy(queries.astype(np.float32)).reshape(1, -1, *SHAPE).expand(8, -1, -1, -1, -1)
    scores = fit_torch._forward(images, parameters, plan)
    top = scores.topk(2, dim=2).values
    clear = (top[..., 0] - top[..., 1] > 1e-5 * top[..., 0].abs()).numpy().T
    same = teachers.members.predict(queries) == scores.argmax(dim=2).numpy().T
    assert same[clear].all()
    assert clear.mean() > 0.999
    held = stripes(300, 9)
    assert (teachers.votes(held[0]).argmax(axis=1) == held[1]).mean() > 0.7


def test_interrupted_training_resumes_with_the_same_result(tmp_path, monkeypatch):
    inputs, labels = stripes(120)
    monkeypatch.setattr(fit_torch, "_MAX_WEIGHTS", 1)  # one teacher at a time
    whole = fit_network_teachers(inputs, labels, SHAPE, FLAT, teachers=4)
    done = []

    class Stop(Exception):
        pass

    def interrupt(steps, most):
        done.append(steps)
        if steps == most * 5 // 8:
            raise Stop

    with pytest.raises(Stop):
        fit_network_teachers(inputs, labels, SHAPE, FLAT, teachers=4, checkpoints=tmp_path, progress=interrupt)
    assert len(list(tmp_path.glob("*.npz"))) == 2
    steps = []
    resumed = fit_network_teachers(
        inputs, labels, SHAPE, FLAT, teachers=4, checkpoints=tmp_path, progress=lambda s, _: steps.append(s)
    )
    assert len(steps) < len(done)
    for ours, theirs in zip(resumed.members.weights, whole.members.weights, strict=True):
        assert np.array_equal(ours, theirs)


def test_a_teacher_never_votes_for_a_class_that_it_has_not_seen():
    inputs, labels = stripes(92)
    labels[:] = np.where(labels == 2, 0, labels)
    labels[:2] = 2  # two rows of a third class for ten teachers
    teachers = fit_network_teachers(inputs, labels, SHAPE, FLAT, teachers=10)
    absent = np.isneginf(teachers.members.biases[-1][:, 2])
    assert absent.sum() >= 8
    assert not (teachers.members.predict(np.random.default_rng(0).normal(size=(500, 256)))[:, absent] == 2).any()


def test_a_teachers_training_does_not_depend_on_its_neighbours():
    """Each network's loss has its own gradients: alone it has the same weights as among others, except for its random seed."""
    inputs, labels = stripes(60)
    marks = np.eye(3, dtype=np.float32)[labels][None]
    rows = inputs.astype(np.float32)[None]
    plan = replace(FLAT, epochs=2, batch=60)
    batch = TrainingBatch(np.tile(rows, (2, 1, 1)), np.tile(marks, (2, 1, 1)), np.zeros((2, 3), bool), SHAPE)
    other = TrainingBatch(np.concatenate([rows, -rows]), np.tile(marks, (2, 1, 1)), np.zeros((2, 3), bool), SHAPE)
    first, second = (fit_torch.fit_network(which, plan) for which in (batch, other))
    assert first.layers[0].weights[0] == pytest.approx(second.layers[0].weights[0], abs=1e-6)
    assert not np.allclose(first.layers[0].weights[1], second.layers[0].weights[1])


def test_data_that_does_not_fit_the_plan_is_refused():
    inputs, labels = stripes(60)
    for shape, plan in (((16, 15, 1), FLAT), ((1, 1, 256), SMALL)):
        with pytest.raises(CalibrationError):
            fit_network_teachers(inputs, labels, shape, plan, teachers=4)
    with pytest.raises(CalibrationError, match="one class"):
        fit_network_teachers(inputs, np.zeros(60), SHAPE, FLAT, teachers=4)


def test_a_vote_head_predicts_its_teachers_votes():
    inputs, labels = stripes(600)
    teachers = fit_network_teachers(inputs, labels, SHAPE, FLAT, teachers=20)
    head = distil.fit_vote_head(teachers, inputs, SHAPE, replace(distil.VOTE_HEAD, hidden=(32,)))
    queries = stripes(300, 3)[0] * np.random.default_rng(1).uniform(0.2, 1.0, (300, 1))
    leaks = [
        PateMeasure(voters, 20).measure(Evidence((b"",) * 300, inputs=queries))
        for voters in (teachers.votes, head.votes)
    ]
    ranks = [leak.argsort().argsort() for leak in leaks]
    assert np.corrcoef(ranks)[0, 1] > 0.6


def test_novelty_in_the_layers_of_a_trained_network_detects_strange_inputs():
    inputs, labels = stripes(300)
    data = PrivateData(private_rows(inputs.reshape(-1, *SHAPE)), labels)
    kinds = parse_kinds("dark:0.4,noise:0.08")
    fitted = fit_novelty(data, NoveltyPlan(kinds, network=TORCH, terms=NoveltyTerms(max_points=300)))
    assert fitted.network.stack.layers[0].kernel == 5
    usual, strange = stripes(60, 7)[0], np.random.default_rng(2).normal(size=(60, 256)) * 2
    for measure in (fitted.measure, fitted.measure.clean):
        ours, theirs = (measure.measure(Evidence((b"",) * 60, inputs=rows)) for rows in (usual, strange))
        assert np.median(theirs) > 2 * np.median(ours)
    assert report_novelty(fitted, kinds).accuracy > 0.8


@pytest.mark.parametrize("shape", [(16, 16, 1), (1, 1, 256), (8, 8, 4)])
def test_perturbed_inputs_are_finite_other_inputs_within_the_range(shape):
    inputs = np.random.default_rng(0).uniform(-1, 3, (30, 256))
    strange = distil.with_noise(inputs, shape, np.random.default_rng(1))
    assert strange.shape == inputs.shape
    assert strange.min() >= inputs.min() - 1e-9
    assert strange.max() <= inputs.max() + 1e-9
    assert not (strange == inputs).all(axis=1)[np.arange(30) % 6 != 4].any()
