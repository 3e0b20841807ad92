"""Students that are networks, of the victims' architectures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from modeltoll.bench.victims.networks import MnistNet, Network, ResidualNet
from modeltoll.bench.victims.registry import as_tensor
from modeltoll.bench.victims.training import available_device, precision

if TYPE_CHECKING:
    from modeltoll.bench.students.student import TrainingSchedule
    from modeltoll.records import Floats

__all__ = [
    "ARCHITECTURES",
    "NetworkClone",
    "NetworkCloneFactory",
    "new_network",
    "soft_cross_entropy",
    "torch_generator",
]

ARCHITECTURES: dict[str, Callable[[int], Network]] = {"mnistnet": MnistNet, "residual": ResidualNet}
_ROWS = 500  # images asked about at a time
_LEAST_DEVIATION = 0.1  # that of a channel, where the first lesson is a single pale image


def torch_generator(rng: np.random.Generator) -> torch.Generator:
    """A torch generator whose seed is the next number of ``rng``."""
    return torch.Generator().manual_seed(int(rng.integers(2**63)))


def new_network(make: Callable[[], torch.nn.Module], rng: np.random.Generator) -> torch.nn.Module:
    """What ``make`` builds, with weights that depend on ``rng`` alone; torch's global state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**63)))
        return make().to(available_device(), memory_format=torch.channels_last)


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross entropy of logits (n, classes) against probabilities (n, classes)."""
    return -(targets * logits.float().log_softmax(dim=1)).sum(dim=1).mean()


class NetworkClone:
    """A network that learns by stochastic gradient descent; the scale of images is taken from its first lesson."""

    def __init__(self, network: Network) -> None:
        self.network = network.eval()
        self._scaled = False

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return next(self.network.parameters()).device

    def scale(self, images: Tensor) -> None:
        """Take mean and deviation of each channel from images (n, channels, h, w), where that was not done before."""
        if not self._scaled:
            self.network.set_scale(images)
            self.network.deviation.clamp_(min=_LEAST_DEVIATION)
            self._scaled = True

    def learn(self, images: Floats, targets: Floats, course: TrainingSchedule, rng: np.random.Generator) -> None:
        """Minimise the soft cross entropy; each epoch has an order of its own."""
        x, y = as_tensor(images), torch.from_numpy(np.asarray(targets, np.float32))
        self.scale(x)
        optimiser = torch.optim.SGD(self.network.parameters(), lr=course.rate, momentum=course.momentum)
        self.network.train()
        for _ in range(course.epochs):
            for chosen in torch.from_numpy(rng.permutation(len(x))).split(course.batch):
                seen = x[chosen].to(self.device).contiguous(memory_format=torch.channels_last)
                with precision(self.device, half=course.half):
                    logits = self.network(seen)
                loss = soft_cross_entropy(logits, y[chosen].to(self.device))
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        self.network.eval()

    def logits(self, images: Floats) -> Floats:
        """The network's last layer, (n, classes)."""
        with torch.inference_mode():
            parts = [self.network(self._tensor(images[i : i + _ROWS])).cpu() for i in range(0, len(images), _ROWS)]
        return np.asarray(torch.cat(parts).numpy(), np.float64)

    def scores(self, images: Floats) -> Floats:
        """The softmax of the logits."""
        logits = self.logits(images)
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores: Floats = raised / raised.sum(axis=1, keepdims=True)
        return scores

    def slopes(self, images: Floats, weights: Floats) -> Floats:
        """By automatic differentiation."""
        parts = [self._slopes(images[i : i + _ROWS], weights[i : i + _ROWS]) for i in range(0, len(images), _ROWS)]
        return np.concatenate(parts)

    def _slopes(self, images: Floats, weights: Floats) -> Floats:
        x = self._tensor(images).requires_grad_()
        factors = torch.from_numpy(np.asarray(weights, np.float32)).to(self.device)
        with torch.enable_grad():
            (slopes,) = torch.autograd.grad((self.network(x) * factors).sum(), x)
        found = slopes.cpu().permute(0, 2, 3, 1).numpy()
        return np.asarray(found if images.ndim == 4 else found[..., 0], np.float64)

    def _tensor(self, images: Floats) -> Tensor:
        return as_tensor(images).to(self.device, memory_format=torch.channels_last)


@dataclass(frozen=True, slots=True)
class NetworkCloneFactory:
    """Students of one architecture of ``ARCHITECTURES``."""

    architecture: str
    classes: int = 10

    def student(self, rng: np.random.Generator) -> NetworkClone:
        """One with weights drawn by ``rng``."""
        return NetworkClone(new_network(lambda: ARCHITECTURES[self.architecture](self.classes), rng))
