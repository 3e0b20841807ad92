"""Training many small networks at once with torch (extra ``train``); what comes out is served without it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from modeltoll.errors import CalibrationError
from modeltoll.leak.array_file import load_arrays, save_arrays
from modeltoll.leak.teachers.ensemble import NetworkMembers, TeacherEnsemble
from modeltoll.leak.teachers.network_stack import Layer, NetworkStack, Single
from modeltoll.leak.teachers.partition import check_private, partition

if TYPE_CHECKING:
    from modeltoll.records import Bools, Floats, Progress

__all__ = ["MNISTNET", "PERCEPTRON", "NetworkPlan", "TrainingBatch", "fit_network", "fit_network_teachers"]

_Parameters = list[tuple[Tensor, Tensor]]
_MOST_WEIGHTS = 12_000_000  # weights trained at once: more do not fit the cache better, and are lost on an interruption
_KIND = "teacher networks in training"


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """Networks of one shape and how to train them, by Adam with a rate that falls in a line to zero.

    ``convolutions`` are (channels, kernel), each followed by pooling to half the side; ``hidden`` are full layers.
    ``shift`` moves images by up to that many pixels, one way for each batch; what is no image is not moved. ``decay`` is the weight decay.
    """

    convolutions: tuple[tuple[int, int], ...] = ()
    hidden: tuple[int, ...] = (32,)
    epochs: int = 60
    batch: int = 60
    rate: float = 2e-3
    decay: float = 1e-4
    shift: int = 1
    seed: int = 0


PERCEPTRON = NetworkPlan()
# Dziedzic et al. 2022: 431,080 parameters.
MNISTNET = NetworkPlan(convolutions=((20, 5), (50, 5)), hidden=(500,), epochs=20, batch=40, rate=1e-3, shift=1)


@dataclass(frozen=True, slots=True, eq=False)
class TrainingBatch:
    """What networks learn: ``inputs`` (networks, n, d), ``targets`` (networks, n, C), shares that sum to 1.

    ``absent`` (networks, C) marks classes that a network has no row of; it never answers them.
    ``shape`` is (height, width, channels) of an input.
    """

    inputs: Single
    targets: Single
    absent: Bools
    shape: tuple[int, int, int]


def fit_network_teachers(  # noqa: PLR0913  data, its shape, what to train, and where to keep it
    inputs: Floats,
    labels: NDArray[Any],
    shape: tuple[int, int, int],
    plan: NetworkPlan = PERCEPTRON,
    *,
    teachers: int = 250,
    checkpoints: Path | None = None,
    progress: Progress = lambda _done, _most: None,
) -> TeacherEnsemble:
    """Train ``teachers`` networks, each on its own part of the private data, many at a time.

    Each gets the same number of rows: where the data does not divide evenly, up to one row per teacher is left out.

    Args:
        inputs: shape (n, d), images row by row with the channels last.
        labels: numbers or text, shape (n,).
        shape: (height, width, channels) of an input; (1, 1, d) where it is no image.
        plan: what to train. The same plan and data give the same votes, but for rounding.
        teachers: how many.
        checkpoints: a folder that keeps each finished share of the networks; a later call with the same arguments goes
            on from there.
        progress: told after each step.

    Raises:
        CalibrationError: data that cannot be used, too few rows, or a shape that the inputs do not have.
    """
    values, classes, codes = check_private(inputs, labels)
    if values.shape[1] != np.prod(shape):
        raise CalibrationError(f"inputs of {values.shape[1]} numbers are not of shape {shape}")
    parts = partition(codes, teachers, plan.seed)
    rows = np.stack([part[: codes.size // teachers] for part in parts])
    single, marks = values.astype(np.float32), np.eye(classes.size, dtype=np.float32)
    share = max(1, min(teachers, _MOST_WEIGHTS // _weights(plan, shape, classes.size)))
    starts = range(0, teachers, share)
    stacks = []
    for number, start in enumerate(starts):
        chosen = rows[start : start + share]
        targets = marks[codes[chosen]]
        lesson = TrainingBatch(single[chosen], targets, targets.max(axis=1) == 0.0, shape)

        def told(done: int, most: int, number: int = number) -> None:
            progress(number * most + done, len(starts) * most)

        stacks.append(_checkpointed(lesson, plan, start, checkpoints, told))
    return TeacherEnsemble(_concatenated(stacks, shape), classes, values.shape[1])


def _concatenated(stacks: list[NetworkStack], shape: tuple[int, int, int]) -> NetworkMembers | NetworkStack:
    """One ensemble of them all. Without convolutions one product serves all teachers, which is the faster way."""
    same = list(zip(*(stack.layers for stack in stacks), strict=True))
    weights = [np.concatenate([layer.weights for layer in layers]) for layers in same]
    biases = [np.concatenate([layer.biases for layer in layers]) for layers in same]
    kernels = [layers[0].kernel for layers in same]
    if any(kernels):
        return NetworkStack(tuple(Layer(w, b, k) for w, b, k in zip(weights, biases, kernels, strict=True)), shape)
    first, *later = (w.astype(np.float64) for w in weights)
    wide = np.ascontiguousarray(first.transpose(1, 0, 2))
    return NetworkMembers((wide, *later), tuple(b.astype(np.float64) for b in biases), "relu")


def fit_network(
    lesson: TrainingBatch, plan: NetworkPlan, progress: Progress = lambda _done, _most: None, first: int = 0
) -> NetworkStack:
    """Train the lesson's networks together; none sees another's rows.

    Args:
        lesson: what they learn.
        plan: how.
        progress: told after each step.
        first: number of the first network in the whole, which its chance depends on.
    """
    networks, rows, _ = lesson.inputs.shape
    chance = torch.Generator().manual_seed(plan.seed * 1_000_003 + first)
    parameters = _untrained(lesson, plan, chance)
    optimiser = torch.optim.Adam(
        [p.requires_grad_() for pair in parameters for p in pair], lr=plan.rate, weight_decay=plan.decay
    )
    inputs, targets = torch.from_numpy(lesson.inputs), torch.from_numpy(lesson.targets)
    absent = torch.from_numpy(lesson.absent)
    batch = min(plan.batch, rows)
    most = plan.epochs * (rows // batch)
    order = torch.empty(0)
    for step in range(most):
        if step % (rows // batch) == 0:
            order = torch.rand(networks, rows, generator=chance).argsort(dim=1)
        place = step % (rows // batch) * batch
        chosen = order[:, place : place + batch]
        picked = torch.arange(networks)[:, None], chosen
        seen = _augmented(inputs[picked].reshape(networks, batch, *lesson.shape), plan.shift, chance)
        scores = _forward(seen, parameters, plan).masked_fill(absent[:, None], -1e9)
        loss = functional.cross_entropy(scores.flatten(0, 1), targets[picked].flatten(0, 1)) * networks
        optimiser.param_groups[0]["lr"] = plan.rate * (1.0 - step / most)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        progress(step + 1, most)
    return _as_stack(parameters, plan, lesson)


def _checkpointed(
    lesson: TrainingBatch, plan: NetworkPlan, start: int, folder: Path | None, progress: Progress
) -> NetworkStack:
    """Train a share of the networks, or read it where it was trained before on the same rows by the same plan."""
    if folder is None:
        return fit_network(lesson, plan, progress, start)
    sha = hashlib.sha256(f"{plan} {lesson.shape} {start}".encode())
    for array in (lesson.inputs, lesson.targets):
        sha.update(np.ascontiguousarray(array).view(np.uint8).data)
    path = folder / f"{sha.hexdigest()[:24]}.npz"
    if path.is_file():
        progress(1, 1)
        return NetworkStack.of_arrays(load_arrays(path, _KIND))
    stack = fit_network(lesson, plan, progress, start)
    folder.mkdir(parents=True, exist_ok=True)
    save_arrays(path, _KIND, stack.arrays())
    return stack


def _sizes(plan: NetworkPlan, shape: tuple[int, int, int], classes: int) -> list[tuple[int, int]]:
    """(in, out) of each layer of one network."""
    height, width, channels = shape
    sizes = []
    for out, kernel in plan.convolutions:
        sizes.append((channels * kernel**2, out))
        height, width, channels = (height - kernel + 1) // 2, (width - kernel + 1) // 2, out
        if min(height, width) < 1:
            raise CalibrationError(f"images of {shape[0]} x {shape[1]} are too small for these convolutions")
    wide = height * width * channels
    for out in (*plan.hidden, classes):
        sizes.append((wide, out))
        wide = out
    return sizes


def _weights(plan: NetworkPlan, shape: tuple[int, int, int], classes: int) -> int:
    return sum(entering * leaving for entering, leaving in _sizes(plan, shape, classes))


def _untrained(lesson: TrainingBatch, plan: NetworkPlan, chance: torch.Generator) -> _Parameters:
    """He et al. 2015: normal weights of variance 2 / in."""
    networks, _, classes = lesson.targets.shape
    return [
        (torch.randn(networks, i, o, generator=chance) * (2.0 / i) ** 0.5, torch.zeros(networks, o))
        for i, o in _sizes(plan, lesson.shape, classes)
    ]


def _augmented(images: Tensor, most: int, chance: torch.Generator) -> Tensor:
    """Images (networks, rows, height, width, channels), each batch moved by one chance."""
    if most == 0:
        return images
    down, right = torch.randint(-most, most + 1, (2,), generator=chance).tolist()
    return torch.roll(images, (down, right), dims=(2, 3))


def _forward(images: Tensor, parameters: _Parameters, plan: NetworkPlan) -> Tensor:
    """Scores (networks, rows, classes) of images (networks, rows, height, width, channels)."""
    networks, rows = images.shape[:2]
    depth = len(plan.convolutions)
    values = images
    if depth:  # grouped convolution: the channels of all networks side by side
        values = images.permute(1, 0, 4, 2, 3).flatten(1, 2)
        for (_, kernel), (weights, biases) in zip(plan.convolutions, parameters, strict=False):
            square = weights.unflatten(1, (kernel, kernel, -1))  # (networks, row, column, channel, out)
            grouped = square.permute(0, 4, 3, 1, 2).flatten(0, 1)
            convolved = functional.conv2d(values, grouped, biases.flatten(), groups=networks)
            values = functional.relu(functional.max_pool2d(convolved, 2))
        values = values.unflatten(1, (networks, -1)).permute(1, 0, 3, 4, 2)
    values = values.reshape(networks, rows, -1)
    for i, (weights, biases) in enumerate(parameters[depth:]):
        values = torch.baddbmm(biases[:, None], functional.relu(values) if i else values, weights)
    return values


def _as_stack(parameters: _Parameters, plan: NetworkPlan, lesson: TrainingBatch) -> NetworkStack:
    kernels = [kernel for _, kernel in plan.convolutions] + [0] * (len(plan.hidden) + 1)
    arrays = [(w.detach().numpy(), b.detach().numpy()) for w, b in parameters]
    arrays[-1] = (arrays[-1][0], np.where(lesson.absent, np.float32(-np.inf), arrays[-1][1]))
    return NetworkStack(tuple(Layer(w, b, k) for (w, b), k in zip(arrays, kernels, strict=True)), lesson.shape)
