"""How long one row of a target takes on one machine, with and without leak measures; measured, or read from a file.

Ratios depend on these times. A file of ``bench times`` makes them the same on every machine and under any load.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from modeltoll.bench.artifact_files import write_document
from modeltoll.bench.leak_measures import ENTROPY, NOVELTY, PATE_COST, PKNN_COST, UNPRICED, measure_all
from modeltoll.bench.paper import BATCH_OF_TABLE_5
from modeltoll.bench.shared_progress import no_progress
from modeltoll.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from modeltoll.bench.prepared_target import PreparedTarget
    from modeltoll.bench.targets import Target
    from modeltoll.leak.measure import LeakMeasure
    from modeltoll.records import Floats, Progress

__all__ = [
    "ESTIMATORS",
    "GATE_SECONDS",
    "RowTimes",
    "measure_estimators",
    "measure_times",
    "read_times",
    "write_times",
]

GATE_SECONDS = 1.03e-3  # own_p50_ms of results/benchmarks/bench_gateway_without_kinds.json, with SQLite
_FORMAT = 1  # of the files
_TIMED, _REPEATS = 100, 5  # rows, and how often each is timed
_BATCH, _BATCHES = 1000, 3
ESTIMATORS: Mapping[str, tuple[str, ...]] = {  # the measures of each column of the paper's Table 5, and of our toll
    "pate": (PATE_COST,),
    "pknn": (PKNN_COST,),
    "entropy": (ENTROPY,),
    "gap": ("gap",),
    "ours": (ENTROPY, NOVELTY),
}
_LONG = 10.0  # seconds of one repeat, after which there is no further one


@dataclass(frozen=True, slots=True)
class RowTimes:
    """Seconds of one row.

    ``undefended``: of a single row without a gateway. ``batched``: per row in batches of 1000. ``measures``: the median of
    each measure for a single row. ``gate``: the gateway's own, which includes measuring the entropy and no other measure.
    """

    undefended: float
    batched: float
    measures: Mapping[str, float]
    gate: float = GATE_SECONDS


def measure_times(target: Target, prepared: PreparedTarget, repeats: int = _REPEATS) -> RowTimes:
    """The times of a target on this machine, on one core of it.

    Each row is timed ``repeats`` times and its least processor time counts, because other processes only add to it; of
    the rows the median is taken. A target's published times are taken as they are; measures that no toll prices have none.
    """
    images = prepared.data_split.honest.x
    timed = images[:_TIMED]
    with threadpool_limits(1):
        scores = prepared.victim.scores(timed)
        undefended = target.undefended or _seconds(prepared.victim.scores, timed, 1, repeats)
        large = np.resize(images, (_BATCHES * _BATCH, *images.shape[1:]))
        return RowTimes(
            undefended=undefended,
            batched=_seconds(prepared.victim.scores, large, _BATCH, repeats),
            measures={
                name: _seconds_of_measure(measure, scores, timed, repeats)
                for name, measure in prepared.leak_measures.items()
                if name not in UNPRICED and name not in target.estimators
            }
            | dict(target.estimators),
        )


def _seconds_of_measure(measure: LeakMeasure, scores: Floats, images: Floats, repeats: int) -> float:
    """The median seconds of a measure for one row; they do not depend on the scores' values."""
    return _seconds(lambda rows: measure_all({"one": measure}, scores[: len(rows)], rows), images, 1, repeats)


def measure_estimators(
    prepared: PreparedTarget, repeats: int = _REPEATS, progress: Progress = no_progress
) -> dict[str, float]:
    """Seconds of one core for a batch of 64 queries: of the model alone, and with the measures of each of ``ESTIMATORS``.

    Estimators whose measures the target lacks are left out. ``progress``: of the training of teachers.
    """
    votes = {} if prepared.vote_measures is None else prepared.vote_measures(progress)
    leak_measures = {**prepared.leak_measures, **votes}
    images = np.resize(prepared.data_split.honest.x, (2 * BATCH_OF_TABLE_5, *prepared.data_split.honest.x.shape[1:]))

    def timed(call: Callable[[Floats], object]) -> float:
        return BATCH_OF_TABLE_5 * _seconds(call, images, BATCH_OF_TABLE_5, repeats)

    with threadpool_limits(1):
        scores = prepared.victim.scores(images[:BATCH_OF_TABLE_5])
        found = {"inference": timed(prepared.victim.scores)}
        for name, measures in ESTIMATORS.items():
            if all(measure in leak_measures for measure in measures):
                chosen = {measure: leak_measures[measure] for measure in measures}
                found[name] = found["inference"] + timed(partial(measure_all, chosen, scores))
        return found


def _seconds(call: Callable[[Floats], object], images: Floats, batch_rows: int, repeats: int) -> float:
    """The median processor time of a call per row, over batches of ``batch_rows`` rows, each its least over the repeats.

    A repeat goes through all batches before the next one, so that a time of high load does not fall on all repeats of one.
    Calls that take long are repeated less often.
    """
    batches = [images[start : start + batch_rows] for start in range(0, len(images), batch_rows)]
    least = [math.inf] * len(batches)
    for _ in range(repeats):
        started = time.process_time()
        for place, batch in enumerate(batches):
            begin = time.process_time()
            call(batch)
            least[place] = min(least[place], (time.process_time() - begin) / len(batch))
        if time.process_time() - started > _LONG:
            break
    return statistics.median(least)


def write_times(path: Path, times: Mapping[str, RowTimes], origin: Mapping[str, Any]) -> None:
    """Write a file of the times of each target, by its name, and of how they were measured."""
    targets = {name: asdict(each) for name, each in times.items()}
    write_document(path, {"format": _FORMAT, **origin, "targets": targets})


def read_times(path: Path, target: str, measures: tuple[str, ...]) -> RowTimes:
    """The times of a target with these measures, from a file that ``write_times`` wrote.

    Raises:
        SettingsError: the file cannot be read, or lacks the target, one of its measures or one of its times.
    """
    try:
        document = json.loads(path.read_bytes())
        found = document["targets"][target]
        measured = {name: _positive(found["measures"][name]) for name in measures}
        return RowTimes(_positive(found["undefended"]), _positive(found["batched"]), measured, _positive(found["gate"]))
    except OSError as error:
        raise SettingsError([f"{path}: {error.strerror}"]) from None
    except KeyError as error:
        raise SettingsError(
            [f"{path} has no {error.args[0]!r} for {target}; modeltoll bench times measures it"]
        ) from None
    except (TypeError, ValueError):
        raise SettingsError([f"{path} is not a file of modeltoll bench times"]) from None


def _positive(value: Any) -> float:
    """A time that was read from a file. Raises ``ValueError`` where it is no positive number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < math.inf:
        raise ValueError(value)
    return float(value)
