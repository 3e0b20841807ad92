"""FreeMatch: training on labels and on the student's own labels of weak views, which strong views have to match."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from modeltoll.bench.students.networks import NetworkClone, soft_cross_entropy, torch_generator, update_average
from modeltoll.bench.students.strong_views import strong_view
from modeltoll.bench.victims.networks import as_tensor
from modeltoll.bench.victims.training import augment, precision

if TYPE_CHECKING:
    from modeltoll.bench.students.student import FreeMatchSchedule
    from modeltoll.records import Floats

__all__ = ["AdaptiveThreshold", "train_freematch"]


class AdaptiveThreshold:
    """The probability above which a label of the student counts; Wang et al. 2023, equations 5 to 7.

    ``overall`` is the running mean of the highest probability, ``classes`` (classes,) that of each class's; both begin at
    one over the number of classes. It is never below ``least``: on foreign images, of which an untrained clone is sure of
    nothing, the paper's threshold accepts every guess, and the clone learns its own guesses.
    """

    def __init__(self, classes: int, decay: float, least: float) -> None:
        self._decay, self._least = decay, least
        self.overall = 1.0 / classes
        self.classes = torch.full((classes,), 1.0 / classes)

    def update(self, scores: Tensor) -> None:
        """Take the probabilities (n, classes) of a batch into account."""
        self.overall += (1.0 - self._decay) * (float(scores.amax(dim=1).mean()) - self.overall)
        self.classes.lerp_(scores.mean(dim=0).cpu(), 1.0 - self._decay)

    def passes(self, scores: Tensor) -> Tensor:
        """Which rows (n,) have a highest probability above the threshold of its class, boolean."""
        highest, labels = scores.max(dim=1)
        thresholds = (self.overall * self.classes / self.classes.max()).clamp(min=self._least)
        return highest > thresholds.to(scores.device)[labels]


def train_freematch(
    student: NetworkClone,
    labelled: tuple[Floats, Floats],
    unlabelled: Floats,
    schedule: FreeMatchSchedule,
    rng: np.random.Generator,
    on_round: Callable[[NetworkClone], None],
) -> NetworkClone:
    """Train ``student`` on ``labelled`` images with their targets (n, classes) and on ``unlabelled`` images.

    Labelled images are taken as they were asked, for the victim may give a shifted foreign image another label. The paper's
    term for the fairness of classes is left out: foreign images are not of all classes alike. ``on_round`` is called with
    the averaged student after each epoch; the last average is returned. The weight of the views rises linearly from 0 to 1.
    """
    x, y, u = as_tensor(labelled[0]), torch.from_numpy(np.asarray(labelled[1], np.float32)), as_tensor(unlabelled)
    student.scale(torch.cat([x, u]))
    average = NetworkClone(copy.deepcopy(student.network))
    threshold = AdaptiveThreshold(y.shape[1], schedule.threshold_decay, schedule.threshold)
    torch_rng, steps = torch_generator(rng), schedule.epochs * schedule.steps
    optimiser = torch.optim.SGD(
        student.network.parameters(), lr=schedule.rate, momentum=0.9, weight_decay=schedule.decay, nesterov=True
    )
    student.network.train()
    for step in range(steps):
        from_x = torch.randint(len(x), (schedule.batch,), generator=torch_rng)
        from_u = torch.randint(len(u), (schedule.ratio * schedule.batch,), generator=torch_rng)
        weak = augment(u[from_u], torch_rng, shift=schedule.shift, flip=u.shape[1] == 3)
        views = [view.to(student.device) for view in (x[from_x], weak, strong_view(weak, torch_rng))]
        known, matched = _losses(student, views, y[from_x].to(student.device), threshold, half=schedule.half)
        loss = known + step / steps * matched
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate * math.cos(7.0 * math.pi * step / (16.0 * steps))  # Wang et al. 2023, appendix
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        update_average(average, student, schedule.average)
        if (step + 1) % schedule.steps == 0:
            on_round(NetworkClone(copy.deepcopy(average.network)))
    student.network.eval()
    return average


def _losses(
    student: NetworkClone, views: list[Tensor], labels: Tensor, threshold: AdaptiveThreshold, *, half: bool
) -> tuple[Tensor, Tensor]:
    """The cross entropy of the labelled images, and that of the strong views whose weak views pass the threshold."""
    known, weak, strong = (view.contiguous(memory_format=torch.channels_last) for view in views)
    with precision(student.device, half=half):
        with torch.no_grad():
            scores = student.network(weak).float().softmax(dim=1)
        logits = student.network(torch.cat([known, strong])).float()
    threshold.update(scores)
    matched = functional.cross_entropy(logits[len(labels) :], scores.argmax(dim=1), reduction="none")
    return soft_cross_entropy(logits[: len(labels)], labels), (matched * threshold.passes(scores)).mean()
