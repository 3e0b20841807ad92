"""Sections on what a clone costs its thief: accuracy per euro under each toll, and accuracy by the number of labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeltoll.bench.evasions.registry import NO_EVASION
from modeltoll.bench.experiment import HONEST
from modeltoll.bench.hardware_costs import CPU_CORE, GPU, hardware_cost
from modeltoll.bench.report.cells import NONE, by_group, ratio_cell
from modeltoll.bench.report.model import Section, Table
from modeltoll.bench.toll_schemes import CONFORMAL, NO_TOLL, PUBLISHED
from modeltoll.formatting import number, percent

if TYPE_CHECKING:
    from modeltoll.bench.report.aggregate import Results, SeedAggregate

__all__ = ["accuracy_by_labels", "accuracy_per_euro", "gained_points"]

_LABELS = "labels"  # the suite


def gained_points(one: SeedAggregate) -> float | None:
    """Percentage points of accuracy above guessing among ten classes (two for cells); None if there are none."""
    accuracy = one.mean("accuracy")
    if accuracy is None:
        return None
    gained = 100.0 * (accuracy - (0.5 if one["dataset"] == "cells" else 0.1))
    return gained if gained > 0.0 else None


def _euros(one: SeedAggregate, machine: str | None) -> float:
    """What the thief pays: the attack's own processor time on a core, and the toll's work on ``machine`` (None: no toll)."""
    own = hardware_cost(CPU_CORE, one.mean("theft_seconds") or 0.0).euros
    return own + ((one.mean_cost(machine, "euros") or 0.0) if machine else 0.0)


def _points_per_euro(one: SeedAggregate | None, machine: str | None) -> str:
    gained = gained_points(one) if one else None
    return NONE if one is None or gained is None else number(gained / max(_euros(one, machine), 1e-9))


def accuracy_per_euro(results: Results) -> Section | None:
    """What a euro buys each thief: points of accuracy without a toll, under the published one and under ours."""
    found = results.select("table2", _LABELS, "quick", evasion=NO_EVASION, defence=NO_TOLL)
    stolen = [one for one in found if one["attack"] != HONEST and gained_points(one) is not None]
    shared = ("dataset", "attack", "profile", "budget")
    rows = []
    for (dataset, attack, profile, budget), tolls in by_group(stolen, shared, ("tariff",)).items():
        ours, published = tolls.get(CONFORMAL), tolls.get(PUBLISHED)
        if ours is None:
            continue
        euros = (number(_euros(ours, machine)) for machine in (None, CPU_CORE.name))
        priced = ((ours, None), (published, CPU_CORE.name), (ours, CPU_CORE.name), (ours, GPU.name))
        cells = (_points_per_euro(one, machine) for one, machine in priced)
        rows.append((dataset, attack, profile, number(budget), ours.format_mean(percent, "accuracy"), *euros, *cells))
    headings = (
        *("data set", "attack", "settings", "rows", "accuracy", "euros without a toll", "under ours"),
        *("points per euro: no toll", "published toll", "our toll", "our toll, solved on a GPU"),
    )
    text = (
        "Percentage points of the clone's accuracy above guessing that a euro buys. Without a toll a thief pays the time in "
        "which the attack runs and its clones are trained, on one rented core; with one also the work of the toll, on such "
        "a core or on a rented RTX 4090. The victim's answers themselves are taken to be free."
    )
    return Section("Accuracy per euro", text, Table(headings, tuple(rows), 3)) if rows else None


def accuracy_by_labels(results: Results) -> Section | None:
    """Clones of few and of many labels."""
    found = results.select(_LABELS, evasion=NO_EVASION, defence=NO_TOLL)
    shared = ("dataset", "attack", "profile", "budget")
    rows = []
    for (dataset, attack, profile, budget), tolls in by_group(found, shared, ("tariff",)).items():
        ours = tolls.get(CONFORMAL)
        if ours is not None:
            quality = (ours.format_mean(percent, name) for name in ("accuracy", "fidelity"))
            ratios = (ratio_cell(tolls.get(toll)) for toll in (PUBLISHED, CONFORMAL))
            rows.append((dataset, attack, profile, number(budget), *quality, *ratios))
    headings = ("data set", "attack", "settings", "labels", "accuracy", "fidelity", "published toll", "our toll")
    text = (
        "The clones of attacks that buy few labels. MixMatch buys those of the victim's own kind of images, the others those "
        "of foreign images, FreeMatch with the unlabelled rest beside them."
    )
    return Section("Accuracy by the number of labels", text, Table(headings, tuple(rows), 3)) if rows else None
