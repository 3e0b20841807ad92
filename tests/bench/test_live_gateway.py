"""Live runs through a real gateway: answers are the victim's, and seconds are measured and computed."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace

import pytest

from modeltoll.bench import live_gateway
from modeltoll.bench.experiment import ResultOrigin
from modeltoll.bench.leak_measures import measure_all
from modeltoll.bench.live_gateway import LiveRun, run_live
from modeltoll.bench.runner import RunSettings, pending_jobs, run_job
from modeltoll.bench.suites import SuiteOptions, plan_experiments
from modeltoll.bench.toll_schemes import CONFORMAL, DEFAULT_MEASURES, build_toll
from modeltoll.pricing.leak_samples import select_measures, with_clean
from modeltoll.puzzle.machine_profile import DEFAULT_PROFILE
from modeltoll.records import Work
from modeltoll.simulation.traffic import Rows

ROWS = 12


@pytest.fixture
def live_run(prepared, baseline):
    images = prepared.data_split.foreign.x[:ROWS]
    scheme = build_toll(baseline, CONFORMAL, DEFAULT_MEASURES, "digits")
    leak_measures = {name: prepared.leak_measures[name] for name in scheme.measures}
    scores = prepared.victim.scores(images)
    recorded = with_clean(baseline.measures, scheme.measures)
    rows = Rows(measure_all(prepared.leak_measures, scores, images), scores.argmax(axis=1))
    leaks = select_measures(baseline.leaks(rows), recorded)
    return LiveRun(images, leaks, leak_measures, prepared.victim, scheme.calibration)


def test_every_answer_that_is_opened_is_the_victims_own(live_run, monkeypatch):
    monkeypatch.setattr(live_gateway, "LIVE_SECONDS", 0.2)
    live_result = run_live(live_run, lambda: DEFAULT_PROFILE)
    assert live_result.rows == ROWS
    assert live_result.changed == 0
    assert live_result.unit_seconds < live_run.calibration.unit_seconds
    assert 0.0 < live_result.measured_seconds < math.inf
    assert live_result.computed_seconds > 0.2


def test_the_slowdown_is_the_mean_of_start_and_end():
    halved = replace(DEFAULT_PROFILE, argon2id={rung: rate / 2 for rung, rate in DEFAULT_PROFILE.argon2id.items()})
    assert live_gateway._slowdown(DEFAULT_PROFILE, DEFAULT_PROFILE) == 1.0
    assert live_gateway._slowdown(DEFAULT_PROFILE, halved) == 1.5


def test_drawn_work_is_recorded_beside_expected_work():
    recorder, chance = live_gateway._RecordingPuzzle(DEFAULT_PROFILE), random.Random(0)
    assert recorder.within(256) is recorder
    solved = [recorder.make(Work(0.5, 1, 0.5), chance) for _ in range(40)]
    assert recorder.expected == pytest.approx(20.0)
    asked = [
        sum(counter + 1 for counter in solution.counters) / DEFAULT_PROFILE.rate(challenge.memory_kib)
        for challenge, solution in solved
    ]
    assert recorder.drawn == pytest.approx(sum(asked))
    assert recorder.drawn / recorder.expected == pytest.approx(1.0, abs=0.25)
    assert 0.0 < recorder.making < 0.2 * recorder.expected


def test_an_answer_that_was_changed_is_counted(live_run):
    answers = [
        json.dumps({"outputs": [{"data": scores.tolist()}]}).encode()
        for scores in live_run.victim.scores(live_run.images)
    ]
    assert live_gateway._changed(live_run, answers) == 0
    assert live_gateway._changed(live_run, [*answers[:-1], answers[0]]) == 1


def test_a_live_run_is_in_the_result_and_made_once(workspace, baseline, tmp_path, monkeypatch):
    del baseline
    monkeypatch.setattr(live_gateway, "LIVE_SECONDS", 0.2)
    monkeypatch.setattr(live_gateway, "_RUNG_SECONDS", 0.01)
    planned = [
        one
        for one in plan_experiments("table3", SuiteOptions(("digits",), ("copycat",), "quick", 1, 60))
        if one.tariff == CONFORMAL
    ]
    still = RunSettings(workspace, tmp_path, ResultOrigin("a test", "a machine", {}))
    assert run_job(pending_jobs(planned, tmp_path)[0], still).results[0].live is None
    assert pending_jobs(planned, tmp_path) == []
    (pending,) = pending_jobs(planned, tmp_path, live=True)
    (result,) = run_job(pending, replace(still, live=5)).results
    assert result.live["rows"] == 5
    assert "live agrees with computed" in {check.name for check in result.checks}
    assert pending_jobs(planned, tmp_path, live=True) == []
