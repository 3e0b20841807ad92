"""Images out of nothing: a generator that learns from estimated gradients, and a student that follows logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from modeltoll.bench.students.networks import NetworkClone, new_network, torch_generator
from modeltoll.bench.victims.registry import as_tensor
from modeltoll.bench.victims.training import available_device

if TYPE_CHECKING:
    from modeltoll.records import Floats

__all__ = ["CloneNetwork", "Generator", "GeneratorTraining"]


class Generator(nn.Module):
    """Noise (n, noise) to raw images (n, channels, side, side), unbounded; Truong et al. 2021, appendix.

    A full layer and three convolutions, doubling the side twice, each after a batch normalisation.
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
        """Raw images."""
        return self.body(self.start(noise).unflatten(1, self.shape))


class GeneratorTraining:
    """A generator, its noise and its optimiser (Adam)."""

    def __init__(self, shape: tuple[int, ...], noise: int, width: int, rate: float, rng: np.random.Generator) -> None:
        channels = shape[2] if len(shape) == 3 else 1
        self._network = new_network(lambda: Generator(shape[0], channels, noise, width), rng).train()
        self._noise, self._rate, self._grey = noise, rate, len(shape) == 2
        self._luck = torch_generator(rng)
        self._optimiser = torch.optim.Adam(self._network.parameters(), lr=rate)
        self._last: Tensor | None = None

    def raw(self, count: int, *, learning: bool) -> Floats:
        """Raw images (count, ...) of the shape, float64; where ``learning``, they are those of the next lesson."""
        noise = torch.randn(count, self._noise, generator=self._luck).to(available_device())
        with torch.set_grad_enabled(learning):
            made = self._network(noise)
        self._last = made if learning else None
        values = np.asarray(made.detach().cpu().numpy(), np.float64)
        return values[:, 0] if self._grey else values.transpose(0, 2, 3, 1)

    def learn(self, slopes: Floats, share: float) -> None:
        """One step down the slopes of a loss in the last raw images; ``share`` of the full rate."""
        if self._last is None:
            raise ValueError("there are no images to learn from")
        _set_rate(self._optimiser, self._rate * share)
        self._optimiser.zero_grad()
        self._last.backward(as_tensor(slopes).to(self._last.device))
        self._optimiser.step()
        self._last = None


class CloneNetwork:
    """A student, and the optimiser (SGD) that brings its logits to others'."""

    def __init__(self, student: NetworkClone, rate: float, momentum: float, decay: float) -> None:
        self.student, self._rate = student, rate
        self._optimiser = torch.optim.SGD(student.network.parameters(), lr=rate, momentum=momentum, weight_decay=decay)

    def learn(self, images: Floats, logits: Floats, share: float) -> None:
        """One step down the mean absolute difference; ``share`` of the full rate."""
        _set_rate(self._optimiser, self._rate * share)
        device = self.student.device
        x = as_tensor(images).to(device, memory_format=torch.channels_last)
        wanted = torch.from_numpy(np.asarray(logits, np.float32)).to(device)
        self.student.network.train()
        loss = functional.l1_loss(self.student.network(x), wanted)
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        self.student.network.eval()


def _set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate
