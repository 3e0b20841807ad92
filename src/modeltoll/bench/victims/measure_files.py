"""The cached files of leak measures that are trained on the victim's private data: teachers, and a novelty network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from modeltoll.bench.datasets import image_shape
from modeltoll.leak.corruptions import NO_KINDS, parse_kinds, usual_kinds
from modeltoll.leak.fit_novelty import NoveltyPlan, PrivateData, fit_novelty
from modeltoll.leak.layered_novelty import LayeredNovelty
from modeltoll.leak.private_rows import private_rows

if TYPE_CHECKING:
    from modeltoll.bench.datasets import Images
    from modeltoll.records import Progress

__all__ = ["layered_novelty", "teachers_file"]

_TEACHERS = 250


def teachers_file(name: str, private: Images, cache: Path, progress: Progress) -> Path:
    """The file of 250 small teachers of a data set; trained if it is missing, resuming an interrupted training."""
    from modeltoll.leak.teachers.fit_torch import PERCEPTRON, fit_network_teachers  # noqa: PLC0415  torch is an extra

    path = cache / f"teachers-{name}.npz"
    if not path.is_file():
        flat, parts = private.x.reshape(len(private.x), -1), cache / f"teachers-{name}.parts"
        trained = fit_network_teachers(
            flat, private.y, image_shape(private), PERCEPTRON, teachers=_TEACHERS, checkpoints=parts, progress=progress
        )
        trained.save(path)
    return path


def layered_novelty(name: str, private: Images, cache: Path, *, codes: bool = False) -> LayeredNovelty:
    """A data set's layered novelty, with the usual kinds; its networks are trained if its file is missing.

    ``codes``: the images are whole codes, which have no kinds and no network.
    """
    path = cache / f"novelty-{name}.npz"
    if not path.is_file():
        shape = image_shape(private)
        data = PrivateData(private_rows(private.x, shape, codes=codes), private.y)
        kinds = NO_KINDS if codes else usual_kinds(shape)
        fit_novelty(data, NoveltyPlan(parse_kinds(kinds))).measure.save(path)
    return LayeredNovelty.load(path)
