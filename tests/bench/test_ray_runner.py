"""A Ray cluster gives the same results as one process."""

from __future__ import annotations

import pytest

from modeltoll.bench.experiment import ResultOrigin
from modeltoll.bench.result_files import read_results
from modeltoll.bench.runner import RunSettings, pending_jobs, run_all
from modeltoll.bench.suites import SuiteOptions, plan_experiments


@pytest.mark.torch  # its extra is installed with that of the bench
@pytest.mark.filterwarnings("ignore")  # Ray's warnings
def test_a_local_cluster_makes_the_same_results_as_one_process(workspace, baseline, tmp_path):
    pytest.importorskip("ray")
    from modeltoll.bench.ray_runner import LOCAL, run_on_cluster  # noqa: PLC0415  ray first

    del baseline
    planned = plan_experiments("table3", SuiteOptions(("digits",), ("copycat", "standard"), "quick", 1, 60))
    planned = [one for one in planned if one.tariff == "conformal"]
    runs = [
        RunSettings(workspace, tmp_path / name, ResultOrigin("a test", "a machine", {})) for name in ("cluster", "one")
    ]
    found = pending_jobs(planned, runs[0].results)
    job_results = list(run_on_cluster(found, runs[0], LOCAL, cores=1))
    assert len(job_results) == len(found) == 2
    assert not any(job_result.failed for job_result in [*job_results, *run_all(found, runs[1], 1)])
    afar, near = (list(read_results(run.results)) for run in runs)
    assert [one["ratio"] for one in afar] == [one["ratio"] for one in near]
    assert len(afar) == 2
