"""Suites are planned, run as jobs that can be interrupted, and reported with their failed checks."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from modeltoll.bench import runner, suites
from modeltoll.bench.attack_setup import PreparedAttack, prepare_attack
from modeltoll.bench.experiment import ResultOrigin
from modeltoll.bench.extraction import load_cached
from modeltoll.bench.honest.workload import WORKLOADS
from modeltoll.bench.report.aggregate import Results
from modeltoll.bench.report.curves import leak_against_queries
from modeltoll.bench.report.page import report_sections, write_report
from modeltoll.bench.report.tables import defences
from modeltoll.bench.result_files import read_results
from modeltoll.bench.runner import RunSettings, extraction_of, pending_jobs, run_all, run_job
from modeltoll.bench.shared_progress import no_progress, shared_progress, write_progress
from modeltoll.bench.suites import SUITES, SuiteOptions, plan_experiments
from modeltoll.bench.table_rows import HEADINGS, MARK, cells, failures
from modeltoll.bench.toll_schemes import PUBLISHED
from modeltoll.cli import app
from modeltoll.errors import ModeltollError, SettingsError
from modeltoll.formatting import times

OPTIONS = SuiteOptions(attacks=("copycat", "standard"), queries=60)
QUICK = 123  # results of the quick suite; 12 experiments are with kinds of rows that digits do not have


@pytest.fixture
def run(workspace, baseline, tmp_path):
    del baseline  # it is in the workspace's cache now
    return RunSettings(workspace, tmp_path / "results", ResultOrigin("a test", "a machine", {"python": "3"}))


@pytest.mark.parametrize(
    ("suite", "dataset", "cost"),
    [
        ("table2", "cifar10", "pate-cost"),
        ("table3", "cifar10", "pknn-eps"),
        ("evasions", "cifar10", "pate-cost"),
        ("honest", "cifar10", "pate-cost"),
        ("defences", "cifar10", "pate-cost"),
        ("evasions", "mnist", "pate-cost"),
        ("quick", "digits", "entropy"),
        ("table2", "cells", "entropy"),
    ],
)
def test_the_published_toll_prices_the_pate_cost_where_there_are_teachers_and_pknn_in_table_3(suite, dataset, cost):
    planned = plan_experiments(suite, SuiteOptions((dataset,), seeds=1))
    assert {one.measure for one in planned if one.tariff == PUBLISHED} == {cost}


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_has_no_experiment_twice_and_seed_0_comes_first(name):
    planned = plan_experiments(name, SuiteOptions())
    assert len(set(planned)) == len(planned) > 0
    seeds = [experiment.seed for experiment in planned]
    assert seeds == sorted(seeds)
    assert {experiment.suite for experiment in planned} == {name}


def test_options_restrict_a_suite():
    planned = plan_experiments("table2", SuiteOptions(("mnist",), ("copycat",), "quick", 2, 500))
    assert {(one.dataset, one.attack, one.profile, one.queries) for one in planned} == {
        ("mnist", "copycat", "quick", 500)
    }
    ours = plan_experiments("honest", SuiteOptions(("mnist",), tolls=("conformal",)))
    assert {one.tariff for one in ours} == {"conformal"}
    assert {one.workload for one in ours} == set(WORKLOADS)
    with pytest.raises(SettingsError, match="there is no toll free; there are: none, published"):
        plan_experiments("honest", SuiteOptions(tolls=("free",)))
    assert {one.seed for one in planned} == {0, 1}
    with pytest.raises(SettingsError):
        plan_experiments("no such", SuiteOptions())
    with pytest.raises(SettingsError):
        plan_experiments("table2", SuiteOptions(("no such",)))


def test_experiments_share_an_extraction_unless_a_defence_changes_answers():
    planned = plan_experiments("defences", SuiteOptions(("mnist",), ("copycat",), seeds=1))
    thefts = {experiment.defence: extraction_of(experiment) for experiment in planned}
    assert thefts["PRADA"] == thefts["none"]
    assert thefts["top-1"].answers == "top-1"
    assert len({extraction.answers for extraction in thefts.values()}) == 8
    assert extraction_of(plan_experiments("honest", SuiteOptions())[0]) is None


def test_changed_images_are_an_extraction_of_their_own(run):
    planned = plan_experiments("evasions", SuiteOptions(("digits",), ("copycat",), "quick", 1, 50))
    changes = {experiment.evasion: extraction_of(experiment).change for experiment in planned}
    assert changes["darkened"] == "dark:0.4"
    assert changes["blurred"] == "blur:0.033"
    assert {change for evasion, change in changes.items() if evasion not in {"darkened", "blurred"}} == {""}
    dark = [one for one in planned if one.evasion == "darkened" and one.tariff == "conformal"]
    plain = [one for one in planned if one.evasion == "none" and one.tariff == "conformal"]
    stolen = []
    for one in (dark, plain):
        (job,) = pending_jobs(one, run.results)
        assert not run_job(job, run).failed
        stolen.append(load_cached(job.extraction, run.workspace.cache, lambda: None))
    assert stolen[0].images.max() <= 0.4 + 1e-6 < stolen[1].images.max()


def test_without_clones_ratios_are_those_of_the_same_attack_with_clones(run):
    results = {}
    for profile in ("full", "no-clones"):
        planned = plan_experiments("table2", SuiteOptions(("digits",), ("copycat",), profile, 1, 80))
        (job,) = pending_jobs(planned, run.results)
        results[profile] = run_job(job, run).results
    assert [one.ratio for one in results["full"]] == [one.ratio for one in results["no-clones"]]
    assert all(one.accuracy is not None and one.course[-1].accuracy is not None for one in results["full"])
    assert all(one.accuracy is one.fidelity is one.agreement is None for one in results["no-clones"])
    assert all(check.holds for one in results["no-clones"] for check in one.checks[:2])


def test_without_clones_an_attack_that_needs_one_is_refused_by_name(run):
    planned = plan_experiments("table2", SuiteOptions(("digits",), ("entropy",), "no-clones", 1, 80))
    (job,) = pending_jobs(planned, run.results)
    result = run_job(job, run)
    assert result.failed
    assert "entropy chooses its queries by its clone" in result.reason


def test_thieves_of_every_family_are_tried_known_and_unknown():
    planned = plan_experiments("strangers", SuiteOptions(("mnist",), seeds=1))
    families = {one.foreign for one in planned}
    assert "emnist" in families
    assert "mnist" not in families
    tolls = {one.tariff for one in planned if one.foreign == "emnist"}
    assert tolls == {"conformal", "conformal-unknown-strangers", "conformal-calibrated", "conformal-without-kinds"}
    evasions = {one.evasion for one in planned}
    assert {"none", "accounts-1000", "fresh-fillers-16", "fresh-fillers-64", "bank", "bank-4"} <= evasions
    assert {
        one.foreign for one in plan_experiments("strangers", SuiteOptions(("mnist",), seeds=1, foreign="svhn"))
    } == {"svhn"}


def test_jobs_are_sorted_by_seed_and_then_by_data_set(tmp_path):
    options = SuiteOptions(("mnist", "digits"), ("copycat",), "quick", 2, 50)
    planned = [one for name in ("table2", "defences") for one in plan_experiments(name, options)]
    found = [(job.experiments[0].seed, job.experiments[0].dataset) for job in pending_jobs(planned, tmp_path)]
    assert list(dict.fromkeys(found)) == [(0, "mnist"), (0, "digits"), (1, "mnist"), (1, "digits")]
    assert found == sorted(found, key=lambda pair: (pair[0], pair[1] != "mnist"))


def test_experiments_with_results_are_not_pending(run):
    planned = plan_experiments("quick", OPTIONS)
    pending = pending_jobs(planned, run.results)
    first = run_job(pending[0], run)
    assert first.results
    assert not first.failed
    left = pending_jobs(planned, run.results)
    assert sum(len(job.experiments) for job in left) == len(planned) - len(pending[0].experiments)
    lost = next(run.results.rglob("*.json"))
    lost.unlink()
    again = pending_jobs(planned, run.results)
    assert sum(len(job.experiments) for job in again) == len(planned) - len(pending[0].experiments) + 1


def test_an_extraction_runs_once_for_all_its_experiments(run):
    calls = []

    def counting(wanted):
        calls.append(wanted)
        return prepare_attack(wanted)

    counted = replace(run, attack_factory=counting)
    planned = plan_experiments("quick", replace(OPTIONS, attacks=("standard",), queries=70))
    for job in pending_jobs(planned, run.results):
        run_job(job, counted)
    assert len(calls) == 9  # without a defence, with darkened images, and once for each defence that changes answers
    for path in run.results.rglob("*.json"):
        path.unlink()
    assert all(not job_result.failed for job_result in run_all(pending_jobs(planned, run.results), counted, 1))
    assert len(calls) == 9


def test_an_interrupted_extraction_leaves_no_partial_file(run):
    class Interrupted:
        name = "interrupted"

        def run(self, oracle, resources, rng, on_round):
            oracle.ask(resources.own[:10])
            raise KeyboardInterrupt

    pending = pending_jobs(plan_experiments("quick", replace(OPTIONS, attacks=("gap",), queries=80)), run.results)
    with pytest.raises(KeyboardInterrupt):
        run_job(pending[0], replace(run, attack_factory=lambda _: PreparedAttack(Interrupted())))
    assert not list(run.results.rglob("*"))
    assert not list(run.workspace.cache.rglob("*.part"))
    assert run_job(pending[0], run).results


def test_a_failed_job_has_a_reason_and_does_not_stop_others(run):
    def prepare(wanted):
        if wanted.attack == "copycat":
            raise ModeltollError("no such luck")
        return prepare_attack(wanted)

    found = pending_jobs(plan_experiments("quick", replace(OPTIONS, queries=90)), run.results)
    job_results = list(run_all(found, replace(run, attack_factory=prepare), 1))
    failed = [job_result for job_result in job_results if job_result.failed]
    assert {job_result.job.extraction.attack for job_result in failed} == {"copycat"}
    assert {job_result.reason for job_result in failed} == {"no such luck"}
    assert any(job_result.results for job_result in job_results)


def test_further_seeds_of_a_long_extraction_are_skipped(run, monkeypatch):
    monkeypatch.setattr(runner, "LONG_SECONDS", 0.0)
    planned = plan_experiments("quick", replace(OPTIONS, attacks=("standard",)))
    first = [one for one in planned if one.tariff == "conformal" and one.attack == "standard"][:1]
    second = [replace(one, seed=1) for one in first]
    done, left = (run_job(pending_jobs(one, run.results)[0], run) for one in (first, second))
    assert done.results
    assert not left.results
    assert "first seed took more than" in left.reason


@pytest.mark.timeout(120)
def test_several_processes_give_the_same_results_as_one(run, tmp_path):
    planned = plan_experiments("quick", replace(OPTIONS, attacks=("standard",), queries=50))[:2]
    several = replace(run, results=tmp_path / "several")
    assert [job_result.failed for job_result in run_all(pending_jobs(planned, several.results), several, 2)] == [False]
    assert [job_result.failed for job_result in run_all(pending_jobs(planned, run.results), run, 1)] == [False]
    one, other = (list(read_results(folder)) for folder in (run.results, several.results))
    assert one == other


@pytest.mark.timeout(120)
@pytest.mark.parametrize("jobs", [1, 2])
def test_the_progress_of_each_extraction_is_reported(run, jobs):
    progress_calls = {}

    def follow(job):
        calls = progress_calls.setdefault(job, [])
        return lambda done, most: calls.append((done, most))

    found = pending_jobs(plan_experiments("quick", replace(OPTIONS, queries=55 + jobs)), run.results)
    assert not any(job_result.failed for job_result in run_all(found, run, jobs, follow))
    assert progress_calls.keys() == set(found)
    assert len({job.title for job in found}) == len(found)
    for job, calls in progress_calls.items():
        if job.extraction is None:
            assert not calls
        else:
            assert calls == sorted(calls), job.title
            assert calls[-1] == (55 + jobs, 55 + jobs), job.title


def test_writing_progress_after_the_end_is_an_error():
    with shared_progress([no_progress]) as board:
        write_progress(board, 0, 3, 5)
    with pytest.raises(FileNotFoundError):
        write_progress(board, 0, 4, 5)


@pytest.fixture(scope="module")
def documents(workspace, baseline, tmp_path_factory):
    del baseline
    here = RunSettings(workspace, tmp_path_factory.mktemp("all"), ResultOrigin("a test", "a machine", {"python": "3"}))
    planned = plan_experiments("quick", replace(OPTIONS, queries=100, attacks=()))
    assert not any(job_result.failed for job_result in run_all(pending_jobs(planned, here.results), here, 1))
    return list(read_results(here.results))


def test_every_section_of_the_quick_suite_has_numbers(documents, tmp_path):
    html, text = write_report(documents, tmp_path)
    page, markdown = html.read_text(), text.read_text()
    titles = [section.title for section in report_sections(Results(documents))]
    assert len(titles) == 16
    for section in report_sections(Results(documents)):
        assert section.title in markdown
        assert all(len(row) == len(section.table.headings) for row in section.table.rows), section.title
        if section.chart:
            assert section.chart.panels, section.title
            for theme in ("light", "dark"):
                name = f"{section.chart.name}-{theme}.svg"
                assert name in page
                assert "<svg" in (tmp_path / name).read_text()
    assert "Every check holds" in page
    assert page.count("<img") == page.count("(prefers-color-scheme: dark)") == 8
    assert "@media print" in page


def test_a_failed_check_is_marked_wherever_the_result_is_shown(documents, tmp_path):
    spoilt = [json.loads(json.dumps(document)) for document in documents]
    for document in spoilt:
        if document["attack"] == "jacobian":
            document["checks"].append({"name": "budget spent", "holds": False, "note": "3 of 300 rows <b>"})
    html, text = write_report(spoilt, tmp_path)
    assert "3 of 300 rows &lt;b&gt;" in html.read_text()
    lines = [line for line in text.read_text().splitlines() if "| jacobian |" in line and "| quick | " in line]
    assert any(MARK in line for line in lines)
    assert text.read_text().index("Failed checks") < text.read_text().index("Table 2")
    marked = [cells(document) for document in spoilt if document["attack"] == "jacobian"]
    assert all(MARK in row[HEADINGS.index("ratio")] for row in marked)
    assert [line for line in failures(spoilt) if "jacobian" in line]
    assert not list(failures(documents))


def test_live_runs_are_shown_beside_the_computed_seconds(documents, tmp_path):
    live = {"rows": 50, "measured_seconds": 10.5, "wall_seconds": 11.0, "computed_seconds": 10.0, "changed": 0}
    _, text = write_report([document | {"live": live} for document in documents[:1]], tmp_path)
    assert "| 50 | 10.5 | 10 | +5.0 % | 0 |" in text.read_text()


def test_several_seeds_are_shown_as_mean_and_range(documents):
    plain = next(one for one in documents if one["tariff"] == "conformal" and one["attack"] == "copycat")
    other = plain | {"seed": 1, "ratio": 2 * plain["ratio"]}
    (found,) = Results([plain, other]).aggregates
    assert found.mean("ratio") == pytest.approx(1.5 * plain["ratio"])
    assert (
        found.format_mean(times, "ratio")
        == f"{times(1.5 * plain['ratio'])} ({times(plain['ratio'])} to {times(other['ratio'])})"
    )


def test_suspicion_with_some_seeds_is_shown_with_its_share(documents):
    watched = next(one for one in documents if one["defence"] == "PRADA")
    seen, unseen = {"suspected": 1.0, "first_alarm": 560.0}, {"suspected": 0.0, "first_alarm": None}
    found = [watched | {"seed": seed} | (seen if seed < 2 else unseen) for seed in range(4)]
    (row,) = defences(Results(found)).table.rows
    assert "50.0 % from row 560" in row
    (row,) = defences(Results(found[:2])).table.rows
    assert "from row 560" in row
    (row,) = defences(Results(found[2:])).table.rows
    assert not any("from row" in cell for cell in row)


def test_of_several_budgets_tables_show_all_in_order_and_charts_the_largest(documents):
    plain = [one for one in documents if one["evasion"] == "none" and one["attack"] != "honest"]
    larger = [one | {"budget": 200, "course": one["course"][:2]} for one in plain]
    smaller = [one | {"budget": 50} for one in plain]
    results = Results([*larger, *plain, *smaller])
    names = [(one["attack"], one["tariff"], one["defence"]) for one in results.aggregates]
    assert [one["budget"] for one in results.aggregates] == [50, 100, 200] * (len(names) // 3)
    assert names[::3] == names[1::3] == names[2::3]
    (panel,) = leak_against_queries(results).chart.panels
    assert sorted(curve.label for curve in panel.curves) == sorted({one["attack"] for one in plain})
    assert {len(curve.points) for curve in panel.curves} == {2}


def test_a_report_of_nothing_is_refused(tmp_path):
    with pytest.raises(SettingsError):
        write_report([], tmp_path)


def test_the_command_runs_reports_and_resumes(tmp_path, workspace):
    out, cache = tmp_path / "out", str(workspace.cache)
    command = ["bench", "run", "quick", "-o", str(out), "--cache", cache, "--queries", "40", "--json", "-"]
    ran = CliRunner().invoke(app, command)
    assert ran.exit_code == 0, ran.stderr
    table = json.loads(ran.stdout)
    assert len(table) == QUICK
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0
    assert f"{QUICK} of them done before" in again.stderr

    def report(name):
        shown = CliRunner().invoke(app, ["bench", "report", str(out), "-o", str(tmp_path / name)])
        assert shown.exit_code == 0
        assert (tmp_path / name / "report.html").is_file()
        return (tmp_path / name / "report.md").read_text()

    before = report("report")
    packed = CliRunner().invoke(app, ["bench", "pack", str(out)])
    assert packed.exit_code == 0
    assert [path.name for path in out.rglob("*.*")] == ["digits.jsonl"]
    assert report("packed") == before
    packed_too = CliRunner().invoke(app, command)
    assert f"{QUICK} of them done before" in packed_too.stderr
    assert json.loads(packed_too.stdout) == table


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "no such", "-o", "x"], "there is no suite"),
        (["run", "quick", "-o", "x", "--dataset", "no such"], "there is no data set no such"),
        (["run", "quick", "-o", "x", "--profile", "no such"], "there is no 'no such'"),
        (["report", "no such folder", "-o", "x"], "there is no folder"),
    ],
)
def test_a_usage_error_lists_the_known_names(arguments, message):
    wrong = CliRunner().invoke(app, ["bench", *arguments])
    assert wrong.exit_code == 2
    assert message in wrong.stderr


@pytest.mark.usefixtures("baseline")
@pytest.mark.parametrize(("number", "jobs"), [(signal.SIGINT, "1"), (signal.SIGINT, "2"), (signal.SIGTERM, "2")])
def test_an_interrupted_command_leaves_no_process_and_resumes(
    tmp_path, workspace, number, jobs, children, gone, interrupted
):
    out = tmp_path / "out"
    options = ["run", "quick", "-o", str(out), "--cache", str(workspace.cache), "--queries", "45", "--jobs", jobs]
    command = [sys.executable, "-m", "modeltoll", "bench", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 180
    while not list(out.rglob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    left = children(process.pid)
    assert bool(left) == (jobs != "1")
    process.send_signal(number)
    _, output = process.communicate(timeout=60)
    done = len(list(out.rglob("*.json")))
    assert process.returncode in interrupted, output
    assert "Traceback" not in output
    assert gone(left), "a process is still running"
    assert not list(tmp_path.rglob("*.part"))
    assert 0 < done < QUICK
    again = CliRunner().invoke(app, ["bench", *options])
    assert again.exit_code == 0
    assert f"{done} of them done before" in again.stderr
    assert len(list(out.rglob("*.json"))) == QUICK


@pytest.mark.torch
def test_missing_data_sets_are_an_error(tmp_path, monkeypatch):
    monkeypatch.delenv("MODELTOLL_DATA", raising=False)
    missing = CliRunner().invoke(app, ["bench", "run", "table2", "-o", str(tmp_path), "--cache", str(tmp_path)])
    assert missing.exit_code == 1
    assert "give the folder of the data sets: --data-dir DIR" in missing.stderr


def test_a_cluster_needs_its_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    command = ["bench", "run", "quick", "-o", str(tmp_path), "--ray", "local"]
    wrong = CliRunner().invoke(app, command)
    assert wrong.exit_code == 2
    assert "pip install 'modeltoll[ray]'" in wrong.stderr


def test_an_unknown_attack_fails_its_own_job_only(tmp_path, workspace):
    command = ["bench", "run", "table3", "--dataset", "digits", "--attack", "no such", "-o", str(tmp_path)]
    ran = CliRunner().invoke(app, [*command, "--cache", str(workspace.cache)])
    assert ran.exit_code == 1
    assert "there is no attack 'no such'" in ran.stderr
    assert "the same command runs the others" in ran.stderr


def test_results_are_rounded_numbers(documents):
    assert suites.SUITES.keys() >= {document["suite"] for document in documents}
    ratio = documents[0]["ratio"]
    assert float(f"{ratio:.6g}") == ratio
    assert np.isfinite(ratio)
