"""Working files of results merged into packed files, which ``modeltoll.bench.result_files`` describes.

A packed file is replaced in one step and is on the disk before any working file is removed. An interruption at any
point loses nothing, and the same call goes on. Rules where results compete:

- a result of the folder that is packed replaces the packed result of the same experiment in the destination,
- two working files of one experiment that differ, or two such lines, are refused and named,
- a working file that was written again meanwhile stays.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from modeltoll.bench.artifact_files import DamagedFile
from modeltoll.bench.result_files import ResultGroup, StoredResult, by_key, groups_of, packed_line
from modeltoll.errors import ModeltollError
from modeltoll.files import create_folder, replace_atomically

__all__ = ["PackSummary", "pack_results"]

_TAKEN = ".taken"  # ends the name of a working file that is being removed


@dataclass(frozen=True, slots=True)
class PackSummary:
    """One packed file after a merge: its results, how many were added, replaced or already there, and files removed."""

    suite: str
    dataset: str
    file: str
    results: int
    added: int
    replaced: int
    unchanged: int
    removed_files: int


@dataclass(frozen=True, slots=True, eq=False)
class _Merge:
    """The input of one packed file: results to merge, results that are packed already, and working files to remove."""

    target: ResultGroup
    source: dict[str, StoredResult]
    packed: dict[str, StoredResult]
    working: tuple[StoredResult, ...]


def pack_results(folder: Path, destination: Path | None = None, *, keep: bool = False) -> list[PackSummary]:
    """Merge the results of a folder into the packed files of a destination (None: of the same folder).

    Working files are then removed, unless they are to be kept; packed files of the folder stay as they are. What is not a
    result is named, and nothing is written.

    Raises:
        DamagedFile: something is not a result, or two results compete; the message names all of these, one a line.
        ModeltollError: the destination cannot be written, or another process packs into it.
    """
    into = folder if destination is None else destination
    try:
        create_folder(into)
        with _locked(into):
            return [_merge(merge, keep=keep) for merge in _plan(folder, into)]
    except OSError as error:
        raise ModeltollError(f"{error.filename or into} cannot be packed: {error.strerror}") from None


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder that is packed into: two merges at once would each lose what the other one adds."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ModeltollError(f"another process packs into {folder}; try again when it is done") from None
        yield
    finally:
        os.close(descriptor)


def _plan(folder: Path, into: Path) -> list[_Merge]:
    """Every merge to do. Everything is read and checked before anything is written."""
    merges, faults = [], []
    for group in groups_of(folder):
        _put_back_all(group)
        working = []
        for path in group.working_paths():
            try:
                with contextlib.suppress(FileNotFoundError):  # packed by another process
                    working.append(group.read_working(path))
            except DamagedFile as damaged:
                faults.append(str(damaged))
        target = ResultGroup(into, group.suite, group.dataset)
        try:
            packed, source = target.read_packed(), by_key(working)
            if target != group:
                source = group.read_packed() | source
        except DamagedFile as damaged:
            faults.append(str(damaged))
            continue
        if source or packed:
            merges.append(_Merge(target, source, packed, tuple(working)))
    if faults:
        raise DamagedFile("\n".join(["nothing was packed:", *faults]))
    return merges


def _merge(merge: _Merge, *, keep: bool) -> PackSummary:
    """Write one packed file, then remove the working files that it holds."""
    target, source, packed = merge.target, merge.source, merge.packed
    merged = packed | source
    ordered = sorted(merged.values(), key=lambda one: one.experiment.order)
    data = b"".join(packed_line(one.document) for one in ordered)
    path = target.packed_file
    if merge.working or not path.is_file() or path.read_bytes() != data:
        create_folder(path.parent)
        replace_atomically(path, data)
    removed = 0 if keep else _remove(merge.working)
    known = [key for key in source if key in packed]
    same = sum(source[key].document == packed[key].document for key in known)
    changed, added = len(known) - same, len(source) - len(known)
    return PackSummary(target.suite, target.dataset, str(path), len(merged), added, changed, same, removed)


def _remove(results: Sequence[StoredResult]) -> int:
    """Remove working files whose content is still what was packed; how many these were.

    Each is taken aside before it is compared, so that no file can come in between. One that was written again is put
    back, here or, after an interruption, the next time.
    """
    removed = 0
    for result in results:
        taken = result.path.with_name(f".{result.path.name}.{os.getpid()}{_TAKEN}")
        with contextlib.suppress(FileNotFoundError):  # removed by another process
            result.path.rename(taken)
            if taken.read_bytes() == result.data:
                taken.unlink()
                removed += 1
            else:
                _put_back(taken, result.path)
    return removed


def _put_back_all(group: ResultGroup) -> None:
    """Put back working files that an interruption left aside."""
    for taken in sorted(group.working_folder.glob(f".*{_TAKEN}")):
        name = taken.name.removeprefix(".").removesuffix(_TAKEN).rpartition(".")[0]
        with contextlib.suppress(FileNotFoundError):  # put back by another process
            _put_back(taken, taken.with_name(name))


def _put_back(taken: Path, path: Path) -> None:
    """Give a file its name again, unless a newer file has the name by now."""
    with contextlib.suppress(FileExistsError):
        path.hardlink_to(taken)
    taken.unlink()
