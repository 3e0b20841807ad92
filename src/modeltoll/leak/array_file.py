"""Files of fitted arrays: one .npz archive with a kind, a version and a checksum, without pickles."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modeltoll.errors import ArrayFileError, CalibrationError
from modeltoll.files import read_arrays, replacing

__all__ = ["Arrays", "is_kind", "load_any", "load_arrays", "save_arrays"]

VERSION = 1
_KIND, _VERSION, _DIGEST = "modeltoll_kind", "modeltoll_version", "modeltoll_sha256"

Arrays = dict[str, NDArray[Any]]


def save_arrays(path: Path, kind: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays of numbers or text to ``path`` atomically; an existing file is replaced.

    Raises:
        ValueError: an array holds objects.
    """
    if any(array.dtype.hasobject for array in arrays.values()):
        raise ValueError("only numbers and text can be saved, not objects")
    header = {_KIND: np.array(kind), _VERSION: np.array(VERSION), _DIGEST: np.array(_digest(kind, arrays))}
    with replacing(path) as file:
        np.savez(file, allow_pickle=False, **header, **arrays)


def load_arrays(path: Path, kind: str) -> Arrays:
    """Read a file that ``save_arrays`` wrote with the same kind.

    Raises:
        CalibrationError: the file is missing, damaged, of another kind or of an unknown version.
    """
    return load_any(path, (kind,))[1]


def is_kind(path: Path, kind: str) -> bool:
    """Whether the file is of this kind; False if it cannot be read (``load_arrays`` reports why)."""
    try:
        return str(read_arrays(path, (_KIND,))[_KIND]) == kind
    except ArrayFileError:
        return False


def load_any(path: Path, kinds: Sequence[str]) -> tuple[str, Arrays]:
    """Read a file of one of the kinds; returns its kind and arrays. Raises as ``load_arrays`` does."""
    kind = kinds[0]
    try:
        arrays = read_arrays(path)
    except ArrayFileError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise CalibrationError(f"there is no {kind} file {path}") from None
        raise CalibrationError(f"the {kind} file cannot be used: {error}", private=error.private) from error
    header = [arrays.pop(name, None) for name in (_KIND, _VERSION, _DIGEST)]
    if any(part is None or part.ndim for part in header):
        raise CalibrationError(f"{path} is not a {kind} file")
    found, version, digest = (str(part) for part in header)
    if found not in kinds:
        raise CalibrationError(f"{path} is a {found} file where a {kind} file is needed")
    if version != str(VERSION):
        raise CalibrationError(f"{path} is a {kind} file of version {version}; this program reads version {VERSION}")
    if digest != _digest(found, arrays):
        raise CalibrationError(f"the {kind} file {path} is damaged: its checksum does not fit")
    return found, arrays


def _digest(kind: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 over the kind and each array's name, type, shape and bytes, in the order of the names."""
    sha = hashlib.sha256(f"{kind} {VERSION}".encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        sha.update(f"\n{name} {array.dtype.str} {arrays[name].shape}\n".encode())
        sha.update(array.reshape(-1).view(np.uint8).data)
    return sha.hexdigest()
