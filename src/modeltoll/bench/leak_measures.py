"""The leak measures of a target: all that the bench records, fitted to the victim's private data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.leak.entropy import EntropyMeasure
from modeltoll.leak.gap import GapMeasure
from modeltoll.leak.layered_novelty import LayeredNovelty
from modeltoll.leak.novelty import NoveltyMeasure
from modeltoll.leak.pate import EPS_SUM, TEACHERS_PER_SIGMA, PateMeasure, VoteReadout
from modeltoll.leak.pknn import PknnMeasure, log_scores
from modeltoll.leak.teachers.fit_sklearn import TeacherEnsemble
from modeltoll.records import Evidence

if TYPE_CHECKING:
    from modeltoll.bench.datasets import Images
    from modeltoll.bench.victims.victim import Victim
    from modeltoll.leak.measure import LeakMeasure
    from modeltoll.records import Floats, Integers

__all__ = ["ENTROPY", "NOVELTY", "Measures", "measure_all", "standard_measures"]

ENTROPY, NOVELTY = "entropy", "novelty"
_BATCH = 500
_NEIGHBOURS, _PKNN_SIGMA = 300, 28.0  # Dziedzic et al. 2022, section 3.2
_POINTS = 10_000  # private points kept for novelty in the victim's own features

Measures = Mapping[str, "LeakMeasure"]


def _novelty(victim: Victim, private: Images, saved: Path | None) -> LeakMeasure:
    """Novelty in a network's layers: of a saved observer, of the victim itself, else in the inputs."""
    flat = private.x.reshape(len(private.x), -1)
    if saved is not None:
        return LayeredNovelty.load(saved)
    lens = getattr(victim, "lens", None)
    if lens is None:
        return NoveltyMeasure(flat)
    return LayeredNovelty(lens(private.x.shape[1:]), flat, views=("direction",), power=1.0, max_points=_POINTS)


class _CachedVotes:
    """Who votes, asked once for evidence that is read in two ways, one after the other."""

    def __init__(self, ask: Callable[[Evidence], Integers]) -> None:
        self._ask = ask
        self._last: tuple[Evidence, Integers] | None = None

    def of(self, evidence: Evidence) -> Integers:
        if self._last is None or self._last[0] is not evidence:
            self._last = (evidence, self._ask(evidence))
        return self._last[1]


@dataclass(frozen=True, slots=True, eq=False)
class _ReadoutMeasure:
    """Votes in one reading."""

    name: str
    votes: _CachedVotes
    reading: VoteReadout
    inputs_alone: bool

    def measure(self, evidence: Evidence) -> Floats:
        return self.reading.leak(self.votes.of(evidence))


def _both_readouts(
    name: str, ask: Callable[[Evidence], Integers], sigma: float, *, inputs_alone: bool = False
) -> dict[str, LeakMeasure]:
    """Votes read as RDP, and as the paper does."""
    votes = _CachedVotes(ask)
    readings = {name: VoteReadout(sigma), f"{name}-eps": VoteReadout(sigma, EPS_SUM)}
    return {title: _ReadoutMeasure(title, votes, reading, inputs_alone) for title, reading in readings.items()}


def standard_measures(
    victim: Victim, private: Images, observer: Path | None, teachers: Path | None
) -> dict[str, LeakMeasure]:
    """Entropy, gap, pkNN, novelty, and PATE where there are teachers; the last two of votes in both readings.

    ``observer`` is a saved novelty measure; None: the victim's own late layers, or where it has none the inputs.
    ``teachers`` is a saved ensemble. ``pknn`` and ``pate`` are read as RDP, ``pknn-eps`` and ``pate-eps`` as in the paper.
    """
    points = log_scores(victim.scores(private.x))
    k = min(_NEIGHBOURS, max(2, len(points) // 20))
    sigma = _PKNN_SIGMA * k / _NEIGHBOURS
    found: dict[str, LeakMeasure] = {
        ENTROPY: EntropyMeasure(),
        "gap": GapMeasure(),
        NOVELTY: _novelty(victim, private, observer),
        **_both_readouts("pknn", PknnMeasure(points, private.y, k).votes_of, sigma),
    }
    if teachers is not None:
        ensemble = TeacherEnsemble.load(teachers)
        votes_of = PateMeasure(ensemble.votes, len(ensemble)).votes_of
        found |= _both_readouts("pate", votes_of, len(ensemble) / TEACHERS_PER_SIGMA, inputs_alone=True)
    return found


def measure_all(leak_measures: Measures, scores: Floats, images: Floats) -> Floats:
    """What answers with these scores (rows, classes) to these images give away, (rows, measures)."""
    parts = [np.empty((0, len(leak_measures)))]
    for start in range(0, len(images), _BATCH):
        batch, said = images[start : start + _BATCH], scores[start : start + _BATCH]
        evidence = Evidence((b"",) * len(batch), said, batch.reshape(len(batch), -1))
        parts.append(np.stack([gauge.measure(evidence) for gauge in leak_measures.values()], axis=1))
    return np.concatenate(parts)
