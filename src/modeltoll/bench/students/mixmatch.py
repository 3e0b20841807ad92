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
    course: MixMatchSchedule,
    rng: np.random.Generator,
    watch: Callable[[NetworkClone], None],
) -> NetworkClone:
    """Teach ``student`` what was told, images and their targets (n, classes), and let it guess the untold images.

    ``watch`` sees the averaged clone after each epoch; the last is returned.
    """
    x, y, u = as_tensor(told[0]), torch.from_numpy(np.asarray(told[1], np.float32)), as_tensor(untold)
    student.scale(torch.cat([x, u]))
    average = NetworkClone(copy.deepcopy(student.network))
    luck = torch_generator(rng)
    optimiser = torch.optim.Adam(student.network.parameters(), lr=course.rate)
    student.network.train()
    for step in range(course.epochs * course.steps):
        some = torch.randint(len(x), (course.batch,), generator=luck)
        others = torch.randint(len(u), (course.batch,), generator=luck)
        seen = [_varied(images, course, luck).to(student.device) for images in (x[some], u[others], u[others])]
        with precision(student.device, half=course.half):
            targets = _guessed(student, y[some].to(student.device), seen[1:], course)
            images, targets = _mixed(torch.cat(seen), targets, float(rng.beta(course.alpha, course.alpha)), luck)
            logits = student.network(images.contiguous(memory_format=torch.channels_last)).float()
        ramp = step / (course.epochs * course.steps)
        error = (logits[course.batch :].softmax(dim=1) - targets[course.batch :]).square().mean()
        loss = soft_cross_entropy(logits[: course.batch], targets[: course.batch]) + course.weight * ramp * error
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        _follow(average, student, course)
        if (step + 1) % course.steps == 0:
            watch(NetworkClone(copy.deepcopy(average.network)))
    student.network.eval()
    return average


def _varied(images: Tensor, course: MixMatchSchedule, luck: torch.Generator) -> Tensor:
    return augment(images, luck, shift=course.shift, flip=images.shape[1] == 3)


def _guessed(student: NetworkClone, labels: Tensor, pair: list[Tensor], course: MixMatchSchedule) -> Tensor:
    """The targets of all three batches: the labels, and twice the sharpened mean opinion of the two views."""
    with torch.no_grad():
        opinion = torch.stack([student.network(view).float().softmax(dim=1) for view in pair]).mean(dim=0)
        sharp = opinion ** (1.0 / course.temperature)
        sharp = sharp / sharp.sum(dim=1, keepdim=True)
    return torch.cat([labels, sharp, sharp])


def _mixed(images: Tensor, targets: Tensor, share: float, luck: torch.Generator) -> tuple[Tensor, Tensor]:
    """Each row mixed with another, of which it keeps the greater share."""
    share = max(share, 1.0 - share)
    order = torch.randperm(len(images), generator=luck).to(images.device)
    return share * images + (1.0 - share) * images[order], share * targets + (1.0 - share) * targets[order]


def _follow(average: NetworkClone, student: NetworkClone, course: MixMatchSchedule) -> None:
    """Move the average towards the student, whose weights then decay."""
    with torch.no_grad():
        for mean, weight in zip(average.network.parameters(), student.network.parameters(), strict=True):
            mean.lerp_(weight, 1.0 - course.average)
            weight.mul_(1.0 - course.decay * course.rate)
        for mean, value in zip(average.network.buffers(), student.network.buffers(), strict=True):
            mean.copy_(value)
