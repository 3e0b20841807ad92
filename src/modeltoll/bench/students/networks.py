"""Students that are networks of the victims' architectures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from modeltoll.bench.victims.networks import ByteNet, MnistNet, Network, ResidualNet, as_tensor
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
    "update_average",
]

ARCHITECTURES: dict[str, Callable[[int], Network]] = {
    "mnistnet": MnistNet,
    "residual": ResidualNet,
    "bytenet": ByteNet,
}
_ROWS = 500  # images per forward pass
_LEAST_DEVIATION = 0.1  # lower limit of a channel's standard deviation, for a first batch of nearly constant images


def torch_generator(rng: np.random.Generator) -> torch.Generator:
    """A torch generator whose seed is the next number of ``rng``."""
    return torch.Generator().manual_seed(int(rng.integers(2**63)))


def new_network(make: Callable[[], torch.nn.Module], rng: np.random.Generator) -> torch.nn.Module:
    """The network that ``make`` returns, with weights that depend on ``rng`` only; torch's global state is unchanged."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**63)))
        return make().to(available_device(), memory_format=torch.channels_last)


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross entropy of logits (n, classes) against probabilities (n, classes)."""
    return -(targets * logits.float().log_softmax(dim=1)).sum(dim=1).mean()


class NetworkClone:
    """A network trained by stochastic gradient descent; its input scaling is set by the first images it is trained on."""

    def __init__(self, network: Network) -> None:
        self.network = network.eval()
        self._scaled = False

    @property
    def device(self) -> torch.device:
        """The device of the network's parameters."""
        return next(self.network.parameters()).device

    def scale(self, images: Tensor) -> None:
        """Set the mean and deviation of each channel from images (n, channels, h, w); only the first call has an effect."""
        if not self._scaled:
            self.network.set_scale(images)
            self.network.deviation.clamp_(min=_LEAST_DEVIATION)
            self._scaled = True

    def train(self, images: Floats, targets: Floats, schedule: TrainingSchedule, rng: np.random.Generator) -> None:
        """Minimise the soft cross entropy; the rows are shuffled in each epoch."""
        x, y = as_tensor(images), torch.from_numpy(np.asarray(targets, np.float32))
        self.scale(x)
        optimiser = torch.optim.SGD(self.network.parameters(), lr=schedule.rate, momentum=schedule.momentum)
        self.network.train()
        for _ in range(schedule.epochs):
            for chosen in torch.from_numpy(rng.permutation(len(x))).split(schedule.batch):
                batch = x[chosen].to(self.device).contiguous(memory_format=torch.channels_last)
                with precision(self.device, half=schedule.half):
                    logits = self.network(batch)
                loss = soft_cross_entropy(logits, y[chosen].to(self.device))
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        self.network.eval()

    def logits(self, images: Floats) -> Floats:
        """The output (n, classes) of the network's last layer."""
        with torch.inference_mode():
            parts = [self.network(self._tensor(images[i : i + _ROWS])).cpu() for i in range(0, len(images), _ROWS)]
        return np.asarray(torch.cat(parts).numpy(), np.float64)

    def scores(self, images: Floats) -> Floats:
        """The softmax of the logits."""
        logits = self.logits(images)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores: Floats = exponentials / exponentials.sum(axis=1, keepdims=True)
        return scores

    def input_gradients(self, images: Floats, weights: Floats) -> Floats:
        """As ``TrainableClone.input_gradients``, by automatic differentiation."""
        parts = [self._slopes(images[i : i + _ROWS], weights[i : i + _ROWS]) for i in range(0, len(images), _ROWS)]
        return np.concatenate(parts)

    def _slopes(self, images: Floats, weights: Floats) -> Floats:
        x = self._tensor(images).requires_grad_()
        factors = torch.from_numpy(np.asarray(weights, np.float32)).to(self.device)
        with torch.enable_grad():
            (input_gradients,) = torch.autograd.grad((self.network(x) * factors).sum(), x)
        found = input_gradients.cpu().permute(0, 2, 3, 1).numpy()
        return np.asarray(found if images.ndim == 4 else found[..., 0], np.float64)

    def _tensor(self, images: Floats) -> Tensor:
        return as_tensor(images).to(self.device, memory_format=torch.channels_last)


def update_average(average: NetworkClone, student: NetworkClone, decay: float) -> None:
    """Update the running average of the student's weights, which keeps the share ``decay`` of itself."""
    with torch.no_grad():
        for mean, weight in zip(average.network.parameters(), student.network.parameters(), strict=True):
            mean.lerp_(weight, 1.0 - decay)
        for mean, value in zip(average.network.buffers(), student.network.buffers(), strict=True):
            mean.copy_(value)


@dataclass(frozen=True, slots=True)
class NetworkCloneFactory:
    """Makes students of one architecture of ``ARCHITECTURES``."""

    architecture: str
    classes: int = 10

    def student(self, rng: np.random.Generator) -> NetworkClone:
        """An untrained student with weights drawn by ``rng``."""
        return NetworkClone(new_network(lambda: ARCHITECTURES[self.architecture](self.classes), rng))
