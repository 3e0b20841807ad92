"""Train one small network with torch (extra ``train``): a vote head from teachers, or a novelty network from labels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modeltoll.errors import CalibrationError
from modeltoll.leak.teachers.fit_torch import NetworkPlan, TrainingBatch, fit_network
from modeltoll.leak.teachers.partition import check_private
from modeltoll.leak.teachers.vote_head import VoteHead

if TYPE_CHECKING:
    from modeltoll.leak.teachers.ensemble import TeacherEnsemble
    from modeltoll.leak.teachers.network_stack import NetworkStack
    from modeltoll.records import Floats, Progress

__all__ = ["NOVELTY_NETWORK", "VOTE_HEAD", "fit_novelty_network", "fit_vote_head", "with_noise"]

VOTE_HEAD = NetworkPlan(hidden=(256, 64), epochs=20, batch=256, rate=2e-3, decay=0.0, shift=0)
NOVELTY_NETWORK = NetworkPlan(convolutions=((24, 5), (48, 5)), hidden=(128,), epochs=3, batch=128, rate=2e-3)
_SMALLEST_IMAGE = 16
_MAX_ROWS = 20_000  # private rows that a vote head is trained on, beside twice as many perturbed ones
_STRENGTHS = (0.15, 0.9)  # range of the weight of the perturbation in a perturbed input

Shape = tuple[int, int, int]


def with_noise(inputs: Floats, shape: Shape, rng: np.random.Generator) -> Floats:
    """Perturbed copies of private inputs (n, d), so that a vote head learns the teachers' votes off the data.

    One variant per row, in turn: blended with noise, blended with another row, inverted, blended with a smooth random
    field, shifted by half of each side, and the smooth field alone. ``shape`` is (height, width, channels) of an input,
    or (1, 1, d).
    """
    low, high = inputs.min(), inputs.max()
    images = inputs.reshape(-1, *shape)
    count = len(images)
    strength = rng.uniform(*_STRENGTHS, (count, 1, 1, 1))
    height, width, _ = shape
    coarse = rng.uniform(low, high, (count, min(4, height), min(4, width), shape[2]))
    rows, columns = (np.arange(side) * coarse.shape[axis] // side for axis, side in ((1, height), (2, width)))
    field = coarse[:, rows][:, :, columns]
    others = images[rng.permutation(count)]
    variants = (
        (1 - strength) * images + strength * rng.uniform(low, high, images.shape),
        (1 - strength) * images + strength * others,
        low + high - images,
        (1 - strength) * images + strength * field,
        np.roll(images, (height // 2, width // 2), axis=(1, 2)),
        field,
    )
    out = np.empty_like(images)
    for number, variant in enumerate(variants):
        out[number :: len(variants)] = variant[number :: len(variants)]
    return out.reshape(inputs.shape)


def fit_vote_head(
    teachers: TeacherEnsemble,
    inputs: Floats,
    shape: Shape,
    plan: NetworkPlan = VOTE_HEAD,
    progress: Progress = lambda _done, _total: None,
) -> VoteHead:
    """Train one network to predict the teachers' votes on private inputs (n, d) and on perturbed copies of them.

    At most 20,000 private rows are used, with two perturbed copies of each. The loss is the cross entropy between the
    shares of votes and the network's softmax. ``progress`` is called after each step.

    Raises:
        RequestError: the teachers do not accept the inputs.
    """
    rng = np.random.default_rng(plan.seed)
    inputs = inputs[rng.permutation(len(inputs))[:_MAX_ROWS]]
    rows = np.concatenate(
        [inputs, with_noise(inputs, shape, rng), with_noise(inputs[rng.permutation(len(inputs))], shape, rng)]
    )
    shares = (teachers.votes(rows) / len(teachers)).astype(np.float32)
    absent = np.zeros((1, shares.shape[1]), dtype=bool)
    batch = TrainingBatch(rows.astype(np.float32)[None], shares[None], absent, shape)
    return VoteHead(fit_network(batch, plan, progress), len(teachers))


def fit_novelty_network(
    inputs: Floats,
    labels: NDArray[Any],
    shape: Shape,
    plan: NetworkPlan = NOVELTY_NETWORK,
    progress: Progress = lambda _done, _total: None,
) -> NetworkStack:
    """Train a classifier on private inputs (n, d) and labels (n,), as the feature extractor of ``LayeredNovelty``.

    ``shape`` is (height, width, channels) of an input, or (1, 1, d). For images below 16 x 16, and for rows that are
    no images, the network has dense layers only. ``progress`` is called after each step.

    Raises:
        CalibrationError: unusable data, or inputs that do not have that shape.
    """
    values, classes, codes = check_private(inputs, labels)
    if values.shape[1] != np.prod(shape):
        raise CalibrationError(f"inputs of {values.shape[1]} numbers are not of shape {shape}")
    if min(shape[:2]) < _SMALLEST_IMAGE:
        plan = replace(plan, convolutions=())
    targets = np.eye(classes.size, dtype=np.float32)[codes]
    absent = np.zeros((1, classes.size), dtype=bool)
    return fit_network(TrainingBatch(values.astype(np.float32)[None], targets[None], absent, shape), plan, progress)
