"""How the PATE cost of a query depends on how good the teachers are: the recipe of the bench with fewer epochs, and without augmentation.

    python benchmarks/teacher_strength.py [cifar10] --data-dir DIR --cache DIR

An interrupted training goes on where it stopped. Writes ``results/leak/strength-NAME.json``: for each variant the mean accuracy of
a teacher, the accuracy of their vote, and the mean epsilon of a query of honest and of foreign images, beside the paper's.
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

VARIANTS: tuple[dict[str, Any], ...] = ({"epochs": 10}, {"epochs": 5}, {"epochs": 10, "shift": 0, "flip": False})


def study(name: str, folder: Path, cache: Path) -> dict[str, Any]:
    """Train the teachers of each variant, or read them from the cache, and measure their votes."""
    private, (flat, labels) = VICTIMS[name].load(folder, train=True), queries(name, folder)
    lines = []
    for changed in ({}, *VARIANTS):
        recipe = replace(TEACHERS[name], training=replace(TEACHERS[name].training, **changed))
        teachers = load_teachers(name, private, cache, printed_progress(f"{name} {changed}"), recipe)
        lines.append(
            {
                "changed": changed,
                "accuracy_alone": float(np.mean(alone(teachers, flat["standard"], labels))),
                **votes_of(teachers, recipe, flat, labels),
            }
        )
    return {"data": name, "recipe": asdict(TEACHERS[name]), "teachers": lines, "paper": paper_costs(name)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    study_data_sets(study, "strength", ("cifar10",))
