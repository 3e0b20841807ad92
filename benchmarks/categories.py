"""What the promise is worth on a table with categories and missing values: honest callers of every kind, and strangers.

    python benchmarks/categories.py [--undefended-ms 5] [--seed 0] [--json FILE]

Needs ``pip install plotnine`` (or ``pip install --no-deps plotnine``), of which only the file of 53,940 diamonds is read: nine
columns, of which colour and clarity are categories, and in which one depth and one clarity in twenty are made missing. The model
is scikit-learn's gradient boosting with categorical columns, which predicts the cut (five classes). ``entropy`` and ``novelty``,
fitted with the kinds ``jitter,missing,scale``, are priced; 12,000 diamonds calibrate, and rho0 is raised as ``calibrate`` does.
Then each honest caller draws 20,000 rows with replacement from diamonds that were not used before: all of them, those of one
predicted cut, one colour, one clarity, large and small ones, those of each declared kind, mixtures. *Declared* are all traffic,
predicted classes, the kinds, and their mixtures; colours, clarities and sizes are callers of whom the operator knows nothing, but in
the last columns, where three of them are kinds of their own, made of the calibration's rows.
Strangers send 5,000 rows: columns shuffled and noise, of families that the operator knows, or not. Rows are priced as in the bench.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import os
import platform
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from modeltoll.leak.corruptions import apply, parse_kinds
from modeltoll.leak.entropy import EntropyMeasure
from modeltoll.leak.fit_novelty import NoveltyPlan, PrivateData, fit_novelty
from modeltoll.leak.measure import clean_measure
from modeltoll.leak.private_rows import private_rows
from modeltoll.leak.strangers import NOISE, SHUFFLED_COLUMNS, strange_rows
from modeltoll.pricing.calibration import CalibrationProvenance
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.fit import CalibrationTerms, FitSamples, RowCosts, fit_with_rows_held_back
from modeltoll.pricing.kinds import DECLARED, KindSample, StrangerSample
from modeltoll.pricing.rehearsal import raise_rho0
from modeltoll.records import Caller, Evidence, Leaks
from modeltoll.simulation.batch_tariffs import ConformalBatchTariff
from modeltoll.simulation.engine import run_scenario
from modeltoll.simulation.scenarios import Scenario, Times, mixed_rows, switching_rows
from modeltoll.simulation.traffic import Rows, draw_rows, one_account, split_over_accounts

CUTS = ("Fair", "Good", "Very Good", "Premium", "Ideal")
COLOURS = tuple("DEFGHIJ")
CLARITIES = ("I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF")
NUMBERS = ("carat", "depth", "table", "price", "x", "y", "z")
COLUMNS = (*NUMBERS, "color", "clarity")
COLOUR, CLARITY, DEPTH, CARAT = (COLUMNS.index(name) for name in ("color", "clarity", "depth", "carat"))
SHAPE = (1, 1, len(COLUMNS))
PRIVATE, CALIBRATION, KNOWN_STRANGERS = 25_000, 12_000, 1_000
FURTHER, STOLEN = 20_000, 5_000
KINDS = "jitter,missing,scale"
FAMILIES = (SHUFFLED_COLUMNS, NOISE)
OWN_KINDS = ("clarity IF", "clarity missing", "below 0.3 carat")
MISSING = 0.05
GATE_SECONDS = 1.03e-3  # own_p50_ms of results/benchmarks/bench_gateway_without_kinds.json


def report(what):
    """Print a step on standard error."""
    print(f"{time.process_time():.0f} s: {what}", file=sys.stderr, flush=True)


def diamonds(rng):
    """The rows (n, 9), categories as codes, with missing values, in random order; and their cuts (n,)."""
    found = importlib.util.find_spec("plotnine")
    if found is None or found.origin is None:
        raise SystemExit("the diamonds are missing: pip install plotnine")
    with (Path(found.origin).parent / "data" / "diamonds.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    codes = {"color": COLOURS.index, "clarity": CLARITIES.index}
    rows = np.array(
        [[float(codes[name](line[name]) if name in codes else line[name]) for name in COLUMNS] for line in lines]
    )
    cuts = np.array([CUTS.index(line["cut"]) for line in lines])
    for column in (DEPTH, CLARITY):
        rows[rng.random(len(rows)) < MISSING, column] = np.nan
    order = rng.permutation(len(rows))
    return rows[order], cuts[order]


@dataclass(frozen=True, slots=True)
class Measured:
    """The model with its two measures, and novelty's variant without kinds."""

    model: HistGradientBoostingClassifier
    measures: dict

    @classmethod
    def fit(cls, rows, cuts, seed):
        """The model and its measures, of private rows."""
        categories = [COLOUR, CLARITY]
        model = HistGradientBoostingClassifier(categorical_features=categories, random_state=seed).fit(rows, cuts)
        data = PrivateData(private_rows(rows, SHAPE), cuts)
        novelty = fit_novelty(data, NoveltyPlan(parse_kinds(KINDS), network="small")).measure
        clean = clean_measure(novelty)
        return cls(model, {"entropy": EntropyMeasure(), novelty.name: novelty, clean.name: clean})

    def leaks(self, rows):
        """The leaks of the model's answers to rows."""
        scores = self.model.predict_proba(rows)
        evidence = Evidence((b"",) * len(rows), scores, rows)
        values = np.stack([measure.measure(evidence) for measure in self.measures.values()], axis=1)
        return Leaks(tuple(self.measures), values, scores.argmax(axis=1))

    def seconds(self, rows):
        """The median seconds of the measures for one row, without the variant, each row the fastest of five."""
        scores, found = self.model.predict_proba(rows), []
        for place in range(len(rows)):
            evidence, times = Evidence((b"",), scores[place : place + 1], rows[place : place + 1]), []
            for _ in range(5):
                begin = time.process_time()
                for name in ("entropy", "novelty"):
                    self.measures[name].measure(evidence)
                times.append(time.process_time() - begin)
            found.append(min(times))
        return float(np.median(found))


def samples(measured, rows, rng):
    """What a calibration is fitted to: honest rows, the declared kinds, and the families of strangers."""
    kinds = [
        KindSample(kind.name, DECLARED, measured.leaks(apply(kind, rows, SHAPE, rng))) for kind in parse_kinds(KINDS)
    ]
    strangers = [
        StrangerSample(name, measured.leaks(strange_rows(name, rows, SHAPE, rng)[:KNOWN_STRANGERS]))
        for name in FAMILIES
    ]
    return FitSamples(measured.leaks(rows), tuple(kinds), tuple(strangers))


def specialists(rows):
    """Which rows (n,) belong to each caller of whom the operator knows nothing: one colour, one clarity, a size."""
    found = {f"colour {name}": rows[:, COLOUR] == code for code, name in enumerate(COLOURS)}
    found |= {f"clarity {name}": rows[:, CLARITY] == code for code, name in enumerate(CLARITIES)}
    found["clarity missing"] = np.isnan(rows[:, CLARITY])
    return found | {"above 2 carat": rows[:, CARAT] > 2.0, "below 0.3 carat": rows[:, CARAT] < 0.3}


def with_own_kinds(fitted_to, rows):
    """The same, and the calibration's rows of each caller in ``OWN_KINDS`` as a further kind."""
    of = specialists(rows)
    honest = fitted_to.honest
    own = [
        KindSample(name, DECLARED, replace(honest, values=honest.values[of[name]], classes=honest.classes[of[name]]))
        for name in OWN_KINDS
    ]
    return replace(fitted_to, kinds=(*fitted_to.kinds, *own))


def calibrated(fitted_to, costs):
    """The tariff, with rho0 raised until the rehearsal suspects no honest kind."""
    fit = fit_with_rows_held_back(
        "diamonds",
        fitted_to,
        costs,
        CalibrationTerms(weights=(1 / 3, 2 / 3), coordinates=("entropy", "novelty")),
        CalibrationProvenance("diamonds that the model was not trained on"),
    )
    return ConformalTariff(raise_rho0(fit.calibration, fit.held_back)[0])


def honest_callers(measured, rows, rng):
    """(name, declared, rows as a simulation takes them) of each honest caller."""

    def found(of):
        return Rows.of(measured.leaks(of))

    traffic = found(rows)
    changed = {kind.name: found(apply(kind, rows, SHAPE, rng)) for kind in parse_kinds(KINDS)}
    yield "all traffic", True, draw_rows(traffic, FURTHER, rng)
    for place, cut in enumerate(CUTS):
        yield f"predicted cut {cut}", True, draw_rows(traffic[traffic.classes == place], FURTHER, rng)
    for name, each in changed.items():
        yield f"kind {name}", True, draw_rows(each, FURTHER, rng)
    yield "mixture of kinds", True, mixed_rows([traffic, *changed.values()], FURTHER, rng)
    yield "switching kinds", True, switching_rows([traffic, *changed.values()], FURTHER, rng)
    for name, chosen in specialists(rows).items():
        yield name, False, draw_rows(traffic[chosen], FURTHER, rng)


def priced(tariff, traffic, times, rng):
    """What the accounts of some traffic pay."""
    toll = ConformalBatchTariff(tariff, ("entropy", "novelty", "novelty:clean"))
    outcome = run_scenario(Scenario("row", "row", "row", 1, traffic), toll, Caller("key:caller"), times, rng)
    alarms = outcome.first_alarms()
    return {
        "units": float(outcome.charges.seconds.mean() / tariff.unit_seconds),
        "ratio": outcome.ratio,
        "suspected": len(alarms) / outcome.accounts,
        "first_alarm": float(np.median(alarms)) if len(alarms) else None,
    }


def study(undefended, seed):
    """Run all steps; returns the figures."""
    rng = np.random.default_rng(seed)
    rows, cuts = diamonds(rng)
    private, calibration, further = np.split(rows, [PRIVATE, PRIVATE + CALIBRATION])
    report("fitting the model and novelty")
    measured = Measured.fit(private, cuts[:PRIVATE], seed)
    times = Times(undefended, GATE_SECONDS + measured.seconds(further[:100]))
    costs = RowCosts(undefended_seconds=undefended, gate_seconds=times.gate)
    report("measuring the calibration's rows")
    fitted_to = samples(measured, calibration, rng)
    report("calibrating")
    tariffs = {
        "known": calibrated(fitted_to, costs),
        "unknown": calibrated(replace(fitted_to, strangers=()), costs),
        "known, own kinds": calibrated(with_own_kinds(fitted_to, calibration), costs),
    }
    honest = []
    for name, declared, sent in honest_callers(measured, further, rng):
        report(name)
        paid = {each: priced(tariff, one_account(sent), times, rng) for each, tariff in tariffs.items()}
        honest.append({"name": name, "declared": declared, "tariffs": paid})
    thieves = []
    for family in FAMILIES:
        stolen = Rows.of(measured.leaks(strange_rows(family, further, SHAPE, rng)[:STOLEN]))
        for accounts in (1, 10, 100):
            traffic = split_over_accounts(stolen, accounts)
            paid = {each: priced(tariff, traffic, times, rng) for each, tariff in tariffs.items()}
            thieves.append({"name": family, "accounts": accounts, "tariffs": paid})
    return {
        "rows": {"private": PRIVATE, "calibration": CALIBRATION, "further": len(further), "sent": FURTHER},
        "accuracy": float(measured.model.score(further, cuts[PRIVATE + CALIBRATION :])),
        "undefended_ms": 1000 * undefended,
        "gate_ms": 1000 * times.gate,
        "unit_ms": 1000 * tariffs["known"].unit_seconds,
        "rho0": {name: tariff.calibration.suspicion.rho0 for name, tariff in tariffs.items()},
        "honest": honest,
        "thieves": thieves,
    }


def show(result):
    """The table for people."""
    for line in (*result["honest"], *result["thieves"]):
        name = f"{line['name']}, {line['accounts']} accounts" if "accounts" in line else line["name"]
        cells = "".join(f"{paid['ratio']:>12.2f}x {paid['suspected']:>7.1%}" for paid in line["tariffs"].values())
        print(f"{name:<32}{cells}")


def main():
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--undefended-ms", type=float, default=5.0, help="of one row at the model server")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    given = parser.parse_args()
    result = {
        "command": f"python benchmarks/categories.py --undefended-ms {given.undefended_ms:g} --seed {given.seed}",
        "machine": {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        **study(given.undefended_ms / 1000, given.seed),
    }
    show(result)
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
