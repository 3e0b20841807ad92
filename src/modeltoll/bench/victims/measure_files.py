"""The cached files of leak measures that are trained on the victim's private data: teachers, and a novelty network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from modeltoll.bench.datasets import image_shape
from modeltoll.leak.corruptions import parse_kinds, usual_kinds
from modeltoll.leak.fit_novelty import NoveltyPlan, PrivateData, fit_novelty
from modeltoll.leak.private_rows import private_rows
from modeltoll.leak.teachers.fit_torch import PERCEPTRON, fit_network_teachers

if TYPE_CHECKING:
    from modeltoll.bench.datasets import Images
    from modeltoll.records import Progress

__all__ = ["layered_novelty_file", "teachers_file"]

_TEACHERS = 250


def teachers_file(name: str, private: Images, cache: Path, progress: Progress) -> Path:
    """The file of 250 small teachers of a data set; trained if it is missing, resuming an interrupted training."""
    path = cache / f"teachers-{name}.npz"
    if not path.is_file():
        flat, parts = private.x.reshape(len(private.x), -1), cache / f"teachers-{name}.parts"
        trained = fit_network_teachers(
            flat, private.y, image_shape(private), PERCEPTRON, teachers=_TEACHERS, checkpoints=parts, progress=progress
        )
        trained.save(path)
    return path


def layered_novelty_file(name: str, private: Images, cache: Path) -> Path:
    """The file of a data set's layered novelty with the usual kinds; its networks are trained if the file is missing."""
    path = cache / f"novelty-{name}.npz"
    if not path.is_file():
        shape = image_shape(private)
        data = PrivateData(private_rows(private.x, shape), private.y)
        fit_novelty(data, NoveltyPlan(parse_kinds(usual_kinds(shape)))).measure.save(path)
    return path
