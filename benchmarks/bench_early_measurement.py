"""What a slow measure of inputs adds to a request when it runs after the answer, and while the model server works.

    python benchmarks/bench_early_measurement.py [--requests 400] [--json FILE]

One gate in this process, with SQLite and a model server that answers after 4 ms. The measure reads a matrix of 16 MiB
repeatedly, as a search for neighbours does, for a given number of milliseconds. Each line is the median of the requests
with such a measure less that of requests with one that takes no time. The order is random, so that other load on the machine
affects all of them alike.
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
from gateway_fixtures import MODEL, PATH, answer_bodies, request_body, write_settings

from modeltoll import wire
from modeltoll.gateway.assembly.build import build_gateway, build_runtime
from modeltoll.gateway.assembly.components import build_profile
from modeltoll.gateway.core import early_measurement
from modeltoll.gateway.core.gate import Gate
from modeltoll.gateway.core.request import GateRequest
from modeltoll.gateway.settings.load import load_settings
from modeltoll.gateway.upstream.upstream import NO_HEAD
from modeltoll.records import Answer, Caller
from modeltoll.testing.model_servers import FakeUpstream

ANSWER_MS, TAKES_MS = 4.0, (0.0, 0.5, 1.0, 2.0, 3.0, 6.0)
ROUNDS, WARM_UP = 6, 20
AHEAD, AFTER = "while the model server works", "after the answer"
MATRIX = np.ones((2048, 2048), np.float32)


class SlowModelServer(FakeUpstream):
    """Answers after ``ANSWER_MS``."""

    async def predict(self, path, body, content_type="application/json", head=NO_HEAD):
        await asyncio.sleep(ANSWER_MS / 1000)
        return await super().predict(path, body, content_type, head)


class SlowMeasure:
    """A measure of inputs that takes ``takes_ms`` of processor time and finds no leak."""

    inputs_alone = True
    name = "pknn"  # for which the settings have a tariff

    def __init__(self, takes_ms):
        self._seconds = takes_ms / 1000

    def measure(self, evidence):
        end = time.perf_counter() + self._seconds
        while time.perf_counter() < end:
            MATRIX[:64] @ MATRIX[0]
        return np.zeros(evidence.rows)


async def median_ms(gate, requests):
    """The median time of some requests, one after the other, in ms."""
    caller, rng, seconds = Caller("key:bench"), random.Random(0), []
    for number in range(requests + WARM_UP):
        body = request_body(rng)
        begin = time.perf_counter()
        await gate.handle(GateRequest(caller, PATH, body, wire.Accept()))
        if number >= WARM_UP:
            seconds.append(time.perf_counter() - begin)
    return 1000 * statistics.median(seconds)


async def bench(settings, requests):
    """One line for each measure: what it adds, in ms, ahead and after."""
    answers = itertools.cycle(answer_bodies())
    gateway = build_gateway(settings, SlowModelServer(lambda *_: Answer(200, "application/json", next(answers))))
    runtime, config = build_runtime(settings, build_profile(settings)), gateway.gates[MODEL].config
    found = {}
    async with gateway.open():
        await asyncio.sleep(2)  # while puzzles are precomputed
        turns = [*itertools.product(TAKES_MS, (AHEAD, AFTER))] * ROUNDS
        random.Random(0).shuffle(turns)
        for takes_ms, when in turns:
            measures = (config.served_model.measures[0], SlowMeasure(takes_ms))
            served_model = replace(config.served_model, measures=measures)
            early_measurement.MIN_THREAD_SECONDS = -1.0 if when == AHEAD and takes_ms else 1e9
            gate = Gate(replace(config, served_model=served_model), gateway.upstream, gateway.shared.ledger, runtime)
            found.setdefault((takes_ms, when), []).append(await median_ms(gate, requests // ROUNDS))
    nothing = statistics.median(found[0.0, AHEAD] + found[0.0, AFTER])
    return [
        {
            "takes_ms": takes_ms,
            **{when: round(statistics.median(found[takes_ms, when]) - nothing, 3) for when in (AHEAD, AFTER)},
        }
        for takes_ms in TAKES_MS[1:]
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
