"""The network victims by name: trained once per recipe and data set, then read from the cache."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from modeltoll.bench import datasets
from modeltoll.bench.victims.networks import Network, as_tensor
from modeltoll.bench.victims.onnx_stages import ExportedStages
from modeltoll.bench.victims.trained_networks import trained_network, training_digest
from modeltoll.bench.victims.training import TrainingRecipe

if TYPE_CHECKING:
    from modeltoll.records import Floats, Progress

__all__ = ["VICTIMS", "TorchVictim", "VictimRecipe", "load_victim"]

_ROWS = 500  # images per forward pass


@dataclass(frozen=True, slots=True)
class VictimRecipe:
    """The data set of a victim, read by ``load(folder, train=...)``, and how to train on it."""

    load: Callable[..., datasets.Images]
    recipe: TrainingRecipe


VICTIMS = {
    "mnist": VictimRecipe(datasets.mnist, TrainingRecipe("mnistnet", epochs=6, rate=0.1, shift=1)),
    "fashion": VictimRecipe(datasets.fashion, TrainingRecipe("mnistnet", epochs=10, rate=0.1, flip=True)),
    "svhn": VictimRecipe(datasets.svhn, TrainingRecipe("residual", epochs=10, rate=0.3, shift=2)),
    "cifar10": VictimRecipe(
        datasets.cifar10, TrainingRecipe("residual", epochs=18, rate=0.3, shift=2, flip=True, half=True)
    ),
    "cifar10-resnet34": VictimRecipe(
        datasets.cifar10, TrainingRecipe("resnet34", epochs=60, rate=0.1, batch=128, shift=4, flip=True)
    ),
}


@dataclass(frozen=True, slots=True, eq=False)
class TorchVictim:
    """A trained network behind the ``Victim`` protocol: images (n, h, w) or (n, h, w, 3) of 0..1 in, float64 out."""

    network: Network
    identity: str

    def scores(self, images: Floats) -> Floats:
        """Probabilities (n, classes)."""
        return self._evaluate(images, lambda x: self.network(x).double().softmax(dim=1))

    def features(self, images: Floats) -> Floats:
        """The inputs (n, e) of the last layer."""
        return self._evaluate(images, lambda x: self.network.stages(x)[-1].double())

    def stages(self, images: Floats) -> list[Floats]:
        """The outputs (n, e) of each stage; of convolutions, the channels' means."""
        with torch.inference_mode():
            parts = [self._means(images[i : i + _ROWS]) for i in range(0, len(images), _ROWS)]
        return [np.concatenate(stage) for stage in zip(*parts, strict=True)]

    def feature_extractor(self, shape: tuple[int, ...]) -> ExportedStages:
        """Its late stages as features of a novelty measure, for images of one shape, exported as they would be served."""
        return ExportedStages(self.network, shape)

    def _means(self, images: Floats) -> list[Floats]:
        stages = self.network.stages(as_tensor(images).to(next(self.network.parameters()).device))
        means = (stage.mean(dim=(2, 3)) if stage.ndim == 4 else stage for stage in stages)
        return [np.asarray(stage.cpu().numpy(), np.float64) for stage in means]

    def accuracy(self, images: datasets.Images) -> float:
        """The share of images, in 0..1, whose most probable class is their label."""
        return float((self.scores(images.x).argmax(axis=1) == images.y).mean())

    def _evaluate(self, images: Floats, function: Callable[[Tensor], Tensor]) -> Floats:
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            parts = [function(as_tensor(images[i : i + _ROWS]).to(device)).cpu() for i in range(0, len(images), _ROWS)]
        return np.asarray(torch.cat(parts).numpy(), np.float64)


def load_victim(name: str, folder: Path, cache: Path, progress: Progress) -> TorchVictim:
    """The victim named in ``VICTIMS``: read from ``cache``, or trained and cached.

    The file is named by a digest of the recipe and the training data. An interrupted training resumes after its last
    full epoch.

    Raises:
        DataError: the data set is not in ``folder``.
    """
    recipe, load = VICTIMS[name].recipe, VICTIMS[name].load
    private = load(folder, train=True)
    digest = training_digest(dataclasses.asdict(recipe), private)
    network = trained_network(recipe, private, cache / f"victim-{name}-{digest}.pt", progress)
    return TorchVictim(network, digest)
