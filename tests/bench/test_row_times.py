"""Times of a row: measured, kept in a file, and priced by that file whatever was measured when a data set was prepared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from modeltoll.bench.baseline import measure_baseline
from modeltoll.bench.leak_measures import UNPRICED
from modeltoll.bench.row_times import (
    GATE_SECONDS,
    RowTimes,
    measure_estimators,
    measure_times,
    read_times,
    write_times,
)
from modeltoll.bench.runner import RunSettings, pending_jobs, run_job
from modeltoll.bench.suites import SuiteOptions, plan_experiments
from modeltoll.bench.targets import TARGETS
from modeltoll.bench.toll_schemes import CONFORMAL, DEFAULT_MEASURES, NO_TOLL, build_toll
from modeltoll.cli import app
from modeltoll.errors import SettingsError

from .test_evaluate import ORIGIN

DIGITS = TARGETS["digits"]
RESULTS = Path(__file__).parents[2] / "results" / "bench"


@pytest.fixture
def stated(baseline, tmp_path):
    """A file of times of the digits that no machine has."""
    path = tmp_path / "times.json"
    measures = {name: 0.001 * (place + 1) for place, name in enumerate(baseline.measures)}
    write_times(path, {"digits": RowTimes(0.25, 0.125, measures, 0.002)}, {"command": "a test"})
    return path


def test_each_measure_and_each_batch_is_timed_and_the_file_holds_what_was_measured(prepared, tmp_path):
    times = measure_times(DIGITS, prepared, repeats=1)
    assert set(times.measures) == set(prepared.leak_measures) - set(UNPRICED)
    assert all(0.0 < seconds < 1.0 for seconds in (times.undefended, times.batched, *times.measures.values()))
    assert times.batched < times.undefended
    assert times.gate == GATE_SECONDS
    write_times(tmp_path / "times.json", {"digits": times}, {})
    read = read_times(tmp_path / "times.json", "digits", tuple(times.measures))
    assert read.measures == pytest.approx(times.measures, rel=1e-5)
    assert (read.undefended, read.batched) == (
        pytest.approx(times.undefended, rel=1e-5),
        pytest.approx(times.batched, rel=1e-5),
    )


def test_published_times_are_taken_as_they_are(workspace, baseline, prepared, stated):
    """Also where a file states another time of the same measure."""
    published = replace(DIGITS, undefended=0.5, estimators={"pknn-eps": 0.75})
    times = measure_times(published, prepared, repeats=1)
    assert (times.undefended, times.measures["pknn-eps"]) == (0.5, 0.75)
    read = measure_baseline(published, workspace.cache, lambda: prepared, stated).times.measures
    assert read["pknn-eps"] == 0.75
    assert read["novelty"] == pytest.approx(0.001 * (baseline.measures.index("novelty") + 1))


def test_a_baseline_takes_its_times_from_a_file(workspace, baseline, prepared, stated):
    timed = measure_baseline(DIGITS, workspace.cache, lambda: prepared, stated)
    scheme = build_toll(timed, CONFORMAL, DEFAULT_MEASURES, "digits")
    novelty = 0.001 * (baseline.measures.index("novelty") + 1)
    assert (scheme.times.undefended, scheme.times.gate) == (0.25, pytest.approx(0.002 + novelty))
    assert scheme.calibration.unit_seconds == pytest.approx(0.25 - 0.002 - novelty)
    assert measure_baseline(DIGITS, workspace.cache, lambda: prepared).times == baseline.times


def test_runs_with_one_file_of_times_have_the_same_results(workspace, baseline, stated, tmp_path):
    del baseline  # it is in the workspace's cache now
    planned = plan_experiments("quick", SuiteOptions(attacks=("copycat",), queries=60, seeds=1))
    planned = [one for one in planned if one.tariff in (CONFORMAL, NO_TOLL) and one.evasion == "none"]
    documents = []
    for name in "first", "second":
        settings = RunSettings(replace(workspace, times=stated), tmp_path / name, ORIGIN)
        results = [
            result for job in pending_jobs(planned, settings.results) for result in run_job(job, settings).results
        ]
        documents.append([result.document() | {"theft_seconds": None} for result in results])
        assert {result.undefended_seconds for result in results} == {0.25}
    assert documents[0] == documents[1] != []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda file: file["targets"].pop("digits"), "'digits'"),
        (lambda file: file["targets"]["digits"]["measures"].pop("novelty"), "'novelty'"),
        (lambda file: file["targets"]["digits"].pop("gate"), "'gate'"),
        (lambda file: file["targets"]["digits"].update(undefended=0.0), "not a file of"),
        (lambda file: file["targets"]["digits"]["measures"].update(novelty="0.1"), "not a file of"),
        (lambda file: file["targets"].update(digits=[]), "not a file of"),
        (lambda file: file.pop("targets"), "'targets'"),
    ],
)
def test_a_file_that_lacks_something_is_refused_by_name(stated, baseline, change, said):
    document = json.loads(stated.read_text())
    change(document)
    stated.write_text(json.dumps(document))
    with pytest.raises(SettingsError, match=said):
        read_times(stated, "digits", baseline.measures)


def test_a_file_that_is_missing_or_no_json_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"nothing\.json"):
        read_times(tmp_path / "nothing.json", "digits", ())
    (tmp_path / "text.json").write_text("{")
    with pytest.raises(SettingsError, match="not a file of"):
        read_times(tmp_path / "text.json", "digits", ())


def test_the_command_writes_a_file_that_a_run_reads(workspace, baseline, tmp_path):
    path = tmp_path / "times.json"
    command = ["bench", "times", "digits", "--repeats", "1", "--cache", str(workspace.cache), "-o", str(path)]
    ran = CliRunner().invoke(app, command)
    assert ran.exit_code == 0, ran.output
    document = json.loads(path.read_text())
    assert document["machine"]
    assert document["command"].startswith("modeltoll")
    priced = tuple(name for name in baseline.measures if name not in UNPRICED)
    assert read_times(path, "digits", priced).undefended > 0.0
    path.write_text(json.dumps(document | {"targets": {}}))
    run = ["bench", "run", "quick", "--attack", "copycat", "--cache", str(workspace.cache), "-o", str(tmp_path / "out")]
    ran = CliRunner().invoke(app, [*run, "--times", str(path)])
    assert ran.exit_code == 2
    assert "no 'digits'" in " ".join(ran.output.split())


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["times", "digitz", "-o", "times.json"], "digitz"),
        (["estimators", "digitz", "-o", "times.json"], "digitz"),
        (["estimators", "digits", "-o", "."], "is a folder"),
        (["times", "digits", "-o", "."], "is a folder"),
        (["times", "digits", "-o", "file/times.json"], "--out: file"),
        (["run", "quick", "--times", "nothing.json", "-o", "out"], "nothing.json"),
    ],
)
def test_files_that_cannot_be_used_are_refused_before_anything_is_measured(command, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    ran = CliRunner().invoke(app, ["bench", *command, "--cache", "cache"])
    assert ran.exit_code == 2, ran.output
    assert said in " ".join(ran.output.split())
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("dataset", ["mnist", "fashion", "cifar10"])
def test_the_recorded_results_were_made_with_the_recorded_times(dataset):
    times = json.loads((RESULTS / "times.json").read_text())["targets"][dataset]
    assert times["gate"] == GATE_SECONDS
    priced = 0
    for packed in RESULTS.glob(f"*/{dataset}.jsonl"):
        for line in packed.read_text().splitlines():
            result = json.loads(line)
            measured = sum(
                TARGETS[dataset].estimators.get(name) or times["measures"][name]
                for name in result["measure"].split("+")
                if name not in ("", "entropy")
            )
            if result["measure"] not in ("", "entropy"):
                assert result["gate_seconds"] == pytest.approx(times["gate"] + measured, rel=1e-4), result["suite"]
                assert result["undefended_seconds"] == pytest.approx(times["undefended"], rel=1e-5)
                priced += 1
    assert priced


def test_64_queries_are_timed_alone_and_with_each_estimator_that_there_is(prepared):
    times = measure_estimators(prepared, repeats=1)
    assert set(times) == {"inference", "pknn", "entropy", "gap", "ours"}
    assert 0.0 < times["inference"] <= min(times.values())
    assert times["ours"] >= times["inference"]


def test_the_command_of_estimators_writes_what_it_measured(workspace, baseline, tmp_path):
    del baseline
    path = tmp_path / "table5.json"
    command = ["bench", "estimators", "digits", "--repeats", "1", "--cache", str(workspace.cache), "-o", str(path)]
    ran = CliRunner().invoke(app, command)
    assert ran.exit_code == 0, ran.output
    document = json.loads(path.read_text())
    assert document["command"].startswith("modeltoll")
    assert document["repeats"] == 1
    assert set(document["targets"]["digits"]) == {"inference", "pknn", "entropy", "gap", "ours"}
