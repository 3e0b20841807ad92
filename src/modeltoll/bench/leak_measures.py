"""The leak measures of a target, fitted to the victim's private data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from modeltoll.leak.pate import EPS_SUM, PateMeasure, VoteReadout
from modeltoll.leak.pknn import PknnMeasure, log_scores
from modeltoll.leak.rdp import log_q
from modeltoll.leak.scores import scores_of
from modeltoll.records import Evidence

if TYPE_CHECKING:
    from modeltoll.bench.datasets import Images
    from modeltoll.bench.victims.victim import Victim
    from modeltoll.leak.measure import LeakMeasure
    from modeltoll.leak.pate import Voters
    from modeltoll.records import Floats, Integers

__all__ = [
    "ENTROPY",
    "LOGIT_GAP",
    "NOVELTY",
    "PATE",
    "PATE_COST",
    "PKNN_AGREEMENT",
    "PKNN_COST",
    "UNPRICED",
    "VOTE_MEASURES",
    "Measures",
    "Teachers",
    "measure_all",
    "pknn_settings",
    "standard_measures",
    "vote_measures",
]

ENTROPY, NOVELTY = "entropy", "novelty"
PATE, PATE_COST, PKNN_COST = "pate", "pate-cost", "pknn-eps"  # the costs are the paper's epsilons of single queries
VOTE_MEASURES = (PATE, PATE_COST)  # of the votes of teachers, which take long: measured where a toll prices them
LOGIT_GAP, PKNN_AGREEMENT = "logit-gap", "pknn-agreement"
UNPRICED = (LOGIT_GAP, PKNN_AGREEMENT)  # recorded for the paper's tables; no toll prices them
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


@dataclass(frozen=True, slots=True, eq=False)
class Teachers:
    """The ensemble of the PATE cost: how ``count`` teachers vote, the noise ``sigma`` in votes, and ``delta``."""

    votes: Voters
    count: int
    sigma: float
    delta: float


class _CachedVotes:
    """Votes, computed once for evidence that several measures read one after the other."""

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


@dataclass(frozen=True, slots=True, eq=False)
class _Agreement:
    """How far the voters agree: -log q, from which the privacy loss of a vote at every Rényi order follows; see ``leak.rdp``."""

    name: str
    votes: _CachedVotes
    sigma: float

    def measure(self, evidence: Evidence) -> Floats:
        return -log_q(self.votes.of(evidence), self.sigma)


@dataclass(frozen=True, slots=True)
class _LogitGap:
    """1 - (p1 - p2), where p1 and p2 are the softmax of the two largest logits alone, as in the code of Dziedzic et al. 2022."""

    name: str = LOGIT_GAP

    def measure(self, evidence: Evidence) -> Floats:
        largest = np.partition(scores_of(evidence), -2, axis=1)
        return np.asarray(2.0 * largest[:, -2] / (largest[:, -1] + largest[:, -2]))


def pknn_settings(points: int) -> tuple[int, float]:
    """The number of neighbours that vote among so many private points, and the noise in votes: 300 and 28 but for small sets."""
    k = min(_NEIGHBOURS, max(2, points // 20))
    return k, _PKNN_SIGMA * k / _NEIGHBOURS


def _pknn_measures(points: Floats, labels: Integers) -> list[LeakMeasure]:
    """The Rényi divergence of the neighbours' vote at one order, its epsilon, and its agreement."""
    k, sigma = pknn_settings(len(points))
    votes = _CachedVotes(PknnMeasure(points, labels, k).votes_of)
    readouts = (("pknn", VoteReadout(sigma)), (PKNN_COST, VoteReadout(sigma, EPS_SUM)))
    measures: list[LeakMeasure] = [_ReadoutMeasure(name, votes, readout, False) for name, readout in readouts]
    return [*measures, _Agreement(PKNN_AGREEMENT, votes, sigma)]


def vote_measures(teachers: Teachers) -> dict[str, LeakMeasure]:
    """``VOTE_MEASURES`` by name: the Rényi divergence of the teachers' vote at one order, and its epsilon."""
    votes = _CachedVotes(PateMeasure(teachers.votes, teachers.count).votes_of)
    readouts = (
        (PATE, VoteReadout(teachers.sigma)),
        (PATE_COST, VoteReadout(teachers.sigma, EPS_SUM, delta=teachers.delta)),
    )
    return {name: _ReadoutMeasure(name, votes, readout, True) for name, readout in readouts}


def standard_measures(victim: Victim, private: Images, novelty: LeakMeasure | None) -> dict[str, LeakMeasure]:
    """Entropy, both gaps, pkNN, novelty and its variant without kinds; by name.

    ``novelty``: None for novelty in the victim's late layers, or in the inputs if it has none. ``pknn`` is the Rényi
    divergence at one order, ``pknn-eps`` the paper's epsilon of a single query.
    """
    points = log_scores(victim.scores(private.x))
    measures: list[LeakMeasure] = [EntropyMeasure(), GapMeasure(), _LogitGap(), *_pknn_measures(points, private.y)]
    return {measure.name: measure for measure in measures} | _with_clean(
        _novelty(victim, private) if novelty is None else novelty
    )


def measure_all(leak_measures: Measures, scores: Floats, images: Floats) -> Floats:
    """The leaks (rows, measures) of answers with these scores (rows, classes) to these images (rows, ...)."""
    parts = [np.empty((0, len(leak_measures)))]
    for start in range(0, len(images), _BATCH):
        batch, batch_scores = images[start : start + _BATCH], scores[start : start + _BATCH]
        evidence = Evidence((b"",) * len(batch), batch_scores, batch.reshape(len(batch), -1))
        parts.append(np.stack([measure.measure(evidence) for measure in leak_measures.values()], axis=1))
    return np.concatenate(parts)
