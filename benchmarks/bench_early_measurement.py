"""What a slow measure of inputs adds to a request when it is taken after the answer, and while the model server works.

    python benchmarks/bench_early_measurement.py [--requests 400] [--json FILE]

One gate in this process, with SQLite and a model server that answers after 4 ms. The measure reads a matrix of 16 MiB
again and again, as a search for neighbours does, for so many milliseconds; each line is the median of
the visits with such a measure less that of visits with one that takes no time. In turns drawn by lot, so that what else the
machine does falls on all of them alike.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import platform
import random
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from gateway_fixtures import MODEL, PATH, bodies, question, write_settings

from modeltoll import wire
from modeltoll.gateway.assembly.build import build_gateway, build_runtime
from modeltoll.gateway.assembly.components import build_profile
from modeltoll.gateway.core import early_measurement
from modeltoll.gateway.core.gate import Gate
from modeltoll.gateway.core.request import GateRequest
from modeltoll.gateway.settings.load import load_settings
from modeltoll.records import Answer, Caller
from modeltoll.testing.protocols import FakeUpstream

ANSWER_MS, TAKES_MS = 4.0, (0.0, 0.5, 1.0, 2.0, 3.0, 6.0)
ROUNDS, WARM_UP = 6, 20
AHEAD, AFTER = "while the model server works", "after the answer"
MATRIX = np.ones((2048, 2048), np.float32)


class Model(FakeUpstream):
    """Answers after a while."""

    async def predict(self, path, body, content_type="application/json"):
        await asyncio.sleep(ANSWER_MS / 1000)
        return await super().predict(path, body, content_type)


class Load:
    """A measure of inputs that takes so much of the processor's time and finds nothing."""

    inputs_alone = True
    name = "pknn"  # for which the settings have a tariff

    def __init__(self, takes_ms):
        self._seconds = takes_ms / 1000

    def measure(self, evidence):
        end = time.perf_counter() + self._seconds
        while time.perf_counter() < end:
            MATRIX[:64] @ MATRIX[0]
        return np.zeros(evidence.rows)


async def visits(gate, requests):
    """The median of some visits, one after the other, in ms."""
    caller, rng, taken = Caller("key:bench"), random.Random(0), []
    for number in range(requests + WARM_UP):
        body = question(rng)
        begin = time.perf_counter()
        await gate.visit(GateRequest(caller, PATH, body, wire.Accept()))
        if number >= WARM_UP:
            taken.append(time.perf_counter() - begin)
    return 1000 * statistics.median(taken)


async def bench(settings, requests):
    """One line for each measure: what it adds, in ms, ahead and after."""
    answers = itertools.cycle(bodies())
    assembly = build_gateway(settings, Model(lambda *_: Answer(200, "application/json", next(answers))))
    chance, road = build_runtime(settings, build_profile(settings)), assembly.gates[MODEL].road
    found = {}
    async with assembly.opened():
        await asyncio.sleep(2)  # the puzzles that are made ahead
        turns = [*itertools.product(TAKES_MS, (AHEAD, AFTER))] * ROUNDS
        random.Random(0).shuffle(turns)
        for takes, way in turns:
            measures = (road.subject.measures[0], Load(takes))
            subject = replace(road.subject, measures=measures)
            early_measurement.WORTH = -1.0 if way == AHEAD and takes else 1e9
            gate = Gate(replace(road, subject=subject), assembly.upstream, assembly.ground.ledger, chance)
            found.setdefault((takes, way), []).append(await visits(gate, requests // ROUNDS))
    nothing = statistics.median(found[0.0, AHEAD] + found[0.0, AFTER])
    return [
        {"takes_ms": takes, **{way: round(statistics.median(found[takes, way]) - nothing, 3) for way in (AHEAD, AFTER)}}
        for takes in TAKES_MS[1:]
    ]


def main():
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description="A slow measure of inputs, ahead of the answer and after it.")
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--json", metavar="FILE", help="also write the result; - for standard output alone")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        path, *_ = write_settings(place, "sqlite", 1, 5.0, f"sqlite:///{place}/ledger.db", private=True)
        lines = asyncio.run(bench(load_settings(path), given.requests))
    result = {
        "command": f"python benchmarks/bench_early_measurement.py --requests {given.requests}",
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "answer_ms": ANSWER_MS,
        "adds_ms": lines,
    }
    text = json.dumps(result, indent=2) + "\n"
    if given.json and given.json != "-":
        Path(given.json).write_text(text, encoding="utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
