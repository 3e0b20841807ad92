"""The files of one machine, divided among the private data, the operator, honest callers and thieves; read once and kept.

No two parts share a row. Where there are fewer files than wanted, every part shrinks alike.
"""

from __future__ import annotations

import hashlib
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.artifact_files import read_arrays, write_arrays
from modeltoll.bench.datasets.file_rows import MIXED, FileFinder, FileKind, FileSample
from modeltoll.bench.datasets.file_strangers import FILE_STRANGERS, file_strangers
from modeltoll.bench.datasets.images import UNKNOWN, DataError
from modeltoll.bench.identity import digest

if TYPE_CHECKING:
    from modeltoll.bench.datasets.file_rows import CodeRows
    from modeltoll.records import Integers

__all__ = ["FAMILIES", "OTHER_PACKAGES", "FileRows", "FileSet", "foreign_files", "load_file_set"]

OTHER_PACKAGES = "files of other packages"
FAMILIES = (OTHER_PACKAGES, *FILE_STRANGERS)
_ROOTS = (Path("/usr"), Path("/opt"), Path("/etc"), Path(sys.prefix), Path(sys.base_prefix))
_FORMAT = 1  # of the file in the cache
_DIGITS = 12  # of digests in file names
_SEED = 20260101  # of the choice of files; the same in every experiment
_PARTS = {"private": 2500, "calibration": 2500, "honest": 1500, "own": 3000, "unseen": 1000}
# Files of each caller. A fifth of the log is held back, and a priced kind has 1,000 rows.
_LOGGED, _KEPT_BACK = 1300, 700
_STOLEN, _KNOWN = 3000, 1000  # rows of each family of strangers: the thief's, and the operator's
_FEWEST = 105  # different files, a hundredth of what is wanted
_MIXED_SHARE = 0.6  # of all files, at most; the callers' come from the others


@dataclass(frozen=True, slots=True, eq=False)
class FileRows:
    """Rows (n, 2048) of codes, and the class (n,) that each file's ending names, ``UNKNOWN`` where it names none."""

    rows: CodeRows
    classes: Integers


@dataclass(frozen=True, slots=True, eq=False)
class FileSet:
    """The parts.

    ``logged`` and ``kept_back``: files of each caller. ``stolen``: the thief's rows of each family of strangers, made of the
    ``own`` files. ``known``: the operator's rows of each family, made of other files.
    """

    private: FileRows
    calibration: FileRows
    honest: FileRows
    own: FileRows
    logged: Mapping[str, FileRows]
    kept_back: Mapping[str, FileRows]
    stolen: Mapping[str, CodeRows]
    known: Mapping[str, CodeRows]

    @property
    def digest(self) -> str:
        """A digest of the private rows."""
        return hashlib.sha256(self.private.rows.tobytes()).hexdigest()[:_DIGITS]


def load_file_set(
    folder: Path | None, callers: Mapping[str, FileKind], endings: Mapping[str, int], cache: Path
) -> FileSet:
    """The files below a folder, from the cache if they were read before.

    ``folder``: None for the machine's own files, below /usr, /opt, /etc and the running Python. Files of other packages are
    those of the running Python's packages. ``callers``: the files that each honest caller sends; ``endings``: the class of each ending.

    Raises:
        DataError: there are too few files.
        DamagedFile: the file in the cache cannot be read.
    """
    place = "" if folder is None else str(folder.resolve())
    key: dict[str, str | int] = {"v": _FORMAT, "seed": _SEED, "folder": place, "callers": ", ".join(callers)}
    path = cache / f"files-{digest(key, _DIGITS)}.npz"
    if not path.is_file():
        write_arrays(path, _collect(_ROOTS if folder is None else (folder,), callers, endings), {})
    return _read(path, callers)


def _collect(
    roots: Sequence[Path], callers: Mapping[str, FileKind], endings: Mapping[str, int]
) -> dict[str, CodeRows | Integers]:
    rng = np.random.default_rng(_SEED)
    others = _packages()
    finder = FileFinder(roots, rng, without=(others,))
    wanted = sum(_PARTS.values())
    mixed = finder.take(MIXED, min(wanted, int(_MIXED_SHARE * len(finder.files))))
    if (found := len(mixed.paths)) < _FEWEST:
        raise DataError(
            f"there are only {found} different files below {', '.join(map(str, roots))}; give a folder with more: --data-dir"
        )
    sizes = [size * found // wanted for size in _PARTS.values()]
    parts = dict(zip(_PARTS, mixed.parts(sizes[:-1]), strict=True))
    samples = {name: part for name, part in parts.items() if name != "unseen"}
    for name, kind in callers.items():
        sample = finder.take(kind, _LOGGED + _KEPT_BACK)
        logged = len(sample.paths) * _LOGGED // (_LOGGED + _KEPT_BACK)
        samples[f"logged/{name}"], samples[f"kept back/{name}"] = sample.parts([logged])
    arrays: dict[str, CodeRows | Integers] = {}
    for name, sample in samples.items():
        arrays[f"{name}/rows"] = sample.rows
        arrays[f"{name}/classes"] = np.array([endings.get(one, UNKNOWN) for one in sample.endings], np.int64)
    stolen, known = _STOLEN * found // wanted, _KNOWN * found // wanted
    other = FileFinder([others], rng, seen=finder.seen).take(MIXED, stolen + known)
    packages = other.parts([len(other.paths) * stolen // (stolen + known)])
    for name, base, count, taken in (("stolen", "own", stolen, packages[0]), ("known", "unseen", known, packages[1])):
        made = {OTHER_PACKAGES: taken.rows, **file_strangers(parts[base], count, rng)}
        arrays |= {f"{name}/{family}": rows for family, rows in made.items()}
    return arrays


def _packages() -> Path:
    """The folder of the running Python's packages."""
    return Path(sysconfig.get_paths()["purelib"])


def _read(path: Path, callers: Mapping[str, FileKind]) -> FileSet:
    arrays, _ = read_arrays(path)

    def part(name: str) -> FileRows:
        return FileRows(arrays[f"{name}/rows"], arrays[f"{name}/classes"])

    return FileSet(
        part("private"),
        part("calibration"),
        part("honest"),
        part("own"),
        logged={name: part(f"logged/{name}") for name in callers},
        kept_back={name: part(f"kept back/{name}") for name in callers},
        stolen={family: arrays[f"stolen/{family}"] for family in FAMILIES},
        known={family: arrays[f"known/{family}"] for family in FAMILIES},
    )


def foreign_files(folder: Path) -> tuple[CodeRows, CodeRows]:
    """Rows of the files below a folder, and of members of its wheels and zip files: the thief's, and others.

    Raises:
        DataError: there is no such folder, or it holds too few files.
    """
    if not folder.is_dir():
        raise DataError(f"there is no source {str(folder)!r}: give {', '.join(FAMILIES)}, or a folder of files")
    sample: FileSample = FileFinder([folder], np.random.default_rng(_SEED), archives=True).take(MIXED, _STOLEN + _KNOWN)
    if len(sample.paths) < 2:
        raise DataError(f"{folder} holds too few different files")
    stolen, unseen = sample.parts([len(sample.paths) * _STOLEN // (_STOLEN + _KNOWN)])
    return stolen.rows, unseen.rows
