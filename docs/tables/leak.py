"""Leaks and times of the measures: results/leak."""

from __future__ import annotations

from modeltoll.formatting import number
from tables.form import read, table

__all__ = ["factors", "heads", "speed", "training"]

CALLERS = {
    "tiny-imagenet": "Tiny-ImageNet",
    "emnist": "EMNIST letters",
    "other": "the other MNIST",
    "noise": "noise",
    "honest": "honest",
}


def factors(data: str) -> str:
    """Mean price factor of each caller under each choice of measures; in brackets that of the cheaper half of its rows."""
    found = read(f"leak/factors-{data}")
    rows = []
    for measures, row in found["factors"].items():
        cells = [f"{row[caller]['mean']:.1f} ({row[caller]['half']:.1f})" for caller in CALLERS]
        cells[-1] = f"{row['honest']['mean']:.2f}"
        name = f"**{measures}**" if measures == found["default"] else measures
        rows.append([name, *cells])
    return table([data, *CALLERS.values()], rows)


def heads(*studies: str) -> str:
    """The distilled vote head against its teachers."""
    rows = []
    for study in studies:
        found = read(f"leak/models-{study}")
        ranks = [f"{found['rank_correlation'][caller]:.3f}" for caller in CALLERS]
        cost = [f"{found['teachers_ms_per_row']:.3f}", f"{found['head_ms_per_row']:.3f}"]
        rows.append([f"{found['data']}, {found['kind']}", *ranks, *cost])
    return table(["teachers", *CALLERS.values(), "teachers, ms a row", "head, ms a row"], rows)


def training(*studies: str) -> str:
    """Training times of teachers, observers and heads."""
    rows = []
    for study in studies:
        found = read(f"leak/models-{study}")
        seconds = [f"{found[part]:.0f} s" if part in found else "" for part in PARTS]
        rows.append([f"{found['data']}, {found['kind']}", f"{found['accuracy']:.1%}", *seconds])
    return table(["teachers", "accuracy", "teachers", "observer", "head"], rows)


PARTS = ("teachers_cpu_seconds", "observer_cpu_seconds", "head_cpu_seconds")


def speed() -> str:
    """Microseconds a row, of ours and of the published formula in plain Python."""
    rows = []
    for line in read("benchmarks/bench_leak")["figures"]:
        target = "" if line["target"] is None else f"{line['target']:g}"
        rows.append([line["what"], f"{line['rows']:,}", number(line["microseconds"]), target, number(line["plain"])])
    return table(["measure", "rows at once", "us a row", "target", "plain formula, us a row"], rows)
