"""How the gate's cost of a request grows: with accounts in the ledger, rows, private points and kinds of honest callers.

    python benchmarks/bench_growth.py [--parts accounts rows points kinds] [--requests 1000] [--most-accounts 1000000]
        [--most-on-servers 100000] [--most-points 1000000] [--most-seconds 20] [--json FILE] [--figures FOLDER]

One gate in this process, with prepared answers of a model server, as in ``profile_gateway.py``. Each point is of ``--requests``
requests, fewer where they take long, of one row each unless it is about rows. ``wall_us``: the median time of a request.
``cpu_us``: the processor time of this process, of which servers of a ledger are no part: the least of five fifths of the requests.

*accounts*: each has been charged and has a standing; requests come from callers drawn from all of them. ``largest_ms`` is the
dashboard's question for the 20 largest. *points*: of the measures pknn (10 scores) and novelty (64 numbers, with structure as
of images: most of their variance in 16 directions), by themselves. *kinds*: declared ones, besides all traffic and ten classes;
one caller is honest, another one sends every fifth row as no honest kind would, so that the search for the best honest law has
to run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import gateway_fixtures as fixtures
import numpy as np
import uvloop
import yaml
from growth_figures import draw
from proxy_load import machine, write_json

from modeltoll import wire
from modeltoll.gateway.assembly.build import build_gateway
from modeltoll.gateway.core.request import GateRequest
from modeltoll.gateway.settings.load import load_settings
from modeltoll.leak.novelty import NoveltyMeasure
from modeltoll.leak.pknn import PknnMeasure, log_scores
from modeltoll.records import Answer, Caller, Charge, Evidence
from modeltoll.settlement_records import Reservation
from modeltoll.testing.model_servers import FakeUpstream
from modeltoll.testing.servers import postgres_server, valkey_server

PARTS = ("accounts", "rows", "points", "kinds")
STORES = {"sqlite": None, "postgres": postgres_server, "valkey": valkey_server}
ACCOUNTS = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
ROWS = (1, 10, 100, 1_000, 10_000)
POINTS = (1_000, 10_000, 100_000, 1_000_000)
KINDS = (1, 2, 4, 8, 16, 32, 64)
LIMITS = {"rows": max(ROWS), "body_mib": 16}
FIFTHS, WARM_UP = 5, 50
FILLING = 64  # accounts that are made at once
ACCEPT = wire.Accept(receipts=True)
STRANGE = 5  # of so many rows of the caller who is not honest, one is strange


async def timed(send, given):
    """Median wall time and least processor time of awaiting ``send()``, in microseconds."""
    walls, fifths, end = [], [], time.perf_counter() + given.most_seconds
    for _ in range(min(WARM_UP, given.requests)):
        if time.perf_counter() < end - 0.9 * given.most_seconds:
            await send()
    for _ in range(FIFTHS):
        begin, count = time.process_time(), 0
        while count < max(1, given.requests // FIFTHS) and (not walls or time.perf_counter() < end):
            at = time.perf_counter()
            await send()
            walls.append(time.perf_counter() - at)
            count += 1
        if count:
            fifths.append((time.process_time() - begin) / count)
    return {
        "wall_us": round(1e6 * statistics.median(walls), 1),
        "cpu_us": round(1e6 * min(fifths), 1),
        "requests": len(walls),
    }


def settings_of(folder, ledger, more=None):
    """The settings of the benchmarks' gateway, and more."""
    path, _, _ = fixtures.write_settings(folder, "growth", 1, 5.0, ledger)
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | (more or {})))
    return load_settings(path)


def bodies_of(rows):
    """A request of so many random rows, and the model server's answers to it, one after the other."""
    rng = np.random.default_rng(rows)
    scores = fixtures.random_scores(max(rows, 512), seed=rows)
    answers = []
    for first in range(0, len(scores) - rows + 1, rows):
        data = scores[first : first + rows].ravel().tolist()
        output = {"name": "p", "shape": [rows, fixtures.CLASSES], "datatype": "FP64", "data": data}
        answers.append(json.dumps({"model_name": fixtures.MODEL, "outputs": [output]}).encode())

    def request():
        data = np.round(rng.random(rows * fixtures.DIMENSIONS), 4).tolist()
        tensor = {"name": "x", "shape": [rows, fixtures.DIMENSIONS], "datatype": "FP64", "data": data}
        return json.dumps({"inputs": [tensor]}).encode()

    return request, answers


@contextlib.asynccontextmanager
async def opened(settings, answers):
    """The gate of a gateway with prepared answers, and its ledger."""
    turns = itertools.cycle(answers)
    upstream = FakeUpstream(lambda *_: Answer(200, "application/json", next(turns)))
    gateway = build_gateway(settings, upstream)
    async with gateway.open():
        await asyncio.sleep(2)  # until puzzles are precomputed
        yield gateway.gates[fixtures.MODEL], gateway.ledger


def sender(gate, body, caller):
    """Sends a new request of a caller, both of which are called for."""

    async def send():
        result = await gate.handle(GateRequest(caller(), fixtures.PATH, body(), ACCEPT))
        if result.toll is None:
            raise SystemExit(f"a request got no toll but mode {result.mode}")

    return send


async def fill(ledger, gate, first, last):
    """Make the accounts of the callers from ``first`` to ``last``, as requests of one row would."""
    tariff, rng = gate.config.current_tariff, random.Random(first)
    numbers = iter(range(first, last))

    async def caller():
        for number in numbers:
            who, at = Caller(f"key:{number}"), time.time()
            await ledger.settle(who, (), Reservation(tariff.unit_seconds, 10.0), at)
            await ledger.charge(who, charge_of(tariff, rng, at))
            await asyncio.sleep(0)

    await asyncio.gather(*(caller() for _ in range(FILLING)))


def charge_of(tariff, rng, at):
    """The charge of a new row in any cell."""
    cell, row = rng.randrange(tariff.cell_count), rng.randbytes(8)
    return Charge(fixtures.MODEL, 1, (0.1,), (cell,), (row,), tariff.cell_count, tariff.identity, at)


def any_caller(count, rng):
    """One of the first so many callers."""
    return Caller(f"key:{rng.randrange(count)}")


async def accounts_part(store, settings, given):
    """Lines of one ledger, which grows from point to point."""
    most = given.most_accounts if store == "sqlite" else min(given.most_accounts, given.most_on_servers)
    body, answers = bodies_of(1)
    lines, rng, known = [], random.Random(0), 0
    async with opened(settings, answers) as (gate, ledger):
        for count in (count for count in ACCOUNTS if count <= most):
            begin = time.perf_counter()
            await fill(ledger, gate, known, count)
            took, known = time.perf_counter() - begin, count
            line = await timed(sender(gate, body, partial(any_caller, count, rng)), given)
            begin = time.perf_counter()
            await ledger.largest(20)
            line |= {"largest_ms": round(1e3 * (time.perf_counter() - begin), 2), "filling_seconds": round(took, 1)}
            lines.append({"store": store, "accounts": count, **line})
            print(lines[-1], file=sys.stderr)
    return lines


def accounts(given):
    """Lines for each ledger and number of accounts."""
    lines = []
    for store in given.stores:
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=given.folder)))
            server = STORES[store] and stack.enter_context(STORES[store]())
            settings = settings_of(folder, server.url if server else "sqlite:///growth.db")
            lines += run(accounts_part(store, settings, given))
    return lines


async def rows_part(settings, rows, given):
    """The line of one number of rows."""
    body, answers = bodies_of(rows)
    # Made beforehand, because making them takes as long as reading them.
    prepared = itertools.cycle([body() for _ in range(max(2, 200 // rows))])
    async with opened(settings, answers) as (gate, _):
        line = await timed(sender(gate, lambda: next(prepared), lambda: Caller("key:bench")), given)
    return {"rows": rows, **line, "cpu_us_per_row": round(line["cpu_us"] / rows, 2)}


def rows(given):
    """Lines by rows per request, on SQLite."""
    lines = []
    for count in ROWS:
        with tempfile.TemporaryDirectory(dir=given.folder) as name:
            settings = settings_of(Path(name), "sqlite:///growth.db", {"limits": LIMITS})
            lines.append(run(rows_part(settings, count, given)))
            print(lines[-1], file=sys.stderr)
    return lines


def structured(count, rng):
    """Inputs (count, 64), most of whose variance is in 16 directions, as of images."""
    directions = np.random.default_rng(5).normal(size=(16, fixtures.DIMENSIONS))
    return rng.normal(size=(count, 16)) @ directions + 0.3 * rng.normal(size=(count, fixtures.DIMENSIONS))


def point_measures(points, rng):
    """Each measure with so many private points, and evidence for it, a row at a time."""
    scores = fixtures.random_scores(points, seed=3)
    asked = fixtures.random_scores(512, seed=4)
    by_scores = [Evidence((bytes(8),), scores=row[None]) for row in asked]
    yield PknnMeasure(log_scores(scores), scores.argmax(axis=1)), by_scores
    inputs = structured(512, rng)
    yield NoveltyMeasure(structured(points, rng)), [Evidence((bytes(8),), inputs=row[None]) for row in inputs]


def points(given):
    """Lines by measure and private points."""
    lines, rng = [], np.random.default_rng(1)
    for count in (count for count in POINTS if count <= given.most_points):
        for measure, evidence in point_measures(count, rng):
            turns = itertools.cycle(evidence)

            async def send(measure=measure, turns=turns):
                measure.measure(next(turns))

            lines.append({"measure": measure.name, "points": count, **run(timed(send, given))})
            print(lines[-1], file=sys.stderr)
    return lines


async def kinds_part(settings, answers, strange, given):
    """Lines of both callers."""
    body, _ = bodies_of(1)
    mixed = [strange if place % STRANGE == 0 else answer for place, answer in enumerate(answers)]
    lines = []
    for name, own in (("honest", answers), ("suspicious", mixed)):
        async with opened(settings, own) as (gate, _):
            send = sender(gate, body, partial(Caller, f"key:{name}"))
            lines.append({"caller": name, **await timed(send, given)})
    return lines


def kinds(given):
    """Lines by declared kinds and caller, on the ledger in memory."""
    lines = []
    _, answers = bodies_of(1)
    even = {"name": "p", "shape": [1, fixtures.CLASSES], "datatype": "FP64", "data": [0.1] * fixtures.CLASSES}
    strange = json.dumps({"model_name": fixtures.MODEL, "outputs": [even]}).encode()
    for count in KINDS:
        with tempfile.TemporaryDirectory(dir=given.folder) as name:
            settings = settings_of(Path(name), "memory://")
            fixtures.write_tariff(Path(name) / "growth.tariff.json", 5.0, fixtures.honest_samples(count))
            found = run(kinds_part(settings, answers, strange, given))
            lines += [{"kinds": count, **line} for line in found]
            print(lines[-2:], file=sys.stderr)
    return lines


def run(coroutine):
    """Run a coroutine in the event loop that gateways use."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)


def bench(given):
    """All parts."""
    measure = {"accounts": accounts, "rows": rows, "points": points, "kinds": kinds}
    begin = machine()
    stores = "" if given.stores == list(STORES) else f" --stores {' '.join(given.stores)}"
    command = (
        f"python benchmarks/bench_growth.py --parts {' '.join(given.parts)}{stores} --requests {given.requests} "
        f"--most-seconds {given.most_seconds:g} --most-accounts {given.most_accounts} --most-on-servers {given.most_on_servers} "
        f"--most-points {given.most_points}"
    )
    return {"command": command, **begin, **{part: measure[part](given) for part in given.parts}}


def show(result):
    """The tables for people."""
    for part in PARTS:
        for line in result.get(part, ()):
            print(
                f"{part:>9} "
                + "  ".join(
                    f"{name} {value:,}" if isinstance(value, int | float) else value for name, value in line.items()
                )
            )


def main():
    """Parse, measure, show, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--stores", nargs="+", choices=STORES, default=list(STORES))
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument(
        "--most-seconds", type=float, default=20.0, help="of one point, after which it has fewer requests"
    )
    parser.add_argument("--most-accounts", type=int, default=max(ACCOUNTS))
    parser.add_argument("--most-on-servers", type=int, default=100_000, help="accounts on PostgreSQL and Valkey")
    parser.add_argument("--most-points", type=int, default=max(POINTS))
    parser.add_argument("--folder", help="folder of the SQLite files; default: a temporary folder")
    parser.add_argument("--json", metavar="FILE", help="also write the result; - for standard output alone")
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="also draw a figure of each part")
    given = parser.parse_args()
    result = bench(given)
    if given.json != "-":
        show(result)
    write_json(result, given.json)
    if given.figures:
        draw(result, given.figures)


if __name__ == "__main__":
    main()
