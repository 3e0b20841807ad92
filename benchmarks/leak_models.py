"""Train the models of the leak study's measures (teachers, vote heads, novelty networks), and record their costs.

    python benchmarks/leak_models.py [mnist fashion cifar10] --data-dir DIR --cache DIR [--kind mnistnet]

Puts ``teachers-NAME.npz``, ``head-NAME.npz`` and ``layered-NAME.npz`` (a novelty measure with its network) into the
cache, for ``leak_record.py``, and writes ``results/leak/models-NAME-KIND.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from leak_record import callers
from scipy.stats import spearmanr

from modeltoll.bench import datasets
from modeltoll.bench.victims.registry import VICTIMS
from modeltoll.leak.input_transform import Standardised
from modeltoll.leak.layered_novelty import LayeredNovelty
from modeltoll.leak.novelty_network import NoveltyNetwork
from modeltoll.leak.pate import VoteReadout
from modeltoll.leak.teachers.distil import fit_novelty_network, fit_vote_head
from modeltoll.leak.teachers.ensemble import TeacherEnsemble
from modeltoll.leak.teachers.fit_torch import MNISTNET, PERCEPTRON, fit_network_teachers
from modeltoll.leak.teachers.vote_head import VoteHead

KINDS = {"perceptron": PERCEPTRON, "mnistnet": MNISTNET}
TEACHERS, ROWS, TIMED = 250, 2000, 500


def timed(row: dict[str, Any], what: str, work: Callable[[], Any]) -> Any:
    """The result of ``work``; its seconds, and its processor seconds over all cores, are added to the row."""
    wall, begin = time.perf_counter(), time.process_time()
    result = work()
    row[f"{what}_cpu_seconds"], row[f"{what}_seconds"] = time.process_time() - begin, time.perf_counter() - wall
    print(f"{row['data']}: {what} trained in {row[f'{what}_seconds']:.0f} s", file=sys.stderr, flush=True)
    return result


def milliseconds(ask: Callable[[np.ndarray], Any], rows: np.ndarray) -> float:
    """Minimum of the processor milliseconds per row in a batch, over three tries."""
    tries = []
    for _ in range(3):
        begin = time.process_time()
        ask(rows)
        tries.append((time.process_time() - begin) / len(rows) * 1e3)
    return min(tries)


def progress(done: int, total: int) -> None:
    """Print a line for each twentieth."""
    if done * 20 // total != (done - 1) * 20 // total:
        print(f"  {done}/{total}", file=sys.stderr, flush=True)


def study(name: str, folder: Path, cache: Path, kind: str) -> dict[str, Any]:
    """Train the models of one data set, or read them from the cache, and compare the head with its teachers."""
    private = VICTIMS[name].load(folder, train=True)
    test = VICTIMS[name].load(folder, train=False)
    x = private.x.reshape(len(private.x), -1)
    sides = private.x.shape[1:]
    shape = (sides[0], sides[1], sides[2] if len(sides) == 3 else 1)
    files = {part: cache / f"{part}-{name}.npz" for part in ("teachers", "head", "layered")}
    row: dict[str, Any] = {"data": name, "kind": kind, "teachers": TEACHERS}
    if not files["teachers"].is_file():
        parts = cache / f"teachers-{name}.parts"
        work = lambda: fit_network_teachers(  # noqa: E731
            x, private.y, shape, KINDS[kind], teachers=TEACHERS, checkpoints=parts, progress=progress
        )
        trained = timed(row, "teachers", work)
        trained.save(files["teachers"])
    teachers = TeacherEnsemble.load(files["teachers"])
    if not files["layered"].is_file():
        transform = Standardised.fit(x, shape)
        stack = timed(row, "observer", lambda: fit_novelty_network(transform.apply(x), private.y, shape))
        LayeredNovelty(NoveltyNetwork(transform, stack), x).save(files["layered"])
    flat = test.x.reshape(len(test.x), -1)[: ROWS if kind == "mnistnet" else None]  # a row takes 40 ms
    row["accuracy"] = float((teachers.votes(flat).argmax(axis=1) == test.y[: len(flat)]).mean())
    row["accuracy_rows"] = len(flat)
    row["teachers_ms_per_row"] = milliseconds(teachers.votes, flat[:TIMED])
    if kind == "mnistnet":  # the votes for training a head would take hours
        return row
    if not files["head"].is_file():
        head = timed(row, "head", lambda: fit_vote_head(teachers, x, shape))
        head.save(files["head"])
    head = VoteHead.load(files["head"])
    row["head_ms_per_row"] = milliseconds(head.votes, flat[:TIMED])
    readout = VoteReadout(TEACHERS / 25)
    row["rank_correlation"] = {}
    for caller, images in callers(name, folder):
        rows = images[:ROWS].reshape(min(ROWS, len(images)), -1)
        pair = [readout.leak(voters(rows)) for voters in (teachers.votes, head.votes)]
        row["rank_correlation"][caller] = float(spearmanr(*pair).statistic)
    return row


def main() -> None:
    """Study the given data sets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=["mnist", "fashion"])
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("build/victims"))
    parser.add_argument("--kind", choices=KINDS, default="perceptron")
    parser.add_argument("--out", type=Path, default=Path("results/leak"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.names:
        row = study(name, datasets.data_folder(options.data_dir), options.cache, options.kind)
        command = f"python benchmarks/leak_models.py {name} --data-dir DIR --cache DIR --kind {options.kind}"
        document = {"command": command, "cores": os.cpu_count()} | row
        (options.out / f"models-{name}-{options.kind}.json").write_text(json.dumps(document, indent=2) + "\n")
        print(json.dumps(document))


if __name__ == "__main__":
    main()
