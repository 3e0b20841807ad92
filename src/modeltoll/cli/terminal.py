"""Output of commands: tables, JSON, progress bars, messages and exit codes."""

from __future__ import annotations

import functools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

try:
    import typer
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.table import Table
except ImportError:  # the install without extras is the client library
    sys.exit("the command line needs an extra: pip install 'modeltoll[cli]' (or [gateway], or [demo])")

from modeltoll.cli.interrupts import INTERRUPTED, Importing, Running
from modeltoll.errors import ModeltollError, SettingsError
from modeltoll.names import INSTALL_TRAIN

if TYPE_CHECKING:
    from modeltoll.records import Progress

__all__ = [
    "FAILED",
    "INTERRUPTED",
    "WRONG",
    "JsonFile",
    "SettingsFile",
    "Stages",
    "duration",
    "note",
    "out",
    "print_table",
    "requires_extra",
    "stage",
    "stages",
    "warn",
    "with_exit_codes",
    "write_json",
]

P = ParamSpec("P")
R = TypeVar("R")

FAILED, WRONG = 1, 2
_PAGE_WIDTH = 160
_LINE_SECONDS = 30.0

note = Console(stderr=True, highlight=False)
out = Console(highlight=False)
if not out.is_terminal:
    out.width = _PAGE_WIDTH  # tables that are written to a file need not fit a screen


def with_exit_codes(function: Callable[P, R]) -> Callable[P, R]:
    """Print errors in one line each and exit: 1 if the command failed, 2 for a wrong command or settings, 130 interrupted."""

    @functools.wraps(function)
    def command(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with Running():
                return function(*args, **kwargs)
        except SettingsError as error:
            for problem in error.faults:
                note.print(f"[red]error:[/] {escape(problem)}", soft_wrap=True)
            raise typer.Exit(WRONG) from None
        except ModeltollError as error:
            note.print(f"[red]failed:[/] {escape(str(error))}", soft_wrap=True)
            raise typer.Exit(FAILED) from None
        except KeyboardInterrupt:
            note.print("interrupted")
            raise typer.Exit(INTERRUPTED) from None

    return command


@contextmanager
def requires_extra(extra: str) -> Iterator[None]:
    """Imports in this block need an extra; if a package is missing, the error names the extra to install."""
    try:
        with Importing():
            yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("modeltoll"):
            raise
        install = INSTALL_TRAIN if extra == "train" else f"pip install 'modeltoll[{extra}]'"
        raise SettingsError([f"this command needs {error.name}: {install}"]) from None


def _bars() -> Bars:
    columns = (
        TextColumn("{task.description:<48}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    return Bars(*columns, console=note, disable=not note.is_terminal)


class _ProgressLines:
    """Progress in lines, for a log: at most one every half minute, with the time that is left."""

    def __init__(self, title: str, begin: float) -> None:
        self._title, self._begin, self._last = title, begin, begin

    def report(self, done: int, most: int) -> None:
        now = time.perf_counter()
        if now - self._last < _LINE_SECONDS or not 0 < done < most:
            return
        self._last = now
        left = duration((now - self._begin) * (most - done) / done)
        note.print(f"{self._title}: {done:,} of {most:,}, about {left} left", soft_wrap=True)


def duration(seconds: float) -> str:
    """Seconds in the unit that people would use."""
    for unit, size in (("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


@contextmanager
def stage(title: str, *, may_be_idle: bool = False) -> Iterator[Progress]:
    """A progress bar on standard error during a step; without a terminal, a line every half minute and one at the end.

    ``may_be_idle``: the step waits for something that may have nothing to do. Its bar and lines begin with the first progress,
    and there is no line at the end, whose time would be that of the wait.
    """
    begin, worked = time.perf_counter(), not may_be_idle
    lines = _ProgressLines(title, begin)
    with _bars() as bars:
        task = bars.add_task(title, total=None, visible=worked)

        def progress(done: int, most: int) -> None:
            nonlocal worked, lines
            if not worked:
                worked, lines = True, _ProgressLines(title, time.perf_counter())
            bars.update(task, completed=done, total=most or None, visible=True)
            if not note.is_terminal:
                lines.report(done, most)

        yield progress
    if not may_be_idle and not note.is_terminal:
        note.print(f"{title}: {time.perf_counter() - begin:.1f} s", soft_wrap=True)


class Stages:
    """One progress bar for all steps and one for each running step. Thread-safe."""

    def __init__(self, bars: Bars, title: str, most: int) -> None:
        self._bars = bars
        self._all = bars.add_task(title, total=most)
        self._tasks: dict[str, TaskID | None] = {}  # None: ended
        self._lock = threading.Lock()

    def of(self, title: str) -> Progress:
        """The progress callback of a step; its bar appears with the first call."""

        def say(done: int, most: int) -> None:
            with self._lock:
                if title not in self._tasks:
                    self._tasks[title] = self._bars.add_task(f"  {title}")
                if (task := self._tasks[title]) is not None:
                    self._bars.update(task, completed=done, total=most or None)

        return say

    def end(self, title: str) -> None:
        """Remove a step's bar and count the step as done."""
        with self._lock:
            if (task := self._tasks.get(title)) is not None:
                self._bars.remove_task(task)
            self._tasks[title] = None
            self._bars.advance(self._all)


@contextmanager
def stages(title: str, most: int) -> Iterator[Stages]:
    """Progress bars on standard error for ``most`` steps, several at a time; nothing without a terminal."""
    with _bars() as bars:
        yield Stages(bars, title, most)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """Print a table on standard output; the first column is left-aligned, the others right-aligned."""
    table = Table(title=title or None, header_style="bold")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    out.print(table)


def warn(warnings: Iterable[str]) -> None:
    """Print warnings on standard error, one a line."""
    for warning in warnings:
        note.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)


def write_json(value: Any, path: str) -> None:
    """Write a value as JSON to a file, or to standard output for ``-``."""
    text = json.dumps(value, indent=2) + "\n"
    if path == "-":
        sys.stdout.write(text)
    else:
        Path(path).write_text(text)


JsonFile = Annotated[
    str | None,
    typer.Option(
        "--json",
        metavar="FILE",
        help="Also write the table as JSON to this file; - writes JSON to standard output instead of the table.",
    ),
]
SettingsFile = Annotated[
    Path, typer.Argument(metavar="SETTINGS.yaml", help="The gateway's settings file; see docs/reference/settings.md.")
]
