"""Progress of worker processes, shared with the process that waits for them through a file of numbers."""

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

__all__ = ["no_progress", "shared_progress", "write_progress"]

_POLL_SECONDS = 0.2


def no_progress(done: int, most: int) -> None:
    """A progress callback that does nothing."""
    del done, most


def write_progress(progress_file: Path, slot: int, done: int, most: int) -> None:
    """Write the progress of one worker into its slot of the file; from any process.

    Raises:
        FileNotFoundError: the block of ``shared_progress`` has ended.
    """
    np.memmap(progress_file, np.int64, "r+").reshape(-1, 2)[slot] = done, most


@contextmanager
def shared_progress(callbacks: Sequence[Progress]) -> Iterator[Path]:
    """A file with one slot per callback; each callback is called with its slot's values, polled until the block ends."""
    with tempfile.TemporaryDirectory(prefix="modeltoll-bench-") as folder:
        progress_file = Path(folder) / "rows"
        counts = np.memmap(progress_file, np.int64, "w+", shape=(max(len(callbacks), 1), 2))
        ended = threading.Event()

        def poll() -> None:
            last = False
            while not last:
                last = ended.wait(_POLL_SECONDS)
                for callback, (done, most) in zip(callbacks, counts.tolist(), strict=False):
                    if most:
                        callback(done, most)

        thread = threading.Thread(target=poll, name="shared-progress")
        thread.start()
        try:
            yield progress_file
        finally:
            ended.set()
            thread.join()
