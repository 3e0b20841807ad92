"""Strong views of images: turned, stretched, with other contrast and brightness, and with a hole."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["strong_view"]

_TURN, _SHEAR, _SCALE = math.radians(30.0), 0.3, (0.8, 1.2)
_CONTRAST, _BRIGHTNESS = (0.4, 1.6), 0.25
_HOLE = 0.5  # the side of the grey hole, as a share of the image's


def strong_view(images: Tensor, torch_rng: torch.Generator) -> Tensor:
    """Images (n, channels, h, w) in 0..1, each changed at random by all of these, still in 0..1.

    The strengths are of the order of RandAugment's (Cubuk et al. 2020), with the hole of Cutout (DeVries and Taylor 2017),
    as in Sohn et al. 2020, *FixMatch*.
    """
    count = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=torch_rng)

    turn, shear = uniform(-_TURN, _TURN), uniform(-_SHEAR, _SHEAR)
    wide, high = uniform(*_SCALE), uniform(*_SCALE)
    zero = torch.zeros(count)
    across = torch.stack([wide * turn.cos(), shear - turn.sin(), zero], dim=1)
    down = torch.stack([turn.sin(), high * turn.cos(), zero], dim=1)
    grid = functional.affine_grid(torch.stack([across, down], dim=1), list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    contrast, brightness = (
        value[:, None, None, None] for value in (uniform(*_CONTRAST), uniform(-_BRIGHTNESS, _BRIGHTNESS))
    )
    mean = moved.mean(dim=(1, 2, 3), keepdim=True)
    changed = ((moved - mean) * contrast + mean + brightness).clamp(0.0, 1.0)
    return torch.where(_holes(images, torch_rng), torch.full((), 0.5), changed)


def _holes(images: Tensor, torch_rng: torch.Generator) -> Tensor:
    """Where (n, 1, h, w) a square about a random pixel lies, boolean; at the edge a part of the square."""
    inside = []
    for side in images.shape[2:]:
        centres = torch.randint(side, (len(images), 1), generator=torch_rng)
        inside.append((torch.arange(side) - centres).abs() <= _HOLE * side / 2.0)
    return (inside[0][:, :, None] & inside[1][:, None, :])[:, None]
