"""Real files of this machine as inputs of a model of file types: honest callers' files, and strangers made of others.

A row holds 2,048 codes, as ``magika`` reads a file: the first and the last 1,024 bytes without white space at the ends, and
256 where there are none. No two rows are alike.
"""

from __future__ import annotations

import os
import zlib
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

HALF, PADDING, BLOCK = 1024, 256, 4096
SHORTEST = 8  # bytes; the model is not asked about fewer
TINY = 200  # bytes
PER_ENDING = 400  # files of one ending among the mixed ones, so that no ending fills them
LARGEST = 1 << 20  # bytes that are read of a file that is compressed
MUTATED, KEPT = 0.05, 0.1

MIXED = "mixed"
IMAGES = {".png", ".jpg", ".jpeg", ".gif", ".ico", ".webp", ".bmp"}


def _binary(path, _size):
    return path.suffix.lower() in IMAGES or path.suffix in {"", ".o"} or ".so" in path.name


def _any(_path, _size):
    return True


def _tiny(_path, size):
    return size < TINY


def _ending(*endings):
    return lambda path, _size: path.suffix in endings


CALLERS = {
    MIXED: _any,
    ".py only": _ending(".py"),
    "images and ELF": _binary,
    ".h and .c": _ending(".h", ".c"),
    ".json and .yaml": _ending(".json", ".yaml", ".yml"),
    "tiny files, under 200 bytes": _tiny,
}


def codes_of(data):
    """The row (2048,) of a file's bytes; None where too few are left."""
    head, tail = data[:BLOCK], data[-BLOCK:]
    head, tail = (data.strip(),) * 2 if len(data) <= BLOCK else (head.lstrip(), tail.rstrip())
    if min(len(head), len(tail)) < SHORTEST:
        return None
    row = np.full(2 * HALF, PADDING, np.uint16)
    head, tail = (np.frombuffer(part, np.uint8) for part in (head[:HALF], tail[-HALF:]))
    row[: len(head)], row[2 * HALF - len(tail) :] = head, tail
    return row


@dataclass(frozen=True)
class Sample:
    """Files and their rows (n, 2048)."""

    paths: tuple[Path, ...]
    rows: np.ndarray

    def parts(self, sizes):
        """Parts of these sizes in turn; the last one takes the rest."""
        bounds = np.cumsum(sizes)
        return [
            Sample(self.paths[start:end], self.rows[start:end])
            for start, end in zip((0, *bounds), (*bounds, len(self.paths)), strict=True)
        ]


@dataclass
class FileFinder:
    """Files below some folders in a seeded order; none is taken twice, nor one with the row of another."""

    roots: list[Path]
    rng: np.random.Generator
    seen: set[bytes] = field(default_factory=set)

    def __post_init__(self):
        found = sorted(path for root in self.roots for path in _regular_files(root))
        self.files = [found[place] for place in self.rng.permutation(len(found))]

    def take(self, caller, count):
        """At most so many files that a caller of this name sends."""
        wanted, by_ending = CALLERS[caller], defaultdict(int)
        paths, rows = [], []
        for path, size in self.files:
            if len(rows) == count:
                break
            full = caller == MIXED and by_ending[path.suffix.lower()] == PER_ENDING
            if full or not wanted(path, size) or (row := self._new_row(caller, path)) is None:
                continue
            by_ending[path.suffix.lower()] += 1
            paths.append(path)
            rows.append(row)
        return Sample(tuple(paths), np.array(rows))

    def _new_row(self, caller, path):
        data = _read_ends(path)
        if data is None or (
            caller == "images and ELF" and path.suffix.lower() not in IMAGES and data[:4] != b"\x7fELF"
        ):
            return None
        row = codes_of(data)
        if row is None or row.tobytes() in self.seen:
            return None
        self.seen.add(row.tobytes())
        return row


def _regular_files(root):
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            try:
                status = path.lstat()
            except OSError:
                continue
            if status.st_size and path.is_file() and not path.is_symlink():
                yield path, status.st_size


def _read_ends(path):
    """All bytes of a short file, the two ends of a long one; None where it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(2 * BLOCK + 1)
            if len(head) <= 2 * BLOCK:
                return head
            file.seek(-BLOCK, os.SEEK_END)
            return head[:BLOCK] + file.read()
    except OSError:
        return None


def strangers(files, count, rng):
    """Rows (count, 2048) of each stranger, by name; those that are made of files are made of these."""
    chosen = rng.integers(len(files.paths), size=count)
    others = (chosen + rng.integers(1, len(files.paths), size=count)) % len(files.paths)
    rows, printable = files.rows[chosen], np.arange(32, 127)
    random_ascii = rng.choice(printable, (count, 2 * HALF)).astype(np.uint16)
    padded = rows.copy()
    kept = int(KEPT * HALF)
    padded[:, kept : 2 * HALF - kept] = PADDING
    mutated = np.where((rng.random(rows.shape) < MUTATED) & (rows != PADDING), rng.integers(256, size=rows.shape), rows)
    return {
        "random bytes": rng.integers(256, size=(count, 2 * HALF)).astype(np.uint16),
        "random ASCII": random_ascii,
        "shuffled bytes": np.array([_shuffled(row, rng) for row in rows]),
        "head of one, tail of another": np.hstack([rows[:, :HALF], files.rows[others][:, HALF:]]),
        "compressed": _compressed(files, chosen),
        "5 % mutated": mutated.astype(np.uint16),
        "90 % padding": padded,
    }


def _shuffled(row, rng):
    """Both halves with their bytes in another order; the padding stays."""
    row = row.copy()
    for half in (row[:HALF], row[HALF:]):
        real = half != PADDING
        half[real] = rng.permutation(half[real])
    return row


def _compressed(files, chosen):
    """The chosen files through zlib; those that leave too few bytes are left out."""
    made = {}
    for place in np.unique(chosen).tolist():
        with files.paths[place].open("rb") as file:
            made[place] = codes_of(zlib.compress(file.read(LARGEST)))
    return np.array([made[place] for place in chosen.tolist() if made[place] is not None])
