"""The commands of ``modeltoll``. Each reads its options, calls one package, and prints the result."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from modeltoll.cli.terminal import (  # first: its error names the extra that is missing
    JsonFile,
    SettingsFile,
    note,
    out,
    print_table,
    requires_extra,
    with_exit_codes,
    write_json,
)

# isort: split
import typer
from rich.markup import escape

from modeltoll._version import __version__
from modeltoll.cli import accounts, bench, calibrate, call, demo, fit_measures, keys, proxy, setup, simulate_explain

__all__ = ["app"]

app = typer.Typer(
    name="modeltoll",
    help="A proof-of-work gateway for model APIs: it seals each answer behind a puzzle whose cost follows how much the answer "
    "reveals about the model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_serve_command, _bench_puzzle_command = typer.Typer(), typer.Typer()


def _version(wanted: bool) -> None:
    if wanted:
        out.print(__version__)
        raise typer.Exit


@app.callback()
def _global(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    del version


@_serve_command.command(epilog="Example: modeltoll serve modeltoll.yaml")
@with_exit_codes
def serve(
    settings: SettingsFile,
    workers: Annotated[
        int, typer.Option(min=1, max=256, help="Number of worker processes that share the address.")
    ] = 1,
) -> None:
    """Run the gateway until it gets SIGINT or SIGTERM.

    Reads a settings file; serves the model API, and on the admin address metrics, the dashboard and a test page.
    """
    with requires_extra("gateway"):
        from modeltoll.gateway.assembly.build import build_gateway  # noqa: PLC0415
        from modeltoll.gateway.assembly.unmeasured_notice import unmeasured_notices  # noqa: PLC0415
        from modeltoll.gateway.observability.logging_setup import configure_logging  # noqa: PLC0415
        from modeltoll.gateway.server.serve import run as run_gateway  # noqa: PLC0415
        from modeltoll.gateway.server.workers import run_workers  # noqa: PLC0415
        from modeltoll.gateway.settings.load import load_settings  # noqa: PLC0415
    loaded = load_settings(settings)
    configure_logging(loaded.operation)
    gateway = build_gateway(loaded)
    for notice in (*gateway.warnings, *asyncio.run(unmeasured_notices(loaded))):
        _print_note(f"[yellow]note:[/] {escape(notice)}")
    places = ", ".join(place if place.startswith("unix:") else f"http://{place}" for place in loaded.listen_addresses)
    grpc = f" and grpc://{loaded.listen_grpc}" if loaded.listen_grpc else ""
    message = (
        f"gateway on {places}{grpc} for {loaded.upstream.url}, metrics on http://{loaded.admin}/metrics, "
        f"dashboard on http://{loaded.admin}/dashboard/, test page on http://{loaded.admin}/try/"
    )
    if workers == 1:
        run_gateway(loaded, gateway, lambda: _print_note(message), settings)
    else:
        del gateway  # each worker builds its own
        run_workers(loaded, workers, lambda: _print_note(f"{message}, {workers} workers"), settings)


def _print_note(text: str) -> None:
    """Print on standard error; a write error, such as a full disk, does not stop the gateway."""
    with contextlib.suppress(OSError):
        note.print(text, soft_wrap=True)


@_bench_puzzle_command.command("bench-puzzle", epilog="Example: modeltoll bench-puzzle --save machine.json")
@with_exit_codes
def bench_puzzle(
    seconds: Annotated[float, typer.Option(min=0.01, help="Seconds to measure each puzzle and size.")] = 0.5,
    save: Annotated[
        Path | None, typer.Option(help="Write this machine's profile to a JSON file, for the setting 'profile'.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of this machine in the profile.")] = "this machine",
    json_file: JsonFile = None,
) -> None:
    """Measure evaluations per second of every puzzle on this machine, on one core and on all cores.

    Prints a table; with --save also writes a machine profile.
    """
    from modeltoll.puzzle.benchmark import measure_profile, measure_puzzles  # noqa: PLC0415
    from modeltoll.puzzle.counter import LADDER  # noqa: PLC0415
    from modeltoll.puzzle.machine_profile import save_profile  # noqa: PLC0415
    from modeltoll.puzzle.native_argon2id import argon2id_kernels  # noqa: PLC0415
    from modeltoll.puzzle.native_kernels import kernels  # noqa: PLC0415
    from modeltoll.puzzle.squaring import squarers  # noqa: PLC0415

    argon2id = next(iter(argon2id_kernels()), "argon2-cffi")
    note.print(
        f"implementations in use: SHA-256 by {kernels()[0].name}, argon2id by {argon2id}, squarings by "
        f"{squarers()[0].name}",
        soft_wrap=True,
    )
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


for commands in (  # in the order of --help
    demo.commands,
    setup.commands,
    _serve_command,
    calibrate.commands,
    fit_measures.commands,
    simulate_explain.commands,
    accounts.commands,
    keys.commands,
    call.commands,
    proxy.commands,
    _bench_puzzle_command,
    bench.commands,
):
    app.add_typer(commands)
