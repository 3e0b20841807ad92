"""Run attacks without toll or meter and record the quality of the clones.

    python benchmarks/attacks_alone.py mnist [copycat knockoff-random ...] --data-dir DIR --cache DIR [--full] [--seeds 3]

The victim is trained by ``leak_victims.py``. Of its test images, 1,000 evaluate the clones and the attacker has the
others; foreign images are from Tiny-ImageNet. Budgets are 9,000 rows, for DataFree 60,000. Writes
``results/bench/attacks-alone-NAME.json``, one row per attack and seed. Existing rows are kept, so that an interrupted run
resumes.
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
from modeltoll.bench.victims.registry import VICTIMS, TorchVictim, load_victim
from modeltoll.testing.attacks import CountingOracle

EVALUATION, ROWS, ROWS_OF = 1000, 9000, {"datafree": 60_000}


def scenario(name: str, folder: Path, victim: TorchVictim) -> tuple[AttackerResources, datasets.Images]:
    """The attacker's resources, and the images on which clones are evaluated."""
    test = VICTIMS[name].load(folder, train=False)
    evaluation_set, own = np.split(np.random.default_rng(0).permutation(len(test.x)), [EVALUATION])
    natural = datasets.tiny_imagenet(folder)
    if test.x.ndim == 3:
        natural = datasets.Images(datasets.resize(natural.x, test.x.shape[1]), natural.y)
    resources = AttackerResources(
        10, test.x[own], natural, lambda images: np.asarray(entropy(victim.scores(images), axis=1))
    )
    return resources, datasets.Images(test.x[evaluation_set], test.y[evaluation_set])


def attempt(name: str, thief: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """One attack on the victim of one data set."""
    folder = datasets.data_folder(arguments.data_dir)
    victim = load_victim(name, folder, arguments.cache, lambda _done, _most: None)
    resources, evaluation_set = scenario(name, folder, victim)
    factory = student_factory(VICTIMS[name].recipe.architecture, 10)
    labels, victim_labels = evaluation_set.y, victim.scores(evaluation_set.x).argmax(axis=1)
    rounds: list[tuple[int, float]] = []
    budget = ROWS_OF.get(thief, ROWS)
    oracle = CountingOracle(victim.scores, budget)

    def on_round(clone: Clone) -> None:
        rounds.append((budget - oracle.left, float((clone.scores(evaluation_set.x).argmax(axis=1) == labels).mean())))
        print(f"  {thief} seed {seed}: {rounds[-1]}, {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)

    begin, worked = time.perf_counter(), time.process_time()
    clone = (
        ATTACKS.built_in[thief]
        .attack(factory, quick=not arguments.full)
        .run(oracle, resources, np.random.default_rng(seed), on_round)
    )
    predicted = clone.scores(evaluation_set.x).argmax(axis=1)
    return {
        "attack": thief,
        "settings": "full" if arguments.full else "quick",
        "seed": seed,
        "queries": budget,
        "accuracy": float((predicted == labels).mean()),
        "fidelity": float((predicted == victim_labels).mean()),
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
