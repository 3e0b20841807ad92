"""Find out why attacks that choose end below random ones on CIFAR-10: near copies, large rounds, or short training.

    python benchmarks/active_learning.py --data-dir DIR [--architecture residual] [--share 0.25] [--seeds 3]

Standard, Gap, k-center and Entropy take rows of CIFAR-10 from two pools of the same size: test images in four near copies
each, as the bench gives them to an attacker, and as many distinct training images. The true labels answer. Each runs with
the quick settings, with smaller rounds, and with longer training. ``--architecture mnistnet``: on grey images of 28 x 28,
nine times as fast. ``--share``: of the 16,000 images of a pool, of the 9,000 rows and of a round. Writes
``results/bench/active-learning-ARCHITECTURE.json``, one row per run: the accuracy on 3,000 other test images, and how many
pictures were asked, copies counted once. Existing rows are kept, so that an interrupted run resumes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modeltoll.bench import datasets
from modeltoll.bench.attacks.attack import AttackerResources
from modeltoll.bench.attacks.registry import ATTACKS
from modeltoll.bench.data_split import mirrored
from modeltoll.bench.students.registry import student_factory
from modeltoll.files import replacing

if TYPE_CHECKING:
    from modeltoll.bench.attacks.query_rounds import Rounds
    from modeltoll.records import Floats, Integers

PICTURES, COPIES, ROWS, EVALUATION, SEED = 4000, 4, 9000, 3000, 1
NAMES = ("standard", "gap", "k-center", "entropy")
QUICK: Rounds = ATTACKS.built_in["gap"].quick
SETTINGS = {
    "quick": QUICK,
    "smaller rounds": replace(QUICK, round_rows=1000),
    "longer training": replace(QUICK, schedule=replace(QUICK.schedule, epochs=50)),
}


class Labels:
    """An oracle of the true labels of known images that notes which pictures were asked."""

    def __init__(self, images: Floats, classes: Integers, pictures: Integers, left: int) -> None:
        """``pictures`` (n,) numbers what each of the images is a copy of."""
        self.images, self.classes, self.pictures, self.left = images, classes, pictures, left
        self.asked: set[int] = set()
        self._rows = {np.ascontiguousarray(image).tobytes(): row for row, image in enumerate(images)}

    def ask(self, images: Floats) -> Floats:
        """One-hot labels (n, 10)."""
        rows = [self._rows[np.ascontiguousarray(image).tobytes()] for image in images]
        self.left -= len(rows)
        self.asked.update(self.pictures[rows].tolist())
        labels: Floats = np.eye(10)[self.classes[rows]]
        return labels


def pool(name: str, folder: Path, pictures: int) -> tuple[datasets.Images, Integers, datasets.Images]:
    """The images of a pool, ``copies`` or ``distinct``, the numbers of their pictures, and images to evaluate clones on."""
    test, rng = datasets.cifar10(folder, train=False), np.random.default_rng(SEED)
    order = rng.permutation(len(test.x))
    rest = datasets.Images(test.x[order[-EVALUATION:]], test.y[order[-EVALUATION:]])
    if name == "copies":
        chosen = order[:pictures]
        copies = datasets.Images(mirrored(test.x[chosen]), np.tile(test.y[chosen], COPIES))
        return copies, np.tile(np.arange(pictures), COPIES), rest
    train = datasets.cifar10(folder, train=True)
    chosen = rng.permutation(len(train.x))[: COPIES * pictures]
    return datasets.Images(train.x[chosen], train.y[chosen]), np.arange(len(chosen)), rest


def attempt(name: str, setting: str, pool_name: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """One attack with one setting on one pool."""
    share, grey = arguments.share, arguments.architecture == "mnistnet"
    as_input = (lambda images: images[:, 2:30, 2:30].mean(axis=3)) if grey else (lambda images: images)
    images, pictures, rest = pool(pool_name, arguments.data_dir, round(PICTURES * share))
    oracle = Labels(as_input(images.x), images.y, pictures, round(ROWS * share))
    rounds = SETTINGS[setting]
    rounds = replace(rounds, round_rows=round(rounds.round_rows * share), scan=round(QUICK.scan * share))
    thief = ATTACKS.built_in[name].make(student_factory(arguments.architecture, 10), rounds, name)
    own = AttackerResources(10, oracle.images, datasets.Images(oracle.images[:1], oracle.classes[:1]))
    begin = time.process_time()
    clone = thief.run(oracle, own, np.random.default_rng(seed), lambda _: None)
    right = clone.scores(as_input(rest.x)).argmax(axis=1) == rest.y
    return {
        "attack": name,
        "settings": setting,
        "pool": pool_name,
        "seed": seed,
        "share": arguments.share,
        "accuracy": float(right.mean()),
        "pictures": len(oracle.asked),
        "cpu_seconds": round(time.process_time() - begin, 1),
    }


def main() -> None:
    """Run what is not in the file yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--architecture", choices=("residual", "mnistnet"), default="residual")
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    path = arguments.json or Path(f"results/bench/active-learning-{arguments.architecture}.json")
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"] if path.is_file() else []
    for seed, setting, pool_name, name in product(range(arguments.seeds), SETTINGS, ("copies", "distinct"), NAMES):
        key = (name, setting, pool_name, seed, arguments.share)
        if any(tuple(row[part] for part in ("attack", "settings", "pool", "seed", "share")) == key for row in rows):
            continue
        rows.append(attempt(name, setting, pool_name, seed, arguments))
        print(rows[-1], file=sys.stderr, flush=True)
        command = f"python benchmarks/active_learning.py --data-dir DIR --architecture {arguments.architecture}"
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(json.dumps({"command": command, "rows": rows}, indent=1).encode() + b"\n")


if __name__ == "__main__":
    main()
