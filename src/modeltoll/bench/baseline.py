"""What is known of a target before any thief comes: what honest rows leak, and what asking takes. Made once, and kept."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.artifact_files import pack_images, read_arrays, unpack_images, write_arrays
from modeltoll.bench.honest.distribution_shifts import KINDS, ORDINARY, jittered
from modeltoll.bench.leak_measures import measure_all
from modeltoll.records import Leaks

if TYPE_CHECKING:
    from modeltoll.bench.targets import PreparedTarget, Target
    from modeltoll.leak.measure import LeakMeasure
    from modeltoll.records import Floats, Integers

__all__ = ["Baseline", "BaselineSample", "baseline_file", "measure_baseline"]

_FORMAT = 2  # of the files in the cache
_SEED = 7
_JITTERED = 1000
_TIMED = 100
_BATCH = 1000
_CALIBRATION, _JITTER, _EASY = "calibration", "jittered", "easy"


@dataclass(frozen=True, slots=True, eq=False)
class BaselineSample:
    """Rows of one kind: what they leak (rows, measures), the victim's scores (rows, classes), true labels (rows,)."""

    leaks: Floats
    scores: Floats
    truth: Integers

    @property
    def accuracy(self) -> float:
        """The share of rows that the victim gets right."""
        return float((self.scores.argmax(axis=1) == self.truth).mean())


@dataclass(frozen=True, slots=True, eq=False)
class Baseline:
    """The ground that experiments on one target stand on.

    ``kinds`` are honest rows of each kind; ``calibration`` rows make tariffs; ``jittered`` ones and the one ``easy``
    row (1, measures) are fillers. ``images`` are the ordinary honest rows'. ``undefended`` are seconds of a row, by
    itself; ``batched`` in batches of 1000, on this machine; ``gauge_seconds`` the median of each measure for one row.
    """

    victim: str
    measures: tuple[str, ...]
    kinds: Mapping[str, BaselineSample]
    calibration: BaselineSample
    jittered: Floats
    easy: Floats
    images: Floats
    undefended: float
    batched: float
    gauge_seconds: Mapping[str, float]

    @property
    def honest(self) -> BaselineSample:
        """The ordinary kind."""
        return self.kinds[ORDINARY]

    def leaks(self, values: Floats) -> Leaks:
        """Values (rows, measures) with the measures' names."""
        return Leaks(self.measures, values)


def baseline_file(target: Target, cache: Path) -> Path:
    """Where the ground of a target is kept. Delete it when the victim, its measures or its images change."""
    return cache / f"ground-{target.name}-{_FORMAT}.npz"


def measure_baseline(target: Target, cache: Path, prepared: Callable[[], PreparedTarget]) -> Baseline:
    """The ground of a target: read from the cache, else measured in its room and kept.

    Raises:
        Damaged: the file in the cache cannot be read.
    """
    path = baseline_file(target, cache)
    if not path.is_file():
        _write(path, _measure(target, prepared()))
    return _read(path)


def _sample(prepared: PreparedTarget, images: Floats, truth: Integers) -> BaselineSample:
    scores = prepared.victim.scores(images)
    return BaselineSample(measure_all(prepared.leak_measures, scores, images), scores, truth)


def _seconds(ask: Callable[[Floats], object], images: Floats, rows: int) -> float:
    """The median over requests of so many rows, per row, in processor time: what else the machine does is left out."""
    taken = []
    for start in range(0, len(images), rows):
        batch = images[start : start + rows]
        begin = time.process_time()
        ask(batch)
        taken.append((time.process_time() - begin) / len(batch))
    return statistics.median(taken)


def _measure_seconds(gauge: LeakMeasure, scores: Floats, images: Floats) -> float:
    """The median time that a measure takes for one row; whose scores it sees makes no difference to that."""
    return _seconds(lambda rows: measure_all({"one": gauge}, scores[: len(rows)], rows), images, 1)


def _measure(target: Target, prepared: PreparedTarget) -> Baseline:
    honest, rng = prepared.data_split.honest, np.random.default_rng(_SEED)
    found = {name: kind(honest, rng) for name, kind in KINDS.items()}
    kinds = {name: _sample(prepared, images.x, images.y) for name, images in found.items() if images is not None}
    ordinary = kinds[ORDINARY]
    surest = honest.x[ordinary.scores.max(axis=1).argmax()]
    near = jittered(surest, _JITTERED, target.levels, rng)
    asked = honest.x[:_TIMED]
    unmeasured = _seconds(prepared.victim.scores, asked, 1) if target.undefended is None else target.undefended
    gauge_seconds = {
        name: _measure_seconds(gauge, ordinary.scores, asked) for name, gauge in prepared.leak_measures.items()
    }
    return Baseline(
        victim=prepared.victim.identity,
        measures=tuple(prepared.leak_measures),
        kinds=kinds,
        calibration=_sample(prepared, prepared.data_split.calibration.x, prepared.data_split.calibration.y),
        jittered=_sample(prepared, near, np.zeros(len(near), np.int64)).leaks,
        easy=_sample(prepared, surest[None], np.zeros(1, np.int64)).leaks,
        images=honest.x,
        undefended=unmeasured,
        batched=_seconds(prepared.victim.scores, np.resize(honest.x, (3 * _BATCH, *honest.x.shape[1:])), _BATCH),
        gauge_seconds=gauge_seconds,
    )


def _write(path: Path, baseline: Baseline) -> None:
    arrays = {_JITTER: baseline.jittered, _EASY: baseline.easy, "images": pack_images(baseline.images)}
    for name, sample in {**baseline.kinds, _CALIBRATION: baseline.calibration}.items():
        arrays |= {f"{name}/leaks": sample.leaks, f"{name}/scores": sample.scores, f"{name}/truth": sample.truth}
    note = {
        "victim": baseline.victim,
        "measures": baseline.measures,
        "kinds": list(baseline.kinds),
        "undefended": baseline.undefended,
        "batched": baseline.batched,
        "gauge_seconds": dict(baseline.gauge_seconds),
    }
    write_arrays(path, arrays, note)


def _read(path: Path) -> Baseline:
    arrays, note = read_arrays(path)

    def sample(name: str) -> BaselineSample:
        return BaselineSample(*(arrays[f"{name}/{part}"] for part in ("leaks", "scores", "truth")))

    return Baseline(
        victim=note["victim"],
        measures=tuple(note["measures"]),
        kinds={name: sample(name) for name in note["kinds"]},
        calibration=sample(_CALIBRATION),
        jittered=arrays[_JITTER],
        easy=arrays[_EASY],
        images=unpack_images(arrays["images"]),
        undefended=note["undefended"],
        batched=note["batched"],
        gauge_seconds=note["gauge_seconds"],
    )
