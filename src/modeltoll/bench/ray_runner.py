"""Run jobs on a Ray cluster."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeltoll.bench.runner import run_job

if TYPE_CHECKING:
    from modeltoll.bench.runner import Job, JobResult, RunSettings

__all__ = ["LOCAL", "run_on_cluster"]

LOCAL = "local"  # the address of a cluster on this machine that stops with the command


def _run_remotely(job: Job, settings: RunSettings) -> JobResult:
    """Run a job on a machine of the cluster, which has its own cache and data folder under the same paths."""
    with tempfile.TemporaryDirectory() as folder:
        return run_job(job, replace(settings, results=Path(folder)))


def run_on_cluster(
    jobs: Sequence[Job], settings: RunSettings, address: str, cores: int | None = None
) -> Iterator[JobResult]:
    """The results of the jobs as each ends; result files are written on this machine.

    ``address`` is Ray's: ``ray://host:10001``, ``auto``, or ``LOCAL`` with ``cores`` cores (None: all of them).
    """
    import ray  # noqa: PLC0415  an extra

    cluster: Any = ray
    cluster.init(address=address, num_cpus=cores if address == LOCAL else None, log_to_driver=False)
    try:
        remote_job = cluster.remote(_run_remotely)
        running = [remote_job.remote(job, settings) for job in jobs]
        while running:
            done, running = cluster.wait(running, num_returns=1)
            job_result: JobResult = cluster.get(done[0])
            for result in job_result.results:
                result.write(settings.results)
            yield job_result
    finally:
        cluster.shutdown()
