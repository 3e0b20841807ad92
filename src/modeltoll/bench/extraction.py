"""An extraction run: an attack against a victim through a meter, run once and cached for all experiments on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modeltoll.bench import datasets
from modeltoll.bench.artifact_files import pack_images, read_arrays, read_note, unpack_images, write_arrays
from modeltoll.bench.attacks.attack import AttackerResources
from modeltoll.bench.identity import digest, first_file
from modeltoll.bench.leak_measures import VOTE_MEASURES
from modeltoll.bench.meter import CountedVictim, Meter
from modeltoll.bench.shared_progress import no_progress
from modeltoll.simulation.traffic import Rows

if TYPE_CHECKING:
    from modeltoll.bench.attack_setup import PreparedAttack
    from modeltoll.bench.attacks.attack import Clone
    from modeltoll.bench.meter import Perturbation
    from modeltoll.bench.prepared_target import PreparedTarget
    from modeltoll.bench.vote_leaks import VoteLeaks
    from modeltoll.records import Floats, Integers, Progress

__all__ = [
    "CloneQuality",
    "EvaluationSet",
    "ExtractionRun",
    "StolenData",
    "cached_seconds",
    "evaluate_clone",
    "load_cached",
    "run_extraction",
]

_FORMAT = 3  # of the files in the cache
_DIGITS = 12  # of the digest in a file's name
_CURVE_POINTS = 20  # the maximum number of points of a clone's curve


@dataclass(frozen=True, slots=True)
class ExtractionRun:
    """Everything that an extraction depends on.

    ``answers`` names the defence that changes the answers, or ``none``; ``foreign`` the source of foreign images, empty
    for the target's usual one; ``change`` what is done to them, as ``leak.corruptions.parse_kinds`` reads it.
    """

    target: str
    attack: str
    profile: str
    queries: int
    seed: int
    answers: str = "none"
    foreign: str = ""
    change: str = ""

    @property
    def key(self) -> dict[str, str | int]:
        """The identity of the run, with names that do not follow the fields' names."""
        return {
            "v": 2,
            "target": self.target,
            "attack": self.attack,
            "profile": self.profile,
            "queries": self.queries,
            "seed": self.seed,
            "answers": self.answers,
            "foreign": self.foreign,
            "change": self.change,
        }

    def file(self, cache: Path) -> Path:
        """The path of its file in a cache."""
        return self._named(cache, digest({"format": _FORMAT, **self.key}, _DIGITS))

    def find(self, cache: Path) -> Path | None:
        """The path of its file in a cache; None if there is none."""
        return first_file(self.file(cache))

    def _named(self, cache: Path, digits: str) -> Path:
        return cache / "thefts" / f"{self.target}-{self.attack}-{self.answers}-{self.seed}-{digits}.npz"


@dataclass(frozen=True, slots=True)
class CloneQuality:
    """The quality of a clone after ``queries`` queries, in 0..1.

    ``accuracy`` against true labels and ``fidelity`` against the victim's labels on honest images; ``agreement`` with
    the victim's labels on foreign images that the attacker does not have.
    """

    queries: int
    accuracy: float
    fidelity: float
    agreement: float


@dataclass(frozen=True, slots=True, eq=False)
class StolenData:
    """The result of an extraction run.

    ``images`` (rows, ...) are the first queries, at most ``meter.IMAGES_KEPT``; ``labels`` (queries,) the victim's labels
    of all queries; ``leaks`` (queries, measures), by those of votes only if the meter measured them. ``rows_scored`` counts the rows that the victim scored during the attack;
    ``seconds`` is the attack's duration. ``curve`` holds the clone's quality, the last point that of the final clone;
    it is empty where no clone was trained.
    ``scaled``: see ``PreparedAttack``.
    """

    measures: tuple[str, ...]
    images: Floats
    labels: Integers
    leaks: Floats
    curve: tuple[CloneQuality, ...]
    rows_scored: int
    seconds: float
    scaled: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)

    @property
    def queries(self) -> int:
        """The number of rows that the meter counted."""
        return len(self.leaks)

    @property
    def rows(self) -> Rows:
        """The stolen rows as a simulation takes them."""
        return Rows(self.leaks, self.labels)

    @property
    def can_be_voted_on(self) -> bool:
        """Whether it has the leaks of votes, or every image that they can be measured of."""
        return len(self.images) == self.queries or set(VOTE_MEASURES) <= set(self.measures)

    def measured_by(self, measures: tuple[str, ...], votes: VoteLeaks | None) -> StolenData:
        """The same with the leaks by these measures in order; those of votes are taken from ``votes`` where it has none.

        Raises as ``VoteLeaks.of``.
        """
        found = dict(zip(self.measures, self.leaks.T, strict=True))
        if votes is not None and not set(VOTE_MEASURES) <= set(found):
            found |= dict(zip(VOTE_MEASURES, votes.of(self.leaks, self.labels, lambda: self.images).T, strict=True))
        return replace(self, measures=measures, leaks=np.stack([found[name] for name in measures], axis=1))


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationSet:
    """The images on which clones are evaluated: honest ones with true labels, foreign ones, and the victim's labels."""

    images: Floats
    labels: Integers
    victim_labels: Integers
    foreign_images: Floats
    foreign_victim_labels: Integers

    @classmethod
    def of(cls, prepared: PreparedTarget) -> EvaluationSet:
        """The evaluation set of a target: images that the attacker does not have."""
        honest, foreign = prepared.data_split.honest, prepared.data_split.unseen_foreign
        victim_labels, foreign_victim_labels = (
            prepared.victim.scores(images).argmax(axis=1) for images in (honest.x, foreign)
        )
        return cls(honest.x, honest.y, victim_labels, foreign, foreign_victim_labels)


@lru_cache(maxsize=1)
def _evaluation_set(prepared: PreparedTarget) -> EvaluationSet:
    """As ``EvaluationSet.of``, kept for the next extraction: those of one target follow each other, and victims may be slow."""
    return EvaluationSet.of(prepared)


def evaluate_clone(clone: Clone, evaluation_set: EvaluationSet, queries: int) -> CloneQuality:
    """The quality of a clone after ``queries`` queries."""
    predicted, foreign_predicted = (
        clone.scores(images).argmax(axis=1) for images in (evaluation_set.images, evaluation_set.foreign_images)
    )
    return CloneQuality(
        queries,
        datasets.accuracy(predicted, evaluation_set.labels),
        float((predicted == evaluation_set.victim_labels).mean()),
        float((foreign_predicted == evaluation_set.foreign_victim_labels).mean()),
    )


def run_extraction(
    extraction: ExtractionRun,
    prepared_attack: PreparedAttack,
    prepared: PreparedTarget,
    perturb: Perturbation,
    cost: Callable[[Floats], Floats],
    progress: Progress = no_progress,
) -> StolenData:
    """Run the attack.

    ``perturb`` is the defence that changes answers. ``cost`` returns the prices (n,) of images, for attacks that are
    assumed to know them. ``progress`` is called with the number of rows queried so far.

    Raises:
        BudgetSpent, InvalidQuery: the attack violates its protocol.
    """
    evaluation_set = _evaluation_set(prepared) if prepared_attack.trains else None
    victim, data_split = CountedVictim(prepared.victim), prepared.data_split
    meter = Meter(victim, prepared.leak_measures, data_split.private.x.shape[1:], extraction.queries, perturb, progress)
    curve: list[CloneQuality] = []

    def on_round(clone: Clone) -> None:
        last_queries = curve[-1].queries if curve else 0
        if evaluation_set is not None and meter.rows - last_queries >= extraction.queries / _CURVE_POINTS:
            curve.append(evaluate_clone(clone, evaluation_set, meter.rows))

    resources = AttackerResources(prepared.classes, data_split.own, data_split.foreign, cost)
    begin = time.perf_counter()
    clone = prepared_attack.attack.run(meter.oracle, resources, np.random.default_rng(extraction.seed), on_round)
    seconds = time.perf_counter() - begin
    if evaluation_set is not None:
        curve = [quality for quality in curve if quality.queries < meter.rows]
        curve.append(evaluate_clone(clone, evaluation_set, meter.rows))
    images = meter.images
    labels = meter.scores.argmax(axis=1)
    measures = tuple(prepared.leak_measures)
    return StolenData(
        measures, images, labels, meter.leaks, tuple(curve), victim.rows, seconds, dict(prepared_attack.scaled)
    )


def cached_seconds(extraction: ExtractionRun, cache: Path) -> float | None:
    """The duration in seconds of a cached extraction; None if it is not in the cache. Raises as ``load_cached``."""
    path = extraction.find(cache)
    return None if path is None else float(read_note(path)["seconds"])


def load_cached(
    extraction: ExtractionRun, cache: Path, run: Callable[[], StolenData], *, voted: bool = False
) -> StolenData:
    """The stolen data of an extraction: read from the cache, or made by ``run`` and cached.

    ``voted``: data that cannot be voted on do not count as cached.

    Raises:
        DamagedFile: the file in the cache cannot be read.
    """
    path = extraction.find(cache)
    cached = None if path is None else _read(path)
    if cached is not None and (cached.can_be_voted_on or not voted):
        return cached
    path = extraction.file(cache)
    _write(path, run())
    return _read(path)


def _write(path: Path, stolen: StolenData) -> None:
    note: dict[str, Any] = {
        "measures": stolen.measures,
        "curve": [asdict(quality) for quality in stolen.curve],
        "scored": stolen.rows_scored,
        "seconds": stolen.seconds,
        "scaled": stolen.scaled,
    }
    write_arrays(path, {"images": pack_images(stolen.images), "labels": stolen.labels, "leaks": stolen.leaks}, note)


def _read(path: Path) -> StolenData:
    arrays, note = read_arrays(path)
    return StolenData(
        measures=tuple(note["measures"]),
        images=unpack_images(arrays["images"]),
        labels=arrays["labels"],
        leaks=arrays["leaks"],
        curve=tuple(CloneQuality(**quality) for quality in note["curve"]),
        rows_scored=note["scored"],
        seconds=note["seconds"],
        scaled={name: (paper, used) for name, (paper, used) in note["scaled"].items()},
    )
