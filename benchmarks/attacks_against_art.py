"""CopyCat and Knockoff Nets next to those of the Adversarial Robustness Toolbox: same victim, images, budget and schedule.

    pip install 'modeltoll[art]'
    python benchmarks/attacks_against_art.py --data-dir DIR --cache DIR

Both get the same 5,000 foreign images and students of one architecture and one seed, with the same initial weights and
input scaling; each library shuffles with its own generator. Every clone is evaluated on the whole test part of MNIST. Writes
``results/bench/against-art.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import art
import numpy as np
import torch
from art.attacks.extraction import CopycatCNN, KnockoffNets
from art.estimators.classification import BlackBoxClassifier, PyTorchClassifier
from torch import Tensor, nn

from modeltoll.bench import datasets
from modeltoll.bench.attacks.attack import Attack, AttackerResources
from modeltoll.bench.attacks.copycat import CopyCat
from modeltoll.bench.attacks.knockoff import KnockoffRandom
from modeltoll.bench.attacks.query_rounds import Rounds
from modeltoll.bench.students.networks import NetworkCloneFactory
from modeltoll.bench.students.student import TrainingSchedule
from modeltoll.bench.victims.networks import as_tensor
from modeltoll.bench.victims.registry import TorchVictim, load_victim
from modeltoll.testing.attacks import CountingOracle

BUDGET, SCHEDULE, STUDENT_FACTORY = 5000, TrainingSchedule(epochs=20), NetworkCloneFactory("mnistnet")
OURS: dict[str, type[Attack]] = {"copycat": CopyCat, "knockoff-random": KnockoffRandom}
THEIRS = {"copycat": CopycatCNN, "knockoff-random": KnockoffNets}


def our_clone(
    name: str, victim: TorchVictim, foreign: datasets.Images, seed: int, evaluation_set: datasets.Images
) -> float:
    """The accuracy of our attack's clone."""
    attack = OURS[name](STUDENT_FACTORY, Rounds(round_rows=BUDGET, min_rounds=1, schedule=SCHEDULE))
    resources = AttackerResources(10, evaluation_set.x[:0], foreign)
    clone = attack.run(CountingOracle(victim.scores, BUDGET), resources, np.random.default_rng(seed), lambda _: None)
    return float((clone.scores(evaluation_set.x).argmax(axis=1) == evaluation_set.y).mean())


def their_clone(
    name: str, victim: TorchVictim, foreign: datasets.Images, seed: int, evaluation_set: datasets.Images
) -> float:
    """The accuracy of the toolbox's clone; the toolbox draws from the global generators of numpy and torch."""
    rng = np.random.default_rng(seed)
    rng.permutation(BUDGET)  # as CandidatePool does before the student is made
    student = STUDENT_FACTORY.student(rng)
    student.scale(as_tensor(foreign.x))
    np.random.seed(seed)  # noqa: NPY002  the toolbox uses the global generator
    torch.manual_seed(seed)
    optimiser = torch.optim.SGD(student.network.parameters(), lr=SCHEDULE.rate, momentum=SCHEDULE.momentum)
    shape = (1, *foreign.x.shape[1:])
    thief = PyTorchClassifier(_Flat(student.network), nn.CrossEntropyLoss(), shape, 10, optimiser)
    oracle = BlackBoxClassifier(lambda x: victim.scores(x[:, 0]).astype(np.float32), shape, 10)
    attack = THEIRS[name](
        oracle,
        batch_size_fit=SCHEDULE.batch,
        batch_size_query=1000,
        nb_epochs=SCHEDULE.epochs,
        nb_stolen=BUDGET,
        use_probability=name != "copycat",
    )
    attack.extract(foreign.x[:, None].astype(np.float32), thieved_classifier=thief)
    predicted = thief.predict(evaluation_set.x[:, None].astype(np.float32), batch_size=500).argmax(axis=1)
    return float((predicted == evaluation_set.y).mean())


class _Flat(nn.Module):
    """The student as a module that converts images to the memory format of its weights."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.contiguous(memory_format=torch.channels_last))


def main() -> None:
    """Run both attacks of both libraries with every seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("build/victims"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, default=Path("results/bench/against-art.json"))
    arguments = parser.parse_args()
    folder = datasets.data_folder(arguments.data_dir)
    victim = load_victim("mnist", folder, arguments.cache, lambda _done, _most: None)
    evaluation_set = datasets.mnist(folder, train=False)
    natural = datasets.tiny_imagenet(folder)
    rows: list[dict[str, Any]] = []
    for seed in range(arguments.seeds):
        chosen = np.random.default_rng(1000 + seed).permutation(len(natural.x))[:BUDGET]
        foreign = datasets.Images(datasets.resize(natural.x[chosen], 28), natural.y[chosen])
        for name in OURS:
            for library, steal in (("modeltoll", our_clone), ("art", their_clone)):
                begin = time.perf_counter()
                accuracy = steal(name, victim, foreign, seed, evaluation_set)
                seconds = round(time.perf_counter() - begin, 1)
                row = {"attack": name, "library": library, "seed": seed, "accuracy": accuracy, "seconds": seconds}
                rows.append(row)
                print(row, file=sys.stderr, flush=True)
    report = {
        "command": "python benchmarks/attacks_against_art.py --data-dir DIR --cache DIR",
        "versions": {"art": art.__version__, "torch": torch.__version__, "numpy": np.__version__},
        "machine": {"cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "queries": BUDGET,
        "epochs": SCHEDULE.epochs,
        "means": {
            f"{name} {library}": float(
                np.mean([row["accuracy"] for row in rows if (row["attack"], row["library"]) == (name, library)])
            )
            for name in OURS
            for library in ("modeltoll", "art")
        },
        "rows": rows,
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
