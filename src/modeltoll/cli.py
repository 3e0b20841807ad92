"""The command line: verbs only. Each verb reads its arguments, calls one room, and prints what came of it."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import random
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

try:
    import typer
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Table
except ImportError:  # the plain install is the client library
    sys.exit(
        "the command line needs more than the plain install: pip install 'modeltoll[cli]' (or [gateway], or [demo])"
    )

from modeltoll._version import __version__
from modeltoll.errors import CalibrationError, ModeltollError, SettingsError

__all__ = ["app", "main"]

P = ParamSpec("P")
R = TypeVar("R")

FAILED, WRONG, INTERRUPTED = 1, 2, 130
_PAGE_WIDTH = 160

app = typer.Typer(
    name="modeltoll",
    help="A toll house for model APIs: answers sealed by a proof of work calibrated to what they give away.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
note = Console(stderr=True, highlight=False)
out = Console(highlight=False)
if not out.is_terminal:
    out.width = _PAGE_WIDTH  # a table in a file need not fit a screen


def _verb(function: Callable[P, R]) -> Callable[P, R]:
    """Errors as one line and an exit code: 1 it failed, 2 the command or its settings are wrong, 130 interrupted."""

    @functools.wraps(function)
    def verb(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except SettingsError as error:
            for fault in error.faults:
                note.print(f"[red]wrong:[/] {fault}", soft_wrap=True)
            raise typer.Exit(WRONG) from None
        except ModeltollError as error:
            note.print(f"[red]failed:[/] {error}", soft_wrap=True)
            raise typer.Exit(FAILED) from None
        except KeyboardInterrupt:
            note.print("interrupted")
            raise typer.Exit(INTERRUPTED) from None

    return verb


@contextmanager
def _needs(extra: str) -> Iterator[None]:
    """What is imported here comes with an extra; say which, where it is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("modeltoll"):
            raise
        raise SettingsError([f"this needs {error.name}: pip install 'modeltoll[{extra}]'"]) from None


@contextmanager
def _stage(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error while a step lasts; where that is no terminal, a line when it is done."""
    begin = time.perf_counter()
    columns = (TextColumn("{task.description:<48}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=note, disable=not note.is_terminal) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, most: progress.update(task, completed=done, total=most or None)
    if not note.is_terminal:
        note.print(f"{title}: {time.perf_counter() - begin:.1f} s", soft_wrap=True)


def _print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    table = Table(title=title or None, header_style="bold")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    out.print(table)


def _write_json(value: Any, path: str) -> None:
    text = json.dumps(value, indent=2) + "\n"
    if path == "-":
        sys.stdout.write(text)
    else:
        Path(path).write_text(text)


JsonFile = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write the table as JSON; - is standard output.")
]
SettingsFile = Annotated[
    Path, typer.Argument(metavar="SETTINGS.yaml", help="The gateway's settings; docs/settings.md.")
]


def _version(wanted: bool) -> None:
    if wanted:
        out.print(__version__)
        raise typer.Exit


@app.callback()
def _global(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version


@app.command(epilog="Example: modeltoll demo --out demo-out")
@_verb
def demo(
    data: Annotated[
        str, typer.Option(help="digits (embedded), or mnist with Tiny-ImageNet from --data-dir.")
    ] = "digits",
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data sets; or set MODELTOLL_DATA.")] = None,
    folder: Annotated[
        Path, typer.Option("--out", help="Where to write result.json, ratios.png and report.html.")
    ] = Path("demo-out"),
    short: Annotated[bool, typer.Option("--short", help="A quarter of the queries.")] = False,
    seed: Annotated[int, typer.Option(help="Same seed, same data and same thieves.")] = 0,
) -> None:
    """Steal from a model, with and without the toll, and see what it costs."""
    with _needs("demo"):
        from modeltoll.demo.report import HEADINGS, table, write_report  # noqa: PLC0415  an extra
        from modeltoll.demo.run import Options, run  # noqa: PLC0415
        from modeltoll.demo.worlds import SHORT, WORLDS, Sizes  # noqa: PLC0415
    if data not in WORLDS:
        raise SettingsError([f"--data: there is no {data!r}; there are: {', '.join(WORLDS)}"])
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that its servers end with it
    options = Options(data=data, data_dir=data_dir, sizes=SHORT if short else Sizes(), seed=seed)
    with tempfile.TemporaryDirectory(prefix="modeltoll-demo-") as place:
        outcome = run(
            options, Path(place), _stage, shlex.join(["modeltoll", "demo", "--data", data, "--seed", str(seed)])
        )
    write_report(outcome, folder)
    _print_table(HEADINGS, table(outcome))
    out.print(
        f"{outcome.compared} opened answers compared with the model server's own, {outcome.changed} differ; "
        f"{outcome.seconds:.0f} s; see {folder / 'report.html'}",
        soft_wrap=True,
    )


@app.command(epilog="Example: modeltoll serve modeltoll.yaml")
@_verb
def serve(settings: SettingsFile) -> None:
    """Run the gateway until it is interrupted or terminated."""
    with _needs("gateway"):
        from modeltoll.gateway.assemble import assemble  # noqa: PLC0415
        from modeltoll.gateway.serve import serve as run_gateway  # noqa: PLC0415
        from modeltoll.gateway.settings import load_settings  # noqa: PLC0415
    loaded = load_settings(settings)
    assembly = assemble(loaded)
    for notice in assembly.notices:
        note.print(f"[yellow]note:[/] {notice}", soft_wrap=True)
    said = f"toll house on http://{loaded.listen} for {loaded.upstream.url}, metrics on http://{loaded.admin}/metrics"
    asyncio.run(run_gateway(loaded, assembly, lambda: note.print(said, soft_wrap=True)))


@app.command(epilog="Example: modeltoll calibrate modeltoll.yaml --inputs honest.npy")
@_verb
def calibrate(  # noqa: PLR0913  each is a choice of the operator's
    settings: SettingsFile,
    *,
    inputs: Annotated[
        Path, typer.Option(help="Honest rows that the model was not trained on: .npy, one row per line.")
    ],
    model: Annotated[str | None, typer.Option(help="Which model; needed where the settings list several.")] = None,
    g: Annotated[float, typer.Option(help="Bend of the price, 0..1: larger makes rare rows dearer.")] = 0.8,
    overhead: Annotated[
        float, typer.Option(help="What an honest row may cost on top, as a share of its own time.")
    ] = 1.0,
    unit_ms: Annotated[float | None, typer.Option(help="An absolute unit instead, for very fast models.")] = None,
    seed: Annotated[int, typer.Option(help="Decides which rows are kept back.")] = 0,
    json_file: JsonFile = None,
) -> None:
    """Ask the running model server for honest rows and write the tariff that its settings name."""
    with _needs("gateway"):
        from modeltoll.gateway.calibrating import Wishes, calibrate_model, read_rows  # noqa: PLC0415
        from modeltoll.gateway.settings import load_settings  # noqa: PLC0415
        from modeltoll.pricing.calibration import Costs, Provenance, Split, Terms  # noqa: PLC0415
        from modeltoll.pricing.calibration_file import save_calibration  # noqa: PLC0415
    loaded = load_settings(settings)
    if model is None and len(loaded.models) != 1:
        raise SettingsError([f"--model: the settings list several; choose one of {', '.join(loaded.models)}"])
    chosen = model or next(iter(loaded.models))
    made = Provenance(
        str(inputs), shlex.join(["modeltoll", *sys.argv[1:]]), datetime.now(UTC).isoformat(timespec="seconds")
    )
    costs = Costs(overhead=overhead, unit_seconds=None if unit_ms is None else unit_ms / 1000)
    weights = loaded.models[chosen].weights if chosen in loaded.models else None
    wishes = Wishes(Terms(g=g, weights=weights), costs, Split(seed=seed), made)
    with _stage("Asking for honest rows") as progress:
        calibration = asyncio.run(calibrate_model(loaded, chosen, read_rows(inputs), wishes, progress))
    target = loaded.models[chosen].tariff
    save_calibration(calibration, target)
    report = calibration.report
    if report is None:
        raise CalibrationError("the calibration carries no report")
    for warning in report.warnings:
        note.print(f"[yellow]warning:[/] {warning}", soft_wrap=True)
    if json_file is not None:
        _write_json({"tariff": str(target), "unit_seconds": calibration.unit_seconds, **asdict(report)}, json_file)
    if json_file != "-":
        rows = [
            ("honest rows kept back", f"{report.held_back}"),
            (
                "their mean price, units (at most 1 is promised)",
                f"{report.mean:.3f}  [{report.low:.3f}, {report.high:.3f}]",
            ),
            ("unit, ms", f"{1000 * calibration.unit_seconds:.3f}"),
            *(
                (f"wait of {share:.1%} of honest rows, ms, at most", f"{1000 * wait:.1f}")
                for share, wait in report.waits
            ),
        ]
        _print_table(("", "value"), rows, title=f"{target}: {calibration.honest} honest rows of {calibration.model}")


@app.command(epilog="Example: modeltoll call http://127.0.0.1:8080/v2/models/digits/infer --data request.json")
@_verb
def call(
    url: Annotated[str, typer.Argument(help="Where to post the request.")],
    data: Annotated[Path | None, typer.Option(help="The request's JSON body; standard input if not given.")] = None,
    key: Annotated[str | None, typer.Option(envvar="MODELTOLL_KEY", help="API key.")] = None,
    max_seconds: Annotated[float, typer.Option(help="The dearest toll to pay, in seconds of work.")] = 30.0,
    cores: Annotated[int, typer.Option(min=1, help="How many cores to work on.")] = 1,
) -> None:
    """Post one request, pay its toll, print the answer."""
    with _needs("cli"):
        import httpx  # noqa: PLC0415
    from modeltoll.client.httpx import TollTransport  # noqa: PLC0415
    from modeltoll.client.purse import Purse  # noqa: PLC0415

    try:
        body = data.read_bytes() if data else sys.stdin.buffer.read()
    except OSError as error:
        raise SettingsError([f"--data: {data} cannot be read: {error.strerror}"]) from None
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    with _stage("Working for the answer") as progress:
        purse = Purse(max_seconds, cores=cores, progress=progress)
        try:
            with httpx.Client(transport=TollTransport(purse=purse), timeout=60.0) as client:
                response = client.post(url, content=body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ModeltollError(f"{url}: {error}") from None
    sys.stdout.buffer.write(response.content)
    sys.stdout.flush()
    for payment in purse.payments:
        note.print(f"paid {payment.seconds:.3f} s of {payment.puzzle} for {payment.rows} rows", soft_wrap=True)
    if response.is_error:
        note.print(f"[red]failed:[/] the server answered {response.status_code}", soft_wrap=True)
        raise typer.Exit(FAILED)


@app.command("bench-puzzle", epilog="Example: modeltoll bench-puzzle --save machine.json")
@_verb
def bench_puzzle(
    seconds: Annotated[float, typer.Option(min=0.01, help="How long to measure each puzzle.")] = 0.5,
    save: Annotated[Path | None, typer.Option(help="Write this machine's profile, for the setting 'profile'.")] = None,
    name: Annotated[str, typer.Option(help="What to call this machine.")] = "this machine",
    json_file: JsonFile = None,
) -> None:
    """Measure what each puzzle takes on this machine, on one core and on all."""
    from modeltoll.pricing.reference import save_profile  # noqa: PLC0415
    from modeltoll.puzzle.measuring import measure_profile, measure_puzzles  # noqa: PLC0415

    if save is not None:
        save_profile(measure_profile(seconds, name, time.perf_counter), save)
    cores = sorted({1, os.cpu_count() or 1})
    with note.status("measuring"):
        rates = measure_puzzles(seconds, cores, time.perf_counter, random.SystemRandom())
    if json_file is not None:
        _write_json([asdict(rate) for rate in rates], json_file)
    if json_file != "-":
        headings = ("puzzle", "parameters", "cores", "evaluations/s", "make, ms", "check, ms", "cv", "in theory")
        rows = [
            (
                rate.puzzle, rate.parameters, str(rate.cores), f"{rate.evaluations_per_second:,.0f}", f"{rate.make_ms:.3f}",
                f"{rate.check_ms:.3f}", f"{rate.cv:.3f}", f"{rate.cv_theory:.3f}",
            )
            for rate in rates
        ]  # fmt: skip
        _print_table(headings, rows)


def main() -> None:
    """The entry point."""
    app()
