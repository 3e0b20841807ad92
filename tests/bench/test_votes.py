"""Votes of teachers are measured where a toll prices them, of the rows that its experiments read, once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from modeltoll.bench import meter, runner, shared_targets
from modeltoll.bench.artifact_files import read_arrays, write_arrays
from modeltoll.bench.attack_setup import prepare_attack
from modeltoll.bench.baseline import baseline_file, measure_baseline
from modeltoll.bench.experiment import HONEST, Experiment, ResultOrigin
from modeltoll.bench.extraction import StolenData, load_cached
from modeltoll.bench.lazy_mapping import LazyMapping
from modeltoll.bench.leak_measures import PATE_COST, VOTE_MEASURES, Teachers, measure_all, vote_measures
from modeltoll.bench.prepared_target import Workspace
from modeltoll.bench.runner import RunSettings, pending_jobs, run_job
from modeltoll.bench.shared_targets import prepare_target, reads_votes
from modeltoll.bench.targets import TARGETS
from modeltoll.bench.toll_schemes import CONFORMAL, DEFAULT_MEASURES, PUBLISHED

ROWS = 60
OURS, VOTED = (CONFORMAL, DEFAULT_MEASURES), (PUBLISHED, PATE_COST)


def experiment(toll=VOTED, attack="standard", **changes):
    plain = Experiment("table2", "digits", attack, "none", "none", *toll, "no-clones", 0, ROWS)
    return replace(plain, **changes)


def honest(workload, toll=VOTED):
    return experiment(toll, HONEST, queries=0, workload=workload)


class Electorate:
    """Fifty teachers who vote by the brightness of an image, and how many images they were asked, and how often trained."""

    def __init__(self):
        self.asked, self.trained = [], 0

    def votes(self, inputs):
        self.asked.append(len(inputs))
        first = np.round(inputs.mean(axis=1) * 50).astype(np.int64)
        return np.stack([first, 50 - first, *[0 * first] * 8], axis=1)

    def measures(self, progress):
        self.trained += 1
        progress(1, 1)
        return vote_measures(Teachers(self.votes, 50, 2.0, 1e-5))

    @property
    def rows(self):
        return sum(self.asked)


@pytest.fixture
def electorate():
    return Electorate()


@pytest.fixture(scope="module")
def measured(tmp_path_factory, prepared):
    """A cache with the baseline of a target with teachers; no votes are needed to measure it."""
    cache = tmp_path_factory.mktemp("voted")
    target = replace(TARGETS["digits"], estimators=dict.fromkeys(VOTE_MEASURES, 0.01))
    measure_baseline(target, cache, lambda: prepared)
    return baseline_file(target, cache)


@pytest.fixture
def run(electorate, prepared, measured, tmp_path, monkeypatch):
    """The digits with teachers, in a cache with nothing but their baseline; every vote is counted."""
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / measured.name).write_bytes(measured.read_bytes())
    voted = replace(prepared, vote_measures=electorate.measures)
    target = replace(
        TARGETS["digits"],
        prepare=lambda _workspace, _progress: voted,
        estimators=dict.fromkeys(VOTE_MEASURES, 0.01),
        teachers=lambda: "recipe",
    )
    monkeypatch.setitem(TARGETS, "digits", target)
    return RunSettings(Workspace(None, cache), tmp_path / "results", ResultOrigin("a test", "a machine", {}))


def results_of(settings, *experiments):
    found = [run_job(job, settings) for job in pending_jobs(experiments, settings.results)]
    assert not [job.reason for job in found if job.failed]
    return {result.experiment: result for job in found for result in job.results}


def new_process():
    """Forget what the jobs of this process share."""
    for shared in (shared_targets.baseline_of, shared_targets.vote_leaks, shared_targets.voted_baseline):
        shared.cache_clear()
    shared_targets.prepared_target.cache_clear()


def stolen_images(settings):
    job = pending_jobs([experiment(version=0)], settings.results)[0]
    return load_cached(job.extraction, settings.workspace.cache, lambda: pytest.fail("it was cached")).images


def votes_of(electorate, images):
    measures = electorate.measures(lambda _done, _most: None)
    return measure_all({PATE_COST: measures[PATE_COST]}, np.empty((len(images), 0)), images)[:, 0]


def test_no_vote_is_asked_and_no_teacher_trained_where_no_toll_prices_votes(run, electorate):
    plain = experiment(OURS)
    results = results_of(run, plain, experiment((PUBLISHED, "entropy")), honest("in-distribution", OURS))
    prepare_target("digits", run.workspace, lambda _done, _most: None, [plain])
    assert (electorate.rows, electorate.trained) == (0, 0)
    assert len(results) == 3
    for result in results.values():
        assert "entropy" in result.leak
        assert set(VOTE_MEASURES).isdisjoint(result.leak)
        assert all(set(VOTE_MEASURES).isdisjoint(point.leak) for point in result.course)


def test_a_toll_on_votes_asks_those_of_the_calibration_honest_and_stolen_rows(run, electorate, prepared):
    published, ours = experiment(), experiment(OURS)
    results = results_of(run, published, ours)
    split = prepared.data_split
    assert electorate.rows == len(split.calibration.x) + len(split.honest.x) + ROWS
    assert electorate.trained == 1
    costs = votes_of(electorate, stolen_images(run))
    found = results[published]
    assert found.leak[PATE_COST] == pytest.approx(costs.sum())
    assert found.paper["pate"] == pytest.approx(costs.sum())
    assert found.course[-1].leak[PATE_COST] == pytest.approx(costs.sum())
    assert found.course[0].leak[PATE_COST] == pytest.approx(costs[: found.course[0].queries].sum())
    assert set(VOTE_MEASURES).isdisjoint(results[ours].leak)
    assert results[ours].leak.items() <= found.leak.items()


def test_a_cached_theft_without_votes_stays_and_a_later_run_adds_them(run, electorate, prepared):
    calls = []

    def counting(setup):
        calls.append(setup)
        return prepare_attack(setup)

    counted = replace(run, attack_factory=counting)
    results_of(counted, experiment(OURS))
    assert (len(calls), electorate.rows) == (1, 0)
    new_process()
    alone = results_of(counted, experiment())
    split = prepared.data_split
    assert len(calls) == 1
    assert electorate.rows == len(split.calibration.x) + len(split.honest.x) + ROWS
    asked, trained = electorate.rows, electorate.trained
    new_process()
    again = results_of(replace(counted, results=run.results / "again"), experiment())
    assert (len(calls), electorate.rows, electorate.trained) == (1, asked, trained)
    assert again == alone


@pytest.mark.parametrize("cached", [False, True])
def test_votes_on_more_rows_than_images_are_kept_are_asked_during_the_theft(run, electorate, monkeypatch, cached):
    """A cached theft that was not voted on is made again."""
    results = results_of(run, experiment())
    images = stolen_images(run)
    for module in (runner, meter):
        monkeypatch.setattr(module, "IMAGES_KEPT", 20)
    new_process()
    few = replace(run, workspace=replace(run.workspace, cache=run.workspace.cache / "few"), results=run.results / "few")
    few.workspace.cache.mkdir()
    baseline = next(run.workspace.cache.glob("baseline*"))
    (few.workspace.cache / baseline.name).write_bytes(baseline.read_bytes())
    if cached:
        results_of(few, experiment(OURS))
        assert len(stolen_images(few)) == 20
    found = results_of(few, experiment())
    assert len(stolen_images(few)) == 20
    assert found[experiment()].leak == pytest.approx(results[experiment()].leak)
    assert found[experiment()].leak[PATE_COST] == pytest.approx(votes_of(electorate, images).sum())
    asked = electorate.rows
    (ours,) = results_of(replace(few, results=few.results / "ours"), experiment(OURS)).values()
    assert set(VOTE_MEASURES).isdisjoint(ours.leak)
    assert electorate.rows == asked


def test_evasions_and_honest_callers_ask_votes_of_the_rows_that_they_send(run, electorate, prepared):
    split = prepared.data_split
    known = len(split.calibration.x) + len(split.honest.x)
    results = results_of(run, honest("class 1"))
    assert electorate.rows == known
    results |= results_of(run, honest("noisy"))
    assert electorate.rows == known + len(split.honest.x)
    results |= results_of(run, experiment(evasion="fresh-fillers-4"))
    assert electorate.rows == known + len(split.honest.x) + ROWS
    results |= results_of(run, experiment(evasion="jittered-4"))
    assert electorate.rows == known + len(split.honest.x) + ROWS + 1000
    assert all(result.leak[PATE_COST] > 0.0 for result in results.values())
    results_of(run, honest("noisy", OURS), experiment(OURS, evasion="repeated-4"))
    assert electorate.rows == known + len(split.honest.x) + ROWS + 1000


def test_a_target_is_prepared_with_the_votes_that_several_processes_would_ask(run, electorate, prepared):
    split, steps = prepared.data_split, []
    experiments = [experiment(), honest("noisy"), honest("rotated", OURS)]
    prepare_target("digits", run.workspace, lambda done, _most: steps.append(done), experiments)
    asked = len(split.calibration.x) + 2 * len(split.honest.x)
    assert (electorate.rows, electorate.trained, steps) == (asked, 1, [1])
    results_of(run, *experiments)
    assert electorate.rows == asked + ROWS


def test_tolls_with_kinds_and_strangers_can_price_votes(run, electorate):
    """No suite has such an experiment; each kind and family is then asked."""
    priced = experiment((CONFORMAL, f"entropy+{PATE_COST}"))
    assert reads_votes(priced)
    (result,) = results_of(run, priced).values()
    assert result.ratio > 1.0
    assert electorate.rows > 5 * len(shared_targets.prepared_target("digits", run.workspace).data_split.calibration.x)


def test_files_of_before_have_votes_of_all_rows_which_are_not_asked_again(run, electorate, tmp_path):
    """Those of a theft are taken from its file; those of a baseline are left out, and asked where they are read."""
    results = results_of(run, experiment())
    theft = next(run.workspace.cache.glob("thefts/*"))
    arrays, note = read_arrays(theft)
    costs = votes_of(electorate, stolen_images(run))
    between = np.insert(arrays["leaks"], 1, np.stack([costs / 2, costs]), axis=1)
    names = [note["measures"][0], *VOTE_MEASURES, *note["measures"][1:]]
    write_arrays(theft, arrays | {"leaks": between}, note | {"measures": names})
    file = next(run.workspace.cache.glob("baseline*"))
    before, note = read_arrays(file)
    for name, array in before.items():
        if name.endswith("/leaks"):
            before[name] = np.insert(array, [1, 1], 7.0, axis=1)
    write_arrays(file, before, note | {"measures": [note["measures"][0], *VOTE_MEASURES, *note["measures"][1:]]})
    asked = electorate.rows
    new_process()
    again = results_of(replace(run, results=tmp_path / "again"), experiment(), experiment(OURS))
    assert electorate.rows == asked
    assert again[experiment()].leak[PATE_COST] == pytest.approx(results[experiment()].leak[PATE_COST])
    assert again[experiment()].ratio == pytest.approx(results[experiment()].ratio)
    assert set(VOTE_MEASURES).isdisjoint(again[experiment(OURS)].leak)


def test_stolen_data_have_the_measures_that_are_wanted_in_their_order():
    leaks = np.arange(6.0).reshape(2, 3)
    stolen = StolenData(("a", "b", "c"), np.zeros((1, 2, 2)), np.array([0, 1]), leaks, (), 2, 1.0)
    found = stolen.measured_by(("c", "a"), None)
    assert found.measures == ("c", "a")
    assert np.array_equal(found.leaks, leaks[:, [2, 0]])
    assert not stolen.can_be_voted_on


def test_a_lazy_mapping_makes_a_value_when_it_is_read_and_once():
    made = []
    mapping = LazyMapping(("a", "b"), lambda name: made.append(name) or name * 2)
    assert "a" in mapping
    assert "c" not in mapping
    assert (list(mapping), len(mapping), made) == (["a", "b"], 2, [])
    assert (mapping["b"], mapping.get("b"), mapping.get("c")) == ("bb", "bb", None)
    assert made == ["b"]
    assert dict(mapping) == {"a": "aa", "b": "bb"}
    assert made == ["b", "a"]
