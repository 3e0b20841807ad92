"""What the promise is worth on a real model: honest callers who send files of one type only, and strangers beside them.

    python benchmarks/file_types.py [--roots DIR...] [--rows 1500] [--seed 0] [--json FILE]

Needs ``pip install magika``, whose ONNX model (2,048 codes of bytes in, 214 file types out) runs as a model server, and reads
real files of this machine below ``--roots``. ``modeltoll fit-novelty`` learns from private files. Six honest callers send files
through a gateway in shadow mode into an SQLite ledger; ``modeltoll calibrate --from-ledger`` makes a tariff from that log, once
without and once with ``--known-honest all``. Then each caller draws 5,000 rows with replacement from files that were kept back,
and so do strangers. These rows are priced one request at a time by the gate's own steps (assess, charge, verdict, work), without
HTTP. *One kind* is the first tariff with all traffic as its only kind: the promise to callers who send the whole mix. The others
show the first tariff with ``--class-rows`` 25, 50 and 200 in place of 100: what kinds of small classes cost.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from file_type_gateway import FileTypeGateway

from modeltoll.bench.datasets.file_rows import FileFinder, FileKind
from modeltoll.bench.datasets.file_strangers import file_strangers
from modeltoll.bench.honest.file_callers import DECLARED_CALLERS
from modeltoll.bench.honest.workload import RequestPattern, pay_for
from modeltoll.bench.victims.file_types import load_file_type_model
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.kinds import CLASS
from modeltoll.records import Caller
from modeltoll.simulation.scenarios import Times

PRIVATE, KEPT_BACK, FURTHER = 3000, 1000, 5000
MIXED, ALL_FILES = "mixed", FileKind(per_ending=400)
ONE_KIND, KINDS, OWN_LOGS = "one kind", "kinds", "kinds and own logs"
CLASS_ROWS = (25, 50, 200)  # beside the default


def report(what):
    """Print a step on standard error."""
    print(what, file=sys.stderr, flush=True)


class TariffOfCaller:
    """A tariff as it is for the caller with one pseudonym in the ledger's log."""

    def __init__(self, tariff, logged_as):
        self._tariff, self._logged_as = tariff, logged_as

    def __getattr__(self, name):
        return getattr(self._tariff, name)

    def verdict(self, account):
        return self._tariff.verdict(account, self._logged_as)


def priced(tariff, leaks, logged_as, seed):
    """What one new caller pays for 5,000 rows drawn from these, and what the evidence against it comes to."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(len(leaks.values), size=FURTHER)
    drawn = replace(leaks, values=leaks.values[rows], classes=None if leaks.classes is None else leaks.classes[rows])
    paid = pay_for(
        TariffOfCaller(tariff, logged_as), drawn, RequestPattern(), Caller("key:further"), Times(0.0, 0.0), rng
    )
    units, suspected = paid.work / tariff.unit_seconds, paid.surcharges > 1.0
    first = int(suspected.argmax()) + 1 if suspected.any() else None
    again = np.random.default_rng(seed)
    again.integers(
        len(leaks.values), size=FURTHER
    )  # the cells of tied leaks are drawn: these are those that were paid for
    cells = tariff.assess(drawn, again).cells
    own = tariff.own_kind(logged_as)
    one = np.zeros(FURTHER, np.int64), np.ones(FURTHER, np.bool_)
    evidence = tariff.suspicion.running(cells, *one, own).log_evidence
    return {
        "units_before": float(units[: FURTHER if first is None else first - 1].mean()) if first != 1 else None,
        "units": float(units.mean()),
        "suspected_at": first,
        "largest_log_evidence": float(evidence.max()),
    }


def samples(roots, log_rows, rng):
    """Private files, and of each caller those for the log and those kept back. Raises SystemExit where files are missing."""
    finder = FileFinder(roots, rng)
    report(f"{len(finder.files):,} files")
    private, mixed = finder.take(ALL_FILES, PRIVATE + log_rows + KEPT_BACK).parts([PRIVATE])
    found = {MIXED: mixed, **{name: finder.take(kind, log_rows + KEPT_BACK) for name, kind in DECLARED_CALLERS.items()}}
    for name, sample in found.items():
        if len(sample.paths) < log_rows + KEPT_BACK // 2:
            raise SystemExit(f"{name}: only {len(sample.paths)} different files; give further --roots, or fewer --rows")
    return private, {name: sample.parts([log_rows]) for name, sample in found.items()}


def calibrations(gateway, undefended_ms):
    """The tariffs by name, and what ``calibrate`` says of those that it makes, or that it makes none."""
    times = ("--undefended-ms", f"{undefended_ms:.3f}")
    tariffs, said = {}, {}
    chosen = {KINDS: (), OWN_LOGS: ("--known-honest", "all")}
    chosen |= {f"classes of {rows} rows": ("--class-rows", str(rows)) for rows in CLASS_ROWS}
    for name, options in chosen.items():
        report(f"modeltoll calibrate --from-ledger {' '.join(options)}")
        calibration, said[name] = gateway.calibrate(name.replace(" ", "-"), *options, *times)
        if calibration is not None:
            tariffs[name] = ConformalTariff(calibration)
        elif name in {KINDS, OWN_LOGS}:
            raise SystemExit(f"calibrate wrote no tariff: {'; '.join(said[name]['failures'])}")
    plain = tariffs[KINDS].calibration
    return {ONE_KIND: ConformalTariff(replace(plain, kinds=plain.kinds[:1], priced_classes=())), **tariffs}, said


def study(folder, roots, log_rows, seed):
    """Run all steps; returns the figures."""
    rng = np.random.default_rng(seed)
    private, callers = samples(roots, log_rows, rng)
    model = load_file_type_model()
    gateway = FileTypeGateway(folder, model.n_features_in_)
    report("fitting novelty")
    labels = model.predict_proba(private.rows).argmax(axis=1)
    novelty = gateway.fit_novelty(private.rows, labels)
    gateway.write_settings(list(callers))
    with gateway.model_server():
        undefended = gateway.undefended_ms(callers[MIXED][0].rows)
        report("shadow mode")
        gateway.log_in_shadow_mode({name: log.rows for name, (log, _) in callers.items()}, report)
        tariffs, said = calibrations(gateway, undefended)
        further = {name: kept.rows for name, (_, kept) in callers.items()}
        report("files that were kept back, and strangers")
        strange = file_strangers(callers[MIXED][1], KEPT_BACK, rng)
        leaks = gateway.leaks(further | strange, report)
    names = gateway.pseudonyms(callers)
    lines = []
    for place, (name, of_name) in enumerate(leaks.items()):
        report(f"pricing: {name}")
        prices = {
            tariff: priced(used, of_name, names.get(name, "") if tariff == OWN_LOGS else "", (seed, place))
            for tariff, used in tariffs.items()
        }
        logged = len(callers[name][0].paths) if name in callers else None
        line = {"name": name, "honest": name in callers, "logged": logged, "kept_back": len(of_name.values)}
        lines.append(line | {"tariffs": prices})
    return {
        "model": f"magika {model.name}, {len(model.classes_)} classes",
        "private_files": len(private.paths),
        "further_rows": FURTHER,
        "undefended_ms": undefended,
        "novelty": novelty,
        "class_rows": {kind.name: kind.rows for kind in tariffs[KINDS].calibration.kinds if kind.role == CLASS},
        "calibrations": said,
        "callers": lines,
    }


def show(result):
    """The table for people."""
    names = list(result["callers"][0]["tariffs"])
    print(f"{'units a row before suspicion / overall; suspected':<36}" + "".join(f"{name:>36}" for name in names))
    for line in result["callers"]:
        cells = []
        for name in names:
            paid = line["tariffs"][name]
            before = "-" if paid["units_before"] is None else f"{paid['units_before']:.2f}"
            fate = f"row {paid['suspected_at']}" if paid["suspected_at"] else f"no ({paid['largest_log_evidence']:.1f})"
            cells.append(f"{before} / {paid['units']:.2f}; {fate}")
        print(f"{line['name']:<36}" + "".join(f"{cell:>36}" for cell in cells))


def main():
    """Run the study in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--roots", type=Path, nargs="+", default=[Path("/usr"), Path("/opt"), Path(sys.prefix)])
    parser.add_argument("--rows", type=int, default=1500, help="files of each caller in shadow mode")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    parser.add_argument("--folder", type=Path, help="keep the gateway's files here; by default they are removed")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        figures = study(folder.resolve(), given.roots, given.rows, given.seed)
    result = {
        "command": f"python benchmarks/file_types.py --rows {given.rows} --seed {given.seed}",
        "machine": {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        **figures,
    }
    show(result)
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
