"""How the built-in measures are made: from the files and numbers that settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import CalibrationError
from modeltoll.files import read_array, read_arrays
from modeltoll.leak.entropy import EntropyMeasure
from modeltoll.leak.gap import GapMeasure
from modeltoll.leak.layered_novelty import load_novelty
from modeltoll.leak.novelty import NoveltyMeasure
from modeltoll.leak.pate import PateMeasure
from modeltoll.leak.pknn import PknnMeasure, log_scores
from modeltoll.leak.private_rows import private_rows
from modeltoll.leak.teachers.vote_head import load_voters
from modeltoll.leak.token_entropy import TokensMeasure

if TYPE_CHECKING:
    from pathlib import Path

    from modeltoll.leak.measure import LeakMeasure

__all__ = ["entropy", "gap", "novelty", "pate", "pknn", "tokens"]

_NOVELTY_NEIGHBOURS = 5
_PKNN_NEIGHBOURS = 300
_SUBSAMPLE = 5000  # private rows that novelty keeps of a raw .npy file, drawn with a fixed seed


def entropy() -> LeakMeasure:
    """Of full and partial rows; the protocol has checked what an answer must show."""
    return EntropyMeasure(partial=True)


def gap() -> LeakMeasure:
    """As ``entropy``."""
    return GapMeasure(partial=True)


def novelty(file: Path, neighbours: int | None = None) -> LeakMeasure:
    """From a saved measure (.npz), or from raw private rows (.npy): numbers, which are standardised, codes, or texts.

    Raises:
        CalibrationError: the file cannot be used, or ``neighbours`` are given for a saved measure.
    """
    if file.suffix == ".npz":
        if neighbours is not None:
            raise CalibrationError("'neighbours' is fixed in a saved measure; leave it out")
        return load_novelty(file)
    rows = private_rows(read_array(file))
    k, transform = neighbours or _NOVELTY_NEIGHBOURS, rows.fitted_transform()
    return NoveltyMeasure(rows.inputs, k, transform=transform, max_points=_SUBSAMPLE)


def pknn(file: Path, neighbours: int | None = None) -> LeakMeasure:
    """From an .npz file with ``scores`` (n, classes), the victim's probabilities, and ``labels`` (n,) of private rows.

    Raises:
        CalibrationError: the file cannot be used.
    """
    archive = read_arrays(file, ("scores", "labels"))
    labels = archive["labels"].astype(np.int64)
    return PknnMeasure(log_scores(archive["scores"]), labels, k=neighbours or _PKNN_NEIGHBOURS)


def pate(file: Path) -> LeakMeasure:
    """From saved teachers, or from the head that was distilled from them.

    Raises:
        CalibrationError: the file cannot be used.
    """
    voters, teachers, width = load_voters(file)
    return PateMeasure(voters, teachers, input_width=width)


def tokens() -> LeakMeasure:
    """Of chats."""
    return TokensMeasure()
