"""Train the teachers of the PATE cost, and compare the cost of honest and of foreign queries with the paper's.

    python benchmarks/paper_teachers.py [cifar10 mnist fashion] --data-dir DIR --cache DIR

An interrupted training goes on where it stopped. Writes ``results/leak/teachers-NAME.json``: the accuracy of the teachers on
2,000 unseen images, alone and by their vote; the mean epsilon of a query under the paper's noise; the time of a row; and the
time to train on one image of CIFAR-10, of a network alone and of ten side by side in grouped convolutions.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from studies import printed_progress, study_data_sets
from torch import Tensor, nn
from torch.nn import functional

from modeltoll.bench import datasets
from modeltoll.bench.paper import TABLE_2
from modeltoll.bench.victims.registry import VICTIMS
from modeltoll.bench.victims.teachers import TEACHERS, NetworkTeachers, TeacherRecipe, load_teachers
from modeltoll.leak.pate import EPS_SUM, VoteReadout

ROWS, TIMED, SEED = 2000, 500, 0
WIDTHS, SIDE_BY_SIDE, IMAGES = (16, 16, 32, 64), 10, 20
CALLERS = {"standard": "honest images", "copycat": "Tiny-ImageNet"}  # by the paper's attack that sends them


class Grouped(nn.Module):
    """The networks of the CIFAR-10 teachers side by side: every convolution has as many groups as there are networks."""

    def __init__(self, networks: int) -> None:
        super().__init__()
        self.networks = networks
        sizes = [(3, WIDTHS[0]), *pairwise(WIDTHS)]
        self.enter = nn.ModuleList(self._convolution(*size) for size in sizes)
        self.stay = nn.ModuleList(self._convolution(size, size) for size in WIDTHS[1:])
        self.last = nn.Parameter(torch.zeros(networks, WIDTHS[-1], 10))

    def _convolution(self, enter: int, leave: int) -> nn.Sequential:
        count = self.networks
        convolution = nn.Conv2d(enter * count, leave * count, 3, padding=1, bias=False, groups=count)
        return nn.Sequential(convolution, nn.BatchNorm2d(leave * count), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        """Scores (n, networks, 10) of images (n, 3 networks, 32, 32)."""
        values = self.enter[0](images)
        for enter, stay in zip(self.enter[1:], self.stay, strict=True):
            inner = functional.max_pool2d(enter(values), 2)
            values = inner + stay(inner)
        features = values.amax(dim=(2, 3)).unflatten(1, (self.networks, -1))
        return torch.einsum("nge,gec->ngc", features, self.last)


def training_ms(networks: int) -> float:
    """Least processor milliseconds of a training step, per image and network, on one thread."""
    stack, least = Grouped(networks), float("inf")
    images = torch.rand(IMAGES, 3 * networks, 32, 32)
    if networks == 1:
        stack.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    for _ in range(6):
        begin = time.process_time()
        scores = stack(images).flatten(0, 1)
        functional.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.long)).backward()
        least = min(least, time.process_time() - begin)
    return 1e3 * least / (IMAGES * networks)


def row_ms(votes: Callable[[np.ndarray], Any], rows: np.ndarray) -> float:
    """Processor milliseconds per row in a batch."""
    begin = time.process_time()
    votes(rows)
    return 1e3 * (time.process_time() - begin) / len(rows)


def alone(teachers: NetworkTeachers, flat: np.ndarray, labels: np.ndarray) -> list[float]:
    """The accuracy of each teacher."""
    ones = (NetworkTeachers("", (network,), teachers.shape, teachers.classes) for network in teachers.networks)
    return [float((one.votes(flat).argmax(axis=1) == labels).mean()) for one in ones]


def queries(name: str, folder: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Flat rows of each of ``CALLERS``, (rows, d), and the labels of the honest ones."""
    unseen, tiny = VICTIMS[name].load(folder, train=False), datasets.tiny_imagenet(folder).x
    rng = np.random.default_rng(SEED)
    foreign = datasets.resize_to(tiny[rng.permutation(len(tiny))[:ROWS]], unseen.x.shape[1:])
    chosen = rng.permutation(len(unseen.x))[:ROWS]  # not the first ones: those of MNIST are the easier half
    flat = {"standard": unseen.x[chosen].reshape(ROWS, -1), "copycat": foreign.reshape(ROWS, -1)}
    return flat, unseen.y[chosen]


def votes_of(
    teachers: NetworkTeachers, recipe: TeacherRecipe, flat: dict[str, np.ndarray], labels: np.ndarray
) -> dict[str, Any]:
    """The accuracy of the vote on honest rows, and the mean cost of a row of each caller."""
    readout = VoteReadout(recipe.sigma, EPS_SUM, delta=recipe.delta)
    counts = {caller: teachers.votes(rows) for caller, rows in flat.items()}
    return {
        "accuracy_of_the_vote": float((counts["standard"].argmax(axis=1) == labels).mean()),
        "cost": {caller: float(readout.leak(votes).mean()) for caller, votes in counts.items()},
    }


def paper_costs(name: str) -> dict[str, float]:
    """The paper's mean cost of a query of each of ``CALLERS``."""
    stated = {caller: TABLE_2[name, caller] for caller in CALLERS if (name, caller) in TABLE_2}
    return {caller: line.cost / line.queries for caller, line in stated.items()}


def study(name: str, folder: Path, cache: Path) -> dict[str, Any]:
    """Train the teachers of one data set, or read them from the cache, and measure their votes."""
    private = VICTIMS[name].load(folder, train=True)
    begin = time.process_time()
    teachers, recipe = load_teachers(name, private, cache, printed_progress(name)), TEACHERS[name]
    trained = time.process_time() - begin
    flat, labels = queries(name, folder)
    measured = votes_of(teachers, recipe, flat, labels)
    each = alone(teachers, flat["standard"], labels)
    return {
        "data": name,
        "recipe": asdict(recipe),
        "training_cpu_seconds_of_this_run": trained,  # little where the cache had some
        "rows": ROWS,
        "accuracy_alone": {"mean": float(np.mean(each)), "least": min(each), "most": max(each)},
        "ms_per_row": row_ms(teachers.votes, flat["standard"][:TIMED]),
        **measured,
        "paper": paper_costs(name),
        "training_ms_per_image": {"alone": training_ms(1), "side_by_side": training_ms(SIDE_BY_SIDE)},
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    study_data_sets(study, "teachers", ("cifar10", "mnist", "fashion"))
