"""A baseline whose rows have leaks of votes, too, each sample measured when an experiment first reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from modeltoll.bench.baseline import BaselineSample
from modeltoll.bench.baseline_images import (
    CALIBRATION,
    DECLARED,
    FILLER,
    KIND,
    STRANGER,
    SampleName,
    baseline_images,
)
from modeltoll.bench.lazy_mapping import LazyMapping
from modeltoll.bench.leak_measures import VOTE_MEASURES
from modeltoll.simulation.traffic import Rows

if TYPE_CHECKING:
    from modeltoll.bench.baseline import Baseline
    from modeltoll.bench.prepared_target import PreparedTarget
    from modeltoll.bench.targets import Target
    from modeltoll.bench.vote_leaks import VoteLeaks
    from modeltoll.records import Floats

__all__ = ["with_votes"]

_Sample = TypeVar("_Sample", BaselineSample, Rows)


def with_votes(baseline: Baseline, votes: VoteLeaks, target: Target, prepare: Callable[[], PreparedTarget]) -> Baseline:
    """The baseline with the leaks of votes after the others; ``prepare`` is called only to measure.

    Those of the calibration's rows are measured now, those of each other sample when it is first read.
    """

    def images(sample: SampleName) -> Floats:
        return next(found.x for name, found in baseline_images(target, prepare()) if name == sample)

    def voted(sort: str, name: str, sample: _Sample) -> _Sample:
        further = votes.of(sample.leaks, sample.classes, lambda: images((sort, name)))
        return replace(sample, leaks=np.hstack((sample.leaks, further)))

    def each(sort: str, samples: Mapping[str, _Sample]) -> Mapping[str, _Sample]:
        return LazyMapping(samples, lambda name: voted(sort, name, samples[name]))

    return replace(
        baseline,
        measures=(*baseline.measures, *VOTE_MEASURES),
        kinds=each(KIND, baseline.kinds),
        calibration=voted(CALIBRATION, "", baseline.calibration),
        declared=each(DECLARED, baseline.declared),
        strangers=each(STRANGER, baseline.strangers),
        fillers=each(FILLER, baseline.fillers),
    )
