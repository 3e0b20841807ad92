"""The baseline of a target: leaks and scores of honest rows, and times without a gateway; measured once and cached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modeltoll.bench import datasets
from modeltoll.bench.artifact_files import pack_images, read_arrays, unpack_images, write_arrays
from modeltoll.bench.honest.distribution_shifts import KINDS, ORDINARY, jittered
from modeltoll.bench.leak_measures import UNPRICED, measure_all
from modeltoll.bench.row_times import RowTimes, measure_times, read_times
from modeltoll.leak.corruptions import Corruption, apply, parse_kinds
from modeltoll.records import Leaks
from modeltoll.simulation.traffic import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from modeltoll.bench.datasets import Images
    from modeltoll.bench.prepared_target import PreparedTarget
    from modeltoll.bench.targets import Target
    from modeltoll.records import Floats, Integers

__all__ = ["Baseline", "BaselineSample", "baseline_file", "changed_images", "measure_baseline"]

_FORMAT = 4  # of the files in the cache
_SEED = 7
_JITTERED = 1000
_CALIBRATION, _DECLARED, _STRANGERS, _JITTER, _EASY = "calibration", "declared", "strangers", "jittered", "easy"


@dataclass(frozen=True, slots=True, eq=False)
class BaselineSample:
    """Rows of one kind: their leaks (rows, measures), the victim's scores (rows, classes), true labels (rows,)."""

    leaks: Floats
    scores: Floats
    truth: Integers

    @property
    def accuracy(self) -> float:
        """The victim's accuracy on these rows, in 0..1."""
        return datasets.accuracy(self.classes, self.truth)

    @property
    def classes(self) -> Integers:
        """The predicted class of each row, (rows,)."""
        classes: Integers = self.scores.argmax(axis=1)
        return classes

    @property
    def rows(self) -> Rows:
        """The rows as a simulation takes them."""
        return Rows(self.leaks, self.classes)


@dataclass(frozen=True, slots=True, eq=False)
class Baseline:
    """The measurements that all experiments on one target share.

    ``kinds`` are honest rows of each kind that an honest caller may send. Tariffs are calibrated on ``calibration``, on
    ``declared``, the same rows under the kinds that the operator declares, and on ``strangers``, by family rows of foreign
    images that no attacker has. ``jittered`` and ``easy`` are fillers. ``images`` are those of the ordinary honest rows.
    ``times`` are those of a row, as measured when the baseline was made, or published with the target. ``private``: the
    number of the victim's private rows.
    """

    victim: str
    measures: tuple[str, ...]
    kinds: Mapping[str, BaselineSample]
    calibration: BaselineSample
    declared: Mapping[str, Rows]
    strangers: Mapping[str, Rows]
    jittered: Rows
    easy: Rows
    images: Floats
    times: RowTimes
    private: int

    @property
    def honest(self) -> BaselineSample:
        """The honest rows of the calibration's own distribution."""
        return self.kinds[ORDINARY]

    def leaks(self, rows: Rows) -> Leaks:
        """Leaks of rows in the order of ``measures``."""
        return Leaks(self.measures, rows.leaks, rows.classes)


def baseline_file(target: Target, cache: Path) -> Path:
    """The cached baseline's path. Delete the file when the victim, its measures or its images change."""
    return cache / f"baseline-{target.name}-{_FORMAT}.npz"


def measure_baseline(
    target: Target, cache: Path, prepare: Callable[[], PreparedTarget], times: Path | None = None
) -> Baseline:
    """The baseline of a target: read from the cache, or measured and cached; ``prepare`` is called only to measure.

    ``times``: a file whose times of a row replace those that were measured with the baseline.

    Raises:
        DamagedFile: the file in the cache cannot be read.
        SettingsError: the file of times lacks something of this target.
    """
    path = baseline_file(target, cache)
    if not path.is_file():
        _write(path, _measure(target, prepare()))
    baseline = _read(path)
    if times is None:
        return baseline
    measured = tuple(name for name in baseline.measures if name not in UNPRICED and name not in target.estimators)
    read = read_times(times, target.name, measured)
    return replace(baseline, times=replace(read, measures={**read.measures, **target.estimators}))


def _sample(prepared: PreparedTarget, images: Floats, truth: Integers) -> BaselineSample:
    scores = prepared.victim.scores(images)
    return BaselineSample(measure_all(prepared.leak_measures, scores, images), scores, truth)


def changed_images(images: Floats, change: Corruption, rng: np.random.Generator) -> Floats:
    """Images (n, height, width) or (n, height, width, 3) of 0..1 under a corruption."""
    sides = images.shape[1:]
    shape = (sides[0], sides[1], sides[2] if len(sides) == 3 else 1)
    return apply(change, images.reshape(len(images), -1), shape, rng, (0.0, 1.0)).reshape(images.shape)


def _honest_kinds(prepared: PreparedTarget, rng: np.random.Generator) -> dict[str, BaselineSample]:
    """Honest rows of each kind: the target's own kinds beside the ordinary rows, or else the ordinary rows changed."""
    honest = prepared.data_split.honest
    if prepared.callers is not None:
        own = {name: caller.kept_back() for name, caller in prepared.callers.items()}
        return {name: _sample(prepared, rows.x, rows.y) for name, rows in {ORDINARY: honest, **own}.items()}
    shifted = {name: kind(honest, rng) for name, kind in KINDS.items()}
    return {name: _sample(prepared, images.x, images.y) for name, images in shifted.items() if images is not None}


def _declared(prepared: PreparedTarget, kinds: str, rng: np.random.Generator) -> dict[str, Rows]:
    """The rows of declared callers that the operator logged, or the calibration's rows under each declared kind."""
    if prepared.callers is not None:
        logs = {name: caller.logged for name, caller in prepared.callers.items() if caller.logged is not None}
        return {name: _rows(prepared, logged()) for name, logged in logs.items()}
    calibration: Images = prepared.data_split.calibration
    return {
        kind.name: _sample(prepared, changed_images(calibration.x, kind, rng), calibration.y).rows
        for kind in parse_kinds(kinds)
    }


def _rows(prepared: PreparedTarget, images: Floats) -> Rows:
    return _sample(prepared, images, np.zeros(len(images), np.int64)).rows


def _measure(target: Target, prepared: PreparedTarget) -> Baseline:
    honest, rng = prepared.data_split.honest, np.random.default_rng(_SEED)
    kinds = _honest_kinds(prepared, rng)
    ordinary = kinds[ORDINARY]
    easy = honest.x[ordinary.scores.max(axis=1).argmax()]
    copies = jittered(easy, _JITTERED, target.levels, rng)
    return Baseline(
        victim=prepared.victim.identity,
        measures=tuple(prepared.leak_measures),
        kinds=kinds,
        calibration=_sample(prepared, prepared.data_split.calibration.x, prepared.data_split.calibration.y),
        declared=_declared(prepared, target.kinds, rng),
        strangers={name: _rows(prepared, images) for name, images in prepared.strangers().items()},
        jittered=_rows(prepared, copies),
        easy=_rows(prepared, easy[None]),
        images=honest.x,
        times=measure_times(target, prepared),
        private=len(prepared.data_split.private.x),
    )


def _write(path: Path, baseline: Baseline) -> None:
    arrays: dict[str, NDArray[Any]] = {"images": pack_images(baseline.images)}
    for name, sample in {**baseline.kinds, _CALIBRATION: baseline.calibration}.items():
        arrays |= {f"{name}/leaks": sample.leaks, f"{name}/scores": sample.scores, f"{name}/truth": sample.truth}
    groups = {_DECLARED: baseline.declared, _STRANGERS: baseline.strangers}
    single = {_JITTER: baseline.jittered, _EASY: baseline.easy}
    for name, rows in (
        *single.items(),
        *((f"{group}/{name}", one) for group in groups for name, one in groups[group].items()),
    ):
        assert rows.classes is not None  # those of a victim's scores
        arrays |= {f"{name}/leaks": rows.leaks, f"{name}/classes": rows.classes}
    note = {
        "victim": baseline.victim,
        "measures": baseline.measures,
        "kinds": list(baseline.kinds),
        _DECLARED: list(baseline.declared),
        _STRANGERS: list(baseline.strangers),
        "undefended": baseline.times.undefended,
        "batched": baseline.times.batched,
        "measure_seconds": dict(baseline.times.measures),
        "private": baseline.private,
    }
    write_arrays(path, arrays, note)


def _read(path: Path) -> Baseline:
    arrays, note = read_arrays(path)

    def sample(name: str) -> BaselineSample:
        return BaselineSample(*(arrays[f"{name}/{part}"] for part in ("leaks", "scores", "truth")))

    def rows(name: str) -> Rows:
        return Rows(arrays[f"{name}/leaks"], arrays[f"{name}/classes"])

    return Baseline(
        victim=note["victim"],
        measures=tuple(note["measures"]),
        kinds={name: sample(name) for name in note["kinds"]},
        calibration=sample(_CALIBRATION),
        declared={name: rows(f"{_DECLARED}/{name}") for name in note[_DECLARED]},
        strangers={name: rows(f"{_STRANGERS}/{name}") for name in note[_STRANGERS]},
        jittered=rows(_JITTER),
        easy=rows(_EASY),
        images=unpack_images(arrays["images"]),
        times=RowTimes(note["undefended"], note["batched"], note["measure_seconds"]),
        private=note["private"],
    )
