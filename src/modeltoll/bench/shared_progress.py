"""Where processes at work note how far they are, and one that waits for them reads it: a file of numbers."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from modeltoll.records import Progress

__all__ = ["no_progress", "note_rows", "shared_progress"]

_LOOK_SECONDS = 0.2


def no_progress(done: int, most: int) -> None:
    """Progress that nobody follows."""
    del done, most


def note_rows(board: Path, place: int, done: int, most: int) -> None:
    """Note at a place of the board that so much of all is done; from any process.

    Raises:
        FileNotFoundError: the board is gone, and with it whoever wanted to know.
    """
    np.memmap(board, np.int64, "r+").reshape(-1, 2)[place] = done, most


@contextmanager
def shared_progress(readers: Sequence[Progress]) -> Iterator[Path]:
    """A board with a place for each reader, who hears what is noted there, a moment later, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="modeltoll-bench-") as folder:
        board = Path(folder) / "rows"
        notes = np.memmap(board, np.int64, "w+", shape=(max(len(readers), 1), 2))
        over = threading.Event()

        def look() -> None:
            last = False
            while not last:
                last = over.wait(_LOOK_SECONDS)
                for reader, (done, most) in zip(readers, notes.tolist(), strict=False):
                    if most:
                        reader(done, most)

        looking = threading.Thread(target=look, name="noticeboard")
        looking.start()
        try:
            yield board
        finally:
            over.set()
            looking.join()
