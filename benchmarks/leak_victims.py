"""Train the victims of the leak study, and report their training time and accuracy.

python benchmarks/leak_victims.py [mnist fashion cifar10] --data-dir DIR --cache DIR
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from modeltoll.bench import datasets
from modeltoll.bench.victims.registry import VICTIMS, load_victim


def main() -> None:
    """Train the victims that are not in the cache, and print one line of JSON per victim."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=["mnist", "fashion", "cifar10"])
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("build/victims"))
    arguments = parser.parse_args()
    folder = datasets.data_folder(arguments.data_dir)
    for name in arguments.names:
        begin = time.perf_counter()

        def progress(done: int, most: int, name: str = name, begin: float = begin) -> None:
            if done % 50 == 0 or done == most:
                print(f"{name}: {done}/{most} batches, {time.perf_counter() - begin:.0f} s", flush=True)

        trained = load_victim(name, folder, arguments.cache, progress)
        seconds = time.perf_counter() - begin
        accuracy = trained.accuracy(VICTIMS[name].load(folder, train=False))
        row = {
            "victim": name,
            "identity": trained.identity,
            "accuracy": accuracy,
            "seconds": round(seconds, 1),
            "threads": torch.get_num_threads(),
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
