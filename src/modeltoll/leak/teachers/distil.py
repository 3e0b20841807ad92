"""Training one small network with torch (extra ``train``): a vote head from teachers, an observer from labels."""

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
_MOST_ROWS = 20_000  # private rows that a vote head learns from; there are twice as many perturbed ones
_STRENGTHS = (0.15, 0.9)  # how much of a perturbed input is something else

Shape = tuple[int, int, int]


def with_noise(inputs: Floats, shape: Shape, rng: np.random.Generator) -> Floats:
    """Private inputs made strange, so that a vote head learns what teachers say off the data; one variant per row.

    In turn: blended with noise, with another row, inverted, blended with a smooth random field, cut into quarters that
    change places, and the same field alone. Inputs (n, d) of images (height, width, channels), or (1, 1, d).
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
    progress: Progress = lambda _done, _most: None,
) -> VoteHead:
    """Regress one network on the teachers' votes over private inputs (n, d), 20,000 at most, and twice as many perturbed.

    The loss is the cross entropy between the shares of votes and the network's softmax.

    Raises:
        RequestError: the inputs are not what the teachers take.
    """
    rng = np.random.default_rng(plan.seed)
    inputs = inputs[rng.permutation(len(inputs))[:_MOST_ROWS]]
    rows = np.concatenate(
        [inputs, with_noise(inputs, shape, rng), with_noise(inputs[rng.permutation(len(inputs))], shape, rng)]
    )
    shares = (teachers.votes(rows) / len(teachers)).astype(np.float32)
    absent = np.zeros((1, shares.shape[1]), dtype=bool)
    lesson = TrainingBatch(rows.astype(np.float32)[None], shares[None], absent, shape)
    return VoteHead(fit_network(lesson, plan, progress), len(teachers))


def fit_novelty_network(
    inputs: Floats,
    labels: NDArray[Any],
    shape: Shape,
    plan: NetworkPlan = NOVELTY_NETWORK,
    progress: Progress = lambda _done, _most: None,
) -> NetworkStack:
    """Train one classifier on private inputs (n, d) and labels (n,), for ``LayeredNovelty`` to look through.

    Images below 16 x 16, and rows that are no images, are looked at by full layers alone.

    Raises:
        CalibrationError: data that cannot be used.
    """
    values, classes, codes = check_private(inputs, labels)
    if values.shape[1] != np.prod(shape):
        raise CalibrationError(f"inputs of {values.shape[1]} numbers are not of shape {shape}")
    if min(shape[:2]) < _SMALLEST_IMAGE:
        plan = replace(plan, convolutions=())
    marks = np.eye(classes.size, dtype=np.float32)[codes]
    absent = np.zeros((1, classes.size), dtype=bool)
    return fit_network(TrainingBatch(values.astype(np.float32)[None], marks[None], absent, shape), plan, progress)
