"""Learning from labels and from none: MixMatch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from modeltoll.bench.students.networks import NetworkClone, soft_cross_entropy, torch_generator
from modeltoll.bench.victims.registry import as_tensor
from modeltoll.bench.victims.training import augment, precision

if TYPE_CHECKING:
    from modeltoll.bench.students.student import MixMatchSchedule
    from modeltoll.records import Floats

__all__ = ["train_mixmatch"]


def train_mixmatch(
    student: NetworkClone,
    told: tuple[Floats, Floats],
    untold: Floats,
    schedule: MixMatchSchedule,
    rng: np.random.Generator,
    on_round: Callable[[NetworkClone], None],
) -> NetworkClone:
    """Teach ``student`` what was told, images and their targets (n, classes), and let it guess the untold images.

    ``on_round`` sees the averaged clone after each epoch; the last is returned.
    """
    x, y, u = as_tensor(told[0]), torch.from_numpy(np.asarray(told[1], np.float32)), as_tensor(untold)
    student.scale(torch.cat([x, u]))
    average = NetworkClone(copy.deepcopy(student.network))
    luck = torch_generator(rng)
    optimiser = torch.optim.Adam(student.network.parameters(), lr=schedule.rate)
    student.network.train()
    for step in range(schedule.epochs * schedule.steps):
        some = torch.randint(len(x), (schedule.batch,), generator=luck)
        others = torch.randint(len(u), (schedule.batch,), generator=luck)
        seen = [_augmented(images, schedule, luck).to(student.device) for images in (x[some], u[others], u[others])]
        with precision(student.device, half=schedule.half):
            targets = _targets(student, y[some].to(student.device), seen[1:], schedule)
            images, targets = _mixed(torch.cat(seen), targets, float(rng.beta(schedule.alpha, schedule.alpha)), luck)
            logits = student.network(images.contiguous(memory_format=torch.channels_last)).float()
        ramp = step / (schedule.epochs * schedule.steps)
        error = (logits[schedule.batch :].softmax(dim=1) - targets[schedule.batch :]).square().mean()
        loss = soft_cross_entropy(logits[: schedule.batch], targets[: schedule.batch]) + schedule.weight * ramp * error
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        _update_average(average, student, schedule)
        if (step + 1) % schedule.steps == 0:
            on_round(NetworkClone(copy.deepcopy(average.network)))
    student.network.eval()
    return average


def _augmented(images: Tensor, schedule: MixMatchSchedule, luck: torch.Generator) -> Tensor:
    return augment(images, luck, shift=schedule.shift, flip=images.shape[1] == 3)


def _targets(student: NetworkClone, labels: Tensor, pair: list[Tensor], schedule: MixMatchSchedule) -> Tensor:
    """The targets of all three batches: the labels, and twice the sharpened mean opinion of the two views."""
    with torch.no_grad():
        opinion = torch.stack([student.network(view).float().softmax(dim=1) for view in pair]).mean(dim=0)
        sharp = opinion ** (1.0 / schedule.temperature)
        sharp = sharp / sharp.sum(dim=1, keepdim=True)
    return torch.cat([labels, sharp, sharp])


def _mixed(images: Tensor, targets: Tensor, share: float, luck: torch.Generator) -> tuple[Tensor, Tensor]:
    """Each row mixed with another, of which it keeps the greater share."""
    share = max(share, 1.0 - share)
    order = torch.randperm(len(images), generator=luck).to(images.device)
    return share * images + (1.0 - share) * images[order], share * targets + (1.0 - share) * targets[order]


def _update_average(average: NetworkClone, student: NetworkClone, schedule: MixMatchSchedule) -> None:
    """Move the average towards the student, whose weights then decay."""
    with torch.no_grad():
        for mean, weight in zip(average.network.parameters(), student.network.parameters(), strict=True):
            mean.lerp_(weight, 1.0 - schedule.average)
            weight.mul_(1.0 - schedule.decay * schedule.rate)
        for mean, value in zip(average.network.buffers(), student.network.buffers(), strict=True):
            mean.copy_(value)
