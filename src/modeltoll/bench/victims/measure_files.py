"""The cached files of leak measures that are trained on the victim's private data: teachers, and a novelty network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from modeltoll.leak.layered_novelty import LayeredNovelty
from modeltoll.leak.teachers.distil import fit_novelty_network
from modeltoll.leak.teachers.fit_torch import PERCEPTRON, fit_network_teachers

if TYPE_CHECKING:
    from modeltoll.bench.datasets import Images
    from modeltoll.records import Progress

__all__ = ["layered_novelty_file", "teachers_file"]

_TEACHERS = 250


def _shape(private: Images) -> tuple[int, int, int]:
    sides = private.x.shape[1:]
    return sides[0], sides[1], sides[2] if len(sides) == 3 else 1


def teachers_file(name: str, private: Images, cache: Path, progress: Progress) -> Path:
    """The file of 250 small teachers of a data set; trained if it is missing, resuming an interrupted training."""
    path = cache / f"teachers-{name}.npz"
    if not path.is_file():
        flat, parts = private.x.reshape(len(private.x), -1), cache / f"teachers-{name}.parts"
        trained = fit_network_teachers(
            flat, private.y, _shape(private), PERCEPTRON, teachers=_TEACHERS, checkpoints=parts, progress=progress
        )
        trained.save(path)
    return path


def layered_novelty_file(name: str, private: Images, cache: Path) -> Path:
    """The file of a data set's layered novelty measure; its network is trained if the file is missing."""
    path = cache / f"layered-{name}.npz"
    if not path.is_file():
        flat = private.x.reshape(len(private.x), -1)
        LayeredNovelty(fit_novelty_network(flat, private.y, _shape(private)), flat).save(path)
    return path
