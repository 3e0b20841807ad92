"""The command ``demo``: extraction attacks with and without the toll, as a report or as a web page."""

from __future__ import annotations

import shlex
import signal
import tempfile
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from modeltoll.cli.option_records import takes_options
from modeltoll.cli.terminal import note, out, print_table, requires_extra, stage, with_exit_codes
from modeltoll.errors import SettingsError

__all__ = ["commands"]

commands = typer.Typer()


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What is attacked, and what is made of it: a report or a web page."""

    data: Annotated[
        str, typer.Option(help="Data set: digits (included), or mnist with Tiny-ImageNet from --data-dir.")
    ] = "digits"
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data sets; by default $MODELTOLL_DATA.")] = None
    folder: Annotated[
        Path, typer.Option("--out", help="Output folder for result.json, ratios.png and report.html.")
    ] = Path("demo-out")
    short: Annotated[bool, typer.Option("--short", help="Run a quarter of the queries.")] = False
    seed: Annotated[
        int, typer.Option(help="Seed of data, attacks and puzzles; the same seed repeats the same run.")
    ] = 0
    web: Annotated[
        bool,
        typer.Option(
            "--web", help="Serve a web page on which to try the gateway, until interrupted, in place of the report."
        ),
    ] = False
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the page, with --web; by default a free one.")
    ] = None
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser, with --web.")] = False


@commands.command(epilog="Example: modeltoll demo --out demo-out, or modeltoll demo --web --open")
@with_exit_codes
@takes_options
def demo(options: DemoOptions) -> None:
    """Attack a model on this machine with and without the toll, and report what the attacks cost.

    Needs no network. Writes a report, or with --web serves a page.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that its servers are ended too
    if options.web:
        if options.data != "digits" or options.short:
            raise SettingsError(["--web: the page serves digits and writes no report; leave out --data and --short"])
        _serve_page(options.port or 0, options.seed, open_page=options.open_page)
    if options.port is not None or options.open_page:
        raise SettingsError(["--port, --open: these go with --web; add it"])
    _write_report(options)


def _write_report(options: DemoOptions) -> None:
    with requires_extra("demo"):
        from modeltoll.demo.data import DATA_LOADERS, SHORT_SIZES, DataSizes  # noqa: PLC0415
        from modeltoll.demo.report import HEADINGS, table, write_report  # noqa: PLC0415  an extra
        from modeltoll.demo.run import Options, run  # noqa: PLC0415
    data, seed = options.data, options.seed
    if data not in DATA_LOADERS:
        raise SettingsError([f"--data: there is no {data!r}; there are: {', '.join(DATA_LOADERS)}"])
    chosen = Options(
        data=data, data_dir=options.data_dir, sizes=SHORT_SIZES if options.short else DataSizes(), seed=seed
    )
    command = shlex.join(["modeltoll", "demo", "--data", data, "--seed", str(seed)])
    with tempfile.TemporaryDirectory(prefix="modeltoll-demo-") as folder_name:
        result = run(chosen, Path(folder_name), stage, command)
    write_report(result, options.folder)
    print_table(HEADINGS, table(result))
    out.print(
        f"{result.compared} opened answers compared with the model server's own, {result.changed} differ; "
        f"{result.seconds:.0f} s; see {options.folder / 'report.html'}",
        soft_wrap=True,
    )


def _serve_page(port: int, seed: int, *, open_page: bool) -> NoReturn:
    """Serve the page until SIGINT or SIGTERM; both end with the exit code of an interruption."""
    with requires_extra("demo"):
        from modeltoll.demo.web import WebOptions, serve_page  # noqa: PLC0415  an extra

    def ready(url: str) -> None:
        out.print(url, soft_wrap=True)
        note.print("the page is ready; stop it with Ctrl-C", soft_wrap=True)
        if open_page:
            webbrowser.open(url)

    with tempfile.TemporaryDirectory(prefix="modeltoll-demo-") as folder_name:
        serve_page(WebOptions(port, seed=seed), Path(folder_name), stage, ready)
    raise KeyboardInterrupt
