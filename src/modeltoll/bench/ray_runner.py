"""Errands sent to a Ray cluster."""

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

LOCAL = "local"  # an address: a cluster on this machine, that ends with the command


def _run_remotely(job: Job, run: RunSettings) -> JobResult:
    """An errand on a machine of the cluster, which has its own cache and data folder, under the same paths."""
    with tempfile.TemporaryDirectory() as folder:
        return run_job(job, replace(run, results=Path(folder)))


def run_on_cluster(
    found: Sequence[Job], run: RunSettings, address: str, cores: int | None = None
) -> Iterator[JobResult]:
    """Every errand's outcome as each is done; results are written here, as they come.

    ``address`` is Ray's: ``ray://host:10001``, ``auto``, or ``LOCAL`` with so many ``cores`` (None: all of them).
    """
    import ray  # noqa: PLC0415  an extra

    cluster: Any = ray
    cluster.init(address=address, num_cpus=cores if address == LOCAL else None, log_to_driver=False)
    try:
        afar = cluster.remote(_run_remotely)
        waiting = [afar.remote(job, run) for job in found]
        while waiting:
            done, waiting = cluster.wait(waiting, num_returns=1)
            outcome: JobResult = cluster.get(done[0])
            for result in outcome.results:
                result.write(run.results)
            yield outcome
    finally:
        cluster.shutdown()
