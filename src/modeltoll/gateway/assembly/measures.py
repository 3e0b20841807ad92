"""Measures as the settings name them, from the files that they name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import CalibrationError
from modeltoll.files import read_arrays, read_numbers
from modeltoll.leak.entropy import EntropyMeasure
from modeltoll.leak.gap import GapMeasure
from modeltoll.leak.layered_novelty import load_novelty
from modeltoll.leak.novelty import NoveltyMeasure
from modeltoll.leak.pate import PateMeasure
from modeltoll.leak.pknn import PknnMeasure, log_scores
from modeltoll.leak.teachers.vote_head import load_voters
from modeltoll.leak.token_entropy import TokensMeasure

if TYPE_CHECKING:
    from modeltoll.gateway.settings.models import MeasureSettings
    from modeltoll.leak.measure import LeakMeasure

__all__ = ["MEASURES"]

_NOVELTY_NEIGHBOURS = 5
_PKNN_NEIGHBOURS = 300
_SUBSAMPLE = 5000  # private rows that novelty keeps of a raw .npy file, drawn with a fixed seed


def _file(settings: MeasureSettings) -> Path:
    assert settings.file is not None  # settings.py demands one
    return settings.file


def _novelty(settings: MeasureSettings) -> LeakMeasure:
    """From a saved measure (.npz), or from raw private rows (.npy)."""
    path = _file(settings)
    if path.suffix == ".npz":
        if settings.neighbours is not None:
            raise CalibrationError("'neighbours' is fixed in a saved measure; leave it out")
        return load_novelty(path)
    return NoveltyMeasure(read_numbers(path), settings.neighbours or _NOVELTY_NEIGHBOURS, max_points=_SUBSAMPLE)


def _pknn(settings: MeasureSettings) -> LeakMeasure:
    """From an .npz file with ``scores`` (n, classes), the victim's probabilities, and ``labels`` (n,) of private rows."""
    archive = read_arrays(_file(settings), ("scores", "labels"))
    return PknnMeasure(
        log_scores(archive["scores"]), archive["labels"].astype(np.int64), k=settings.neighbours or _PKNN_NEIGHBOURS
    )


def _pate(settings: MeasureSettings) -> LeakMeasure:
    """From saved teachers, or from the head that was distilled from them."""
    return PateMeasure(*load_voters(_file(settings)))


MEASURES: Mapping[str, Callable[[MeasureSettings], LeakMeasure]] = {
    "entropy": lambda _: EntropyMeasure(partial=True),  # the protocol has checked what an answer must show
    "gap": lambda _: GapMeasure(partial=True),
    "novelty": _novelty,
    "pate": _pate,
    "pknn": _pknn,
    "tokens": lambda _: TokensMeasure(),
}
