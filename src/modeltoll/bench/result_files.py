"""Results on disk, in two forms that may lie in one folder.

*Working files*, ``SUITE/DATASET/NAME.json``, hold one result each: several processes can write them at once, and an
interruption loses none. *Packed files*, ``SUITE/DATASET.jsonl``, hold one result a line, sorted by ``Experiment.order``;
``modeltoll.bench.result_packing`` makes them of working files. A working file takes precedence over a packed line of the
same experiment. Two working files, or two lines, of one experiment must agree.

Working files are removed only after their results are packed. A reader must read the working files first and the packed
file afterwards; it then misses no result.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from modeltoll.bench.artifact_files import DamagedFile
from modeltoll.bench.experiment import Experiment, experiment_of
from modeltoll.bench.identity import canonical

__all__ = ["ResultGroup", "StoredResult", "StoredResults", "by_key", "groups_of", "packed_line", "read_results"]

Document = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class StoredResult:
    """A result as it is stored: its experiment, its document, and where it lies (``line`` 0: in a file of its own)."""

    experiment: Experiment
    document: Document
    path: Path
    line: int
    data: bytes

    @property
    def key(self) -> str:
        """The canonical key of its experiment."""
        return canonical(self.experiment.key)

    @property
    def place(self) -> str:
        """Where it is stored, for messages."""
        return f"{self.path}, line {self.line}" if self.line else str(self.path)


@dataclass(frozen=True, slots=True, order=True)
class ResultGroup:
    """The results of one suite on one data set in a folder."""

    folder: Path
    suite: str
    dataset: str

    @property
    def packed_file(self) -> Path:
        """The file of packed results; it need not be there."""
        return self.folder / self.suite / f"{self.dataset}.jsonl"

    @property
    def working_folder(self) -> Path:
        """The folder of working files; it need not be there."""
        return self.folder / self.suite / self.dataset

    def working_paths(self) -> list[Path]:
        """The working files that there are now, by name."""
        return sorted(self.working_folder.glob("*.json"))

    def read_working(self, path: Path) -> StoredResult:
        """The result of a working file.

        Raises:
            FileNotFoundError: it is gone, which happens when it is packed meanwhile.
            DamagedFile: it cannot be read, is no result, or does not belong there.
        """
        try:
            found = _stored(path, 0, path.read_bytes())
        except FileNotFoundError:
            raise
        except OSError as error:
            raise DamagedFile(f"{path} cannot be read: {error.strerror}") from None
        if path not in found.experiment.files(self.folder):
            belongs = found.experiment.file(self.folder)
            raise DamagedFile(f"{path} holds the result of another experiment, whose file is {belongs}; move it away")
        return found

    def read_packed(self) -> dict[str, StoredResult]:
        """The results of the packed file by key; none where there is no file.

        Raises:
            DamagedFile: a line is no result, belongs to another file, or contradicts another line.
        """
        try:
            data = self.packed_file.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise DamagedFile(f"{self.packed_file} cannot be read: {error.strerror}") from None
        lines = data.removesuffix(b"\n").split(b"\n") if data else []
        return by_key(self._read_line(number, line) for number, line in enumerate(lines, start=1))

    def _read_line(self, number: int, line: bytes) -> StoredResult:
        found = _stored(self.packed_file, number, line)
        if (found.experiment.suite, found.experiment.dataset) != (self.suite, self.dataset):
            belongs = f"{found.experiment.suite}/{found.experiment.dataset}.jsonl"
            raise DamagedFile(f"{found.place} is a result that belongs into {belongs}")
        return found

    def read(self) -> dict[str, StoredResult]:
        """All results by key, a working file before a packed line. Raises ``DamagedFile`` as those that read either."""
        working = []
        for path in self.working_paths():
            with contextlib.suppress(FileNotFoundError):  # packed since, and read below
                working.append(self.read_working(path))
        return self.read_packed() | by_key(working)


def by_key(results: Iterable[StoredResult]) -> dict[str, StoredResult]:
    """Results by key; the same result twice counts once.

    Raises:
        DamagedFile: two of them are of one experiment and differ.
    """
    found: dict[str, StoredResult] = {}
    for result in results:
        other = found.setdefault(result.key, result)
        if other.document != result.document:
            raise DamagedFile(
                f"{other.place} and {result.place} are different results of one experiment; keep one of them"
            )
    return found


def groups_of(folder: Path, suite: str = "*", dataset: str = "*") -> list[ResultGroup]:
    """The groups that have results, packed or not, or a folder for them; of any suite and data set, or of these."""
    working = {(path.parent.name, path.name) for path in folder.glob(f"{suite}/{dataset}") if path.is_dir()}
    packed = {(path.parent.name, path.stem) for path in folder.glob(f"{suite}/{dataset}.jsonl")}
    return sorted(ResultGroup(folder, *names) for names in working | packed)


def read_results(folder: Path, suite: str = "*", dataset: str = "*") -> Iterator[Document]:
    """The documents of a folder's results, packed or not, in the order of ``Experiment.order``.

    Of any suite and data set, or of those that are named.

    Raises:
        DamagedFile: something there is not a result; the message names the file, and the line.
    """
    for group in groups_of(folder, suite, dataset):
        for found in sorted(group.read().values(), key=lambda one: one.experiment.order):
            yield found.document


class StoredResults:
    """Looks up a folder's results one by one. A packed file is read again only when it has changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._packed: dict[ResultGroup, tuple[object, dict[str, StoredResult]]] = {}

    def get(self, experiment: Experiment) -> Document | None:
        """The experiment's result, or None where there is none. Raises ``DamagedFile`` as ``read_results`` does."""
        group = ResultGroup(self._folder, experiment.suite, experiment.dataset)
        with contextlib.suppress(FileNotFoundError):  # packed since, and read below
            if (path := experiment.find(self._folder)) is not None:
                return group.read_working(path).document
        found = self._lines(group).get(canonical(experiment.key))
        return None if found is None else found.document

    def _lines(self, group: ResultGroup) -> Mapping[str, StoredResult]:
        try:
            status = group.packed_file.stat()
        except OSError:  # reading it will tell
            return group.read_packed()
        version = (status.st_ino, status.st_mtime_ns, status.st_size)
        if group not in self._packed or self._packed[group][0] != version:
            self._packed[group] = (version, group.read_packed())
        return self._packed[group][1]


def packed_line(document: Mapping[str, Any]) -> bytes:
    """A document as a line of a packed file: no white space, members in their order, numbers unchanged."""
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"


def _stored(path: Path, line: int, data: bytes) -> StoredResult:
    try:
        document: Document = json.loads(data, parse_constant=_no_number)
        experiment = experiment_of(document)
        _ = experiment.order  # fails for members of a wrong type
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        what, remedy = (f"{path}, line {line},", "restore") if line else (path, "move it away or restore")
        raise DamagedFile(f"{what} is not a result of the bench; {remedy} it", private=str(error)) from None
    return StoredResult(experiment, document, path, line, data)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")
