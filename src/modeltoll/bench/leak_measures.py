"""The leak measures of a target, fitted to the victim's private data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.datasets import image_shape
from modeltoll.leak.corruptions import parse_kinds, usual_kinds
from modeltoll.leak.entropy import EntropyMeasure
from modeltoll.leak.gap import GapMeasure
from modeltoll.leak.input_transform import Standardised
from modeltoll.leak.kind_points import CorruptedRows
from modeltoll.leak.layered_novelty import LayeredNovelty, NoveltyTerms
from modeltoll.leak.measure import clean_measure
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
_POINTS = 10_000  # points of the novelty measure in the victim's own features
_SEED = 11  # of the rows of kinds among them

Measures = Mapping[str, "LeakMeasure"]


def _novelty(victim: Victim, private: Images) -> LeakMeasure:
    """Novelty in the layers of the victim itself, else in the inputs; with the usual kinds."""
    flat, shape = private.x.reshape(len(private.x), -1), image_shape(private)
    kinds = CorruptedRows(parse_kinds(usual_kinds(shape)), flat, shape).rows(_POINTS // 2, np.random.default_rng(_SEED))
    feature_extractor = getattr(victim, "feature_extractor", None)
    if feature_extractor is None:
        return NoveltyMeasure(flat, transform=Standardised.fit(flat, shape), kinds=kinds)
    terms = NoveltyTerms(views=("direction",), power=1.0, max_points=_POINTS)
    return LayeredNovelty(feature_extractor(private.x.shape[1:]), flat, terms, kinds=kinds)


def _with_clean(measure: LeakMeasure) -> dict[str, LeakMeasure]:
    """A measure, and its variant fitted without kinds where it has one, by name."""
    clean = clean_measure(measure)
    return {measure.name: measure} | ({} if clean is measure else {clean.name: clean})


class _CachedVotes:
    """Votes, computed once for evidence that two measures read one after the other."""

    def __init__(self, votes_of: Callable[[Evidence], Integers]) -> None:
        self._votes_of = votes_of
        self._last: tuple[Evidence, Integers] | None = None

    def of(self, evidence: Evidence) -> Integers:
        if self._last is None or self._last[0] is not evidence:
            self._last = (evidence, self._votes_of(evidence))
        return self._last[1]


@dataclass(frozen=True, slots=True, eq=False)
class _ReadoutMeasure:
    """The leak of votes in one readout."""

    name: str
    votes: _CachedVotes
    readout: VoteReadout
    inputs_alone: bool

    def measure(self, evidence: Evidence) -> Floats:
        return self.readout.leak(self.votes.of(evidence))


def _rdp_and_eps(
    name: str, votes_of: Callable[[Evidence], Integers], sigma: float, *, inputs_alone: bool = False
) -> dict[str, LeakMeasure]:
    """Two measures of the same votes: RDP at one order, and the paper's sum of epsilons."""
    votes = _CachedVotes(votes_of)
    readouts = {name: VoteReadout(sigma), f"{name}-eps": VoteReadout(sigma, EPS_SUM)}
    return {title: _ReadoutMeasure(title, votes, readout, inputs_alone) for title, readout in readouts.items()}


def standard_measures(
    victim: Victim, private: Images, novelty: LeakMeasure | None, teachers_file: Path | None
) -> dict[str, LeakMeasure]:
    """Entropy, gap, novelty and its variant without kinds, pkNN, and PATE if there are teachers; by name.

    ``novelty``: None for novelty in the victim's late layers, or in the inputs if it has none. ``teachers_file`` is a saved
    ensemble. ``pknn`` and ``pate`` are Rényi divergences at one order, ``pknn-eps`` and ``pate-eps`` the paper's epsilons.
    """
    points = log_scores(victim.scores(private.x))
    k = min(_NEIGHBOURS, max(2, len(points) // 20))
    sigma = _PKNN_SIGMA * k / _NEIGHBOURS
    measures: dict[str, LeakMeasure] = {
        ENTROPY: EntropyMeasure(),
        "gap": GapMeasure(),
        **_with_clean(_novelty(victim, private) if novelty is None else novelty),
        **_rdp_and_eps("pknn", PknnMeasure(points, private.y, k).votes_of, sigma),
    }
    if teachers_file is not None:
        ensemble = TeacherEnsemble.load(teachers_file)
        votes_of = PateMeasure(ensemble.votes, len(ensemble)).votes_of
        measures |= _rdp_and_eps("pate", votes_of, len(ensemble) / TEACHERS_PER_SIGMA, inputs_alone=True)
    return measures


def measure_all(leak_measures: Measures, scores: Floats, images: Floats) -> Floats:
    """The leaks (rows, measures) of answers with these scores (rows, classes) to these images (rows, ...)."""
    parts = [np.empty((0, len(leak_measures)))]
    for start in range(0, len(images), _BATCH):
        batch, batch_scores = images[start : start + _BATCH], scores[start : start + _BATCH]
        evidence = Evidence((b"",) * len(batch), batch_scores, batch.reshape(len(batch), -1))
        parts.append(np.stack([measure.measure(evidence) for measure in leak_measures.values()], axis=1))
    return np.concatenate(parts)
