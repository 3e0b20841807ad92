"""Arrays and JSON documents on disk, replaced atomically: an interruption leaves no partial file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modeltoll import files
from modeltoll.errors import ArrayFileError, ModeltollError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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


class DamagedFile(ModeltollError):
    """A file of the cache or of results that cannot be read or used."""


def pack_images(images: Floats) -> NDArray[Any]:
    """Images of 0..1 as uint8 if that is lossless, else as float32, which networks read."""
    levels = np.round(images * _LEVELS)
    if np.array_equal(levels / _LEVELS, images):
        return levels.astype(np.uint8)
    return images.astype(np.float32)


def unpack_images(values: NDArray[Any]) -> Floats:
    """Images that ``pack_images`` returned, as float64 in 0..1."""
    return values / _LEVELS if values.dtype == np.uint8 else values.astype(np.float64)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], note: Mapping[str, Any]) -> None:
    """Write an .npz file of arrays and a note of plain JSON values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as file:
        np.savez_compressed(file, allow_pickle=False, **{_NOTE: np.array(json.dumps(note))}, **arrays)


def read_note(path: Path) -> dict[str, Any]:
    """The note only. Raises as ``read_arrays``."""
    return _read(path, (_NOTE,))[1]


def read_arrays(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The arrays and the note that ``write_arrays`` wrote.

    Raises:
        DamagedFile: the file cannot be read; the message says to delete it.
    """
    return _read(path, None)


def _read(path: Path, names: Sequence[str] | None) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    try:
        arrays = files.read_arrays(path, names)
        note: dict[str, Any] = json.loads(str(arrays.pop(_NOTE)))
    except (ArrayFileError, KeyError, ValueError) as error:
        raise DamagedFile(f"{path} cannot be read; delete it, and it is created again", private=str(error)) from None
    return arrays, note


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON file with numbers rounded to six significant digits. They must be finite."""
    text = json.dumps(_rounded(document), indent=1, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    files.replace_atomically(path, text.encode("ascii"))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: _rounded(member) for name, member in value.items()}
    return [_rounded(member) for member in value] if isinstance(value, list | tuple) else value


def remove_partial_files(folder: Path) -> None:
    """Remove partial files anywhere in a folder whose writers, processes of this machine, no longer run."""
    for path in folder.rglob(f"*{files.PART}"):
        pid = path.name.removesuffix(files.PART).rpartition(".")[2]
        if pid.isdigit() and not _is_running(int(pid)):
            path.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # a process of another user
        return True
    return True
