"""Networks that are trained once, and then read from a file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from modeltoll.bench.victims.networks import as_tensor
from modeltoll.bench.victims.training import build, train
from modeltoll.files import replacing

if TYPE_CHECKING:
    from modeltoll.bench.datasets import Images
    from modeltoll.bench.victims.networks import Network
    from modeltoll.bench.victims.training import TrainingRecipe
    from modeltoll.records import Progress

__all__ = ["network_of", "read_weights", "trained_network", "training_digest", "write_weights"]


def trained_network(recipe: TrainingRecipe, private: Images, path: Path, progress: Progress) -> Network:
    """The network of a recipe and private images: that in the file, or else trained, and written to it.

    An interrupted training resumes after its last full epoch, from a checkpoint beside the file. ``progress`` is called
    after each step.
    """
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        checkpoint = path.with_suffix(".checkpoint")
        trained = train(recipe, as_tensor(private.x), torch.from_numpy(private.y), checkpoint, progress)
        write_weights(trained.cpu().state_dict(), path)
        checkpoint.unlink()
    return network_of(recipe, read_weights(path))


def network_of(recipe: TrainingRecipe, weights: Mapping[str, Any]) -> Network:
    """The network of a recipe with these weights, ready to predict."""
    network = build(recipe)
    network.load_state_dict(weights)
    return network.to(memory_format=torch.channels_last).eval()


def read_weights(path: Path) -> Any:
    """What ``write_weights`` wrote, on the processor."""
    return torch.load(path, weights_only=True, map_location="cpu")


def write_weights(weights: Any, path: Path) -> None:
    """Write the weights of one network, or a list of them, in one step."""
    with replacing(path) as file:
        torch.save(weights, file)


def training_digest(recipe: Mapping[str, Any], private: Images) -> str:
    """A digest of the members of a recipe and the data that is trained on, for the name of a file."""
    sha = hashlib.sha256(repr(sorted(recipe.items())).encode())
    sha.update((private.x * 255 + 0.5).astype(np.uint8).tobytes())
    sha.update(np.ascontiguousarray(private.y, np.int64).tobytes())
    return sha.hexdigest()[:16]
