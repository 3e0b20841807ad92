"""The terminal: what is said, how it looks, and which exit code says what."""

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
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars
    from rich.table import Table
except ImportError:  # the plain install is the client library
    sys.exit(
        "the command line needs more than the plain install: pip install 'modeltoll[cli]' (or [gateway], or [demo])"
    )

from modeltoll.errors import ModeltollError, SettingsError

if TYPE_CHECKING:
    from modeltoll.records import Progress

__all__ = [
    "FAILED",
    "INTERRUPTED",
    "WRONG",
    "JsonFile",
    "SettingsFile",
    "Stages",
    "command_name",
    "note",
    "out",
    "print_table",
    "requires_extra",
    "stage",
    "stages",
    "warn",
    "write_json",
]

P = ParamSpec("P")
R = TypeVar("R")

FAILED, WRONG, INTERRUPTED = 1, 2, 130
_PAGE_WIDTH = 160

note = Console(stderr=True, highlight=False)
out = Console(highlight=False)
if not out.is_terminal:
    out.width = _PAGE_WIDTH  # a table in a file need not fit a screen


def command_name(function: Callable[P, R]) -> Callable[P, R]:
    """Errors as one line and an exit code: 1 it failed, 2 the command or its settings are wrong, 130 interrupted."""

    @functools.wraps(function)
    def verb(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except SettingsError as error:
            for fault in error.faults:
                note.print(f"[red]wrong:[/] {escape(fault)}", soft_wrap=True)
            raise typer.Exit(WRONG) from None
        except ModeltollError as error:
            note.print(f"[red]failed:[/] {escape(str(error))}", soft_wrap=True)
            raise typer.Exit(FAILED) from None
        except KeyboardInterrupt:
            note.print("interrupted")
            raise typer.Exit(INTERRUPTED) from None

    return verb


@contextmanager
def requires_extra(extra: str) -> Iterator[None]:
    """What is imported here comes with an extra; say which, where it is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("modeltoll"):
            raise
        raise SettingsError([f"this needs {error.name}: pip install 'modeltoll[{extra}]'"]) from None


def _bars() -> Bars:
    columns = (TextColumn("{task.description:<48}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Bars(*columns, console=note, disable=not note.is_terminal)


@contextmanager
def stage(title: str) -> Iterator[Progress]:
    """A progress bar on standard error while a step lasts; where that is no terminal, a line when it is done."""
    begin = time.perf_counter()
    with _bars() as bars:
        task = bars.add_task(title, total=None)
        yield lambda done, most: bars.update(task, completed=done, total=most or None)
    if not note.is_terminal:
        note.print(f"{title}: {time.perf_counter() - begin:.1f} s", soft_wrap=True)


class Stages:
    """A bar for all steps, and one for each that is at work; any thread may say how far that is."""

    def __init__(self, bars: Bars, title: str, most: int) -> None:
        self._bars = bars
        self._all = bars.add_task(title, total=most)
        self._tasks: dict[str, TaskID | None] = {}  # None: it has ended
        self._lock = threading.Lock()

    def of(self, title: str) -> Progress:
        """The step's own bar, which is there from the first word until the step's end."""

        def say(done: int, most: int) -> None:
            with self._lock:
                if title not in self._tasks:
                    self._tasks[title] = self._bars.add_task(f"  {title}")
                if (task := self._tasks[title]) is not None:
                    self._bars.update(task, completed=done, total=most or None)

        return say

    def end(self, title: str) -> None:
        """The step is done."""
        with self._lock:
            if (task := self._tasks.get(title)) is not None:
                self._bars.remove_task(task)
            self._tasks[title] = None
            self._bars.advance(self._all)


@contextmanager
def stages(title: str, most: int) -> Iterator[Stages]:
    """Progress bars on standard error while so many steps are taken, several at once; nothing where it is no terminal."""
    with _bars() as bars:
        yield Stages(bars, title, most)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    table = Table(title=title or None, header_style="bold")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    out.print(table)


def warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        note.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)


def write_json(value: Any, path: str) -> None:
    text = json.dumps(value, indent=2) + "\n"
    if path == "-":
        sys.stdout.write(text)
    else:
        Path(path).write_text(text)


JsonFile = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write the table as JSON; - is standard output.")
]
SettingsFile = Annotated[
    Path, typer.Argument(metavar="SETTINGS.yaml", help="The gateway's settings; docs/reference/settings.md.")
]
