"""The options of commands that pay tolls, and the purse that they describe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from modeltoll.client.purse import Purse
from modeltoll.errors import SettingsError

__all__ = ["Cores", "MaxSeconds", "MemoryMib", "kib", "open_purse"]

MaxSeconds = Annotated[
    float, typer.Option(min=0, help="Largest toll to pay, in expected seconds of work on one reference core.")
]
MemoryMib = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Largest memory that a puzzle may take, in MiB; by default 256 where the machine has enough, else 64 or less.",
        show_default=False,
    ),
]
Cores = Annotated[int, typer.Option(min=1, help="Number of cores that solve a puzzle.")]


def kib(mib: int | None) -> int | None:
    """MiB as KiB; None stays None."""
    return None if mib is None else 1024 * mib


def open_purse(make: Callable[[], Purse]) -> Purse:
    """The purse that ``make`` makes.

    Raises:
        SettingsError: a limit is out of range. The message names its option.
    """
    try:
        return make()
    except ValueError as error:
        option = str(error).partition(" ")[0].replace("_", "-")
        raise SettingsError([f"--{option}: {error}"]) from None
