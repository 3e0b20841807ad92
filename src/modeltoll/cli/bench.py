"""The commands ``bench``: run attacks against defences, pack and report the results, download data sets."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.markup import escape

from modeltoll.cli.bench_options import USUAL_CACHE, Cache, DataFolder, RunOptions
from modeltoll.cli.option_records import takes_options
from modeltoll.cli.terminal import (
    JsonFile,
    note,
    print_table,
    requires_extra,
    stage,
    stages,
    warn,
    with_exit_codes,
    write_json,
)
from modeltoll.errors import ModeltollError, SettingsError

if TYPE_CHECKING:
    from modeltoll.bench.experiment import Experiment
    from modeltoll.bench.prepared_target import PreparedTarget, Workspace
    from modeltoll.bench.runner import Job, JobResult, RunSettings
    from modeltoll.records import Progress

__all__ = ["commands"]

_Times = TypeVar("_Times")

commands = typer.Typer()
bench_commands = typer.Typer(
    help="Run model extraction attacks against defences, and report the results.",
    epilog="Example: modeltoll bench run quick -o results/bench",
    no_args_is_help=True,
)
commands.add_typer(bench_commands, name="bench")


@bench_commands.command(epilog="Example: modeltoll bench run quick -o results/bench")
@with_exit_codes
@takes_options
def run(options: RunOptions) -> None:
    """Run suites of experiments and print the results.

    An interrupted run continues where it stopped. Suites share victims and extraction runs through the cache.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that child processes are ended too
    with requires_extra("bench"):
        from modeltoll.bench import suites  # noqa: PLC0415  an extra
        from modeltoll.bench.attack_setup import PROFILES  # noqa: PLC0415
        from modeltoll.bench.experiment import result_origin  # noqa: PLC0415
        from modeltoll.bench.prepared_target import Workspace  # noqa: PLC0415
        from modeltoll.bench.runner import RunSettings, pending_jobs  # noqa: PLC0415
    if options.profile is not None and options.profile not in PROFILES:
        raise SettingsError([f"--profile: there is no {options.profile!r}; there are: {', '.join(PROFILES)}"])
    chosen = suites.SuiteOptions(
        tuple(options.dataset or ()),
        tuple(options.attack or ()),
        options.profile,
        options.seeds,
        options.queries,
        options.foreign,
        tuple(options.defence or ()),
        tuple(options.toll or ()),
    )
    planned = [experiment for name in options.names for experiment in suites.plan_experiments(name, chosen)]
    if options.times is not None and not options.times.is_file():
        raise SettingsError([f"--times: there is no file {options.times}; modeltoll bench times writes one"])
    jobs_left = pending_jobs(planned, options.folder, live=options.live > 0)
    left = sum(len(job.experiments) for job in jobs_left)
    message = f"{', '.join(options.names)}: {len(planned)} experiments, {len(planned) - left} of them done before"
    note.print(message, soft_wrap=True)
    run_settings = RunSettings(
        Workspace(options.data_dir, options.cache, times=options.times),
        options.folder,
        result_origin(_command()),
        live=options.live,
    )
    failed = _run_jobs(jobs_left, run_settings, options.jobs, options.ray)
    _show(planned, options.folder, options.json_file)
    if failed:
        raise ModeltollError(
            f"{failed} of {len(jobs_left)} jobs failed; finished results are kept, and the same command runs the others"
        )


@bench_commands.command(epilog="Example: modeltoll bench times mnist --data-dir data -o results/bench/times.json")
@with_exit_codes
def times(
    names: Annotated[list[str], typer.Argument(metavar="DATASET...", help="Data sets to time a row of.")],
    *,
    path: Annotated[Path, typer.Option("--out", "-o", help="File for the times; 'bench run --times' reads it.")],
    data_dir: DataFolder = None,
    cache: Cache = USUAL_CACHE,
    repeats: Annotated[int, typer.Option(min=1, help="How often each row is timed; its least time counts.")] = 20,
) -> None:
    """Measure what a row and its leak measures take on one core of this machine, on which no other load should run."""
    with requires_extra("bench"):
        from modeltoll.bench.experiment import result_origin  # noqa: PLC0415  an extra
        from modeltoll.bench.prepared_target import Workspace  # noqa: PLC0415
        from modeltoll.bench.row_times import measure_times, write_times  # noqa: PLC0415
        from modeltoll.bench.targets import TARGETS  # noqa: PLC0415
    found = _time_each(
        names,
        path,
        Workspace(data_dir, cache),
        lambda name, prepared, _: measure_times(TARGETS[name], prepared, repeats),
    )
    write_times(path, found, asdict(result_origin(_command())))
    for name, each in found.items():
        ms = ", ".join(f"{measure} {1e3 * seconds:.3f}" for measure, seconds in each.measures.items())
        note.print(f"{name}: without a gateway {1e3 * each.undefended:.3f} ms a row; {ms}", soft_wrap=True)
    note.print(f"written: {path}", soft_wrap=True)


@bench_commands.command(epilog="Example: modeltoll bench estimators mnist --data-dir data -o results/bench/table5.json")
@with_exit_codes
def estimators(
    names: Annotated[list[str], typer.Argument(metavar="DATASET...", help="Data sets to time 64 queries of.")],
    *,
    path: Annotated[Path, typer.Option("--out", "-o", help="File for the times.")],
    data_dir: DataFolder = None,
    cache: Cache = USUAL_CACHE,
    repeats: Annotated[int, typer.Option(min=1, help="How often each batch is timed; its least time counts.")] = 20,
) -> None:
    """Measure the paper's Table 5: seconds of one core for 64 queries, of the model alone and with each leak measure."""
    with requires_extra("bench"):
        from modeltoll.bench.artifact_files import write_document  # noqa: PLC0415  an extra
        from modeltoll.bench.experiment import result_origin  # noqa: PLC0415
        from modeltoll.bench.prepared_target import Workspace  # noqa: PLC0415
        from modeltoll.bench.row_times import measure_estimators  # noqa: PLC0415
    found = _time_each(
        names,
        path,
        Workspace(data_dir, cache),
        lambda _, prepared, progress: measure_estimators(prepared, repeats, progress),
    )
    write_document(path, {**asdict(result_origin(_command())), "repeats": repeats, "targets": found})
    for name, seconds in found.items():
        shown = ", ".join(f"{each} {value:.4f}" for each, value in seconds.items())
        note.print(f"{name}: seconds for 64 queries: {shown}", soft_wrap=True)
    note.print(f"written: {path}", soft_wrap=True)


def _time_each(
    names: Sequence[str],
    path: Path,
    workspace: Workspace,
    measure: Callable[[str, PreparedTarget, Progress], _Times],
) -> dict[str, _Times]:
    """What ``measure`` gives for each data set once it is prepared; ``path``: the file that the times will be written to.

    Raises:
        SettingsError: a name is no data set, or the file cannot be written; nothing was prepared.
    """
    from modeltoll.bench.targets import TARGETS  # noqa: PLC0415  an extra

    if unknown := [name for name in names if name not in TARGETS]:
        raise SettingsError([f"there is no data set {', '.join(unknown)}; there are: {', '.join(TARGETS)}"])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError([f"--out: {path.parent}: {error.strerror}"]) from None
    if path.is_dir():
        raise SettingsError([f"--out: {path} is a folder; give a file"])
    found = {}
    for name in dict.fromkeys(names):
        with stage(f"Preparing {name}") as progress:
            prepared = TARGETS[name].prepare(workspace, progress)
        with stage(f"Timing {name}") as progress:
            found[name] = measure(name, prepared, progress)
    return found


def _run_jobs(jobs_left: Sequence[Job], run_settings: RunSettings, jobs: int, ray: str | None) -> int:
    """Run all jobs; returns the number that failed."""
    with requires_extra("bench"):
        from modeltoll.bench.runner import run_all  # noqa: PLC0415  an extra
        from modeltoll.bench.shared_targets import prepare_target  # noqa: PLC0415

        experiments = [experiment for job in jobs_left for experiment in job.experiments]
        for name in dict.fromkeys(experiment.dataset for experiment in experiments):
            with stage(f"Preparing {name}") as progress:
                of_target = [experiment for experiment in experiments if experiment.dataset == name]
                prepare_target(name, run_settings.workspace, progress, of_target)
    failed = 0
    with stages("Jobs", len(jobs_left)) as bars:

        def bar(job: Job) -> Progress:
            return bars.of(job.title)

        results_done = (
            run_all(jobs_left, run_settings, jobs, bar)
            if ray is None
            else _on_cluster(jobs_left, run_settings, ray, jobs)
        )
        for done, result in enumerate(results_done, start=1):
            bars.end(result.job.title)
            note.print(f"{done}/{len(jobs_left)} {escape(_summary(result))}", soft_wrap=True)
            failed += result.failed
    return failed


def _show(planned: Sequence[Experiment], folder: Path, json_file: str | None) -> None:
    """Print the results that exist as a table, and failed checks as warnings."""
    from modeltoll.bench.result_files import StoredResults  # noqa: PLC0415
    from modeltoll.bench.table_rows import HEADINGS, cells, failures  # noqa: PLC0415  an extra

    stored = StoredResults(folder)
    documents = [document for document in map(stored.get, planned) if document is not None]
    if json_file is not None:
        write_json(documents, json_file)
    if json_file != "-":
        print_table(HEADINGS, [cells(document) for document in documents])
    warn(failures(documents))


def _on_cluster(jobs_left: Sequence[Job], run_settings: RunSettings, address: str, cores: int) -> Iterator[JobResult]:
    with requires_extra("ray"):
        import ray  # noqa: F401, PLC0415  an extra: fail here, not on a remote machine

        from modeltoll.bench.ray_runner import run_on_cluster  # noqa: PLC0415
    return run_on_cluster(jobs_left, run_settings, address, cores)


def _command() -> str:
    """The command line, with absolute paths replaced by DIR."""
    return shlex.join(["modeltoll", *("DIR" if Path(word).is_absolute() else word for word in sys.argv[1:])])


def _summary(result: JobResult) -> str:
    """One line about a finished job."""
    if result.reason:
        return f"{result.job.title}: {'failed' if result.failed else 'skipped'}, {result.reason}"
    return f"{result.job.title}: {len(result.results)} results"


@bench_commands.command(epilog="Example: modeltoll bench pack results/bench")
@with_exit_codes
def pack(
    results: Annotated[Path, typer.Argument(help="Folder of results that 'bench run' wrote.")],
    *,
    destination: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the packed files; by default the same folder.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the files that were merged.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Merge results into one file per suite and data set, one result per line; newer results replace packed ones."""
    with requires_extra("bench"):
        from modeltoll.bench.result_packing import pack_results  # noqa: PLC0415  an extra
    if not results.is_dir():
        raise SettingsError([f"there is no folder {results}; modeltoll bench run writes one"])
    packed = pack_results(results, destination, keep=keep)
    if json_file is not None:
        write_json([asdict(file) for file in packed], json_file)
    if json_file != "-":
        headings = ("file", "results", "added", "replaced", "unchanged", "files removed")
        rows = [
            (each.file, each.results, each.added, each.replaced, each.unchanged, each.removed_files) for each in packed
        ]
        print_table(headings, [tuple(map(str, row)) for row in rows])


@bench_commands.command(epilog="Example: modeltoll bench report results/bench -o report")
@with_exit_codes
def report(
    results: Annotated[Path, typer.Argument(help="Folder of results that 'bench run' wrote, packed or not.")],
    *,
    folder: Annotated[Path, typer.Option("--out", "-o", help="Output folder for report.html, report.md and figures.")],
) -> None:
    """Write a report of results: tables beside the paper's, figures with their data, and failed checks."""
    with requires_extra("bench"):
        from modeltoll.bench.report.page import write_report  # noqa: PLC0415  an extra
        from modeltoll.bench.result_files import read_results  # noqa: PLC0415
    if not results.is_dir():
        raise SettingsError([f"there is no folder {results}; modeltoll bench run writes one"])
    page, text = write_report(read_results(results), folder)
    note.print(f"written: {page} and {text}", soft_wrap=True)


@bench_commands.command(epilog="Example: modeltoll bench fetch mnist fashion --data-dir data")
@with_exit_codes
def fetch(
    names: Annotated[list[str], typer.Argument(help="Data sets to download: mnist, fashion, cifar10, svhn.")],
    *,
    data_dir: Annotated[Path, typer.Option(help="Folder for the data sets.")],
) -> None:
    """Download data sets from their publishers and check their hashes; existing files are kept."""
    with requires_extra("bench"):
        from modeltoll.bench import datasets  # noqa: PLC0415  an extra
    missing = [name for name in names if name not in datasets.PUBLISHERS]
    if missing:
        there_are = ", ".join(datasets.PUBLISHERS)
        raise SettingsError([f"no download is known for {', '.join(missing)}; can be fetched: {there_are}"])
    for name in names:
        for published in datasets.PUBLISHERS[name]:
            with stage(published.url.rpartition("/")[2]) as progress:
                fetched = datasets.fetch(published, data_dir, progress)
            note.print(f"{data_dir / published.path}: {'downloaded' if fetched else 'there already'}", soft_wrap=True)
