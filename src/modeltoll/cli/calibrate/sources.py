"""The options of ``calibrate`` that say where rows come from, and their checks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from modeltoll.errors import SettingsError

__all__ = ["ALL_CALLERS", "NamedFile", "RowSources", "leaves_out", "named_files", "seconds_with_unit"]

ALL_CALLERS = "all"


@dataclass(frozen=True, slots=True)
class NamedFile:
    """An option such as ``night=night.npy``. ``name`` is empty where the file alone was given."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class RowSources:
    """Where rows come from: one of ``inputs``, ``requests``, ``leaks`` and ``from_ledger``, and what is added to them.

    ``leave_out``: whether rows that the model server refuses are left out. ``kinds``: a list of corruptions for ``inputs``;
    ``kind_rows``: honest rows that each is applied to. ``kind_files``, ``stranger_files``: rows to send, or recorded leaks
    (.npz). ``known_honest``: callers, or ``ALL_CALLERS``. ``shape``: of an image, if rows are flat.
    """

    inputs: Path | None
    leaks: Path | None
    from_ledger: bool
    trained_on: tuple[Path, ...] = ()
    kinds: str | None = None
    kind_rows: int = 2000
    kind_files: tuple[NamedFile, ...] = ()
    stranger_files: tuple[NamedFile, ...] = ()
    known_honest: tuple[str, ...] = ()
    shape: str | None = None
    seed: int = 0
    requests: Path | None = None
    leave_out: bool = False

    def __post_init__(self) -> None:
        given = (self.inputs is not None, self.requests is not None, self.leaks is not None, self.from_ledger)
        if sum(given) != 1:
            raise SettingsError(["calibrate: give one of --inputs, --requests, --leaks and --from-ledger"])
        if self.kinds is not None and self.inputs is None:
            raise SettingsError(
                [
                    "--kinds changes inputs, which recorded requests, recorded leaks and the log do not have: give --inputs, or --kind NAME=rows.npy"
                ]
            )

    @property
    def sent(self) -> bool:
        """Whether rows are sent to the model server."""
        return self.inputs is not None or self.requests is not None

    @property
    def description(self) -> str:
        """For the provenance of the calibration; empty of the log."""
        return str(self.inputs or self.requests or self.leaks or "")


def named_files(texts: list[str] | None, option: str, *, need_name: bool) -> tuple[NamedFile, ...]:
    """Parse options such as ``night=night.npy``; recorded leaks, .npz, need no name unless ``need_name``.

    Raises:
        SettingsError: no file, no name where one is needed, or a name twice.
    """
    found = []
    for text in texts or ():
        name, equals, path = text.partition("=") if "=" in text else ("", "", text)
        file = NamedFile(name.strip(), Path(path))
        unnamed = not file.name and (need_name or file.path.suffix != ".npz")
        if not path or unnamed or (equals and not file.name):
            raise SettingsError([f"{option}: write NAME=FILE, not {text!r}"])
        found.append(file)
    names = [file.name for file in found if file.name]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SettingsError([f"{option}: {', '.join(twice)} is there twice"])
    return tuple(found)


def leaves_out(text: str) -> bool:
    """Whether refused rows are left out.

    Raises:
        SettingsError: neither ``stop`` nor ``leave-out``.
    """
    if text not in ("stop", "leave-out"):
        raise SettingsError([f"--refused: write stop or leave-out, not {text!r}"])
    return text == "leave-out"


def seconds_with_unit(text: str, option: str) -> float:
    """Seconds of a text such as 0.5s or 500ms; a number without a unit is refused.

    Raises:
        SettingsError: no number above 0, or no unit.
    """
    scale = 0.001 if text.endswith("ms") else 1.0
    try:
        seconds = scale * float(text.removesuffix("ms") if text.endswith("ms") else text.removesuffix("s"))
    except ValueError:
        seconds = math.nan
    if not text.endswith("s") or not 0.0 < seconds < math.inf:
        raise SettingsError([f"{option}: {text!r} is not a time with its unit; write for example 0.5s or 500ms"])
    return seconds
