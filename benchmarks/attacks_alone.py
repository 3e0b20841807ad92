"""Run attacks by themselves, without toll or meter, and say how good the clones are.

    python benchmarks/attacks_alone.py mnist [copycat knockoff-random ...] --data-dir DIR --cache DIR [--full] [--seeds 3]

The victim comes from ``leak_victims.py``. Of the test part that it has not seen, 1,000 images are kept to examine the
clones, the thief owns the others; Tiny-ImageNet is what is foreign. Budgets are 9,000 rows, for DataFree 60,000. Writes
``results/bench/attacks-alone-NAME.json``, one row for each attack and seed; rows that are there already are kept, so that
it can be interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import entropy

from modeltoll.bench import datasets
from modeltoll.bench.attacks.attack import AttackerResources, Clone
from modeltoll.bench.attacks.registry import ATTACKS
from modeltoll.bench.students.registry import student_factory
from modeltoll.bench.victims.registry import VICTIMS, TorchVictim, victim
from modeltoll.testing.attacks import CountingOracle

EXAM, ROWS, ROWS_OF = 1000, 9000, {"datafree": 60_000}


def scenario(name: str, folder: Path, shelf: TorchVictim) -> tuple[AttackerResources, datasets.Images]:
    """What the thief has, and what his clones are examined on."""
    test = VICTIMS[name].load(folder, train=False)
    evaluation_set, own = np.split(np.random.default_rng(0).permutation(len(test.x)), [EXAM])
    natural = datasets.tiny_imagenet(folder)
    if test.x.ndim == 3:
        natural = datasets.Images(datasets.resize(natural.x, test.x.shape[1]), natural.y)
    resources = AttackerResources(
        10, test.x[own], natural, lambda images: np.asarray(entropy(shelf.scores(images), axis=1))
    )
    return resources, datasets.Images(test.x[evaluation_set], test.y[evaluation_set])


def attempt(name: str, thief: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """One attack on the victim of one data set."""
    folder = datasets.data_folder(arguments.data_dir)
    shelf = victim(name, folder, arguments.cache, lambda _done, _most: None)
    resources, evaluation_set = scenario(name, folder, shelf)
    factory = student_factory(VICTIMS[name].recipe.architecture, 10)
    truth, told = evaluation_set.y, shelf.scores(evaluation_set.x).argmax(axis=1)
    rounds: list[tuple[int, float]] = []
    budget = ROWS_OF.get(thief, ROWS)
    oracle = CountingOracle(shelf.scores, budget)

    def watch(clone: Clone) -> None:
        rounds.append((budget - oracle.left, float((clone.scores(evaluation_set.x).argmax(axis=1) == truth).mean())))
        print(f"  {thief} seed {seed}: {rounds[-1]}, {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)

    begin, worked = time.perf_counter(), time.process_time()
    clone = (
        ATTACKS.built_in[thief]
        .attack(factory, quick=not arguments.full)
        .run(oracle, resources, np.random.default_rng(seed), watch)
    )
    said = clone.scores(evaluation_set.x).argmax(axis=1)
    return {
        "attack": thief,
        "settings": "full" if arguments.full else "quick",
        "seed": seed,
        "queries": budget,
        "accuracy": float((said == truth).mean()),
        "fidelity": float((said == told).mean()),
        "rounds": rounds,
        "seconds": round(time.perf_counter() - begin, 1),
        "cpu_seconds": round(time.process_time() - worked, 1),
        "scaled_down": ATTACKS.built_in[thief].scaled_down(quick=not arguments.full),
    }


def main() -> None:
    """Run what is not in the file yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=sorted(VICTIMS))
    parser.add_argument("attacks", nargs="*", default=list(ATTACKS.built_in))
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("build/victims"))
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    path = arguments.json or Path(f"results/bench/attacks-alone-{arguments.data}.json")
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"] if path.is_file() else []
    wanted = [(thief, seed) for thief in arguments.attacks for seed in range(arguments.seeds)]
    settings = "full" if arguments.full else "quick"
    for thief, seed in wanted:
        if any((row["attack"], row["seed"], row["settings"]) == (thief, seed, settings) for row in rows):
            continue
        rows.append(attempt(arguments.data, thief, seed, arguments))
        machine = {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "torch": torch.__version__}
        command = f"python benchmarks/attacks_alone.py {arguments.data} --data-dir DIR --cache DIR"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"command": command, "machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
