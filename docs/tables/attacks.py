"""Tables of attacks without a toll: results/bench."""

from __future__ import annotations

import sys
from collections import defaultdict

from modeltoll.bench.attacks.registry import ATTACKS
from tables.form import read, table

__all__ = ["against_art", "attacks", "attacks_alone"]

_PAPER = {  # accuracies in Tables 2 and 3 of Dziedzic et al. 2022
    "mnist": {
        "standard": 98.4,
        "knockoff-random": 98.7,
        "knockoff-adaptive": 89.7,
        "copycat": 92.7,
        "jacobian": 81.4,
        "mixmatch": 99.5,
        "datafree": 95.18,
        "entropyrev-ood": 91.0,
        "worstcase-ood": 95.3,
    },
    "cifar10": {
        "standard": 65.7,
        "knockoff-random": 64.0,
        "knockoff-adaptive": 32.0,
        "copycat": 54.2,
        "jacobian": 30.5,
        "mixmatch": 91.7,
        "datafree": 87.15,
    },
}


def _percent(values: list[float]) -> str:
    mean = sum(values) / len(values)
    return (
        f"{100 * mean:.1f} %"
        if len(values) == 1
        else f"{100 * mean:.1f} % ({100 * min(values):.1f} to {100 * max(values):.1f})"
    )


def against_art() -> str:
    """Accuracies of both libraries' clones, over all seeds."""
    result = read("bench/against-art")
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in result["rows"]:
        found[row["attack"], row["library"]].append(row["accuracy"])
    names = sorted({attack for attack, _ in found})
    rows = [[f"`{name}`", *(_percent(found[name, library]) for library in ("modeltoll", "art"))] for name in names]
    seeds = len({row["seed"] for row in result["rows"]})
    return table(["attack", "accuracy, ours", "accuracy, the toolbox's"], rows) + (
        f"\n`{result['command']}`: means of {seeds} seeds (lowest and highest), {result['queries']:,} rows, "
        f"{result['epochs']} epochs, version {result['versions']['art']} of the toolbox.\n"
    )


def attacks() -> str:
    """The built-in attacks, with what each does as its module says it."""
    rows = []
    for name, spec in ATTACKS.built_in.items():
        does = (sys.modules[spec.make.__module__].__doc__ or "").split("\n", 1)[0].partition(": ")[2].rstrip(".")
        reads = "labels" if spec.labels_only else "probabilities"
        rows.append([f"`{name}`", does, reads, "yes" if spec.needs_torch else ""])
    return table(["attack", "what it does", "answers used", "networks only"], rows, words=4)


def attacks_alone(data: str) -> str:
    """Accuracy, fidelity and time of each attack's clone, beside the paper's accuracy."""
    result = read(f"bench/attacks-alone-{data}")
    rows = []
    for row in result["rows"]:
        paper = _PAPER[data].get(row["attack"])
        cells = [f"{100 * row['accuracy']:.1f} %", f"{100 * row['fidelity']:.1f} %", f"{row['cpu_seconds']:.0f} s"]
        rows.append(
            [f"`{row['attack']}`", row["settings"], f"{row['queries']:,}", *cells, f"{paper} %" if paper else ""]
        )
    head = ["attack", "settings", "rows", "accuracy", "fidelity", "processor time", "the paper's accuracy"]
    return table(head, rows, words=2) + f"\n`{result['command']}`\n"
