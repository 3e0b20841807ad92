"""Evaluations charge extractions and honest callers as the tariff and the gateway do."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modeltoll.bench import checks
from modeltoll.bench.artifact_files import DamagedFile
from modeltoll.bench.evaluate import ExperimentContext, evaluate_extraction, evaluate_honest, workload_rows
from modeltoll.bench.evasions.registry import EVASIONS
from modeltoll.bench.experiment import Experiment, ResultOrigin, experiment_of
from modeltoll.bench.extraction import CloneQuality, StolenData
from modeltoll.bench.hardware_costs import (
    ARGON2ID,
    CPU_CORE,
    GPU,
    GPU_SHA256,
    SHA256,
    gpu_argon2id,
    gpu_cores,
    hardware_cost,
    memory_of,
)
from modeltoll.bench.honest.distribution_shifts import ORDINARY
from modeltoll.bench.honest.file_callers import DECLARED_CALLERS, UNDECLARED_CALLERS
from modeltoll.bench.honest.workload import WORKLOADS, RequestPattern, pay_for
from modeltoll.bench.leak_measures import ENTROPY, measure_all
from modeltoll.bench.result_files import read_results
from modeltoll.bench.targets import PATCHES
from modeltoll.bench.toll_schemes import (
    CLASSES_ONLY,
    CONFORMAL,
    DEFAULT_MEASURES,
    NO_TOLL,
    PUBLISHED,
    UNKNOWN_STRANGERS,
    WITHOUT_KINDS,
    build_toll,
)
from modeltoll.errors import SettingsError
from modeltoll.gateway.core.credit import DEFAULT_CREDIT
from modeltoll.puzzle.counter import Argon2idCounter
from modeltoll.puzzle.machine_profile import DEFAULT_PROFILE
from modeltoll.puzzle.precomputed import PrecomputedPool
from modeltoll.records import Caller, Work
from modeltoll.simulation.engine import run_scenario
from modeltoll.simulation.scenarios import Scenario
from modeltoll.simulation.traffic import one_account

USER = Caller("key:user")
MEASURED = Path(__file__).parents[2] / "results" / "benchmarks" / "bench_gateway_without_kinds.json"
ORIGIN = ResultOrigin("a test", "a machine", {"python": "3"})
ROWS = 120


def experiment(tariff=CONFORMAL, measure=DEFAULT_MEASURES, **changes):
    plain = Experiment("quick", "digits", "copycat", "none", "none", tariff, measure, "quick", 0, ROWS)
    return replace(plain, **changes)


def context(baseline, *args, **kwargs):
    return ExperimentContext.of(experiment(*args, **kwargs), baseline, ORIGIN)


@pytest.fixture(scope="module")
def stolen(prepared):
    """Stolen foreign images, with a clone that improves."""
    images = prepared.data_split.foreign.x[:ROWS]
    scores = prepared.victim.scores(images)
    curve = (CloneQuality(60, 0.4, 0.5, 0.6), CloneQuality(ROWS, 0.6, 0.7, 0.8))
    leaks = measure_all(prepared.leak_measures, scores, images)
    return StolenData(
        tuple(prepared.leak_measures), images, scores.argmax(axis=1), leaks, curve, ROWS, 1.0, {"epochs": (50, 10)}
    )


def test_without_a_toll_every_ratio_is_1(baseline, stolen):
    result = evaluate_extraction(context(baseline, NO_TOLL, ""), stolen)
    assert (result.ratio, result.honest_ratio, result.work_seconds) == (pytest.approx(1.0), pytest.approx(1.0), 0.0)
    assert result.accuracy == 0.6
    assert all(check.holds for check in result.checks)


def test_the_gateways_own_time_is_that_of_the_benchmark(baseline):
    ledgers = {each["ledger"]: each["own_p50_ms"] / 1000 for each in json.loads(MEASURED.read_text())["ledgers"]}
    here = context(baseline)
    measured = sum(baseline.times.measures[name] for name in here.scheme.measures if name != ENTROPY)
    assert here.scheme.times.gate - measured == pytest.approx(ledgers["sqlite"])


def test_an_extraction_costs_the_sum_of_its_rows(baseline, stolen):
    here = context(baseline)
    result = evaluate_extraction(here, stolen)
    own = ROWS * (here.scheme.times.undefended + here.scheme.times.gate)
    assert result.seconds_with == pytest.approx(own + result.work_seconds)
    assert result.ratio == pytest.approx(result.seconds_with / (ROWS * baseline.times.undefended))
    assert result.ratio > 100 * result.honest_ratio
    assert result.leak["entropy"] == pytest.approx(stolen.leaks[:, stolen.measures.index("entropy")].sum())
    assert result.bills[0].joules == pytest.approx(CPU_CORE.watts * result.work_seconds)
    assert result.course[-1].seconds_with == pytest.approx(result.seconds_with)
    assert [point.accuracy for point in result.course if point.accuracy is not None] == [0.4, 0.6]
    assert result.unit_seconds == pytest.approx(baseline.times.undefended - here.scheme.times.gate)


@pytest.mark.parametrize("tariff", [(CONFORMAL, DEFAULT_MEASURES), (PUBLISHED, "entropy"), (NO_TOLL, "")])
@pytest.mark.parametrize("name", EVASIONS)
def test_every_evasion_can_be_evaluated_under_every_toll(baseline, stolen, name, tariff):
    result = evaluate_extraction(context(baseline, *tariff, evasion=name), stolen)
    assert result.ratio is None or 1.0 <= result.ratio < 1e6
    assert result.document()["evasion"] == name
    assert (result.accuracy is None) == (result.queries != stolen.queries)


def test_the_published_toll_accepts_replayed_solutions_and_ours_does_not(baseline, stolen):
    theirs = [
        evaluate_extraction(context(baseline, PUBLISHED, "entropy", evasion=name), stolen)
        for name in ("none", "replay")
    ]
    assert theirs[1].work_seconds < theirs[0].work_seconds / 50
    ours = [evaluate_extraction(context(baseline, evasion=name), stolen) for name in ("none", "replay")]
    assert ours[1].work_seconds == pytest.approx(ours[0].work_seconds, rel=0.05)
    assert ours[1].asked == 2 * ROWS
    assert ours[1].ratio > ours[0].ratio


def test_the_thief_does_not_pay_the_honest_rows_of_shared_accounts(baseline, stolen):
    result = evaluate_extraction(context(baseline, NO_TOLL, "", evasion="joining-10"), stolen)
    assert (result.queries, result.asked, result.accounts) == (ROWS, ROWS, 10)
    assert result.ratio == pytest.approx(1.0)


def test_the_cheaper_half_is_chosen_by_known_prices(baseline, stolen):
    whole, half = (evaluate_extraction(context(baseline, evasion=name), stolen) for name in ("none", "cheap half"))
    assert (half.queries, half.asked) == (ROWS // 2, ROWS // 2)
    assert half.work_seconds < whole.work_seconds / 2
    assert half.accuracy is None


def test_a_gpu_reduces_the_solving_time_only(baseline, stolen):
    core, card = (evaluate_extraction(context(baseline, evasion=name), stolen) for name in ("none", "graphics card"))
    assert 1.0 < card.ratio < core.ratio
    assert card.bills == core.bills


def test_other_defences_state_their_cost_to_honest_callers(baseline, stolen):
    cost = evaluate_extraction(context(baseline, NO_TOLL, "", defence="reverse sigmoid"), stolen).honest_cost
    assert cost["scores_off"] > 0.0
    assert (
        evaluate_extraction(context(baseline, NO_TOLL, "", defence="top-1"), stolen).honest_cost["accuracy_lost"] == 0.0
    )
    detected = evaluate_extraction(context(baseline, NO_TOLL, "", defence="PRADA"), stolen)
    assert 0.0 <= detected.honest_cost["false_alarms"] <= 1.0
    assert detected.suspected in (0.0, 1.0)


def test_request_by_request_costs_what_all_rows_at_once_cost(baseline):
    """The exact path, through accounts as in a ledger, agrees with the batch path."""
    scheme = build_toll(baseline, CONFORMAL, DEFAULT_MEASURES, "digits")
    leaks = baseline.leaks(baseline.honest.rows)
    paid = pay_for(scheme.tariff, leaks, RequestPattern(pause=0.0), USER, scheme.times, np.random.default_rng(0))
    scenario = Scenario("honest", "honest", "", 1, one_account(baseline.honest.rows))
    outcome = run_scenario(scenario, scheme.toll, USER, scheme.times, np.random.default_rng(0))
    assert np.allclose(paid.work, outcome.charges.seconds)
    assert paid.ratio == pytest.approx(outcome.ratio)
    published = build_toll(baseline, PUBLISHED, "entropy", "digits")
    slowly = pay_for(published.tariff, leaks, RequestPattern(), USER, published.times, np.random.default_rng(0))
    at_once = run_scenario(scenario, published.toll, USER, published.times, np.random.default_rng(0))
    assert np.allclose(slowly.work, at_once.charges.seconds)


def test_a_suspect_pays_request_by_request_what_all_rows_at_once_cost(baseline, stolen):
    """With the clean leaks that price suspects, as recorded beside the usual ones."""
    scheme = build_toll(baseline, CONFORMAL, DEFAULT_MEASURES, "digits")
    assert "novelty:clean" in baseline.measures
    thief, rows = Caller("key:thief"), stolen.rows
    paid = pay_for(scheme.tariff, baseline.leaks(rows), RequestPattern(), thief, scheme.times, np.random.default_rng(0))
    at_once = scheme.toll.charge(one_account(rows), thief, np.random.default_rng(0))
    assert at_once.suspected.any()
    assert np.array_equal(paid.surcharges > 1.0, at_once.suspected)
    assert np.allclose(paid.work[:60], at_once.seconds[:60], rtol=0.06), "the evidence is known to a tenth of a nat"
    assert paid.work.sum() == pytest.approx(at_once.seconds.sum(), rel=0.05), (
        "later the batch looks every 8 % of the rows"
    )


def test_batches_cost_honest_callers_the_same_work(baseline):
    scheme = build_toll(baseline, CONFORMAL, DEFAULT_MEASURES, "digits")
    leaks = baseline.leaks(baseline.honest.rows)
    work = [
        pay_for(scheme.tariff, leaks, pattern, USER, scheme.times, np.random.default_rng(0)).work.sum()
        for pattern in (RequestPattern(), RequestPattern(rows=100), RequestPattern(burst=50, pause=86_400.0))
    ]
    assert np.allclose(work, work[0])


@pytest.mark.parametrize("workload", WORKLOADS)
def test_honest_workloads_are_evaluated(baseline, workload):
    planned = WORKLOADS[workload]
    if workload_rows(replace(planned, drawn=min(1, planned.drawn)), baseline, np.random.default_rng(0)) is None:
        of_tables = {"other digits", "jittered columns", "missing values", "rescaled"}
        assert planned.kind in {*of_tables, *DECLARED_CALLERS, *UNDECLARED_CALLERS}, "no images have these"
        return
    result = evaluate_honest(context(baseline, attack="honest", workload=workload))
    assert result.ratio >= 1.0
    assert result.waits["p50"] <= result.waits["p99"] <= result.waits["p999"]
    assert ("ratio_to_batched" in result.honest_cost) == (workload == "batches of 1000")
    if planned.drawn:
        assert result.queries == planned.drawn
    if planned.kind == ORDINARY:
        assert result.suspected == 0.0
        assert all(check.holds for check in result.checks)


def test_a_workload_of_one_class_has_only_rows_of_that_predicted_class(baseline):
    rows = workload_rows(WORKLOADS["class 3"], baseline, np.random.default_rng(0))
    assert set(rows.classes.tolist()) == {3}
    assert len(rows) == (baseline.honest.classes == 3).sum()


def test_kinds_free_honest_callers_that_are_suspected_without_them(baseline):
    """The story of kinds: some declared kind is suspected where all traffic is one kind, none where they are declared."""
    with_kinds, without = (
        {
            name: evaluate_honest(context(baseline, toll, attack="honest", workload=name)).suspected
            for name in baseline.kinds
            if WORKLOADS[name].declared
        }
        for toll in (CONFORMAL, WITHOUT_KINDS)
    )
    assert max(with_kinds.values()) == 0.0
    assert max(without.values()) > 0.0


def test_tolls_know_what_their_operator_declares(baseline):
    """Kinds, classes and strangers; the thief's family is left out where it is unknown."""

    def known(toll, foreign=""):
        calibration = build_toll(baseline, toll, DEFAULT_MEASURES, "digits", foreign).calibration
        roles = {kind.role for kind in calibration.kinds}
        return roles, {stranger.name for stranger in calibration.strangers}, calibration

    roles, families, calibration = known(CONFORMAL)
    assert roles == {"all traffic", "class", "declared"}
    assert families == set(baseline.strangers) == {PATCHES, "noise"}
    assert {kind.name for kind in calibration.kinds} >= set(baseline.declared)
    assert known(UNKNOWN_STRANGERS)[1] == {"noise"}
    assert known(UNKNOWN_STRANGERS, "noise")[1] == {PATCHES}
    assert known(CLASSES_ONLY)[0] == {"all traffic", "class"}
    roles, families, calibration = known(WITHOUT_KINDS)
    assert (roles, families) == ({"all traffic"}, set())
    assert calibration.measures == ("entropy", "novelty:clean"), "as before kinds, by the measure fitted without them"


def test_a_thief_whom_the_operator_knows_pays_at_least_as_much(baseline, stolen):
    known, unknown = (
        evaluate_extraction(context(baseline, toll, evasion="accounts-10"), stolen).ratio
        for toll in (CONFORMAL, UNKNOWN_STRANGERS)
    )
    assert known >= 0.95 * unknown


def test_fillers_that_are_not_paid_gain_no_more_than_the_credit(baseline, stolen):
    paid, unpaid = (
        evaluate_extraction(context(baseline, evasion=name), stolen) for name in ("fresh-fillers-16", "unpaid-16")
    )
    assert unpaid.queries == paid.queries == ROWS
    unit = context(baseline).unit_seconds
    assert unpaid.work_seconds >= paid.work_seconds - DEFAULT_CREDIT.at(USER, unit) - 17 * ROWS * unit
    free = evaluate_extraction(context(baseline, NO_TOLL, "", evasion="unpaid-16"), stolen)
    assert free.ratio == pytest.approx(17.0)


def test_the_thief_does_not_pay_the_bank(baseline, stolen):
    result = evaluate_extraction(context(baseline, NO_TOLL, "", evasion="bank"), stolen)
    assert (result.queries, result.asked) == (ROWS, ROWS)
    assert result.ratio == pytest.approx(1.0)


def test_a_measure_that_a_target_does_not_have_is_named(baseline):
    with pytest.raises(SettingsError) as refused:
        build_toll(baseline, PUBLISHED, "pate-cost", "digits")
    assert "digits has no measure pate-cost" in refused.value.faults[0]


def test_a_result_is_one_file_with_the_agreed_keys(baseline, stolen, tmp_path):
    result = evaluate_extraction(context(baseline), stolen)
    path = result.write(tmp_path)
    (document,) = read_results(tmp_path)
    agreed = (
        "suite dataset attack evasion defence tariff measure seed queries accounts ratio honest_ratio accuracy fidelity "
        "checks machine command versions"
    )
    assert set(agreed.split()) <= set(document)
    assert experiment_of(document) == result.experiment
    assert path.parent == tmp_path / "quick" / "digits"
    path.write_text("{}")
    with pytest.raises(DamagedFile, match="not a result"):
        list(read_results(tmp_path))


def test_experiments_that_differ_have_different_files(tmp_path):
    changes = ({}, {"seed": 1}, {"evasion": "replay"}, {"tariff": NO_TOLL}, {"queries": 7}, {"profile": "full"})
    assert len({experiment(**change).file(tmp_path) for change in changes}) == len(changes)


def test_hardware_costs_follow_the_published_rates():
    cost = hardware_cost(GPU, 3600.0)
    assert (cost.joules, cost.euros) == (3600 * 450.0, 0.40)
    seconds, suspected = np.array([1e-4, 0.1, 60.0, 600.0, 600.0]), np.array([False, False, False, False, True])
    memory = memory_of(seconds, suspected)
    assert memory.tolist() == [64, 16384, 65536, 65536, 262144]
    worth = gpu_cores(ARGON2ID, seconds, suspected)
    assert worth[2] == pytest.approx(gpu_argon2id(65536) / DEFAULT_PROFILE.rate(65536))
    assert worth[4] < worth[0]
    assert gpu_cores(SHA256, seconds, suspected)[0] == pytest.approx(GPU_SHA256 / DEFAULT_PROFILE.sha256)


@pytest.mark.parametrize("seconds", [1e-4, 0.003, 0.02, 0.1])
def test_the_memory_of_a_toll_is_what_the_gateways_puzzle_takes(seconds):
    stock = PrecomputedPool(random.Random(0), memories_kib=(4096, 8192, 16384), depth=4)
    stock.fill()
    puzzle = Argon2idCounter(
        DEFAULT_PROFILE, max_memory_kib=64 << 10, suspected_memory_kib=256 << 10, precomputed=stock
    )
    challenge, _ = puzzle.make(Work(seconds, 1, seconds), random.Random(0))
    assert challenge.memory_kib == memory_of(np.array([seconds]), np.array([False]))[0]


def test_a_random_attack_better_than_the_adaptive_one_fails_a_check():
    def document(attack, accuracy, **changes):
        plain = {"dataset": "mnist", "attack": attack, "profile": "quick", "seed": 0, "budget": 10, "defence": "none"}
        return plain | {"accuracy": accuracy} | changes

    key = ("mnist", "knockoff-adaptive", "quick", 0, 10)
    better = checks.check_across_results([document("knockoff-random", 0.9), document("knockoff-adaptive", 0.7)])
    assert not better[key].holds
    assert "knockoff-random reaches 90.0%" in better[key].note
    assert checks.check_across_results([document("knockoff-random", 0.7), document("knockoff-adaptive", 0.9)])[
        key
    ].holds
    assert (
        checks.check_across_results([document("knockoff-random", 0.9, seed=1), document("knockoff-adaptive", 0.7)])
        == {}
    )
    assert checks.check_across_results([document("knockoff-adaptive", 0.7), document("standard", 0.9)]) == {}


def test_a_declared_kind_that_pays_too_much_or_is_suspected_fails_a_check():
    assert all(check.holds for check in checks.kind_promise(2.5, 0.0))
    assert [check.holds for check in checks.kind_promise(2.6, 0.0)] == [False, True]
    assert [check.holds for check in checks.kind_promise(1.0, 0.01)] == [True, False]


def test_live_seconds_must_agree_within_a_tenth():
    assert checks.live_agrees(10.9, 10.0, 50).holds
    assert not checks.live_agrees(11.1, 10.0, 50).holds
    assert not checks.live_agrees(8.9, 10.0, 50).holds
    assert not checks.live_unchanged(1).holds


@pytest.mark.parametrize("measure", ["pknn-eps", "entropy"])
def test_an_extraction_under_the_published_toll_has_the_papers_units_where_its_cost_is_one_of_theirs(
    baseline, stolen, measure
):
    paper = evaluate_extraction(context(baseline, PUBLISHED, measure), stolen).paper
    if measure == "entropy":
        assert paper == {}
        return
    columns = dict(zip(stolen.measures, stolen.leaks.T, strict=True))
    assert paper["gap"] == pytest.approx(columns["logit-gap"].sum())
    assert paper["entropy"] == pytest.approx(columns["entropy"].sum())
    assert 0.0 < paper["pknn"] < columns["pknn-eps"].sum()
    assert (paper["priced"], paper["pate"], paper["ratio"]) == ("pknn-eps", None, None)
    evaded = evaluate_extraction(context(baseline, PUBLISHED, measure, evasion="accounts-10"), stolen)
    assert evaded.paper == {}
