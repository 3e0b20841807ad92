"""The verbs ``bench run``, ``pack``, ``report`` and ``fetch``: run attacks against defences and report the results."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from modeltoll.cli.terminal import (
    JsonFile,
    command_name,
    note,
    print_table,
    requires_extra,
    stage,
    stages,
    warn,
    write_json,
)
from modeltoll.errors import ModeltollError, SettingsError

if TYPE_CHECKING:
    from modeltoll.bench.experiment import Experiment
    from modeltoll.bench.runner import Job, JobResult, RunSettings
    from modeltoll.records import Progress

__all__ = ["verbs"]

verbs = typer.Typer()
_bench = typer.Typer(
    help="Run attacks against defences and report the results.",
    epilog="Example: modeltoll bench run quick -o results/bench",
    no_args_is_help=True,
)
verbs.add_typer(_bench, name="bench")


@_bench.command(epilog="Example: modeltoll bench run quick -o results/bench")
@command_name
def run(  # noqa: PLR0913  each is a choice of the operator's
    names: Annotated[
        list[str], typer.Argument(metavar="SUITE...", help="table2, table3, evasions, honest, defences, quick.")
    ],
    *,
    folder: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of results, one file each. Existing results are kept.")
    ],
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data sets; or set MODELTOLL_DATA.")] = None,
    cache: Annotated[Path, typer.Option(help="Cache of victims and extraction runs.")] = Path("build/bench"),
    dataset: Annotated[list[str] | None, typer.Option(help="Only this data set. Repeatable.")] = None,
    attack: Annotated[list[str] | None, typer.Option(help="Only this attack. Repeatable.")] = None,
    defence: Annotated[
        list[str] | None, typer.Option(help="Only this defence, in suites that compare defences. Repeatable.")
    ] = None,
    foreign: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE.npz|FOLDER", help="Source of foreign images: any data set, noise, or your own."
        ),
    ] = "",
    profile: Annotated[str | None, typer.Option(help="Settings of attacks: full (the paper's) or quick.")] = None,
    queries: Annotated[int | None, typer.Option(min=1, help="Budget of each attack, in rows.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds. Attacks of more than 10 minutes run once.")] = 3,
    jobs: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 1,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Run experiments on a Ray cluster; 'local' starts one on this machine."),
    ] = None,
    live: Annotated[
        int,
        typer.Option(
            min=0, help="Also send this many rows of each attack through a real gateway, about a minute each."
        ),
    ] = 0,
    json_file: JsonFile = None,
) -> None:
    """Run suites of experiments. An interrupted run resumes with the same command; suites share extraction runs."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that its processes end with it
    with requires_extra("bench"):
        from modeltoll.bench import suites  # noqa: PLC0415  an extra
        from modeltoll.bench.attack_setup import PROFILES  # noqa: PLC0415
        from modeltoll.bench.experiment import result_origin  # noqa: PLC0415
        from modeltoll.bench.runner import RunSettings, pending_jobs  # noqa: PLC0415
        from modeltoll.bench.targets import Workspace  # noqa: PLC0415
    if profile is not None and profile not in PROFILES:
        raise SettingsError([f"--profile: there is no {profile!r}; there are: {', '.join(PROFILES)}"])
    options = suites.SuiteOptions(
        tuple(dataset or ()), tuple(attack or ()), profile, seeds, queries, foreign, tuple(defence or ())
    )
    planned = [experiment for name in names for experiment in suites.plan_experiments(name, options)]
    pending = pending_jobs(planned, folder, live=live > 0)
    done = len(planned) - sum(len(job.experiments) for job in pending)
    note.print(f"{', '.join(names)}: {len(planned)} experiments, {done} of them done before", soft_wrap=True)
    settings = RunSettings(Workspace(data_dir, cache), folder, result_origin(_command()), live=live)
    failed = _run_jobs(pending, settings, jobs, ray)
    _show(planned, folder, json_file)
    if failed:
        raise ModeltollError(
            f"{failed} of {len(pending)} jobs failed; all other results are kept, and the same command resumes"
        )


def _run_jobs(pending: Sequence[Job], settings: RunSettings, processes: int, ray: str | None) -> int:
    """Run all jobs; the number that failed."""
    with requires_extra("bench"):
        from modeltoll.bench.runner import prepare_target, run_all  # noqa: PLC0415  an extra

        for name in dict.fromkeys(job.experiments[0].dataset for job in pending):
            with stage(f"Preparing {name}") as progress:
                prepare_target(name, settings.workspace, progress)
    failed = 0
    with stages("Jobs", len(pending)) as bars:

        def bar(job: Job) -> Progress:
            return bars.of(job.title)

        job_results = (
            run_all(pending, settings, processes, bar)
            if ray is None
            else _on_cluster(pending, settings, ray, processes)
        )
        for done, job_result in enumerate(job_results, start=1):
            bars.end(job_result.job.title)
            note.print(f"{done}/{len(pending)} {escape(_summary(job_result))}", soft_wrap=True)
            failed += job_result.failed
    return failed


def _show(planned: Sequence[Experiment], folder: Path, json_file: str | None) -> None:
    """Print the results of the planned experiments as a table, and the failed checks."""
    from modeltoll.bench.formatting import HEADINGS, cells, failures  # noqa: PLC0415  an extra
    from modeltoll.bench.result_files import StoredResults  # noqa: PLC0415

    stored = StoredResults(folder)
    documents = [document for document in map(stored.get, planned) if document is not None]
    if json_file is not None:
        write_json(documents, json_file)
    if json_file != "-":
        print_table(HEADINGS, [cells(document) for document in documents])
    warn(failures(documents))


def _on_cluster(pending: Sequence[Job], settings: RunSettings, address: str, cores: int) -> Iterator[JobResult]:
    with requires_extra("ray"):
        import ray  # noqa: F401, PLC0415  an extra; without it the error is raised here, not on the cluster

        from modeltoll.bench.ray_runner import run_on_cluster  # noqa: PLC0415
    return run_on_cluster(pending, settings, address, cores)


def _command() -> str:
    """The command line, with absolute paths replaced by DIR."""
    return shlex.join(["modeltoll", *("DIR" if Path(word).is_absolute() else word for word in sys.argv[1:])])


def _summary(job_result: JobResult) -> str:
    """One line for the terminal."""
    if job_result.reason:
        return f"{job_result.job.title}: {'failed' if job_result.failed else 'skipped'}, {job_result.reason}"
    return f"{job_result.job.title}: {len(job_result.results)} results"


@_bench.command(epilog="Example: modeltoll bench pack results/bench")
@command_name
def pack(
    results: Annotated[Path, typer.Argument(help="The folder that 'bench run' wrote to.")],
    *,
    destination: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Merge into the packed files of this folder. Default: the same folder."),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the merged files.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Merge results into one file per suite and data set, one line per result. A newer result replaces a packed one."""
    with requires_extra("bench"):
        from modeltoll.bench.result_packing import pack_results  # noqa: PLC0415  an extra
    if not results.is_dir():
        raise SettingsError([f"there is no folder {results}; modeltoll bench run makes one"])
    packed = pack_results(results, destination, keep=keep)
    if json_file is not None:
        write_json([asdict(one) for one in packed], json_file)
    if json_file != "-":
        headings = ("file", "results", "added", "replaced", "unchanged", "files removed")
        rows = [(one.file, one.results, one.added, one.replaced, one.unchanged, one.removed_files) for one in packed]
        print_table(headings, [tuple(map(str, row)) for row in rows])


@_bench.command(epilog="Example: modeltoll bench report results/bench -o report")
@command_name
def report(
    results: Annotated[Path, typer.Argument(help="The folder that 'bench run' wrote to, packed or not.")],
    *,
    folder: Annotated[Path, typer.Option("--out", "-o", help="Folder for report.html, report.md and figures.")],
) -> None:
    """Write a report of results: the paper's tables beside ours, figures with their numbers, failed checks."""
    with requires_extra("bench"):
        from modeltoll.bench.report.page import write_report  # noqa: PLC0415  an extra
        from modeltoll.bench.result_files import read_results  # noqa: PLC0415
    if not results.is_dir():
        raise SettingsError([f"there is no folder {results}; modeltoll bench run makes one"])
    page, text = write_report(read_results(results), folder)
    note.print(f"see {page} and {text}", soft_wrap=True)


@_bench.command(epilog="Example: modeltoll bench fetch mnist fashion --data-dir data")
@command_name
def fetch(
    names: Annotated[list[str], typer.Argument(help="mnist, fashion, cifar10, svhn.")],
    *,
    data_dir: Annotated[Path, typer.Option(help="Folder of the data sets.")],
) -> None:
    """Download data sets from their publishers and check their digests. Existing files are kept."""
    with requires_extra("bench"):
        from modeltoll.bench import datasets  # noqa: PLC0415  an extra
    missing = [name for name in names if name not in datasets.PUBLISHERS]
    if missing:
        there_are = ", ".join(datasets.PUBLISHERS)
        raise SettingsError([f"no publisher is known for {', '.join(missing)}; can be fetched: {there_are}"])
    for name in names:
        for published in datasets.PUBLISHERS[name]:
            with stage(published.url.rpartition("/")[2]) as progress:
                fetched = datasets.fetch(published, data_dir, progress)
            note.print(f"{data_dir / published.path}: {'fetched' if fetched else 'there already'}", soft_wrap=True)
