"""Evaluate experiments: what an extraction costs and what honest callers pay, computed from recorded leaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench import checks
from modeltoll.bench.defences.registry import make_defence, make_detector
from modeltoll.bench.evasions.evasion import GPU as ON_GPU
from modeltoll.bench.evasions.evasion import Cover
from modeltoll.bench.evasions.registry import EVASIONS, NO_EVASION
from modeltoll.bench.experiment import CurvePoint, Experiment, Result, ResultOrigin
from modeltoll.bench.hardware_costs import CPU_CORE, GPU, hardware_cost
from modeltoll.bench.honest.workload import WORKLOADS, PaidWorkload, RequestPattern, pay_for
from modeltoll.bench.lazy_mapping import LazyMapping
from modeltoll.bench.leak_measures import PATE_COST, PKNN_COST
from modeltoll.bench.paper_units import paper_units
from modeltoll.bench.toll_schemes import PUBLISHED, TollOnTarget, build_toll
from modeltoll.records import Caller
from modeltoll.simulation.engine import ScenarioResult, run_scenario
from modeltoll.simulation.scenarios import Scenario
from modeltoll.simulation.traffic import one_account, split_over_accounts

if TYPE_CHECKING:
    from modeltoll.bench.baseline import Baseline
    from modeltoll.bench.evasions.evasion import EvasionPlan
    from modeltoll.bench.extraction import CloneQuality, StolenData
    from modeltoll.bench.honest.workload import Workload
    from modeltoll.records import Floats
    from modeltoll.simulation.batch_tariffs import BatchCharges
    from modeltoll.simulation.traffic import Rows

__all__ = ["ExperimentContext", "evaluate_extraction", "evaluate_honest", "workload_rows"]

_HONEST_CALLER = Caller("key:user")
_CURVE_POINTS = 10
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "p999": 0.999}
_DETECTOR_CALLERS = 5  # honest callers for the false alarms of a detector


@dataclass(frozen=True, slots=True, eq=False)
class ExperimentContext:
    """An experiment with the baseline and toll it is evaluated on, and the origin to record in its result."""

    experiment: Experiment
    baseline: Baseline
    scheme: TollOnTarget
    origin: ResultOrigin

    @classmethod
    def of(cls, experiment: Experiment, baseline: Baseline, origin: ResultOrigin) -> ExperimentContext:
        """The context of an experiment; this builds its toll. Raises as ``build_toll``."""
        scheme = build_toll(baseline, experiment.tariff, experiment.measure, experiment.dataset, experiment.foreign)
        return cls(experiment, baseline, scheme, origin)

    @property
    def unit_seconds(self) -> float | None:
        """The unit of the toll in reference seconds; None if the toll has no unit."""
        return self.scheme.calibration.unit_seconds if self.scheme.calibration else None

    def rng(self, stream: int) -> np.random.Generator:
        """A generator of its own for each ``stream``."""
        return np.random.default_rng([self.experiment.seed, stream])

    def honest(self) -> ScenarioResult:
        """Ordinary honest rows, one per request, of one caller with a key."""
        scenario = Scenario("honest", "honest", "recorded", 1, one_account(self.baseline.honest.rows))
        return run_scenario(scenario, self.scheme.toll, _HONEST_CALLER, self.scheme.times, self.rng(1))

    def cover(self) -> Cover:
        """What evasions on this baseline can use."""
        baseline, scheme = self.baseline, self.scheme

        def price(rows: Rows) -> Floats:
            return scheme.toll.charge(split_over_accounts(rows, len(rows)), _HONEST_CALLER, self.rng(2)).seconds

        return Cover(baseline.honest.rows, baseline.fillers, baseline.times.undefended, price, scheme.replayable)


def _quantiles(waits: Floats) -> dict[str, float]:
    return {
        name: float(np.quantile(waits, share, method="higher")) if len(waits) else 0.0
        for name, share in _QUANTILES.items()
    }


def _solver(plan: EvasionPlan, scheme: TollOnTarget) -> Callable[[BatchCharges], Floats]:
    """The seconds (rows,) that the plan's solver takes; 0 for puzzles that are not solved."""

    def seconds(charged: BatchCharges) -> Floats:
        solving = scheme.gpu_seconds(charged) if plan.solver == ON_GPU else charged.seconds
        return solving if plan.solves is None else np.where(plan.solves, solving, 0.0)

    return seconds


def _trajectory(
    outcome: ScenarioResult, curve: tuple[CloneQuality, ...], measures: tuple[str, ...]
) -> tuple[CurvePoint, ...]:
    """Points of the extraction at even steps and wherever the clone was evaluated."""
    stolen_rows = np.flatnonzero(outcome.bought & outcome.traffic.wanted)
    if not len(stolen_rows):
        return ()
    known = {quality.queries: quality for quality in curve if quality.queries <= len(stolen_rows)}
    counts = sorted({*known, *np.linspace(0, len(stolen_rows), _CURVE_POINTS + 1).round().astype(int).tolist()} - {0})
    seconds, leaks = outcome.cumulative_seconds(), np.cumsum(outcome.traffic.leaks[stolen_rows], axis=0)
    points = []
    for count in counts:
        leak = dict(zip(measures, leaks[count - 1].tolist(), strict=True))
        quality = known.get(count)
        found = (quality.accuracy, quality.fidelity) if quality else (None, None)
        paid = float(seconds[stolen_rows[count - 1]])
        points.append(CurvePoint(count, count * outcome.times.undefended, paid, leak, *found))
    return tuple(points)


def _honest_cost(context: ExperimentContext, honest_ratio: float) -> dict[str, float | None]:
    """What the defence costs honest callers: accuracy, deviation of scores, false alarms, time."""
    name, sample = context.experiment.defence, context.baseline.honest
    cost: dict[str, float | None] = {"ratio": honest_ratio}
    if defence := make_defence(name, context.baseline):
        perturbed = defence.answer(sample.scores, sample.leaks)
        correct = perturbed.argmax(axis=1) == sample.truth
        cost["accuracy_lost"] = sample.accuracy - float(correct.mean())
        cost["scores_off"] = float(np.abs(perturbed - sample.scores).sum(axis=1).mean())
    if detector := make_detector(name, context.baseline):
        labels = sample.scores.argmax(axis=1)
        parts = np.array_split(np.arange(len(labels)), _DETECTOR_CALLERS)
        alarms = [detector.first_alarm(context.baseline.images[part], labels[part]) for part in parts]
        cost["false_alarms"] = sum(alarm is not None for alarm in alarms) / _DETECTOR_CALLERS
    return cost


def _alarms(context: ExperimentContext, stolen: StolenData, outcome: ScenarioResult) -> tuple[float, float | None]:
    """The share of accounts that come under suspicion, and the median row of the first alarm, counted from 1."""
    if detector := make_detector(context.experiment.defence, context.baseline):
        first = detector.first_alarm(stolen.images, stolen.labels[: len(stolen.images)])
        return (0.0, None) if first is None else (1.0, float(first))
    alarms = outcome.first_alarms()
    return len(alarms) / outcome.accounts, float(np.median(alarms)) if len(alarms) else None


def evaluate_extraction(context: ExperimentContext, stolen: StolenData) -> Result:
    """The result of an extraction under the toll, the defence and the evasion of its experiment."""
    experiment, scheme, baseline = context.experiment, context.scheme, context.baseline
    plan = EVASIONS[experiment.evasion].plan(stolen.rows, context.cover(), context.rng(3))
    outcome = run_scenario(plan.scenario, scheme.toll, plan.caller, scheme.times, context.rng(4), _solver(plan, scheme))
    honest = context.honest()
    solved = outcome.bought & outcome.paid & (outcome.work > 0.0)
    work_seconds = float(outcome.charges.seconds[solved].sum() + outcome.admission[outcome.paid].sum())
    whole, plain = outcome.queries == stolen.queries, experiment.evasion == NO_EVASION
    final = stolen.curve[-1] if whole and stolen.curve else None
    stolen_rows = outcome.bought & outcome.traffic.wanted
    suspected, first_alarm = _alarms(context, stolen, outcome)
    honest_ratio = honest.ratio or 1.0
    gpu_seconds = float(scheme.gpu_seconds(outcome.charges)[solved].sum())
    return Result(
        experiment=experiment,
        queries=outcome.queries,
        asked=int(outcome.paid.sum()),
        accounts=outcome.accounts,
        ratio=outcome.ratio,
        honest_ratio=honest_ratio,
        seconds_without=outcome.seconds_without,
        seconds_with=outcome.seconds_with,
        work_seconds=work_seconds,
        undefended_seconds=scheme.times.undefended,
        gate_seconds=scheme.times.gate,
        unit_seconds=context.unit_seconds,
        leak=dict(zip(stolen.measures, outcome.traffic.leaks[stolen_rows].sum(axis=0).tolist(), strict=True)),
        bills=(hardware_cost(CPU_CORE, work_seconds), hardware_cost(GPU, gpu_seconds)),
        waits=_quantiles(outcome.waits),
        suspected=suspected,
        first_alarm=first_alarm,
        checks=(
            checks.budget_spent(stolen, experiment.queries),
            checks.nothing_unmetered(stolen),
            *checks.honest_promise(scheme, honest_ratio),
        ),
        origin=context.origin,
        victim_accuracy=baseline.honest.accuracy,
        accuracy=final.accuracy if final else None,
        fidelity=final.fidelity if final else None,
        agreement=final.agreement if final else None,
        honest_cost=_honest_cost(context, honest_ratio) if plain else {},
        course=_trajectory(outcome, stolen.curve, stolen.measures) if plain else (),
        scaled=stolen.scaled,
        theft_seconds=stolen.seconds,
        paper=_paper(context, stolen) if plain else {},
    )


def _paper(context: ExperimentContext, stolen: StolenData) -> dict[str, float | str | None]:
    """The units of the paper for an extraction under the published toll on one of the paper's own costs, else none."""
    experiment, baseline = context.experiment, context.baseline
    if experiment.tariff != PUBLISHED or experiment.measure not in (PATE_COST, PKNN_COST):
        return {}
    standard = baseline.leaks(baseline.calibration.rows).values
    return paper_units(
        experiment.dataset, experiment.measure, stolen.measures, stolen.leaks, standard, baseline.private
    ).members


def workload_rows(workload: Workload, baseline: Baseline, rng: np.random.Generator) -> Rows | None:
    """The workload's rows on this baseline; None where it has none of its kind or class."""
    return workload.rows(LazyMapping(baseline.kinds, lambda name: baseline.kinds[name].rows), rng)


def _charged(context: ExperimentContext, workload: Workload, rows: Rows) -> PaidWorkload:
    """What the workload's requests cost: priced one by one as a gateway does, or drawn rows in one batch."""
    scheme = context.scheme
    if workload.drawn and workload.pattern == RequestPattern():
        scenario = Scenario("honest", "honest", "drawn", 1, one_account(rows))
        return PaidWorkload.at_once(run_scenario(scenario, scheme.toll, _HONEST_CALLER, scheme.times, context.rng(5)))
    leaks = context.baseline.leaks(rows)
    return pay_for(scheme.tariff, leaks, workload.pattern, _HONEST_CALLER, scheme.times, context.rng(5))


def evaluate_honest(context: ExperimentContext) -> Result:
    """The result of an honest caller with the experiment's workload, of which the baseline has rows."""
    experiment, scheme, baseline = context.experiment, context.scheme, context.baseline
    workload = WORKLOADS[experiment.workload]
    rows = workload_rows(workload, baseline, context.rng(6))
    assert rows is not None  # the runner leaves out workloads without rows
    paid = _charged(context, workload, rows)
    honest_ratio = context.honest().ratio or 1.0
    without = float(paid.rows.sum()) * scheme.times.undefended
    alarms = np.flatnonzero(paid.surcharges > 1.0)
    cost: dict[str, float | None] = {"ratio": paid.ratio}
    if workload.pattern.rows > 1:  # a model server needs less time per row in batches
        cost["ratio_to_batched"] = float(paid.waits.sum() / (paid.rows.sum() * baseline.times.batched))
    return Result(
        experiment=experiment,
        queries=int(paid.rows.sum()),
        asked=int(paid.rows.sum()),
        accounts=1,
        ratio=paid.ratio,
        honest_ratio=honest_ratio,
        seconds_without=without,
        seconds_with=float(paid.waits.sum()),
        work_seconds=float(paid.work.sum()),
        undefended_seconds=scheme.times.undefended,
        gate_seconds=scheme.times.gate,
        unit_seconds=context.unit_seconds,
        leak=dict(zip(baseline.measures, rows.leaks.sum(axis=0).tolist(), strict=True)),
        bills=(hardware_cost(CPU_CORE, float(paid.work.sum())),),
        waits=_quantiles(paid.waits),
        suspected=paid.suspected,
        first_alarm=float(paid.rows[: alarms[0] + 1].sum()) if len(alarms) else None,
        checks=(*checks.honest_promise(scheme, honest_ratio), *_promises(context, workload, paid)),
        origin=context.origin,
        victim_accuracy=baseline.kinds.get(workload.kind, baseline.honest).accuracy,
        honest_cost=cost,
    )


def _promises(context: ExperimentContext, workload: Workload, paid: PaidWorkload) -> tuple[checks.Check, ...]:
    """The checks of what an operator promises to callers of declared kinds, which its calibration must know well enough."""
    calibration = context.scheme.calibration
    if calibration is None or not workload.declared or not any(kind.scores is not None for kind in calibration.kinds):
        return ()
    return checks.kind_promise(paid.ratio, paid.suspected)
