"""The command line: verbs only. Each verb reads its arguments, calls one room, and prints what came of it."""

from __future__ import annotations

import contextlib
import os
import random
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from modeltoll.cli.terminal import (  # first: where the command line's extra is missing, this says so
    JsonFile,
    SettingsFile,
    command_name,
    note,
    out,
    print_table,
    requires_extra,
    write_json,
)

# isort: split
import typer

from modeltoll._version import __version__
from modeltoll.cli import accounts, bench, calibrate, client, demo, fit_measures, keys, setup, simulate_explain

__all__ = ["app", "main"]

app = typer.Typer(
    name="modeltoll",
    help="A toll house for model APIs: answers sealed by a proof of work calibrated to what they give away.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for room in (accounts, bench, calibrate, client, demo, fit_measures, keys, setup, simulate_explain):
    app.add_typer(room.verbs)


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


@app.command(epilog="Example: modeltoll serve modeltoll.yaml")
@command_name
def serve(
    settings: SettingsFile,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes that share the address.")] = 1,
) -> None:
    """Run the gateway until it is interrupted or terminated."""
    with requires_extra("gateway"):
        from modeltoll.gateway.assembly.build import build_gateway  # noqa: PLC0415
        from modeltoll.gateway.observability.logging_setup import configure_logging  # noqa: PLC0415
        from modeltoll.gateway.server.serve import run as run_gateway  # noqa: PLC0415
        from modeltoll.gateway.server.workers import run_workers  # noqa: PLC0415
        from modeltoll.gateway.settings.load import load_settings  # noqa: PLC0415
    loaded = load_settings(settings)
    configure_logging(loaded.operation)
    gateway = build_gateway(loaded)
    for notice in gateway.warnings:
        _report_error(f"[yellow]note:[/] {notice}")
    said = (
        f"toll house on http://{loaded.listen} for {loaded.upstream.url}, metrics on http://{loaded.admin}/metrics, "
        f"a dashboard on http://{loaded.admin}/dashboard/, a page to try it on http://{loaded.admin}/try/"
    )
    if workers == 1:
        run_gateway(loaded, gateway, lambda: _report_error(said), settings)
    else:
        del gateway  # each worker builds its own
        run_workers(loaded, workers, lambda: _report_error(f"{said}, {workers} workers"), settings)


def _report_error(text: str) -> None:
    """On standard error, if that can be written: a full disk under it stops no gateway."""
    with contextlib.suppress(OSError):
        note.print(text, soft_wrap=True)


@app.command("bench-puzzle", epilog="Example: modeltoll bench-puzzle --save machine.json")
@command_name
def bench_puzzle(
    seconds: Annotated[float, typer.Option(min=0.01, help="How long to measure each puzzle.")] = 0.5,
    save: Annotated[Path | None, typer.Option(help="Write this machine's profile, for the setting 'profile'.")] = None,
    name: Annotated[str, typer.Option(help="What to call this machine.")] = "this machine",
    json_file: JsonFile = None,
) -> None:
    """Measure what each puzzle takes on this machine, on one core and on all."""
    from modeltoll.puzzle.benchmark import measure_profile, measure_puzzles  # noqa: PLC0415
    from modeltoll.puzzle.counter import LADDER  # noqa: PLC0415
    from modeltoll.puzzle.machine_profile import save_profile  # noqa: PLC0415
    from modeltoll.puzzle.native_kernels import kernels  # noqa: PLC0415
    from modeltoll.puzzle.squaring import squarers  # noqa: PLC0415

    note.print(f"in use here: SHA-256 by {kernels()[0].name}, squarings by {squarers()[0].name}", soft_wrap=True)
    if save is not None:
        save_profile(measure_profile(seconds, name, time.perf_counter, LADDER), save)
    cores = sorted({1, os.cpu_count() or 1})
    with note.status("measuring"):
        rates = measure_puzzles(seconds, cores, time.perf_counter, random.SystemRandom())
    if json_file is not None:
        write_json([asdict(rate) for rate in rates], json_file)
    if json_file != "-":
        headings = ("puzzle", "parameters", "cores", "evaluations/s", "make, ms", "check, ms", "cv", "in theory")
        rows = [
            (
                rate.puzzle, rate.parameters, str(rate.cores), f"{rate.evaluations_per_second:,.0f}", f"{rate.make_ms:.3f}",
                f"{rate.check_ms:.3f}", f"{rate.cv:.3f}", f"{rate.cv_theory:.3f}",
            )
            for rate in rates
        ]  # fmt: skip
        print_table(headings, rows)


def main() -> None:
    """The entry point."""
    app()
