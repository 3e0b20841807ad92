"""Arrays and numbers on disk: written in one step, so that an interrupted run leaves no half file."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modeltoll.errors import ModeltollError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from modeltoll.records import Floats

__all__ = [
    "DamagedFile",
    "pack_images",
    "read_arrays",
    "read_note",
    "remove_partial_files",
    "unpack_images",
    "write_arrays",
    "write_document",
]

_NOTE = "note"
_LEVELS = 255.0
_PART = ".part"  # ends the name of a half-written file; before it stands who writes


class DamagedFile(ModeltollError):
    """A file of the cache that cannot be read."""


def pack_images(images: Floats) -> NDArray[Any]:
    """Images of 0..1 as bytes where that loses nothing, else as half floats."""
    levels = np.round(images * _LEVELS)
    if np.array_equal(levels / _LEVELS, images):
        return levels.astype(np.uint8)
    return images.astype(np.float16)


def unpack_images(values: NDArray[Any]) -> Floats:
    """What ``pack_images`` made, as float64."""
    return values / _LEVELS if values.dtype == np.uint8 else values.astype(np.float64)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], note: Mapping[str, Any]) -> None:
    """An .npz file of arrays and a note of plain JSON values."""
    with _replaced_atomically(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **{_NOTE: np.array(json.dumps(note))}, **arrays)


@contextmanager
def _open_archive(path: Path) -> Iterator[Any]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            yield archive
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DamagedFile(f"{path} cannot be read; delete it, and it is made anew", private=str(error)) from None


def read_note(path: Path) -> dict[str, Any]:
    """The note alone. Raises as ``read_arrays`` does."""
    with _open_archive(path) as archive:
        note: dict[str, Any] = json.loads(str(archive[_NOTE]))
        return note


def read_arrays(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """What ``write_arrays`` wrote.

    Raises:
        Damaged: the file cannot be read; the message says to delete it.
    """
    with _open_archive(path) as archive:
        arrays = {name: archive[name] for name in archive.files if name != _NOTE}
    return arrays, read_note(path)


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """A JSON file, its numbers rounded to six digits. They must be finite."""
    text = json.dumps(_rounded(document), indent=1, allow_nan=False) + "\n"
    with _replaced_atomically(path) as beside:
        beside.write_text(text, encoding="utf-8")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: _rounded(member) for name, member in value.items()}
    return [_rounded(member) for member in value] if isinstance(value, list | tuple) else value


def remove_partial_files(folder: Path) -> None:
    """Remove what processes of this machine that were killed left half written anywhere in a folder."""
    for path in folder.rglob(f"*{_PART}"):
        writer = path.name.removesuffix(_PART).rpartition(".")[2]
        if writer.isdigit() and not _is_running(int(writer)):
            path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


@contextmanager
def _replaced_atomically(path: Path) -> Iterator[Path]:
    """A file beside ``path`` that takes its place once the block is done, and is gone where that does not end well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}{_PART}")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
