"""How the PATE cost of a query depends on the teachers' training: the recipe of the bench, other epochs, and augmentation.

    python benchmarks/teacher_strength.py [cifar10 mnist] --data-dir DIR --cache DIR

An interrupted training goes on where it stopped. Writes ``results/leak/strength-NAME.json``: for each variant the mean accuracy of
a teacher on 500 unseen images, the accuracy of their vote, and the mean epsilon of 500 queries of honest and of foreign images,
beside the paper's.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from paper_teachers import alone, paper_costs, queries, votes_of
from studies import printed_progress, study_data_sets

from modeltoll.bench.victims.registry import VICTIMS
from modeltoll.bench.victims.teachers import TEACHERS, load_teachers

ROWS = 500
_AUGMENTED: dict[str, Any] = {"shift": 4, "flip": True}  # as the authors augment for ResNet-18
VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {
    "cifar10": (_AUGMENTED, {**_AUGMENTED, "epochs": 10}, {**_AUGMENTED, "epochs": 5}),
    "mnist": ({"epochs": 20}, {"epochs": 20, "shift": 1}),
}


def study(name: str, folder: Path, cache: Path) -> dict[str, Any]:
    """Train the teachers of each variant, or read them from the cache, and measure their votes."""
    private, (every, labels) = VICTIMS[name].load(folder, train=True), queries(name, folder)
    flat, labels, lines = {caller: rows[:ROWS] for caller, rows in every.items()}, labels[:ROWS], []
    for changed in ({}, *VARIANTS[name]):
        recipe = replace(TEACHERS[name], training=replace(TEACHERS[name].training, **changed))
        teachers = load_teachers(name, private, cache, printed_progress(f"{name} {changed}"), recipe)
        lines.append(
            {
                "changed": changed,
                "accuracy_alone": float(np.mean(alone(teachers, flat["standard"], labels))),
                **votes_of(teachers, recipe, flat, labels),
            }
        )
    return {"data": name, "rows": ROWS, "recipe": asdict(TEACHERS[name]), "teachers": lines, "paper": paper_costs(name)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    study_data_sets(study, "strength", tuple(VARIANTS))
