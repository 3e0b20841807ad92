"""Suites run: each theft once, then every experiment that rests on it. What is done already is left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.artifact_files import remove_partial_files
from modeltoll.bench.attack_setup import AttackFactory, prepare_attack
from modeltoll.bench.baseline import Baseline, measure_baseline
from modeltoll.bench.checks import live_agrees, live_unchanged
from modeltoll.bench.defences.registry import DEFENCES, TRUTH, answering
from modeltoll.bench.evaluate import ExperimentContext, evaluate_honest, evaluate_theft
from modeltoll.bench.evasions.registry import PLAIN
from modeltoll.bench.experiment import HONEST, Experiment, Provenance
from modeltoll.bench.extraction import ExtractionRun, StolenData, cached_seconds, load_cached, run_extraction
from modeltoll.bench.honest.workload import WORKLOADS
from modeltoll.bench.leak_measures import measure_all
from modeltoll.bench.result_files import StoredResults
from modeltoll.bench.shared_progress import no_progress, note_rows, shared_progress
from modeltoll.bench.targets import TARGETS, PreparedTarget, Workspace
from modeltoll.bench.toll_schemes import CONFORMAL, DEFAULT, build_toll
from modeltoll.errors import ModeltollError
from modeltoll.pricing.leak_samples import select_measures
from modeltoll.records import Leaks

if TYPE_CHECKING:
    from modeltoll.bench.attack_setup import AttackPreparation
    from modeltoll.bench.experiment import Result
    from modeltoll.records import Floats, Progress

__all__ = [
    "LONG_SECONDS",
    "Job",
    "JobResult",
    "RunSettings",
    "extraction_of",
    "pending_jobs",
    "prepare",
    "run_all",
    "run_job",
]

LONG_SECONDS = 600.0  # a theft that took longer with the first seed is not repeated with others


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How a suite is run: where everything is, and what the results will say of their origin.

    ``live``: so many rows of every plain theft under our toll are driven through a real gateway, too.
    """

    workspace: Workspace
    results: Path
    origin: Provenance
    prepare: AttackPreparation = prepare_attack
    live: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """Experiments that rest on one theft (None: on none). Errands share nothing, and may be run anywhere."""

    extraction: ExtractionRun | None
    experiments: tuple[Experiment, ...]

    @property
    def title(self) -> str:
        """What to call it on a screen."""
        first = self.experiments[0]
        told = "" if self.extraction is None or self.extraction.answers == TRUTH else f", {self.extraction.answers}"
        rows = "" if self.extraction is None else f", {self.extraction.queries:,} rows"
        return f"{first.dataset}, {first.attack}{told}{rows}, seed {first.seed}"


@dataclass(frozen=True, slots=True)
class JobResult:
    """What came of an errand: its results, or ``left``, the reason why there are none; ``failed``: it was an error."""

    job: Job
    results: tuple[Result, ...]
    left: str = ""
    failed: bool = False


def extraction_of(experiment: Experiment) -> ExtractionRun | None:
    """The theft that an experiment rests on; defences that change nothing that is told share one."""
    if experiment.attack == HONEST:
        return None
    answers = experiment.defence if DEFENCES.find(experiment.defence).answers else TRUTH
    return ExtractionRun(
        experiment.dataset,
        experiment.attack,
        experiment.profile,
        experiment.queries,
        experiment.seed,
        answers,
        experiment.foreign,
    )


def _can_run_live(experiment: Experiment) -> bool:
    """Whether its rows can be driven through a gateway as they are."""
    plain = (experiment.evasion, experiment.defence, experiment.tariff) == (PLAIN, TRUTH, CONFORMAL)
    return plain and experiment.attack != HONEST


def _done(experiment: Experiment, stored: StoredResults, *, live: bool) -> bool:
    document = stored.get(experiment)
    return document is not None and not (live and _can_run_live(experiment) and document["live"] is None)


def pending_jobs(experiments: Iterable[Experiment], results: Path, *, live: bool = False) -> list[Job]:
    """What is still to be done, grouped by theft; experiments whose result lies there already, packed or not, are left out.

    First everything with seed 0, one data set after another, since making one ready takes a while.

    ``live``: so are those that were driven through a gateway, not others that could be.

    Raises:
        DamagedFile: something there is not a result.
    """
    stored = StoredResults(results)
    groups: dict[tuple[ExtractionRun | None, str], list[Experiment]] = {}
    for experiment in dict.fromkeys(experiments):
        if not _done(experiment, stored, live=live):
            groups.setdefault((extraction_of(experiment), experiment.dataset), []).append(experiment)
    found = [Job(extraction, tuple(group)) for (extraction, _), group in groups.items()]
    datasets = list(dict.fromkeys(job.experiments[0].dataset for job in found))
    return sorted(found, key=lambda job: (job.experiments[0].seed, datasets.index(job.experiments[0].dataset)))


@lru_cache(maxsize=1)
def _target(name: str, workspace: Workspace) -> PreparedTarget:
    return TARGETS[name].ready(workspace, no_progress)


@lru_cache(maxsize=4)
def _baseline(name: str, workspace: Workspace) -> Baseline:
    return measure_baseline(TARGETS[name], workspace.cache, lambda: _target(name, workspace))


def prepare(name: str, workspace: Workspace, progress: Progress) -> None:
    """Train and measure what a target needs, where that is not in the cache: before several processes want it at once.

    Raises:
        DataError: its data sets are not at hand.
    """
    measure_baseline(TARGETS[name], workspace.cache, lambda: TARGETS[name].ready(workspace, progress))


def _price_oracle(prepared: PreparedTarget, baseline: Baseline, target: str) -> Callable[[Floats], Floats]:
    """What a thief with a perfect guess knows: the price of each image under our tariff, (n,), in units."""
    tariff = build_toll(baseline, CONFORMAL, DEFAULT, target).tariff
    leak_measures = {name: prepared.leak_measures[name] for name in tariff.measures}

    def price(images: Floats) -> Floats:
        leaks = measure_all(leak_measures, prepared.victim.scores(images), images)
        return tariff.assess(Leaks(tariff.measures, leaks), np.random.default_rng(0)).factors

    return price


def _stolen_data(extraction: ExtractionRun, run: RunSettings, baseline: Baseline, progress: Progress) -> StolenData:
    """The theft's, run now where it is not in the cache."""

    def stolen() -> StolenData:
        prepared, target = (
            _target(extraction.target, replace(run.workspace, foreign=extraction.foreign)),
            TARGETS[extraction.target],
        )
        prepared_attack = run.prepare(
            AttackFactory(extraction.attack, extraction.profile, target.architecture, prepared.classes)
        )
        defence = answering(extraction.answers, baseline)
        assert defence is not None  # as extraction_of says
        return run_extraction(
            extraction,
            prepared_attack,
            prepared,
            defence.answer,
            _price_oracle(prepared, baseline, extraction.target),
            progress,
        )

    return load_cached(extraction, run.workspace.cache, stolen)


def _with_live_run(context: ExperimentContext, result: Result, stolen: StolenData, run: RunSettings) -> Result:
    """The result with what came of driving its first rows through a gateway."""
    from modeltoll.bench.live_gateway import LiveRun, run_live  # noqa: PLC0415  few runs need a gateway

    plan, calibration = context.experiment, context.scheme.calibration
    assert calibration is not None  # the conformal toll has one
    prepared = _target(plan.dataset, replace(run.workspace, foreign=plan.foreign))
    leak_measures = {name: prepared.leak_measures[name] for name in context.scheme.measures}
    images = stolen.images[: run.live]
    leaks = select_measures(context.baseline.leaks(stolen.leaks[: len(images)]), context.scheme.measures)
    live = run_live(LiveRun(images, leaks.values, leak_measures, prepared.victim, calibration))
    found = (live_agrees(live.measured_seconds, live.computed_seconds, live.rows), live_unchanged(live.changed))
    return replace(result, live=asdict(live), checks=(*result.checks, *found))


def _takes_too_long(extraction: ExtractionRun, cache: Path) -> bool:
    """Whether it took so long with the first seed that once must do."""
    first = cached_seconds(replace(extraction, seed=0), cache) if extraction.seed else None
    return first is not None and first > LONG_SECONDS


def run_job(job: Job, run: RunSettings, progress: Progress = no_progress) -> JobResult:
    """Steal, unless that was done before; price every experiment, and write each result as soon as it is there.

    What is missing or breaks a rule fails this errand alone; results that were written stay. ``progress`` hears of the
    rows that a theft has asked for.
    """
    try:
        return _run(job, run, progress)
    except ModeltollError as error:
        return JobResult(job, (), str(error), failed=True)


def _run(job: Job, run: RunSettings, progress: Progress) -> JobResult:
    name, cache, stolen = job.experiments[0].dataset, run.workspace.cache, None
    if job.extraction is not None and _takes_too_long(job.extraction, cache):
        return JobResult(job, (), f"its first seed took more than {LONG_SECONDS:g} s")
    baseline = _baseline(name, run.workspace)
    if job.extraction is not None:
        stolen = _stolen_data(job.extraction, run, baseline, progress)
    results = []
    for experiment in job.experiments:
        if stolen is None and WORKLOADS[experiment.workload].kind not in baseline.kinds:
            continue
        context = ExperimentContext.of(experiment, baseline, run.origin)
        result = evaluate_honest(context) if stolen is None else evaluate_theft(context, stolen)
        if run.live and stolen is not None and _can_run_live(experiment):
            result = _with_live_run(context, result, stolen, run)
        result.write(run.results)
        results.append(result)
    return JobResult(job, tuple(results), "" if results else "there are no such images here")


def run_all(
    found: Sequence[Job], run: RunSettings, jobs: int, progress: Callable[[Job], Progress] = lambda _: no_progress
) -> Iterator[JobResult]:
    """Every errand's outcome, as each is done: one after another, or in so many processes.

    ``progress`` gives what hears of an errand's rows while it is at work.
    """
    if jobs == 1:
        yield from (run_job(job, run, progress(job)) for job in found)
        return
    from joblib import Parallel, delayed  # noqa: PLC0415  an extra

    with shared_progress([progress(job) for job in found]) as board:
        calls = (delayed(run_job)(one, run, partial(note_rows, board, place)) for place, one in enumerate(found))
        try:
            yield from Parallel(n_jobs=jobs, return_as="generator_unordered")(calls)
        finally:  # an interruption kills the processes, whatever they are writing
            remove_partial_files(run.results)
            remove_partial_files(run.workspace.cache)
