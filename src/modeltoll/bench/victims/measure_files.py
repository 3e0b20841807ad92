"""The cached file of a leak measure that is trained on the victim's private data: a novelty network."""

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

__all__ = ["layered_novelty"]


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
