"""MixMatch: semi-supervised training on labelled and unlabelled images."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from modeltoll.bench.students.networks import NetworkClone, soft_cross_entropy, torch_generator, update_average
from modeltoll.bench.victims.networks import as_tensor
from modeltoll.bench.victims.training import augment, precision

if TYPE_CHECKING:
    from modeltoll.bench.students.student import MixMatchSchedule
    from modeltoll.records import Floats

__all__ = ["train_mixmatch"]


def train_mixmatch(
    student: NetworkClone,
    labelled: tuple[Floats, Floats],
    unlabelled: Floats,
    schedule: MixMatchSchedule,
    rng: np.random.Generator,
    on_round: Callable[[NetworkClone], None],
) -> NetworkClone:
    """Train ``student`` on ``labelled`` images with their targets (n, classes) and on ``unlabelled`` images.

    ``on_round`` is called with the averaged student after each epoch; the last average is returned.
    """
    x, y, u = as_tensor(labelled[0]), torch.from_numpy(np.asarray(labelled[1], np.float32)), as_tensor(unlabelled)
    student.scale(torch.cat([x, u]))
    average = NetworkClone(copy.deepcopy(student.network))
    torch_rng = torch_generator(rng)
    optimiser = torch.optim.Adam(student.network.parameters(), lr=schedule.rate)
    student.network.train()
    for step in range(schedule.epochs * schedule.steps):
        from_x = torch.randint(len(x), (schedule.batch,), generator=torch_rng)
        from_u = torch.randint(len(u), (schedule.batch,), generator=torch_rng)
        batches = [
            _augmented(images, schedule, torch_rng).to(student.device) for images in (x[from_x], u[from_u], u[from_u])
        ]
        with precision(student.device, half=schedule.half):
            targets = _targets(student, y[from_x].to(student.device), batches[1:], schedule)
            images, targets = _mix(
                torch.cat(batches), targets, float(rng.beta(schedule.alpha, schedule.alpha)), torch_rng
            )
            logits = student.network(images.contiguous(memory_format=torch.channels_last)).float()
        ramp = step / (schedule.epochs * schedule.steps)
        error = (logits[schedule.batch :].softmax(dim=1) - targets[schedule.batch :]).square().mean()
        loss = soft_cross_entropy(logits[: schedule.batch], targets[: schedule.batch]) + schedule.weight * ramp * error
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        update_average(average, student, schedule.average)
        _decay_weights(student, schedule)
        if (step + 1) % schedule.steps == 0:
            on_round(NetworkClone(copy.deepcopy(average.network)))
    student.network.eval()
    return average


def _augmented(images: Tensor, schedule: MixMatchSchedule, torch_rng: torch.Generator) -> Tensor:
    return augment(images, torch_rng, shift=schedule.shift, flip=images.shape[1] == 3)


def _targets(student: NetworkClone, labels: Tensor, pair: list[Tensor], schedule: MixMatchSchedule) -> Tensor:
    """The targets of all three batches: the labels, and twice the sharpened mean prediction of the two views."""
    with torch.no_grad():
        prediction = torch.stack([student.network(view).float().softmax(dim=1) for view in pair]).mean(dim=0)
        sharpened = prediction ** (1.0 / schedule.temperature)
        sharpened = sharpened / sharpened.sum(dim=1, keepdim=True)
    return torch.cat([labels, sharpened, sharpened])


def _mix(images: Tensor, targets: Tensor, share: float, torch_rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Each row mixed with another one; its own share is the larger of ``share`` and 1 - ``share``."""
    share = max(share, 1.0 - share)
    order = torch.randperm(len(images), generator=torch_rng).to(images.device)
    return share * images + (1.0 - share) * images[order], share * targets + (1.0 - share) * targets[order]


def _decay_weights(student: NetworkClone, schedule: MixMatchSchedule) -> None:
    with torch.no_grad():
        for weight in student.network.parameters():
            weight.mul_(1.0 - schedule.decay * schedule.rate)
