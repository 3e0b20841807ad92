"""Sections on the model of file types: honest callers by the files they send, thieves, and what their clones reach."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modeltoll.bench.evasions.registry import NO_EVASION
from modeltoll.bench.experiment import HONEST
from modeltoll.bench.honest.workload import WORKLOADS
from modeltoll.bench.report.cells import NONE, by_group, ratio_cell, suspicion_cell
from modeltoll.bench.report.model import Section, Table
from modeltoll.bench.toll_schemes import CALIBRATED, CLASSES_ONLY, CONFORMAL, PUBLISHED, UNKNOWN_STRANGERS
from modeltoll.formatting import number, percent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeltoll.bench.report.aggregate import Results, SeedAggregate

__all__ = ["affordable", "file_callers", "file_clones", "file_disguises", "file_thieves"]

_SUITE = "magika"
_TOLLS = {
    PUBLISHED: "published toll",
    CONFORMAL: "our toll",
    CALIBRATED: "rho0 raised",
    CLASSES_ONLY: "classes only",
}
_ACCOUNTS = {NO_EVASION: "1 account", **{f"accounts-{count}": f"{count:,} accounts" for count in (10, 100, 1000)}}
_DISGUISES = ("anonymous-1000", "fresh-fillers-4", "fresh-fillers-16", "bank")
_TIME_FACTOR = 10.0  # of the time without toll, for which clones are compared
_OWN = "honest callers' files"

_COLUMNS = ("tariff", "evasion")


def file_callers(results: Results) -> Section | None:
    """What honest callers of each type of file pay."""
    rows = []
    for name, tolls in by_group(results.select(_SUITE, attack=HONEST), ("workload",), _COLUMNS).items():
        workload, ours = WORKLOADS.get(name), tolls.get((CONFORMAL, NO_EVASION))
        if workload is None or ours is None:
            continue
        cells = [
            cell
            for toll in _TOLLS
            for one in (tolls.get((toll, NO_EVASION)),)
            for cell in ((ratio_cell(one),) if toll == PUBLISHED else (ratio_cell(one), suspicion_cell(one)))
        ]
        declared = "yes" if workload.declared else "no"
        rows.append((name, declared, number(ours["queries"]), *cells, percent(ours["victim_accuracy"])))
    headings = [
        heading
        for toll, title in _TOLLS.items()
        for heading in ((title,) if toll == PUBLISHED else (title, "suspected"))
    ]
    text = (
        "Ratios of honest callers who send files of one type, or all. *Declared*: the operator has 1,300 other files of the "
        "caller. *Classes only*: it has declared none, and knows the predicted classes of all traffic. The victim's accuracy is "
        "against the types that the files' endings name."
    )
    head = ("honest caller", "declared", "rows", *headings, "victim's accuracy")
    return Section("Honest callers by file type", text, Table(head, tuple(rows), 2)) if rows else None


def _thieves(results: Results) -> dict[tuple[str, str], dict[tuple[str, str], SeedAggregate]]:
    """Thieves by the source of their files and their attack; own files first."""
    found = [one for one in results.select(_SUITE, defence="none") if one["attack"] != HONEST]
    return by_group(found, ("foreign", "attack"), _COLUMNS)


def _source(foreign: str) -> str:
    return foreign or _OWN


def file_thieves(results: Results) -> Section | None:
    """What thieves of each family of files pay, by the number of accounts."""
    rows: list[tuple[str, ...]] = []
    for (foreign, _), tolls in _thieves(results).items():
        if any(row[0] == _source(foreign) for row in rows) or (CONFORMAL, NO_EVASION) not in tolls:
            continue  # clones of both kinds are trained on the same rows, which have one price
        ours = tolls[CONFORMAL, NO_EVASION]
        cells = [ratio_cell(tolls.get((CONFORMAL, evasion))) for evasion in _ACCOUNTS]
        others = [ratio_cell(tolls.get((toll, NO_EVASION))) for toll in (UNKNOWN_STRANGERS, CALIBRATED)]
        published = [ratio_cell(tolls.get((PUBLISHED, evasion))) for evasion in (NO_EVASION, "accounts-10")]
        rows.append((_source(foreign), number(ours["queries"]), *published, *cells, *others, suspicion_cell(ours)))
    head = (
        *("files", "rows", "published: 1 account", "10 accounts"),
        *(f"ours: {title}" if place == 0 else title for place, title in enumerate(_ACCOUNTS.values())),
        *("family unknown", "rho0 raised", "suspected"),
    )
    text = (
        "Ratios per stolen row. The operator knows a thousand rows of each family, which no thief has; *family unknown*: not of "
        "this one. Without suspicion the last column is empty."
    )
    return Section("Thieves of the model of file types", text, Table(head, tuple(rows), 1)) if rows else None


def file_disguises(results: Results) -> Section | None:
    """What thieves pay who send from new anonymous accounts, among honest files, or after them."""
    rows = []
    for (foreign, _), tolls in _thieves(results).items():
        if not any((CONFORMAL, evasion) in tolls for evasion in _DISGUISES):
            continue
        cells = (ratio_cell(tolls.get((toll, evasion))) for evasion in _DISGUISES for toll in (PUBLISHED, CONFORMAL))
        rows.append((_source(foreign), *cells))
    titles = (
        "1,000 anonymous accounts",
        "4 honest files per row",
        "16 honest files per row",
        "after 4,000 honest files",
    )
    head = ("files", *(f"{title}: {toll}" for title in titles for toll in ("published", "ours")))
    text = (
        "Ratios per stolen row of thieves in disguise. With 16 honest files or a bank, the thief wants 600 rows, and does not pay "
        "for the bank."
    )
    return (
        Section("Thieves of the model of file types in disguise", text, Table(head, tuple(rows), 1)) if rows else None
    )


def file_clones(results: Results) -> Section | None:
    """What clones reach without toll, and for the same time under both tolls."""
    rows = []
    for (foreign, attack), tolls in _thieves(results).items():
        ours = tolls.get((CONFORMAL, NO_EVASION))
        if ours is None or ours.mean("fidelity") is None:
            continue
        reached = [
            cell for toll in (PUBLISHED, CONFORMAL) for cell in _for_the_same_time(tolls.get((toll, NO_EVASION)))
        ]
        quality = [ours.format_mean(percent, name) for name in ("accuracy", "fidelity", "agreement")]
        rows.append((_source(foreign), attack, number(ours["queries"]), *quality, *reached))
    head = (
        *("files", "attack", "no toll: rows", "accuracy", "fidelity", "agreement on such files"),
        *("published toll: rows", "fidelity", "our toll: rows", "fidelity"),
    )
    text = (
        "Clones trained on all stolen rows, and those of a thief who has ten times the time that these take without toll, from one "
        "account. *Fidelity*: agreement with the victim on honest files. *Accuracy*: on those whose ending names a type. The "
        "fidelity of the last columns is that of the largest clone that was trained on no more rows than the thief can pay for; a "
        "dash: on fewer than the smallest clone has."
    )
    return Section("Clones of the model of file types", text, Table(head, tuple(rows), 2)) if rows else None


def _for_the_same_time(one: SeedAggregate | None) -> tuple[str, str]:
    """The rows that a thief gets in ten times the time without toll, and its clone's fidelity; over seeds their means."""
    if one is None:
        return NONE, NONE
    found = [affordable(document) for document in one.documents]
    fidelities = [fidelity for _, fidelity in found if fidelity is not None]
    fidelity = percent(float(np.mean(fidelities))) if len(fidelities) == len(found) else NONE
    return number(float(np.mean([rows for rows, _ in found]))), fidelity


def affordable(document: Mapping[str, Any], factor: float = _TIME_FACTOR) -> tuple[float, float | None]:
    """The rows that a thief gets in ``factor`` times the time that all its rows take without toll, and the fidelity of the
    largest clone of no more rows; None where there is none. Between the points of its course each row costs the same.
    """
    course = document["course"]
    seconds = [0.0, *(point["seconds_with"] for point in course)]
    rows = float(
        np.interp(factor * document["seconds_without"], seconds, [0.0, *(point["queries"] for point in course)])
    )
    clones = [point["fidelity"] for point in course if point["fidelity"] is not None and point["queries"] <= rows]
    return rows, clones[-1] if clones else None
