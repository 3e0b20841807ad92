"""The verbs ``bench run``, ``pack`` and ``report``: attacks and defences, tried, kept and shown."""

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
    help="Try attacks against defences, and report what came of it.",
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
        Path, typer.Option("--out", "-o", help="Where results go, a file each; those that are there stay.")
    ],
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data sets; or set MODELTOLL_DATA.")] = None,
    cache: Annotated[Path, typer.Option(help="Where victims and stolen queries are kept.")] = Path("build/bench"),
    dataset: Annotated[list[str] | None, typer.Option(help="Only this data set. Give several.")] = None,
    attack: Annotated[list[str] | None, typer.Option(help="Only this attack. Give several.")] = None,
    defence: Annotated[
        list[str] | None, typer.Option(help="Only this defence, in the suites that compare them. Give several.")
    ] = None,
    foreign: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE.npz|FOLDER", help="Where foreign images come from: any data set, noise, your own."
        ),
    ] = "",
    profile: Annotated[str | None, typer.Option(help="Settings of attacks: full (the paper's) or quick.")] = None,
    queries: Annotated[int | None, typer.Option(min=1, help="A thief's budget of rows.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, where a theft does not take too long.")] = 3,
    jobs: Annotated[int, typer.Option(min=1, help="How many processes.")] = 1,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Send experiments to a Ray cluster; 'local' starts one here.")
    ] = None,
    live: Annotated[
        int, typer.Option(min=0, help="Drive so many rows of each theft through a real gateway, too; a minute each.")
    ] = 0,
    json_file: JsonFile = None,
) -> None:
    """Run suites; what was interrupted goes on where it stopped, and suites share what is stolen."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that its processes end with it
    with requires_extra("bench"):
        from modeltoll.bench import suites  # noqa: PLC0415  an extra
        from modeltoll.bench.attack_setup import PROFILES  # noqa: PLC0415
        from modeltoll.bench.experiment import provenance  # noqa: PLC0415
        from modeltoll.bench.runner import RunSettings, pending_jobs  # noqa: PLC0415
        from modeltoll.bench.targets import Workspace  # noqa: PLC0415
    if profile is not None and profile not in PROFILES:
        raise SettingsError([f"--profile: there is no {profile!r}; there are: {', '.join(PROFILES)}"])
    choice = suites.SuiteOptions(
        tuple(dataset or ()), tuple(attack or ()), profile, seeds, queries, foreign, tuple(defence or ())
    )
    planned = [experiment for name in names for experiment in suites.plan_experiments(name, choice)]
    found = pending_jobs(planned, folder, live=live > 0)
    left = sum(len(errand.experiments) for errand in found)
    said = f"{', '.join(names)}: {len(planned)} experiments, {len(planned) - left} of them done before"
    note.print(said, soft_wrap=True)
    work = RunSettings(Workspace(data_dir, cache), folder, provenance(_command()), live=live)
    failed = _run_jobs(found, work, jobs, ray)
    _show(planned, folder, json_file)
    if failed:
        raise ModeltollError(f"{failed} of {len(found)} errands failed; the rest is kept, and the same command goes on")


def _run_jobs(found: Sequence[Job], work: RunSettings, jobs: int, ray: str | None) -> int:
    """Run all errands; how many failed."""
    with requires_extra("bench"):
        from modeltoll.bench.runner import prepare, run_all  # noqa: PLC0415  an extra

        for name in dict.fromkeys(errand.experiments[0].dataset for errand in found):
            with stage(f"Making {name} ready") as progress:
                prepare(name, work.workspace, progress)
    failed = 0
    with stages("Errands", len(found)) as bars:

        def bar(errand: Job) -> Progress:
            return bars.of(errand.title)

        outcomes = run_all(found, work, jobs, bar) if ray is None else _on_cluster(found, work, ray, jobs)
        for done, outcome in enumerate(outcomes, start=1):
            bars.end(outcome.job.title)
            note.print(f"{done}/{len(found)} {escape(_summary(outcome))}", soft_wrap=True)
            failed += outcome.failed
    return failed


def _show(planned: Sequence[Experiment], folder: Path, json_file: str | None) -> None:
    """The results that there are as a table, and what does not hold."""
    from modeltoll.bench.formatting import HEADINGS, cells, failures  # noqa: PLC0415  an extra
    from modeltoll.bench.result_files import StoredResults  # noqa: PLC0415

    stored = StoredResults(folder)
    documents = [document for document in map(stored.get, planned) if document is not None]
    if json_file is not None:
        write_json(documents, json_file)
    if json_file != "-":
        print_table(HEADINGS, [cells(document) for document in documents])
    warn(failures(documents))


def _on_cluster(found: Sequence[Job], work: RunSettings, address: str, cores: int) -> Iterator[JobResult]:
    with requires_extra("ray"):
        import ray  # noqa: F401, PLC0415  an extra, missed here and not on a machine far away

        from modeltoll.bench.ray_runner import run_on_cluster  # noqa: PLC0415
    return run_on_cluster(found, work, address, cores)


def _command() -> str:
    """As it was given, but for where this machine keeps things."""
    return shlex.join(["modeltoll", *("DIR" if Path(word).is_absolute() else word for word in sys.argv[1:])])


def _summary(outcome: JobResult) -> str:
    """One line for the screen."""
    if outcome.left:
        return f"{outcome.job.title}: {'failed' if outcome.failed else 'left out'}, {outcome.left}"
    return f"{outcome.job.title}: {len(outcome.results)} results"


@_bench.command(epilog="Example: modeltoll bench pack results/bench")
@command_name
def pack(
    results: Annotated[Path, typer.Argument(help="The folder that 'bench run' wrote to.")],
    *,
    destination: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Merge into the packed files of this folder, not of the same one."),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the files that were merged where they are.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Merge results into one file for each suite and data set, a line a result; a newer result replaces a packed one."""
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
    folder: Annotated[Path, typer.Option("--out", "-o", help="Where report.html, report.md and figures go.")],
) -> None:
    """Make pages of results: the paper's tables next to ours, figures with their numbers, what does not hold."""
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
    """Fetch data sets from their publishers, and check them; what lies there already is left alone."""
    with requires_extra("bench"):
        from modeltoll.bench import datasets  # noqa: PLC0415  an extra
    missing = [name for name in names if name not in datasets.PUBLISHERS]
    if missing:
        there_are = ", ".join(datasets.PUBLISHERS)
        raise SettingsError([f"nobody is known to publish {', '.join(missing)}; can be fetched: {there_are}"])
    for name in names:
        for published in datasets.PUBLISHERS[name]:
            with stage(published.url.rpartition("/")[2]) as progress:
                fetched = datasets.fetch(published, data_dir, progress)
            note.print(f"{data_dir / published.path}: {'fetched' if fetched else 'there already'}", soft_wrap=True)
