"""The verb ``demo``: the whole business on embedded data, as a report or as a page."""

from __future__ import annotations

import shlex
import signal
import tempfile
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from modeltoll.cli.terminal import command_name, note, out, print_table, requires_extra, stage
from modeltoll.errors import SettingsError

__all__ = ["verbs"]

verbs = typer.Typer()


@verbs.command(epilog="Example: modeltoll demo --out demo-out, or modeltoll demo --web --open")
@command_name
def demo(  # noqa: PLR0913  each is a choice of the visitor's
    *,
    data: Annotated[
        str, typer.Option(help="digits (embedded), or mnist with Tiny-ImageNet from --data-dir.")
    ] = "digits",
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data sets; or set MODELTOLL_DATA.")] = None,
    folder: Annotated[
        Path, typer.Option("--out", help="Where to write result.json, ratios.png and report.html.")
    ] = Path("demo-out"),
    short: Annotated[bool, typer.Option("--short", help="A quarter of the queries.")] = False,
    seed: Annotated[int, typer.Option(help="Same seed, same data and same thieves.")] = 0,
    web: Annotated[
        bool, typer.Option("--web", help="Instead, serve a page to try the toll in a browser, until interrupted.")
    ] = False,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The page's port, with --web; any that is free by default.")
    ] = None,
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Open the page, with --web.")] = False,
) -> None:
    """Steal from a model, with and without the toll, and see what it costs."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that its servers end with it
    if web:
        if data != "digits" or short:
            raise SettingsError(["--web: the page draws digits and has no report; leave out --data and --short"])
        return _page(port or 0, seed, open_page=open_page)
    if port is not None or open_page:
        raise SettingsError(["--port, --open: these go with --web"])
    return _report(data, data_dir, folder, seed, short=short)


def _report(data: str, data_dir: Path | None, folder: Path, seed: int, *, short: bool) -> None:
    with requires_extra("demo"):
        from modeltoll.demo.data import SHORT, WORLDS, DataSizes  # noqa: PLC0415
        from modeltoll.demo.report import HEADINGS, table, write_report  # noqa: PLC0415  an extra
        from modeltoll.demo.run import Options, run  # noqa: PLC0415
    if data not in WORLDS:
        raise SettingsError([f"--data: there is no {data!r}; there are: {', '.join(WORLDS)}"])
    options = Options(data=data, data_dir=data_dir, sizes=SHORT if short else DataSizes(), seed=seed)
    with tempfile.TemporaryDirectory(prefix="modeltoll-demo-") as place:
        outcome = run(
            options, Path(place), stage, shlex.join(["modeltoll", "demo", "--data", data, "--seed", str(seed)])
        )
    write_report(outcome, folder)
    print_table(HEADINGS, table(outcome))
    out.print(
        f"{outcome.compared} opened answers compared with the model server's own, {outcome.changed} differ; "
        f"{outcome.seconds:.0f} s; see {folder / 'report.html'}",
        soft_wrap=True,
    )


def _page(port: int, seed: int, *, open_page: bool) -> None:
    """Serve the page until a signal comes; that is an interruption, however it came."""
    with requires_extra("demo"):
        from modeltoll.demo.web import WebOptions, keep_open  # noqa: PLC0415  an extra

    def ready(url: str) -> None:
        out.print(url, soft_wrap=True)
        note.print("the page is ready; end it with Ctrl-C", soft_wrap=True)
        if open_page:
            webbrowser.open(url)

    with tempfile.TemporaryDirectory(prefix="modeltoll-demo-") as place:
        keep_open(WebOptions(port, seed=seed), Path(place), stage, ready)
    raise KeyboardInterrupt
