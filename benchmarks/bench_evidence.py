"""Benchmark the evidence against a caller: 48 cells, 32 kinds, and the six histograms of an account.

    python benchmarks/bench_evidence.py [--json FILE] [--repeats N]

Set OPENBLAS_NUM_THREADS=1 for figures per core. Kinds and callers are synthetic and seeded. Each figure is the minimum over
the repeats, because other load only adds to it. A verdict is what every request needs; *whole* is the evidence without a
screen, as ``explain`` and the dashboard show it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import scipy
from timing import least_microseconds as _least

from modeltoll.evidence_records import RESTART_ROWS, EvidenceState
from modeltoll.pricing.cells import Cells
from modeltoll.pricing.kinds import ALL_TRAFFIC, DECLARED, FittedKind, FittedStranger
from modeltoll.pricing.suspicion import Suspicion, SuspicionTerms
from modeltoll.records import Account, Caller

KINDS = 32
SIX = 21_833  # rows after which all six histograms of an account differ
SCREENED, FULL = 60.0, 1000.0  # microseconds


def least_microseconds(work: Callable[[], object], repeats: int) -> float:
    """Minimum of the microseconds of processor time of one call over the repeats."""
    return _least(work, repeats, time.process_time)


@dataclass(frozen=True)
class Figure:
    """Microseconds of one call. ``target``: of the design, if any. ``ratio``: to the cheapest screened verdict of the run."""

    what: str
    microseconds: float
    target: float | None = None
    ratio: float | None = None


class Traffic:
    """Laws of kinds and of a thief over the cells, and accounts of callers who send rows by them."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng, self._cells = rng, Cells(2, 5000)
        rarity = np.multiply.outer(1.0 / np.arange(1, 7), 1.0 / np.arange(1, 9)).ravel()
        self.laws = [self._cells.widths, *rng.dirichlet(20.0 * self._cells.widths + 0.1, KINDS - 1)]
        self.thief = rarity / rarity.sum()
        kinds = [
            FittedKind(f"kind {place}", DECLARED if place else ALL_TRAFFIC, rng.multinomial(2000, law))
            for place, law in enumerate(self.laws)
        ]
        strangers = [FittedStranger("photographs", rng.multinomial(2000, self.thief))]
        self.suspicion = Suspicion(self._cells, kinds, strangers, SuspicionTerms())

    def account(self, law: np.ndarray, rows: int) -> Account:
        """An account after so many rows; the evidence of its finished blocks is added already."""
        drawn = self._rng.choice(self._cells.count, rows, p=law / law.sum())

        def counts(first: int) -> tuple[int, ...]:
            return tuple(np.bincount(drawn[first:], minlength=self._cells.count).tolist())

        state = replace(
            EvidenceState.new(self._cells.count, 0.0),
            counts=counts(0),
            blocks=tuple(counts(rows // size * size) for size in RESTART_ROWS),
            numbers=tuple(rows // size + 1 for size in RESTART_ROWS),
        )
        return Account(Caller("key:a"), "model", rows, rows, (), state, 0.0, "tariff", 0.0, 0.0)


def verdict_figures(traffic: Traffic, repeats: int) -> Iterator[Figure]:
    """Verdicts on honest callers and on thieves, and the whole evidence of the same accounts."""
    mixture = np.mean(traffic.laws, axis=0)
    callers = {
        "honest, all traffic, 50 rows: one histogram": (traffic.laws[0], 50, SCREENED),
        "honest, all traffic, 21,833 rows: six histograms": (traffic.laws[0], SIX, SCREENED),
        "honest, one kind, 3,000 rows": (traffic.laws[5], 3_000, SCREENED),
        "honest, a mixture of all kinds, 21,833 rows: six histograms": (mixture, SIX, SCREENED),
        "a thief, 50 rows": (traffic.thief, 50, FULL),
        "a thief, 5,000 rows": (traffic.thief, 5_000, FULL),
        "a thief, 21,833 rows: six histograms": (traffic.thief, SIX, FULL),
        "a thief among eight times as many honest rows, 900 rows": (
            (traffic.thief + 8 * traffic.laws[0]) / 9,
            900,
            None,
        ),
    }
    suspicion, cheapest = traffic.suspicion, None
    for name, (law, rows, target) in callers.items():
        account = traffic.account(law, rows)
        suspected = "suspected" if suspicion.verdict(account).suspected else "not suspected"
        cost = least_microseconds(lambda account=account: suspicion.verdict(account), repeats)
        cheapest = cheapest or cost
        yield Figure(f"verdict, {suspected}: {name}", cost, target, cost / cheapest)
        state = account.evidence
        whole = least_microseconds(lambda state=state: suspicion.log_evidence(state), repeats)
        yield Figure(f"whole: {name}", whole, None, whole / cheapest)


def running_figures(traffic: Traffic, repeats: int) -> Iterator[Figure]:
    """The evidence after each row of a simulation, per row."""
    rng, few = np.random.default_rng(2), max(1, repeats // 5)
    for accounts, rows in ((1, 10_000), (100, 100), (1000, 10)):
        owners = np.repeat(np.arange(accounts), rows)
        for name, law in (("honest", traffic.laws[0]), ("thieves", traffic.thief)):
            cells = rng.choice(len(law), len(owners), p=law / law.sum())
            rows_of = (cells, owners, np.ones(len(owners), np.bool_))
            cost = least_microseconds(lambda rows_of=rows_of: traffic.suspicion.running(*rows_of), few)
            yield Figure(
                f"running evidence per row, {name}, {accounts:,} accounts of {rows:,} rows", cost / len(owners)
            )


def main() -> None:
    """Measure, print a table, and write the figures if requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    traffic, figures = Traffic(np.random.default_rng(1)), []
    print(f"{'microseconds':<90} {'ours':>9} {'ratio':>7} {'target':>7}")
    for part in (verdict_figures, running_figures):
        for figure in part(traffic, options.repeats):
            figures.append(figure)
            target = "" if figure.target is None else f"{figure.target:g}"
            ratio = "" if figure.ratio is None else f"{figure.ratio:.1f}x"
            print(f"{figure.what:<90} {figure.microseconds:>9.1f} {ratio:>7} {target:>7}", flush=True)
    if options.json is not None:
        document = {
            "command": "OPENBLAS_NUM_THREADS=1 python benchmarks/bench_evidence.py --json FILE",
            "machine": {"machine": platform.machine(), "cores": os.cpu_count(), "system": platform.system()},
            "versions": {"python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__},
        }
        options.json.write_text(json.dumps(document | {"figures": [asdict(f) for f in figures]}, indent=2) + "\n")


if __name__ == "__main__":
    main()
