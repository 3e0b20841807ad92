"""A theft: an attack run against a victim through a meter, once, and kept for whoever prices it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modeltoll.bench.artifact_files import pack_images, read_arrays, read_note, unpack_images, write_arrays
from modeltoll.bench.attacks.attack import AttackerResources
from modeltoll.bench.identity import digest, first_file, legacy_digest
from modeltoll.bench.meter import CountedVictim, Meter
from modeltoll.bench.shared_progress import no_progress

if TYPE_CHECKING:
    from modeltoll.bench.attack_setup import PreparedAttack
    from modeltoll.bench.attacks.attack import Clone
    from modeltoll.bench.meter import Answering
    from modeltoll.bench.targets import PreparedTarget
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

_FORMAT = 1  # of the files in the cache
_DIGITS = 12  # of the digest in a file's name
_POINTS = 20  # of a clone's curve at most


@dataclass(frozen=True, slots=True)
class ExtractionRun:
    """Everything that a theft depends on. ``answers`` names the defence that changes what is told, or ``none``;
    ``foreign`` the source of foreign images, empty for the target's usual one.
    """

    target: str
    attack: str
    profile: str
    queries: int
    seed: int
    answers: str = "none"
    foreign: str = ""

    @property
    def key(self) -> dict[str, str | int]:
        """What tells it from every other theft, in words that stay whatever the fields are called."""
        return {
            "v": 1,
            "target": self.target,
            "attack": self.attack,
            "profile": self.profile,
            "queries": self.queries,
            "seed": self.seed,
            "answers": self.answers,
            "foreign": self.foreign,
        }

    def file(self, cache: Path) -> Path:
        """Where it is kept."""
        return self._named(cache, digest({"format": _FORMAT, **self.key}, _DIGITS))

    def find(self, cache: Path) -> Path | None:
        """Where it lies, under today's name or the one of before keys; None where it does not."""
        legacy = legacy_digest("Theft", self.key, _DIGITS, template=f"({_FORMAT}, {{}})")
        return first_file(self.file(cache), self._named(cache, legacy))

    def _named(self, cache: Path, digits: str) -> Path:
        return cache / "thefts" / f"{self.target}-{self.attack}-{self.answers}-{self.seed}-{digits}.npz"


@dataclass(frozen=True, slots=True)
class CloneQuality:
    """How good a clone is after so many queries, in 0..1.

    ``accuracy`` against true labels, ``fidelity`` against the victim's labels, both on unseen images of its kind;
    ``agreement`` with the victim's labels on foreign images that the thief does not have.
    """

    queries: int
    accuracy: float
    fidelity: float
    agreement: float


@dataclass(frozen=True, slots=True, eq=False)
class StolenData:
    """What came of a theft.

    ``images`` (rows, ...) are the first ones asked about, at most ``meter.KEPT``; ``labels`` (asked,) the victim's true ones;
    ``leaks`` (asked, measures). ``scored`` counts the rows that the victim was asked for while the thief was at work.
    ``curve`` is the clone's, the last point the finished one's. ``scaled``: see ``thieves.Equipped``.
    """

    measures: tuple[str, ...]
    images: Floats
    labels: Integers
    leaks: Floats
    curve: tuple[CloneQuality, ...]
    scored: int
    seconds: float
    scaled: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)

    @property
    def asked(self) -> int:
        """The rows that the meter counted."""
        return len(self.leaks)


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationSet:
    """What clones are examined on: images with true labels, foreign ones, and the victim's labels of both."""

    images: Floats
    truth: Integers
    said: Integers
    strange: Floats
    said_strange: Integers

    @classmethod
    def of(cls, prepared: PreparedTarget) -> EvaluationSet:
        """The honest callers' images, which no thief has."""
        honest, strange = prepared.data_split.honest, prepared.data_split.strange
        said, said_strange = (prepared.victim.scores(images).argmax(axis=1) for images in (honest.x, strange))
        return cls(honest.x, honest.y, said, strange, said_strange)


def evaluate_clone(clone: Clone, evaluation_set: EvaluationSet, queries: int) -> CloneQuality:
    """The clone's quality."""
    says, says_strange = (
        clone.scores(images).argmax(axis=1) for images in (evaluation_set.images, evaluation_set.strange)
    )
    shares = (says == evaluation_set.truth, says == evaluation_set.said, says_strange == evaluation_set.said_strange)
    return CloneQuality(queries, *(float(share.mean()) for share in shares))


def run_extraction(
    extraction: ExtractionRun,
    prepared_attack: PreparedAttack,
    prepared: PreparedTarget,
    answering: Answering,
    cost: Callable[[Floats], Floats],
    progress: Progress = no_progress,
) -> StolenData:
    """Run the attack. ``cost`` is what thieves with a perfect guess know of prices, (n,) of images; ``progress`` hears
    of the rows that were asked for.

    Raises:
        BudgetSpent, Unfit: the attack breaks the rules of its plug.
    """
    evaluation_set, counted, data_split = (
        EvaluationSet.of(prepared),
        CountedVictim(prepared.victim),
        prepared.data_split,
    )
    meter = Meter(
        counted, prepared.leak_measures, data_split.private.x.shape[1:], extraction.queries, answering, progress
    )
    curve: list[CloneQuality] = []

    def watch(clone: Clone) -> None:
        last = curve[-1].queries if curve else 0
        if meter.rows - last >= extraction.queries / _POINTS:
            curve.append(evaluate_clone(clone, evaluation_set, meter.rows))

    resources = AttackerResources(prepared.classes, data_split.own, data_split.foreign, cost)
    begin = time.perf_counter()
    clone = prepared_attack.attack.run(meter.oracle, resources, np.random.default_rng(extraction.seed), watch)
    seconds = time.perf_counter() - begin
    final = evaluate_clone(clone, evaluation_set, meter.rows)
    before = tuple(quality for quality in curve if quality.queries < final.queries)
    images = meter.images
    labels = meter.scores.argmax(axis=1)
    measures = tuple(prepared.leak_measures)
    return StolenData(
        measures, images, labels, meter.leaks, (*before, final), counted.rows, seconds, dict(prepared_attack.scaled)
    )


def cached_seconds(extraction: ExtractionRun, cache: Path) -> float | None:
    """The seconds that a theft in the cache took; None where it is not there. Raises as ``load_cached`` does."""
    path = extraction.find(cache)
    return None if path is None else float(read_note(path)["seconds"])


def load_cached(extraction: ExtractionRun, cache: Path, run: Callable[[], StolenData]) -> StolenData:
    """The loot of a theft: read from the cache, else made by ``run`` and kept.

    Raises:
        Damaged: the file in the cache cannot be read.
    """
    path = extraction.find(cache)
    if path is None:
        path, stolen = extraction.file(cache), run()
        note: dict[str, Any] = {
            "measures": stolen.measures,
            "curve": [asdict(quality) for quality in stolen.curve],
            "scored": stolen.scored,
            "seconds": stolen.seconds,
            "scaled": stolen.scaled,
        }
        write_arrays(path, {"images": pack_images(stolen.images), "labels": stolen.labels, "leaks": stolen.leaks}, note)
    arrays, found = read_arrays(path)
    return StolenData(
        measures=tuple(found["measures"]),
        images=unpack_images(arrays["images"]),
        labels=arrays["labels"],
        leaks=arrays["leaks"],
        curve=tuple(CloneQuality(**quality) for quality in found["curve"]),
        scored=found["scored"],
        seconds=found["seconds"],
        scaled={name: (paper, used) for name, (paper, used) in found["scaled"].items()},
    )
