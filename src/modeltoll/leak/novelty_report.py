"""What a fitted novelty measure sees: its network's accuracy, and how far known kinds and generic strangers lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.leak.corruptions import FAMILIES, apply
from modeltoll.leak.measure import clean_measure
from modeltoll.leak.strangers import STRANGERS, strange_rows
from modeltoll.records import Evidence

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modeltoll.leak.corruptions import Corruption
    from modeltoll.leak.fit_novelty import FittedNovelty
    from modeltoll.leak.measure import LeakMeasure
    from modeltoll.records import Floats, Progress

__all__ = ["CLEAN", "KIND", "STRANGER", "NoveltyReport", "SeenRows", "report_novelty"]

CLEAN, KIND, STRANGER = "private", "kind", "stranger"

_ROWS = 300  # of each kind and stranger
_REFERENCES = 1000  # kept-back private rows, whose 99 % point is the limit
_FAR = 0.99


@dataclass(frozen=True, slots=True)
class SeenRows:
    """How far rows of one origin lie: the median leak, and the share beyond the 99 % point of kept-back private rows.

    ``role``: ``private``, ``kind`` or ``stranger``. The first two numbers are of the measure, the others of its variant
    without kinds.
    """

    name: str
    role: str
    median: float
    beyond: float
    clean_median: float
    clean_beyond: float


@dataclass(frozen=True, slots=True)
class NoveltyReport:
    """``accuracy``: share of kept-back private rows that the network classifies right (None: no network).

    ``kinds_accuracy``: the same of rows of the corruptions; None without them. ``rows``: what the measure sees.
    """

    held: int
    accuracy: float | None
    kinds_accuracy: float | None
    rows: tuple[SeenRows, ...]


def report_novelty(
    fitted: FittedNovelty, kinds: tuple[Corruption, ...], progress: Progress = lambda _done, _total: None, seed: int = 0
) -> NoveltyReport:
    """Measure kept-back private rows, rows of each kind, and generic strangers made of kept-back rows."""
    rng = np.random.default_rng(seed)
    held = fitted.held
    limits: tuple[float, float] | None = None
    measures: tuple[LeakMeasure, LeakMeasure] = (fitted.measure, clean_measure(fitted.measure))
    seen = []
    origins = list(_origins(fitted, kinds, rng))
    for done, (name, role, rows) in enumerate(origins):
        leaks = [_leaks(measure, rows) for measure in measures]
        if limits is None:  # the private rows come first
            limits = (float(np.quantile(leaks[0], _FAR)), float(np.quantile(leaks[1], _FAR)))
        numbers = [
            float(each)
            for leak, limit in zip(leaks, limits, strict=True)
            for each in (np.median(leak), (leak > limit).mean())
        ]
        seen.append(SeenRows(name, role, *numbers))
        progress(done + 1, len(origins))
    corrupted = [_corrupted(fitted, kind, rng) for kind in kinds]
    return NoveltyReport(
        len(held.rows.inputs),
        _accuracy(fitted, [held.rows.inputs]),
        _accuracy(fitted, corrupted) if kinds else None,
        tuple(seen),
    )


def _origins(
    fitted: FittedNovelty, kinds: tuple[Corruption, ...], rng: np.random.Generator
) -> Iterator[tuple[str, str, Floats]]:
    """The name, the role and the rows of all that is measured: private rows, kinds, strangers."""
    held = fitted.held
    yield "private rows", CLEAN, held.rows.inputs[:_REFERENCES]
    for kind in kinds:
        yield kind.name, KIND, _corrupted(fitted, kind, rng)[:_ROWS]
    for name, rows in fitted.held_rows.items():
        yield name, KIND, rows[:_ROWS]
    for name in STRANGERS:
        yield name, STRANGER, strange_rows(name, held.rows.inputs, held.rows.shape, rng)[:_ROWS]


def _corrupted(fitted: FittedNovelty, kind: Corruption, rng: np.random.Generator) -> Floats:
    limits = fitted.limits if FAMILIES[kind.family].images else None
    return apply(kind, fitted.held.rows.inputs, fitted.held.rows.shape, rng, limits)


def _leaks(measure: LeakMeasure, rows: Floats) -> Floats:
    return measure.measure(Evidence((b"",) * len(rows), inputs=rows))


def _accuracy(fitted: FittedNovelty, parts: list[Floats]) -> float | None:
    """The share of rows, in parts that correspond to the kept-back rows, whose label the network finds."""
    if fitted.classes is None:
        return None
    right = [fitted.classes[fitted.network.predict(part)] == fitted.held.labels for part in parts]
    return float(np.mean(right))
