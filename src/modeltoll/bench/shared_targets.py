"""What the jobs of a process share of a target: prepared, its baseline, and the leaks of its teachers' votes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.baseline import Baseline, measure_baseline
from modeltoll.bench.baseline_votes import with_votes
from modeltoll.bench.evaluate import workload_rows
from modeltoll.bench.experiment import HONEST
from modeltoll.bench.honest.distribution_shifts import ORDINARY
from modeltoll.bench.honest.workload import WORKLOADS
from modeltoll.bench.leak_measures import VOTE_MEASURES
from modeltoll.bench.shared_progress import no_progress
from modeltoll.bench.targets import TARGETS
from modeltoll.bench.vote_leaks import VoteLeaks

if TYPE_CHECKING:
    from modeltoll.bench.experiment import Experiment
    from modeltoll.bench.leak_measures import Measures
    from modeltoll.bench.prepared_target import PreparedTarget, Workspace
    from modeltoll.records import Progress

__all__ = ["baseline_of", "prepare_target", "prepared_target", "reads_votes", "vote_leaks", "voted_baseline"]


def reads_votes(experiment: Experiment) -> bool:
    """Whether its toll prices votes of teachers; those of no other experiment are measured, nor are they in its result."""
    priced = experiment.measure.split("+")
    return TARGETS[experiment.dataset].teachers is not None and not set(VOTE_MEASURES).isdisjoint(priced)


@lru_cache(maxsize=1)
def prepared_target(name: str, workspace: Workspace) -> PreparedTarget:
    """The target, ready for experiments; the last one is kept. Raises as ``Target.prepare``."""
    return TARGETS[name].prepare(workspace, no_progress)


@lru_cache(maxsize=4)
def baseline_of(name: str, workspace: Workspace) -> Baseline:
    """The target's baseline, without votes. Raises as ``measure_baseline``."""
    return measure_baseline(TARGETS[name], workspace.cache, partial(prepared_target, name, workspace), workspace.times)


@lru_cache(maxsize=4)
def vote_leaks(name: str, workspace: Workspace) -> VoteLeaks:
    """The leaks of the votes of a target's teachers."""
    return _vote_leaks(name, workspace, partial(prepared_target, name, workspace), no_progress)


@lru_cache(maxsize=4)
def voted_baseline(name: str, workspace: Workspace) -> Baseline:
    """The target's baseline with leaks of votes, of the samples that are read."""
    votes, prepare = vote_leaks(name, workspace), partial(prepared_target, name, workspace)
    return with_votes(baseline_of(name, workspace), votes, TARGETS[name], prepare)


def _vote_leaks(
    name: str, workspace: Workspace, prepare: Callable[[], PreparedTarget], progress: Progress
) -> VoteLeaks:
    @cache
    def measures() -> Measures:
        make = prepare().vote_measures
        assert make is not None  # the target has teachers
        return make(progress)

    teachers = TARGETS[name].teachers
    assert teachers is not None  # as above
    return VoteLeaks(workspace.cache / f"vote-leaks-{name}-{teachers()}", measures)


def prepare_target(name: str, workspace: Workspace, progress: Progress, experiments: Iterable[Experiment]) -> None:
    """Train and measure what experiments on a target need and the cache lacks, but what they need of stolen rows and fillers.

    Call it before several processes use the target, which would train and measure the same.

    Raises:
        DataError: its data sets are missing. SettingsError: the workspace's file of times lacks something of the target.
    """
    prepare = cache(partial(TARGETS[name].prepare, workspace, progress))
    baseline = measure_baseline(TARGETS[name], workspace.cache, prepare, workspace.times)
    voted = [experiment for experiment in experiments if reads_votes(experiment)]
    if not voted:
        return
    baseline = with_votes(baseline, _vote_leaks(name, workspace, prepare, progress), TARGETS[name], prepare)
    honest = {experiment.workload for experiment in voted if experiment.attack == HONEST}
    for workload in (ORDINARY, *honest):  # every experiment reads the ordinary rows
        workload_rows(WORKLOADS[workload], baseline, np.random.default_rng(0))
