"""The baseline of a target: leaks and scores of honest rows, and times without a gateway; measured once and cached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeltoll.bench import datasets
from modeltoll.bench.artifact_files import pack_images, read_arrays, unpack_images, write_arrays
from modeltoll.bench.baseline_images import CALIBRATION, DECLARED, FILLER, KIND, STRANGER, baseline_images
from modeltoll.bench.evasions.evasion import EASY, JITTERED
from modeltoll.bench.honest.distribution_shifts import ORDINARY
from modeltoll.bench.leak_measures import UNPRICED, VOTE_MEASURES, measure_all
from modeltoll.bench.row_times import RowTimes, measure_times, read_times
from modeltoll.records import Leaks
from modeltoll.simulation.traffic import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from modeltoll.bench.datasets import Images
    from modeltoll.bench.prepared_target import PreparedTarget
    from modeltoll.bench.targets import Target
    from modeltoll.records import Floats, Integers

__all__ = ["Baseline", "BaselineSample", "baseline_file", "measure_baseline"]

_FORMAT = 4  # of the files in the cache


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

    ``measures`` are those of the target that no teachers vote on; ``baseline_votes.with_votes`` adds those that read votes.
    ``kinds`` are honest rows of each kind that an honest caller may send. Tariffs are calibrated on ``calibration``, on
    ``declared``, the same rows under the kinds that the operator declares, and on ``strangers``, by family rows of foreign
    images that no attacker has. ``fillers``: see ``evasions.evasion.Cover``. ``images`` are those of the ordinary honest
    rows. ``times`` are those of a row, as measured when the baseline was made, or published with the target. ``private``:
    the number of the victim's private rows.
    """

    victim: str
    measures: tuple[str, ...]
    kinds: Mapping[str, BaselineSample]
    calibration: BaselineSample
    declared: Mapping[str, Rows]
    strangers: Mapping[str, Rows]
    fillers: Mapping[str, Rows]
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


def _sample(prepared: PreparedTarget, images: Images) -> BaselineSample:
    scores = prepared.victim.scores(images.x)
    return BaselineSample(measure_all(prepared.leak_measures, scores, images.x), scores, images.y)


def _measure(target: Target, prepared: PreparedTarget) -> Baseline:
    samples = {name: _sample(prepared, images) for name, images in baseline_images(target, prepared)}

    def named(sort: str) -> dict[str, BaselineSample]:
        return {name: sample for (of, name), sample in samples.items() if of == sort}

    def rows(sort: str) -> dict[str, Rows]:
        return {name: sample.rows for name, sample in named(sort).items()}

    return Baseline(
        victim=prepared.victim.identity,
        measures=tuple(prepared.leak_measures),
        kinds=named(KIND),
        calibration=samples[CALIBRATION, ""],
        declared=rows(DECLARED),
        strangers=rows(STRANGER),
        fillers=rows(FILLER),
        images=prepared.data_split.honest.x,
        times=measure_times(target, prepared),
        private=len(prepared.data_split.private.x),
    )


def _write(path: Path, baseline: Baseline) -> None:
    arrays: dict[str, NDArray[Any]] = {"images": pack_images(baseline.images)}
    for name, sample in {**baseline.kinds, CALIBRATION: baseline.calibration}.items():
        arrays |= {f"{name}/leaks": sample.leaks, f"{name}/scores": sample.scores, f"{name}/truth": sample.truth}
    groups = {DECLARED: baseline.declared, STRANGER: baseline.strangers}
    for name, rows in (
        *baseline.fillers.items(),
        *((f"{group}/{name}", one) for group in groups for name, one in groups[group].items()),
    ):
        assert rows.classes is not None  # those of a victim's scores
        arrays |= {f"{name}/leaks": rows.leaks, f"{name}/classes": rows.classes}
    note = {
        "victim": baseline.victim,
        "measures": baseline.measures,
        "kinds": list(baseline.kinds),
        DECLARED: list(baseline.declared),
        STRANGER: list(baseline.strangers),
        "undefended": baseline.times.undefended,
        "batched": baseline.times.batched,
        "measure_seconds": dict(baseline.times.measures),
        "private": baseline.private,
    }
    write_arrays(path, arrays, note)


def _read(path: Path) -> Baseline:
    arrays, note = read_arrays(path)
    # Files of before hold the leaks of votes, too, of all rows.
    kept = [place for place, name in enumerate(note["measures"]) if name not in VOTE_MEASURES]

    def leaks(name: str) -> Floats:
        found: Floats = arrays[f"{name}/leaks"][:, kept]
        return found

    def sample(name: str) -> BaselineSample:
        return BaselineSample(leaks(name), *(arrays[f"{name}/{part}"] for part in ("scores", "truth")))

    def rows(name: str) -> Rows:
        return Rows(leaks(name), arrays[f"{name}/classes"])

    return Baseline(
        victim=note["victim"],
        measures=tuple(note["measures"][place] for place in kept),
        kinds={name: sample(name) for name in note["kinds"]},
        calibration=sample(CALIBRATION),
        declared={name: rows(f"{DECLARED}/{name}") for name in note[DECLARED]},
        strangers={name: rows(f"{STRANGER}/{name}") for name in note[STRANGER]},
        fillers={name: rows(name) for name in (JITTERED, EASY)},
        images=unpack_images(arrays["images"]),
        times=RowTimes(note["undefended"], note["batched"], note["measure_seconds"]),
        private=note["private"],
    )
