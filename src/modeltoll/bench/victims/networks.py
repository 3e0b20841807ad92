"""The architectures of victims: images (n, channels, height, width), float32 in 0..1, to logits (n, classes)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from modeltoll.records import Floats

__all__ = ["ARCHITECTURES", "ByteNet", "MnistNet", "Network", "ResNet", "ResidualNet", "as_channels", "as_tensor"]

_BYTE_CODES, _FIRST_PATCHES = 257, 4


class Network(nn.Module):
    """A classifier that returns the outputs of all its stages; the last are the features of its last layer."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, channels: int) -> None:
        """``channels``: 1 for grey images, 3 for colours."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("deviation", torch.ones(1, channels, 1, 1))

    def set_scale(self, images: Tensor) -> None:
        """Set the mean and standard deviation of each channel from the training images (n, channels, h, w)."""
        self.mean.copy_(images.mean(dim=(0, 2, 3), keepdim=True))
        self.deviation.copy_(images.std(dim=(0, 2, 3), keepdim=True))

    def stages(self, images: Tensor) -> list[Tensor]:
        """The outputs of the stages, each (n, channels, h, w) or (n, e); the last are the features (n, e)."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, classes)."""
        return self.head(self.stages(images)[-1])

    def head(self, features: Tensor) -> Tensor:
        """Logits (n, classes) of features (n, e)."""
        raise NotImplementedError


class MnistNet(Network):
    """Two convolutions and two fully connected layers, 431,080 parameters; Dziedzic et al. 2022, appendix."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__(1)
        self.first = nn.Conv2d(1, 20, 5)
        self.second = nn.Conv2d(20, 50, 5)
        self.hidden = nn.Linear(50 * 4 * 4, 500)
        self.last = nn.Linear(500, classes)

    def stages(self, images: Tensor) -> list[Tensor]:
        """The two pooled convolutions, and the 500 features."""
        scaled = (images - self.mean) / self.deviation
        first = functional.max_pool2d(functional.relu(self.first(scaled)), 2)
        second = functional.max_pool2d(functional.relu(self.second(first)), 2)
        return [first, second, functional.relu(self.hidden(second.flatten(1)))]

    def head(self, features: Tensor) -> Tensor:
        """The last layer."""
        return self.last(features)


class _Stage(nn.Module):
    """Convolution and pooling to half the side, then one residual convolution."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(width_in, width, 3, padding=1, bias=False)
        self.enter_norm = nn.BatchNorm2d(width)
        self.stay = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.stay_norm = nn.BatchNorm2d(width)

    def forward(self, images: Tensor) -> Tensor:
        inner = functional.relu(self.enter_norm(functional.max_pool2d(self.enter(images), 2)))
        return inner + functional.relu(self.stay_norm(self.stay(inner)))


class ResidualNet(Network):
    """A small residual network for colour images of 32 x 32, sized for training on two cores."""

    def __init__(self, classes: int = 10, widths: Sequence[int] = (24, 32, 128, 192)) -> None:
        super().__init__(3)
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(widths[0])
        self.body = nn.ModuleList(_Stage(before, after) for before, after in pairwise(widths))
        self.last = nn.Linear(widths[-1], classes)

    def stages(self, images: Tensor) -> list[Tensor]:
        """The stem, the stages, and the features: the largest value of each channel."""
        outputs = [functional.relu(self.stem_norm(self.stem((images - self.mean) / self.deviation)))]
        for stage in self.body:
            outputs.append(stage(outputs[-1]))
        return [*outputs, outputs[-1].amax(dim=(2, 3))]

    def head(self, features: Tensor) -> Tensor:
        """The last layer, on halved features, so that training starts from soft scores."""
        return self.last(features / 2)


class _Basic(nn.Module):
    """Two convolutions with a skip connection; He et al. 2016, *Deep residual learning*, figure 5."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(width)
        identity = stride == 1 and width_in == width
        projection = (nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        self.around = nn.Sequential() if identity else nn.Sequential(*projection)

    def forward(self, images: Tensor) -> Tensor:
        inner = functional.relu(self.first_norm(self.first(images)))
        return functional.relu(self.second_norm(self.second(inner)) + self.around(images))


class ResNet(Network):
    """A residual network for colour images of 32 x 32, by the number of blocks in its four stages; training it needs a GPU.

    (3, 4, 6, 3) is ResNet-34, the victim of Dziedzic et al. 2022; (2, 2, 2, 2) is ResNet-18, their teacher on CIFAR-10.
    """

    def __init__(self, classes: int = 10, blocks: tuple[int, int, int, int] = (3, 4, 6, 3)) -> None:
        super().__init__(3)
        self.stem = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(64)
        body, before = [], 64
        for width, count, stride in zip((64, 128, 256, 512), blocks, (1, 2, 2, 2), strict=True):
            steps = [_Basic(before, width, stride), *(_Basic(width, width, 1) for _ in range(count - 1))]
            body.append(nn.Sequential(*steps))
            before = width
        self.body = nn.ModuleList(body)
        self.last = nn.Linear(before, classes)

    def stages(self, images: Tensor) -> list[Tensor]:
        """The stem, the four stages, and the features: the mean of each channel."""
        outputs = [functional.relu(self.stem_norm(self.stem((images - self.mean) / self.deviation)))]
        for stage in self.body:
            outputs.append(stage(outputs[-1]))
        return [*outputs, outputs[-1].mean(dim=(2, 3))]

    def head(self, features: Tensor) -> Tensor:
        """The last layer."""
        return self.last(features)


class ByteNet(Network):
    """A small network for rows of byte codes, divided by 256, as images (n, 1, 1, d): a student only.

    Codes are embedded and read in patches of 16; the features are made of the first patches, which hold a file's signature,
    and of the largest values in both halves.
    """

    def __init__(self, classes: int = 10, width: int = 64) -> None:
        super().__init__(1)
        self.embedding = nn.Embedding(_BYTE_CODES, 16)
        self.patches = nn.Conv1d(16, width, 16, stride=8, padding=4)
        self.mix = nn.Conv1d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm1d(width)
        self.hidden = nn.Linear((_FIRST_PATCHES + 2) * width, 3 * width)
        self.last = nn.Linear(3 * width, classes)

    def set_scale(self, images: Tensor) -> None:
        """Codes have no scale."""

    def stages(self, images: Tensor) -> list[Tensor]:
        """The features."""
        codes = (images.flatten(1) * (_BYTE_CODES - 1)).round().long()
        patches = functional.relu(self.patches(self.embedding(codes).transpose(1, 2)))
        mixed = functional.relu(self.norm(self.mix(patches)))
        halves = functional.adaptive_max_pool1d(mixed, 2).flatten(1)
        first = functional.pad(patches, (0, _FIRST_PATCHES))[:, :, :_FIRST_PATCHES].flatten(1)
        return [functional.relu(self.hidden(torch.cat([first, halves], dim=1)))]

    def head(self, features: Tensor) -> Tensor:
        """The last layer."""
        return self.last(features)


def as_channels(images: Tensor) -> Tensor:
    """Images (n, h, w) or (n, h, w, 3) in the networks' layout (n, channels, h, w)."""
    return images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()


def as_tensor(images: Floats) -> Tensor:
    """Images (n, h, w) or (n, h, w, 3) as float32 of shape (n, channels, h, w)."""
    return as_channels(torch.from_numpy(np.asarray(images, np.float32)))


ARCHITECTURES: dict[str, Callable[[], Network]] = {
    "mnistnet": MnistNet,
    "residual": ResidualNet,
    "resnet34": ResNet,
    "resnet18": partial(ResNet, blocks=(2, 2, 2, 2)),
    "teacher": partial(ResidualNet, widths=(16, 16, 32, 64)),
}
