"""Files of fitted arrays: one .npz archive with a kind, a version and a checksum, without pickles."""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modeltoll.errors import CalibrationError

__all__ = ["Arrays", "is_kind", "load_any", "load_arrays", "save_arrays"]

VERSION = 1
_KIND, _VERSION, _DIGEST = "modeltoll_kind", "modeltoll_version", "modeltoll_sha256"

# What numpy and zipfile raise on damaged files.
_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    MemoryError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)

Arrays = dict[str, NDArray[Any]]


def save_arrays(path: Path, kind: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays of numbers or text to ``path`` atomically; an existing file is replaced.

    Raises:
        ValueError: an array holds objects.
    """
    if any(array.dtype.hasobject for array in arrays.values()):
        raise ValueError("only numbers and text can be saved, not objects")
    header = {_KIND: np.array(kind), _VERSION: np.array(VERSION), _DIGEST: np.array(_digest(kind, arrays))}
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            np.savez(file, allow_pickle=False, **header, **arrays)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def load_arrays(path: Path, kind: str) -> Arrays:
    """Read a file that ``save_arrays`` wrote with the same kind.

    Raises:
        CalibrationError: the file is missing, damaged, of another kind or of an unknown version.
    """
    return load_any(path, (kind,))[1]


def is_kind(path: Path, kind: str) -> bool:
    """Whether the file is of this kind; False if it cannot be read (``load_arrays`` reports why)."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as members:
            return str(members[_KIND]) == kind
    except _DAMAGE:
        return False


def load_any(path: Path, kinds: Sequence[str]) -> tuple[str, Arrays]:
    """Read a file of one of the kinds; returns its kind and arrays. Raises as ``load_arrays`` does."""
    kind = kinds[0]
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as members:
            arrays: Arrays = {name: members[name] for name in members.files}
    except FileNotFoundError:
        raise CalibrationError(f"the {kind} file does not exist", private=str(path)) from None
    except _DAMAGE as error:
        raise CalibrationError(
            f"the {kind} file is damaged or not of Modeltoll's format", private=f"{path}: {error}"
        ) from error
    header = [arrays.pop(name, None) for name in (_KIND, _VERSION, _DIGEST)]
    if any(part is None or part.ndim for part in header):
        raise CalibrationError(f"this is not a {kind} file", private=str(path))
    found, version, digest = (str(part) for part in header)
    if found not in kinds:
        raise CalibrationError(f"this is a {found} file where a {kind} file is needed", private=str(path))
    if version != str(VERSION):
        raise CalibrationError(f"the {kind} file is of version {version}; this program reads {VERSION}")
    if digest != _digest(found, arrays):
        raise CalibrationError(f"the {kind} file is damaged: its checksum does not fit", private=str(path))
    return found, arrays


def _digest(kind: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 over the kind and each array's name, type, shape and bytes, in the order of the names."""
    sha = hashlib.sha256(f"{kind} {VERSION}".encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        sha.update(f"\n{name} {array.dtype.str} {arrays[name].shape}\n".encode())
        sha.update(array.reshape(-1).view(np.uint8).data)
    return sha.hexdigest()
