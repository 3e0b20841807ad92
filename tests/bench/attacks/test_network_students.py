"""Network students: training, gradients, seeds, precision, and attacks with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from modeltoll.bench.attacks.attack import AttackerResources  # noqa: E402  torch first: without it there is nothing to test
from modeltoll.bench.attacks.registry import ATTACKS  # noqa: E402
from modeltoll.bench.datasets import Images  # noqa: E402
from modeltoll.bench.students.networks import NetworkCloneFactory  # noqa: E402
from modeltoll.bench.students.student import TrainingSchedule  # noqa: E402
from modeltoll.bench.victims import training  # noqa: E402
from modeltoll.testing.attacks import check_attack  # noqa: E402

from .halves_victim import halves  # noqa: E402

pytestmark = pytest.mark.torch

SHORT = TrainingSchedule(epochs=2, batch=16, rate=0.05)


def two_kinds(count, shape, seed=0):
    """Two classes: grey images with a bright upper or lower half, or colour images with much red or much blue."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    x = rng.uniform(size=(count, *shape)) * 0.4
    if len(shape) == 3:
        x[labels == 0, :, :, 0] += 0.6
        x[labels == 1, :, :, 2] += 0.6
    else:
        x[labels == 0, : shape[0] // 2] += 0.6
        x[labels == 1, shape[0] // 2 :] += 0.6
    return x, np.eye(10)[labels]


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(("architecture", "shape"), [("mnistnet", (28, 28)), ("residual", (32, 32, 3))])
def test_a_network_trains_and_its_input_gradients_are_those_of_its_logits(architecture, shape, half):
    rng = np.random.default_rng(0)
    student = NetworkCloneFactory(architecture).student(rng)
    x, y = two_kinds(64, shape)
    before = student.scores(x)
    student.train(x, y, replace(SHORT, epochs=6, half=half), rng)
    scores = student.scores(x)
    assert (scores.argmax(axis=1) == y.argmax(axis=1)).mean() > 0.95
    assert not np.array_equal(before, scores)
    assert scores.sum(axis=1) == pytest.approx(np.ones(64))
    weights = rng.normal(size=(4, 10))
    input_gradients = student.input_gradients(x[:4], weights)
    assert input_gradients.shape == x[:4].shape
    student.network.double()
    images = torch.from_numpy(x[:4]).double()
    images = (images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)).requires_grad_()
    (student.network(images) * torch.from_numpy(weights)).sum().backward()
    exact = images.grad.permute(0, 2, 3, 1).numpy().reshape(input_gradients.shape)
    assert np.abs(input_gradients - exact).max() < 1e-3 * np.abs(exact).max()


def test_students_depend_on_their_generator_only_and_the_global_random_state_is_unchanged():
    x, y = two_kinds(32, (28, 28))

    def scores(seed):
        rng = np.random.default_rng(seed)
        student = NetworkCloneFactory("mnistnet").student(rng)
        student.train(x, y, SHORT, rng)
        return student.scores(x)

    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = scores(0)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert np.array_equal(scores(0), first)
    assert not np.array_equal(scores(1), first)


@pytest.mark.parametrize("can", [False, True])
def test_half_precision_is_used_only_where_the_machine_supports_it(can, monkeypatch):
    """Weights stay in float32; without the instructions the result is bit for bit that of full precision."""
    monkeypatch.setattr(training, "computes_in_half", lambda _: can)
    x, y = two_kinds(32, (28, 28))

    def learnt(half):
        rng = np.random.default_rng(0)
        student = NetworkCloneFactory("mnistnet").student(rng)
        student.train(x, y, replace(SHORT, half=half), rng)
        assert all(weight.dtype == torch.float32 for weight in student.network.parameters())
        return student.scores(x)

    assert np.array_equal(learnt(half=True), learnt(half=False)) is not can
    assert learnt(half=True) == pytest.approx(learnt(half=False), abs=0.05)


@pytest.mark.parametrize(("has", "can"), [({}, False), ({"avx2": True}, False), ({"amx_bf16": True}, True)])
def test_a_cpu_computes_in_half_precision_if_it_has_the_instructions(has, can, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    assert training.computes_in_half(torch.device("cpu")) is can


def test_a_student_has_as_many_classes_as_its_factory():
    student = NetworkCloneFactory("mnistnet", 4).student(np.random.default_rng(0))
    assert student.scores(np.zeros((2, 28, 28))).shape == (2, 4)


def shortened(settings):
    """The settings with very short training schedules."""
    if hasattr(settings, "schedule"):
        return replace(settings, schedule=replace(SHORT, epochs=1), min_rounds=2)
    return replace(settings, rounds=shortened(settings.rounds))


@pytest.mark.parametrize("name", ["copycat", "jacobian", "knockoff-adaptive", "knockoff-random"])
def test_attacks_with_networks_pass_the_conformance_suite(name):
    own, _ = two_kinds(40, (28, 28))
    foreign = Images(np.random.default_rng(1).uniform(size=(60, 28, 28)), np.arange(60) % 3)
    spec = ATTACKS.built_in[name]
    attack = replace(spec, quick=shortened(spec.quick)).attack(NetworkCloneFactory("mnistnet"), quick=True)
    check_attack(attack, halves, AttackerResources(10, own, foreign), 40, labels_only=spec.labels_only)
