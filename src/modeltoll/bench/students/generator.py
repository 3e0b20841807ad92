"""Data-free training: a generator trained by estimated gradients, and a student trained to match logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from modeltoll.bench.students.networks import NetworkClone, new_network, torch_generator
from modeltoll.bench.victims.networks import as_tensor
from modeltoll.bench.victims.training import available_device

if TYPE_CHECKING:
    from modeltoll.records import Floats

__all__ = ["CloneNetwork", "Generator", "GeneratorTraining"]


class Generator(nn.Module):
    """Maps noise (n, noise) to unbounded images (n, channels, side, side); Truong et al. 2021, appendix.

    A fully connected layer and three convolutions with batch normalisation; the side is doubled twice.
    """

    def __init__(self, side: int, channels: int, noise: int, width: int) -> None:
        """``side`` is a multiple of 4."""
        super().__init__()
        self.start = nn.Linear(noise, 2 * width * (side // 4) ** 2)
        self.shape = (2 * width, side // 4, side // 4)
        self.body = nn.Sequential(
            nn.BatchNorm2d(2 * width),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(2 * width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, channels, 3, padding=1),
            nn.BatchNorm2d(channels, affine=False),
        )

    def forward(self, noise: Tensor) -> Tensor:
        """Unbounded images (n, channels, side, side) of noise (n, noise)."""
        return self.body(self.start(noise).unflatten(1, self.shape))


class GeneratorTraining:
    """A generator, its noise and its optimiser (Adam)."""

    def __init__(self, shape: tuple[int, ...], noise: int, width: int, rate: float, rng: np.random.Generator) -> None:
        channels = shape[2] if len(shape) == 3 else 1
        self._network = new_network(lambda: Generator(shape[0], channels, noise, width), rng).train()
        self._noise, self._rate, self._grey = noise, rate, len(shape) == 2
        self._torch_rng = torch_generator(rng)
        self._optimiser = torch.optim.Adam(self._network.parameters(), lr=rate)
        self._last: Tensor | None = None

    def raw(self, count: int, *, for_training: bool) -> Floats:
        """Unbounded images (count, ...) of the shape, float64; with ``for_training``, the next ``train`` step is on them."""
        noise = torch.randn(count, self._noise, generator=self._torch_rng).to(available_device())
        with torch.set_grad_enabled(for_training):
            generated = self._network(noise)
        self._last = generated if for_training else None
        values = np.asarray(generated.detach().cpu().numpy(), np.float64)
        return values[:, 0] if self._grey else values.transpose(0, 2, 3, 1)

    def train(self, gradients: Floats, rate_share: float) -> None:
        """One step, given the loss's gradients (count, ...) in the images of the last ``raw`` with ``for_training``.

        The learning rate is ``rate_share`` times the full one.
        """
        if self._last is None:
            raise ValueError("call raw(..., for_training=True) first")
        _set_rate(self._optimiser, self._rate * rate_share)
        self._optimiser.zero_grad()
        self._last.backward(as_tensor(gradients).to(self._last.device))
        self._optimiser.step()
        self._last = None


class CloneNetwork:
    """A student with the optimiser (SGD) that trains it to match logits."""

    def __init__(self, student: NetworkClone, rate: float, momentum: float, decay: float) -> None:
        self.student, self._rate = student, rate
        self._optimiser = torch.optim.SGD(student.network.parameters(), lr=rate, momentum=momentum, weight_decay=decay)

    def train(self, images: Floats, logits: Floats, rate_share: float) -> None:
        """One step on the mean absolute difference to logits (n, classes), at ``rate_share`` times the full rate."""
        _set_rate(self._optimiser, self._rate * rate_share)
        device = self.student.device
        x = as_tensor(images).to(device, memory_format=torch.channels_last)
        targets = torch.from_numpy(np.asarray(logits, np.float32)).to(device)
        self.student.network.train()
        loss = functional.l1_loss(self.student.network(x), targets)
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        self.student.network.eval()


def _set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate
