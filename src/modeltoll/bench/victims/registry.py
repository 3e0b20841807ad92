"""Victims on the shelf: trained once for each recipe and data, then read back."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from modeltoll.bench import datasets
from modeltoll.bench.victims.networks import Network, as_channels
from modeltoll.bench.victims.onnx_stages import ExportedStages
from modeltoll.bench.victims.training import TrainingRecipe, build, train

if TYPE_CHECKING:
    from modeltoll.records import Floats, Progress

__all__ = ["VICTIMS", "TorchVictim", "VictimRecipe", "as_tensor", "victim"]

_ROWS = 500  # images classified at a time


@dataclass(frozen=True, slots=True)
class VictimRecipe:
    """A data set, read as ``load(folder, train=...)``, and the recipe for it."""

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
    """A trained network as the bench asks it: images (n, h, w) or (n, h, w, 3) of 0..1 in, float64 out."""

    network: Network
    identity: str

    def scores(self, images: Floats) -> Floats:
        """Probabilities (n, classes)."""
        return self._ask(images, lambda x: self.network(x).double().softmax(dim=1))

    def features(self, images: Floats) -> Floats:
        """What the last layer sees, (n, e)."""
        return self._ask(images, lambda x: self.network.stages(x)[-1].double())

    def stages(self, images: Floats) -> list[Floats]:
        """What each stage sees, (n, e) each: of a convolution the mean of every channel."""
        with torch.inference_mode():
            parts = [self._means(images[i : i + _ROWS]) for i in range(0, len(images), _ROWS)]
        return [np.concatenate(stage) for stage in zip(*parts, strict=True)]

    def lens(self, shape: tuple[int, ...]) -> ExportedStages:
        """Its late stages for a novelty measure, of images of one shape, as they would be served."""
        return ExportedStages(self.network, shape)

    def _means(self, images: Floats) -> list[Floats]:
        stages = self.network.stages(as_tensor(images).to(next(self.network.parameters()).device))
        resources = (stage.mean(dim=(2, 3)) if stage.ndim == 4 else stage for stage in stages)
        return [np.asarray(stage.cpu().numpy(), np.float64) for stage in resources]

    def accuracy(self, images: datasets.Images) -> float:
        """Share of images whose most probable class is their label."""
        return float((self.scores(images.x).argmax(axis=1) == images.y).mean())

    def _ask(self, images: Floats, question: Callable[[Tensor], Tensor]) -> Floats:
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            parts = [question(as_tensor(images[i : i + _ROWS]).to(device)).cpu() for i in range(0, len(images), _ROWS)]
        return np.asarray(torch.cat(parts).numpy(), np.float64)


def as_tensor(images: Floats) -> Tensor:
    """Images (n, h, w) or (n, h, w, 3) as float32 of shape (n, channels, h, w)."""
    return as_channels(torch.from_numpy(np.asarray(images, np.float32)))


def victim(name: str, folder: Path, cache: Path, progress: Progress) -> TorchVictim:
    """The victim of a data set of ``VICTIMS``: read from ``cache`` where it is there, else trained and kept.

    The file's name is a digest of the recipe and the training data; an interrupted training goes on after its last
    full epoch.

    Raises:
        DataError: the data set is not in ``folder``.
    """
    offer = VICTIMS[name]
    private = offer.load(folder, train=True)
    digest = _digest(offer.recipe, private)
    cache.mkdir(parents=True, exist_ok=True)
    done = cache / f"victim-{name}-{digest}.pt"
    if done.is_file():
        network = build(offer.recipe)
        network.load_state_dict(torch.load(done, weights_only=True, map_location="cpu"))
    else:
        checkpoint = done.with_suffix(".checkpoint")
        network = train(offer.recipe, as_tensor(private.x), torch.from_numpy(private.y), checkpoint, progress).cpu()
        torch.save(network.state_dict(), done)
        checkpoint.unlink()
    network.to(memory_format=torch.channels_last)
    return TorchVictim(network.eval(), digest)


def _digest(recipe: TrainingRecipe, private: datasets.Images) -> str:
    sha = hashlib.sha256(repr(sorted(dataclasses.asdict(recipe).items())).encode())
    sha.update((private.x * 255 + 0.5).astype(np.uint8).tobytes())
    sha.update(np.ascontiguousarray(private.y, np.int64).tobytes())
    return sha.hexdigest()[:16]
