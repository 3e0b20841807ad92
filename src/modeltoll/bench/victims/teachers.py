"""The teachers of the PATE cost: networks on disjoint parts of a victim's private data, trained once and cached.

The teachers are trained one after another. Their convolutions side by side, as one grouped convolution, give the same
networks, and take longer on a processor (``benchmarks/paper_teachers.py``). A teacher is a checkpoint.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from modeltoll.bench.datasets import Images
from modeltoll.bench.victims.networks import as_tensor
from modeltoll.bench.victims.trained_networks import (
    network_of,
    read_weights,
    trained_network,
    training_digest,
    write_weights,
)
from modeltoll.bench.victims.training import TrainingRecipe
from modeltoll.leak.teachers.partition import partition

if TYPE_CHECKING:
    from pathlib import Path

    from modeltoll.bench.victims.networks import Network
    from modeltoll.records import Floats, Integers, Progress

__all__ = ["TEACHERS", "NetworkTeachers", "TeacherRecipe", "load_teachers"]

_ROWS = 500  # images per forward pass


@dataclass(frozen=True, slots=True)
class TeacherRecipe:
    """How many teachers, each on as many rows of the private data, and how each is trained.

    ``sigma``: the virtual noise, in votes; ``delta``: of the epsilon of a vote; both of Dziedzic et al. 2022, section 4.
    """

    count: int
    sigma: float
    delta: float
    training: TrainingRecipe


# Trained so that a query costs about what it costs in the paper: longer, or with augmentation, the teachers agree more often on
# honest rows (``benchmarks/teacher_strength.py``).
_MNISTNETS = TeacherRecipe(250, 10.0, 1e-5, TrainingRecipe("mnistnet", epochs=10, rate=0.05, batch=40))
_CIFAR10 = TrainingRecipe("teacher", epochs=20, rate=0.1, batch=50)
TEACHERS: Mapping[str, TeacherRecipe] = {  # by the name of the victim
    "mnist": _MNISTNETS,
    "fashion": _MNISTNETS,
    "svhn": TeacherRecipe(250, 10.0, 1e-6, TrainingRecipe("teacher", epochs=20, rate=0.1, batch=50, shift=2)),
    "cifar10": TeacherRecipe(50, 2.0, 1e-5, _CIFAR10),
    "cifar10-resnet34": TeacherRecipe(
        50, 2.0, 1e-5, dataclasses.replace(_CIFAR10, architecture="resnet18", epochs=100, shift=4, flip=True)
    ),
}


@dataclass(frozen=True, slots=True, eq=False)
class NetworkTeachers:
    """Trained teachers for images (rows, ...) of ``shape``; ``classes``: the number of classes that they vote for.

    ``identity``: a digest of their recipe and the private data.
    """

    identity: str
    networks: tuple[Network, ...]
    shape: tuple[int, ...]
    classes: int

    def votes(self, inputs: Floats) -> Integers:
        """The number of teachers that vote for each class, (rows, classes), for flat inputs (rows, d)."""
        counts = np.zeros((len(inputs), self.classes), np.int64)
        device = next(self.networks[0].parameters()).device
        with torch.inference_mode():
            for start in range(0, len(inputs), _ROWS):
                images = as_tensor(inputs[start : start + _ROWS].reshape(-1, *self.shape)).to(device)
                images = images.contiguous(memory_format=torch.channels_last)
                rows = np.arange(start, start + len(images))
                for network in self.networks:
                    counts[rows, network(images).argmax(dim=1).cpu().numpy()] += 1
        return counts


def load_teachers(
    name: str, private: Images, cache: Path, progress: Progress, recipe: TeacherRecipe | None = None
) -> NetworkTeachers:
    """The teachers of the victim named in ``TEACHERS``: read from ``cache``, or trained and cached.

    ``recipe``: another one than that in ``TEACHERS``.

    The file is named by a digest of the recipe and the private data. An interrupted training resumes after the last full
    epoch of the teacher it was at. ``progress`` is called after each step with the steps of all teachers.
    """
    recipe = recipe or TEACHERS[name]
    digest = training_digest(dataclasses.asdict(recipe), private)
    path = cache / f"teachers-{name}-{digest}.pt"
    if path.is_file():
        states: list[dict[str, Any]] = read_weights(path)
    else:
        folder = cache / f"teachers-{name}-{digest}.parts"
        folder.mkdir(parents=True, exist_ok=True)
        states = _train_all(recipe, private, folder, progress)
        write_weights(states, path)
        for part in folder.iterdir():
            part.unlink()
        folder.rmdir()
    networks = tuple(network_of(recipe.training, state) for state in states)
    return NetworkTeachers(digest, networks, private.x.shape[1:], int(private.y.max()) + 1)


def _train_all(recipe: TeacherRecipe, private: Images, folder: Path, progress: Progress) -> list[dict[str, Any]]:
    """The weights of every teacher; those in the folder are not trained again."""
    states = []
    for teacher, part in enumerate(partition(private.y, recipe.count, recipe.training.seed)):
        own = dataclasses.replace(recipe.training, seed=recipe.training.seed + teacher)

        def report(done: int, total: int, teacher: int = teacher) -> None:
            progress(teacher * total + done, recipe.count * total)

        rows = Images(private.x[part], private.y[part])
        states.append(trained_network(own, rows, folder / f"{teacher:03}.pt", report).state_dict())
    return states
