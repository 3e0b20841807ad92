"""Train many small networks at once with torch (extra ``train``); the result is evaluated without torch."""

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
_MAX_WEIGHTS = 12_000_000  # weights trained at once; more are not faster, and an interruption loses them
_KIND = "teacher networks in training"


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """The shape of networks and how to train them: Adam with a learning rate that decreases linearly to zero.

    ``convolutions``: (channels, kernel side) each, followed by 2 x 2 max pooling. ``hidden``: widths of dense layers.
    ``batch``: rows per step. ``rate``: initial learning rate. ``decay``: weight decay. ``shift``: augmentation by a
    cyclic shift of up to so many pixels, one per batch, without effect on rows of shape (1, 1, d).
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
    """Training data of networks that are trained together: ``inputs`` (networks, n, d), ``targets`` (networks, n, C).

    Targets are shares that sum to 1. ``absent`` (networks, C): classes without rows in a network's data, which it never
    predicts. ``shape``: (height, width, channels) of an input.
    """

    inputs: Single
    targets: Single
    absent: Bools
    shape: tuple[int, int, int]


def fit_network_teachers(  # noqa: PLR0913  data, its shape, what to train, and where checkpoints go
    inputs: Floats,
    labels: NDArray[Any],
    shape: tuple[int, int, int],
    plan: NetworkPlan = PERCEPTRON,
    *,
    teachers: int = 250,
    checkpoints: Path | None = None,
    progress: Progress = lambda _done, _total: None,
) -> TeacherEnsemble:
    """Train ``teachers`` networks, each on its own part of the private data, many at a time.

    All parts have the same number of rows; if n is not a multiple of ``teachers``, the remainder is left out.

    Args:
        inputs: shape (n, d); images are flattened row by row with the channels last.
        labels: numbers or text, shape (n,).
        shape: (height, width, channels) of an input; (1, 1, d) for rows that are no images.
        plan: what to train. The same plan and data give the same votes up to rounding.
        teachers: number of networks.
        checkpoints: folder for finished groups of networks; a later call with the same arguments resumes from it.
        progress: called after each step.

    Raises:
        CalibrationError: unusable data, too few rows, or inputs that do not have the given shape.
    """
    values, classes, codes = check_private(inputs, labels)
    if values.shape[1] != np.prod(shape):
        raise CalibrationError(f"inputs of {values.shape[1]} numbers are not of shape {shape}")
    parts = partition(codes, teachers, plan.seed)
    rows = np.stack([part[: codes.size // teachers] for part in parts])
    single, one_hot = values.astype(np.float32), np.eye(classes.size, dtype=np.float32)
    group = max(1, min(teachers, _MAX_WEIGHTS // _weight_count(plan, shape, classes.size)))
    starts = range(0, teachers, group)
    stacks = []
    for number, start in enumerate(starts):
        chosen = rows[start : start + group]
        targets = one_hot[codes[chosen]]
        batch = TrainingBatch(single[chosen], targets, targets.max(axis=1) == 0.0, shape)

        def report(done: int, total: int, number: int = number) -> None:
            progress(number * total + done, len(starts) * total)

        stacks.append(_checkpointed(batch, plan, start, checkpoints, report))
    return TeacherEnsemble(_concatenated(stacks, shape), classes, values.shape[1])


def _concatenated(stacks: list[NetworkStack], shape: tuple[int, int, int]) -> NetworkMembers | NetworkStack:
    """All networks as one. Without convolutions as ``NetworkMembers``, which one product evaluates and is faster."""
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
    batch: TrainingBatch, plan: NetworkPlan, progress: Progress = lambda _done, _total: None, first: int = 0
) -> NetworkStack:
    """Train the networks of a batch together, each on its own rows.

    Args:
        batch: training data of the networks.
        plan: shape and training of the networks.
        progress: called after each step.
        first: index of the first network in the whole ensemble, part of the random seed.
    """
    networks, rows, _ = batch.inputs.shape
    generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + first)
    parameters = _initial_parameters(batch, plan, generator)
    optimiser = torch.optim.Adam(
        [p.requires_grad_() for pair in parameters for p in pair], lr=plan.rate, weight_decay=plan.decay
    )
    inputs, targets = torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets)
    absent = torch.from_numpy(batch.absent)
    size = min(plan.batch, rows)
    total = plan.epochs * (rows // size)
    order = torch.empty(0)
    for step in range(total):
        if step % (rows // size) == 0:
            order = torch.rand(networks, rows, generator=generator).argsort(dim=1)
        start = step % (rows // size) * size
        chosen = order[:, start : start + size]
        picked = torch.arange(networks)[:, None], chosen
        images = _augmented(inputs[picked].reshape(networks, size, *batch.shape), plan.shift, generator)
        scores = _forward(images, parameters, plan).masked_fill(absent[:, None], -1e9)
        loss = functional.cross_entropy(scores.flatten(0, 1), targets[picked].flatten(0, 1)) * networks
        optimiser.param_groups[0]["lr"] = plan.rate * (1.0 - step / total)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        progress(step + 1, total)
    return _as_stack(parameters, plan, batch)


def _checkpointed(
    batch: TrainingBatch, plan: NetworkPlan, start: int, folder: Path | None, progress: Progress
) -> NetworkStack:
    """Train a group of networks, or read its checkpoint from an earlier call with the same rows and plan."""
    if folder is None:
        return fit_network(batch, plan, progress, start)
    sha = hashlib.sha256(f"{plan} {batch.shape} {start}".encode())
    for array in (batch.inputs, batch.targets):
        sha.update(np.ascontiguousarray(array).view(np.uint8).data)
    path = folder / f"{sha.hexdigest()[:24]}.npz"
    if path.is_file():
        progress(1, 1)
        return NetworkStack.of_arrays(load_arrays(path, _KIND))
    stack = fit_network(batch, plan, progress, start)
    folder.mkdir(parents=True, exist_ok=True)
    save_arrays(path, _KIND, stack.arrays())
    return stack


def _sizes(plan: NetworkPlan, shape: tuple[int, int, int], classes: int) -> list[tuple[int, int]]:
    """(inputs, outputs) of each layer of one network."""
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


def _weight_count(plan: NetworkPlan, shape: tuple[int, int, int], classes: int) -> int:
    return sum(inputs * outputs for inputs, outputs in _sizes(plan, shape, classes))


def _initial_parameters(batch: TrainingBatch, plan: NetworkPlan, generator: torch.Generator) -> _Parameters:
    """Normal weights of variance 2 / inputs (He et al. 2015), biases 0."""
    networks, _, classes = batch.targets.shape
    return [
        (torch.randn(networks, i, o, generator=generator) * (2.0 / i) ** 0.5, torch.zeros(networks, o))
        for i, o in _sizes(plan, batch.shape, classes)
    ]


def _augmented(images: Tensor, shift: int, generator: torch.Generator) -> Tensor:
    """Images (networks, rows, height, width, channels), all shifted cyclically by the same random number of pixels."""
    if shift == 0:
        return images
    down, right = torch.randint(-shift, shift + 1, (2,), generator=generator).tolist()
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


def _as_stack(parameters: _Parameters, plan: NetworkPlan, batch: TrainingBatch) -> NetworkStack:
    kernels = [kernel for _, kernel in plan.convolutions] + [0] * (len(plan.hidden) + 1)
    arrays = [(w.detach().numpy(), b.detach().numpy()) for w, b in parameters]
    arrays[-1] = (arrays[-1][0], np.where(batch.absent, np.float32(-np.inf), arrays[-1][1]))
    return NetworkStack(tuple(Layer(w, b, k) for (w, b), k in zip(arrays, kernels, strict=True)), batch.shape)
