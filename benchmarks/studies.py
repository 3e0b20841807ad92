"""What the studies of networks on published data sets share: their command line, their files of results, printed progress."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modeltoll.bench import datasets

_LINES = 50  # of progress


def study_data_sets(study: Callable[[str, Path, Path], dict[str, Any]], stem: str, names: tuple[str, ...]) -> None:
    """Run ``study(name, data folder, cache)`` for each data set of the command line; these ``names`` if it has none.

    Writes ``STEM-NAME.json`` with what it returns, the command, and the number of cores.
    """
    script = sys.modules[study.__module__]
    parser = argparse.ArgumentParser(description=str(script.__doc__).splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(names))
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("build/bench"))
    parser.add_argument("--out", type=Path, default=Path("results/leak"))
    options = parser.parse_args()
    for folder in (options.out, options.cache):
        folder.mkdir(parents=True, exist_ok=True)
    for name in options.names:
        row = study(name, datasets.data_folder(options.data_dir), options.cache)
        command = f"python benchmarks/{Path(str(script.__file__)).name} {name} --data-dir DIR --cache DIR"
        document = {"command": command, "cores": os.cpu_count()} | row
        (options.out / f"{stem}-{name}.json").write_text(json.dumps(document, indent=2) + "\n")
        print(json.dumps(document))


def printed_progress(name: str) -> Callable[[int, int], None]:
    """A progress callback that prints 50 lines to standard error, each with the processor seconds since this call."""
    begin = time.process_time()

    def progress(done: int, total: int) -> None:
        if done * _LINES // total != (done - 1) * _LINES // total:
            print(f"{name}: {done}/{total}, {time.process_time() - begin:.0f} s", file=sys.stderr, flush=True)

    return progress
