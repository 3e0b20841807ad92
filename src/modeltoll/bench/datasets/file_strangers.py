"""What strangers send to a model of file types: bytes and files that no honest caller has, made of real files."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modeltoll.bench.datasets.file_rows import HALF, PADDING, CodeRows, FileSample, codes_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from modeltoll.records import Integers

__all__ = ["FILE_STRANGERS", "file_strangers"]

FILE_STRANGERS = (
    "random bytes",
    "random ASCII",
    "shuffled bytes",
    "head of one, tail of another",
    "compressed",
    "5 % mutated",
    "90 % padding",
)
_MUTATED, _KEPT = 0.05, 0.1
_LARGEST = 1 << 20  # bytes that are read of a file that is compressed


def file_strangers(files: FileSample, count: int, rng: np.random.Generator) -> Mapping[str, CodeRows]:
    """Rows (count, 2048) of each stranger, by name; those that are made of files are made of these, drawn with replacement."""
    chosen = rng.integers(len(files.paths), size=count)
    others = (chosen + rng.integers(1, len(files.paths), size=count)) % len(files.paths)
    rows, printable = files.rows[chosen], np.arange(32, 127)
    random_ascii = rng.choice(printable, (count, 2 * HALF))
    padded = rows.copy()
    kept = int(_KEPT * HALF)
    padded[:, kept : 2 * HALF - kept] = PADDING
    changes = (rng.random(rows.shape) < _MUTATED) & (rows != PADDING)
    mutated = np.where(changes, rng.integers(256, size=rows.shape), rows)
    made: tuple[NDArray[np.integer[Any]], ...] = (
        rng.integers(256, size=(count, 2 * HALF)),
        random_ascii,
        np.array([_shuffled(row, rng) for row in rows]),
        np.hstack([rows[:, :HALF], files.rows[others][:, HALF:]]),
        _compressed(files, chosen),
        mutated,
        padded,
    )
    return {name: each.astype(np.uint16) for name, each in zip(FILE_STRANGERS, made, strict=True)}


def _shuffled(row: CodeRows, rng: np.random.Generator) -> CodeRows:
    """Both halves with their bytes in another order; the padding stays."""
    row = row.copy()
    for half in (row[:HALF], row[HALF:]):
        real = half != PADDING
        half[real] = rng.permutation(half[real])
    return row


def _compressed(files: FileSample, chosen: Integers) -> CodeRows:
    """The chosen files through zlib; in place of one that is gone, or leaves too few bytes, stands the one before."""
    made: dict[int, CodeRows] = {}
    last = np.full(2 * HALF, PADDING, np.uint16)
    for place in np.unique(chosen).tolist():
        row = _compressed_file(files.paths[place])
        made[place] = last = last if row is None else row
    return np.array([made[place] for place in chosen.tolist()])


def _compressed_file(path: Path) -> CodeRows | None:
    try:
        with path.open("rb") as file:
            return codes_of(zlib.compress(file.read(_LARGEST)))
    except OSError:  # files of a running machine come and go
        return None
