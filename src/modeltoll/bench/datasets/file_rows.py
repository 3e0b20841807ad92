"""Real files as inputs of a model of file types.

A row holds 2,048 codes, as ``magika`` reads a file: the first 1,024 bytes after white space at the beginning, the last 1,024
before white space at the end, and 256 where there are none. No two rows of one finder are alike.
"""

from __future__ import annotations

import os
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = [
    "HALF",
    "MIXED",
    "PADDING",
    "CodeRows",
    "FileFinder",
    "FileKind",
    "FileSample",
    "codes_of",
]

CodeRows = NDArray[np.uint16]

HALF, PADDING = 1024, 256
_BLOCK = 4096  # bytes read at each end of a file
_SHORTEST = 8  # bytes; the model is not asked about fewer
_ELF = b"\x7fELF"
_ARCHIVES = frozenset({".whl", ".zip"})
_MEMBERS = 50  # of one archive, at most
_LARGEST_MEMBER = 1 << 20  # bytes; larger members of archives are left out


@dataclass(frozen=True, slots=True)
class FileKind:
    """Which files a caller sends.

    ``endings``: those of names, in lower case; empty: all. ``elf``: ELF binaries too, whatever their names.
    ``below``: only files of fewer bytes. ``per_ending``: at most so many files of one ending, so that none fills a sample.
    """

    endings: frozenset[str] = frozenset()
    elf: bool = False
    below: int | None = None
    per_ending: int | None = None

    def may_be(self, ending: str, size: int) -> bool:
        """Whether a file with this ending and size is to be read."""
        named = not self.endings or ending in self.endings or (self.elf and _binary_name(ending))
        return named and (self.below is None or size < self.below)

    def holds(self, ending: str, data: bytes) -> bool:
        """Whether a file with this ending and content is of the kind."""
        return not self.endings or ending in self.endings or (self.elf and data[:4] == _ELF)


MIXED = FileKind(per_ending=1000)


def _binary_name(ending: str) -> bool:
    return ending in {"", ".o", ".so"} or ending[1:].isdigit()


def codes_of(data: bytes) -> CodeRows | None:
    """The row (2048,) of a file's bytes; None where too few are left."""
    head, tail = data[:_BLOCK].lstrip(), data[-_BLOCK:].rstrip()
    if min(len(head), len(tail)) < _SHORTEST:
        return None
    row = np.full(2 * HALF, PADDING, np.uint16)
    head, tail = head[:HALF], tail[-HALF:]
    row[: len(head)] = np.frombuffer(head, np.uint8)
    row[2 * HALF - len(tail) :] = np.frombuffer(tail, np.uint8)
    return row


@dataclass(frozen=True, slots=True, eq=False)
class FileSample:
    """Files, their endings in lower case, and their rows (n, 2048). A member of an archive has the archive's path."""

    paths: tuple[Path, ...]
    endings: tuple[str, ...]
    rows: CodeRows

    def parts(self, sizes: Sequence[int]) -> list[FileSample]:
        """Parts of these sizes in turn; the last one takes the rest."""
        bounds = np.cumsum(sizes).tolist()
        return [
            FileSample(self.paths[start:end], self.endings[start:end], self.rows[start:end])
            for start, end in zip((0, *bounds), (*bounds, len(self.paths)), strict=True)
        ]


@dataclass
class FileFinder:
    """Files below some folders in a seeded order; none is taken twice, nor one with the row of another.

    ``without``: folders below them whose files are left out. ``archives``: wheels and zip files stand for their members.
    """

    roots: Sequence[Path]
    rng: np.random.Generator
    without: Sequence[Path] = ()
    archives: bool = False
    seen: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        left_out = {folder.resolve() for folder in self.without}
        found = sorted({file for root in self.roots for file in _regular_files(root.resolve(), left_out)})
        self.files = [found[place] for place in self.rng.permutation(len(found))]

    def take(self, kind: FileKind, count: int) -> FileSample:
        """At most so many files of a kind."""
        by_ending: dict[str, int] = defaultdict(int)
        paths: list[Path] = []
        endings: list[str] = []
        rows: list[CodeRows] = []
        for path, size in self.files:
            if len(rows) >= count:
                break
            for ending, data in self._contents(path, size, kind, by_ending):
                if kind.holds(ending, data) and (row := self._new_row(data)) is not None:
                    by_ending[ending] += 1
                    paths.append(path)
                    endings.append(ending)
                    rows.append(row)
        found = np.array(rows[:count], np.uint16).reshape(-1, 2 * HALF)
        return FileSample(tuple(paths[:count]), tuple(endings[:count]), found)

    def _contents(
        self, path: Path, size: int, kind: FileKind, by_ending: Mapping[str, int]
    ) -> Iterator[tuple[str, bytes]]:
        """The ending and the bytes of a file that may be of the kind, or of an archive's members that may."""
        ending = path.suffix.lower()

        def wanted(name: str, length: int) -> bool:
            full = kind.per_ending is not None and by_ending.get(name, 0) >= kind.per_ending
            return not full and kind.may_be(name, length)

        try:
            if self.archives and ending in _ARCHIVES:
                for member, data in _members(path):
                    if wanted(member, len(data)):
                        yield member, data
            elif wanted(ending, size):
                with path.open("rb") as file:
                    yield ending, _ends(file)
        except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError):  # also of encrypted members
            return

    def _new_row(self, data: bytes) -> CodeRows | None:
        row = codes_of(data)
        if row is None or row.tobytes() in self.seen:
            return None
        self.seen.add(row.tobytes())
        return row


def _regular_files(root: Path, without: set[Path]) -> Iterator[tuple[Path, int]]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if Path(folder, name) not in without]
        for name in names:
            path = Path(folder, name)
            try:
                status = path.lstat()
            except OSError:
                continue
            if status.st_size and path.is_file() and not path.is_symlink():
                yield path, status.st_size


def _ends(file: BinaryIO) -> bytes:
    """All bytes of a short file, the two ends of a long one."""
    head = file.read(2 * _BLOCK + 1)
    if len(head) <= 2 * _BLOCK:
        return head
    file.seek(-_BLOCK, os.SEEK_END)
    return head[:_BLOCK] + file.read()


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """The ending and the bytes of an archive's members, those of its metadata left out."""
    with zipfile.ZipFile(path) as archive:
        files = (
            one
            for one in archive.infolist()
            if 0 < one.file_size <= _LARGEST_MEMBER and ".dist-info/" not in one.filename
        )
        for member in islice(files, _MEMBERS):
            yield Path(member.filename).suffix.lower(), archive.read(member)
