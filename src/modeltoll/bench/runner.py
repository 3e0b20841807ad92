"""Run suites: each extraction once, then every experiment on it. Experiments that have results are skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.artifact_files import remove_partial_files
from modeltoll.bench.attack_setup import AttackSetup, prepare_attack
from modeltoll.bench.baseline_images import changed_images
from modeltoll.bench.checks import live_agrees, live_unchanged
from modeltoll.bench.datasets import Images
from modeltoll.bench.defences.registry import DEFENCES, NO_DEFENCE, make_defence
from modeltoll.bench.evaluate import ExperimentContext, evaluate_extraction, evaluate_honest, workload_rows
from modeltoll.bench.evasions.registry import NO_EVASION, image_change
from modeltoll.bench.experiment import HONEST, Experiment, ResultOrigin
from modeltoll.bench.extraction import ExtractionRun, StolenData, cached_seconds, load_cached, run_extraction
from modeltoll.bench.honest.workload import WORKLOADS
from modeltoll.bench.leak_measures import measure_all
from modeltoll.bench.meter import IMAGES_KEPT
from modeltoll.bench.result_files import StoredResults
from modeltoll.bench.shared_progress import no_progress, shared_progress, write_progress
from modeltoll.bench.shared_targets import (
    baseline_of,
    prepared_target,
    reads_votes,
    vote_leaks,
    voted_baseline,
)
from modeltoll.bench.targets import TARGETS
from modeltoll.bench.toll_schemes import CONFORMAL, DEFAULT_MEASURES, build_toll
from modeltoll.errors import ModeltollError
from modeltoll.leak.corruptions import parse_kinds
from modeltoll.pricing.leak_samples import select_measures, with_clean
from modeltoll.records import Leaks

if TYPE_CHECKING:
    from modeltoll.bench.attack_setup import AttackFactory
    from modeltoll.bench.baseline import Baseline
    from modeltoll.bench.experiment import Result
    from modeltoll.bench.prepared_target import PreparedTarget, Workspace
    from modeltoll.records import Floats, Progress

__all__ = [
    "LONG_SECONDS",
    "Job",
    "JobResult",
    "RunSettings",
    "extraction_of",
    "pending_jobs",
    "run_all",
    "run_job",
]

LONG_SECONDS = 600.0  # an extraction that took longer with the first seed is not repeated with others


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How jobs are run: the workspace, the folder of results, and the origin that is recorded in them.

    ``live``: this many rows of every extraction under our toll, without evasion, are also sent through a real gateway.
    """

    workspace: Workspace
    results: Path
    origin: ResultOrigin
    attack_factory: AttackFactory = prepare_attack
    live: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """Experiments on one extraction (None: they need none). Jobs are independent and can run on any machine."""

    extraction: ExtractionRun | None
    experiments: tuple[Experiment, ...]

    @property
    def title(self) -> str:
        """A title for terminals."""
        first = self.experiments[0]
        if self.extraction is None:
            return f"{first.dataset}, {first.attack}, seed {first.seed}"
        defence = "" if self.extraction.answers == NO_DEFENCE else f", {self.extraction.answers}"
        images = ", ".join(part for part in ("", self.extraction.foreign, self.extraction.change) if part)
        source = f", {images}" if images else ""
        return f"{first.dataset}, {first.attack}{source}{defence}, {self.extraction.queries:,} rows, seed {first.seed}"


@dataclass(frozen=True, slots=True)
class JobResult:
    """The results of a job, or the ``reason`` why there are none; ``failed``: the reason is an error."""

    job: Job
    results: tuple[Result, ...]
    reason: str = ""
    failed: bool = False


def extraction_of(experiment: Experiment) -> ExtractionRun | None:
    """The extraction that an experiment needs, or None; defences that do not change answers share one."""
    if experiment.attack == HONEST:
        return None
    answers = experiment.defence if DEFENCES.find(experiment.defence).answers else NO_DEFENCE
    return ExtractionRun(
        experiment.dataset,
        experiment.attack,
        experiment.profile,
        experiment.queries,
        experiment.seed,
        answers,
        experiment.foreign,
        image_change(experiment.evasion),
    )


def _can_run_live(experiment: Experiment) -> bool:
    """Whether its rows can be sent through a real gateway: an attack under our toll, without evasion or defence."""
    plain = (experiment.evasion, experiment.defence, experiment.tariff) == (NO_EVASION, NO_DEFENCE, CONFORMAL)
    return plain and experiment.attack != HONEST


def _is_done(experiment: Experiment, stored: StoredResults, *, live: bool) -> bool:
    document = stored.get(experiment)
    return document is not None and not (live and _can_run_live(experiment) and document["live"] is None)


def pending_jobs(experiments: Iterable[Experiment], results: Path, *, live: bool = False) -> list[Job]:
    """The jobs for the experiments that have no result in the folder, packed or not; grouped by extraction.

    Jobs are sorted by seed, then by data set, because preparing a data set takes time. ``live``: experiments that can be
    sent through a gateway need a result with a live run.

    Raises:
        DamagedFile: something in the folder is not a result.
    """
    stored = StoredResults(results)
    groups: dict[tuple[ExtractionRun | None, str], list[Experiment]] = {}
    for experiment in dict.fromkeys(experiments):
        if not _is_done(experiment, stored, live=live):
            groups.setdefault((extraction_of(experiment), experiment.dataset), []).append(experiment)
    jobs = [Job(extraction, tuple(group)) for (extraction, _), group in groups.items()]
    datasets = list(dict.fromkeys(job.experiments[0].dataset for job in jobs))
    return sorted(jobs, key=lambda job: (job.experiments[0].seed, datasets.index(job.experiments[0].dataset)))


def _price_oracle(prepared: PreparedTarget, baseline: Baseline, target: str) -> Callable[[Floats], Floats]:
    """The price (n,) of images under our tariff, in units, for attacks that are assumed to know it."""
    tariff = build_toll(baseline, CONFORMAL, DEFAULT_MEASURES, target).tariff
    leak_measures = {name: prepared.leak_measures[name] for name in tariff.measures}

    def price(images: Floats) -> Floats:
        scores = prepared.victim.scores(images)
        leaks = Leaks(tariff.measures, measure_all(leak_measures, scores, images), scores.argmax(axis=1))
        return tariff.assess(leaks, np.random.default_rng(0)).factors

    return price


def _with_changed_images(prepared: PreparedTarget, extraction: ExtractionRun) -> PreparedTarget:
    """The target whose attacker has the foreign images as the extraction changes them."""
    if not extraction.change:
        return prepared
    (change,) = parse_kinds(extraction.change)
    foreign = prepared.data_split.foreign
    images = changed_images(foreign.x, change, np.random.default_rng(extraction.seed))
    return replace(prepared, data_split=replace(prepared.data_split, foreign=Images(images, foreign.y)))


def _stolen_data(
    job: Job, extraction: ExtractionRun, settings: RunSettings, baseline: Baseline, progress: Progress
) -> StolenData:
    """The extraction's stolen data, from the cache or run now.

    Votes on its rows are measured afterwards, of its images. Where it asks more rows than it keeps images of, they are
    measured while it runs, if an experiment of the job reads them.
    """
    voted = any(map(reads_votes, job.experiments))

    def run() -> StolenData:
        target = TARGETS[extraction.target]
        prepared = _with_changed_images(
            prepared_target(extraction.target, replace(settings.workspace, foreign=extraction.foreign)), extraction
        )
        if voted and extraction.queries > IMAGES_KEPT:
            votes = vote_leaks(extraction.target, settings.workspace).measures()
            prepared = replace(prepared, leak_measures={**prepared.leak_measures, **votes})
        prepared_attack = settings.attack_factory(
            AttackSetup(extraction.attack, extraction.profile, target.architecture, prepared.classes)
        )
        defence = make_defence(extraction.answers, baseline)
        assert defence is not None  # extraction_of names only defences that change answers
        return run_extraction(
            extraction,
            prepared_attack,
            prepared,
            defence.answer,
            _price_oracle(prepared, baseline, extraction.target),
            progress,
        )

    return load_cached(extraction, settings.workspace.cache, run, voted=voted)


def _with_live_run(context: ExperimentContext, result: Result, stolen: StolenData, settings: RunSettings) -> Result:
    """The result with a live run of its first rows through a gateway."""
    from modeltoll.bench.live_gateway import LiveRun, run_live  # noqa: PLC0415  few runs need a gateway

    experiment, calibration = context.experiment, context.scheme.calibration
    assert calibration is not None  # the conformal toll has one
    prepared = prepared_target(experiment.dataset, replace(settings.workspace, foreign=experiment.foreign))
    leak_measures = {name: prepared.leak_measures[name] for name in context.scheme.measures}
    images = stolen.images[: settings.live]
    recorded = with_clean(context.baseline.measures, context.scheme.measures)
    leaks = select_measures(context.baseline.leaks(stolen.rows[: len(images)]), recorded)
    live = run_live(LiveRun(images, leaks, leak_measures, prepared.victim, calibration))
    checks = (live_agrees(live.measured_seconds, live.computed_seconds, live.rows), live_unchanged(live.changed))
    return replace(result, live=asdict(live), checks=(*result.checks, *checks))


def _takes_too_long(extraction: ExtractionRun, cache: Path) -> bool:
    """Whether it has a further seed and took more than ``LONG_SECONDS`` with the first one."""
    first_seconds = cached_seconds(replace(extraction, seed=0), cache) if extraction.seed else None
    return first_seconds is not None and first_seconds > LONG_SECONDS


def run_job(job: Job, settings: RunSettings, progress: Progress = no_progress) -> JobResult:
    """Run the extraction if it is not cached, evaluate every experiment, and write each result at once.

    An error fails this job only; results that were written stay. ``progress`` is called with the number of rows queried.
    """
    try:
        return _run_job(job, settings, progress)
    except ModeltollError as error:
        return JobResult(job, (), str(error), failed=True)


def _run_job(job: Job, settings: RunSettings, progress: Progress) -> JobResult:
    dataset, cache, stolen = job.experiments[0].dataset, settings.workspace.cache, None
    if job.extraction is not None and _takes_too_long(job.extraction, cache):
        return JobResult(job, (), f"its first seed took more than {LONG_SECONDS:g} s")
    baseline = baseline_of(dataset, settings.workspace)
    if job.extraction is not None:
        stolen = _stolen_data(job, job.extraction, settings, baseline, progress)
    results = []
    for experiment in job.experiments:
        if stolen is None and not _has_rows(experiment, baseline):
            continue
        result = _evaluate(experiment, stolen, settings)
        result.write(settings.results)
        results.append(result)
    return JobResult(job, tuple(results), "" if results else "the data set has no images of this kind")


def _evaluate(experiment: Experiment, stolen: StolenData | None, settings: RunSettings) -> Result:
    """The result of an experiment, of rows with the leaks by the measures that it reads."""
    dataset, workspace, voted = experiment.dataset, settings.workspace, reads_votes(experiment)
    baseline = voted_baseline(dataset, workspace) if voted else baseline_of(dataset, workspace)
    context = ExperimentContext.of(experiment, baseline, settings.origin)
    if stolen is None:
        return evaluate_honest(context)
    measured = stolen.measured_by(baseline.measures, vote_leaks(dataset, workspace) if voted else None)
    result = evaluate_extraction(context, measured)
    if settings.live and _can_run_live(experiment):
        result = _with_live_run(context, result, measured, settings)
    return result


def _has_rows(experiment: Experiment, baseline: Baseline) -> bool:
    """Whether the baseline has rows of the kind or class of an honest experiment."""
    workload = WORKLOADS[experiment.workload]
    return (
        workload_rows(replace(workload, drawn=min(workload.drawn, 1)), baseline, np.random.default_rng(0)) is not None
    )


def run_all(
    jobs: Sequence[Job],
    settings: RunSettings,
    processes: int,
    progress: Callable[[Job], Progress] = lambda _: no_progress,
) -> Iterator[JobResult]:
    """The results of the jobs as each ends: one after another in this process, or in several ``processes``.

    ``progress`` returns the callback for a job's number of queried rows.
    """
    if processes == 1:
        yield from (run_job(job, settings, progress(job)) for job in jobs)
        return
    from joblib import Parallel, delayed  # noqa: PLC0415  an extra

    with shared_progress([progress(job) for job in jobs]) as progress_file:
        calls = (
            delayed(run_job)(job, settings, partial(write_progress, progress_file, slot))
            for slot, job in enumerate(jobs)
        )
        try:
            yield from Parallel(n_jobs=processes, return_as="generator_unordered")(calls)
        finally:  # an interruption kills the processes while they may be writing
            remove_partial_files(settings.results)
            remove_partial_files(settings.workspace.cache)
