"""Load of the dashboard on a busy gateway process: charges with and without a browser that requests its page.

    python benchmarks/bench_dashboard.py [--lines 60000] [--seconds 20] [--json FILE]

One process, as a worker: a SQLite ledger with a log of this many lines of the last day, more than the 50,000 that the
dashboard keeps; one caller, charged and logged every 2 ms; and the dashboard's page, requested once a second, which reads the
ledger every 5 seconds. Rounds with and without requests of the page alternate. ``held`` is the delay of a step of the event
loop that was ready.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sqlite3
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np

from modeltoll.gateway.admin.dashboard.app import dashboard_application
from modeltoll.gateway.admin.dashboard.models import DashboardModel
from modeltoll.ledger.sqlite import SqliteLedger

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
from sample_traffic import (
    MODEL,
    CallerPlan,
    SampleTraffic,
    build_tariff,
    sample_callers,
    simulate_day,
)

ROUNDS = 6
PAUSE = 0.002  # seconds between two charges


async def charge(traffic, seconds, latencies):
    """Charge and log requests of one caller."""
    caller = CallerPlan(sample_callers()[0].caller, 1, (23.0, 24.0))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.perf_counter()
        traffic.clock.now = time.time()
        await simulate_day(traffic, [caller], seed=len(latencies))
        latencies.append(time.perf_counter() - begin)
        await asyncio.sleep(PAUSE)


async def measure_delays(delays, over):
    """Record how long the event loop delays a step that is ready."""
    while not over.is_set():
        begin = time.perf_counter()
        await asyncio.sleep(0)
        delays.append(time.perf_counter() - begin)
        await asyncio.sleep(PAUSE / 2)


async def request_page(app):
    """Request the page; returns its seconds."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://operator") as client:
        begin = time.perf_counter()
        response = await client.get("/?g=0.6", timeout=60)
        assert response.status_code == 200, response.text
        return time.perf_counter() - begin


async def request_pages(app, pages, over):
    """Request the page once a second."""
    while not over.is_set():
        pages.append(await request_page(app))
        await asyncio.sleep(1.0)


def milliseconds(values):
    """p50, p99 and the longest."""
    return {
        "p50_ms": round(1000 * float(np.quantile(values, 0.5)), 3),
        "p99_ms": round(1000 * float(np.quantile(values, 0.99)), 3),
        "longest_ms": round(1000 * float(max(values)), 1),
    }


async def one_round(traffic, app, seconds):
    """Charge for ``seconds``, while the page of ``app``, if any, is requested."""
    latencies, delays, pages, over = [], [], [], asyncio.Event()
    tasks = [asyncio.create_task(measure_delays(delays, over))]
    if app is not None:
        tasks.append(asyncio.create_task(request_pages(app, pages, over)))
    cpu = time.process_time()
    await charge(traffic, seconds, latencies)
    cpu = time.process_time() - cpu
    over.set()
    await asyncio.gather(*tasks)
    return latencies, delays, pages, cpu / len(latencies)


async def run(lines, seconds, folder):
    """Run the benchmark; returns the figures of the result."""
    ledger = SqliteLedger(Path(folder) / "ledger.db")
    await ledger.open()
    try:
        tariff = build_tariff()
        traffic = SampleTraffic.start(ledger, tariff, time.time())
        share = lines / sum(plan.requests for plan in sample_callers())
        await simulate_day(traffic, [replace(plan, drift=0.0) for plan in sample_callers(share)])
        models = [DashboardModel(MODEL, "enforce", tariff, traffic.monitor)]

        app = dashboard_application(ledger, models, time.time)
        delays, over = [], asyncio.Event()
        watching = asyncio.create_task(measure_delays(delays, over))
        first = await request_page(app)
        over.set()
        await watching

        measurements = {name: ([], [], [], []) for name in ("alone", "watched")}
        for turn in range(ROUNDS):
            name = ("alone", "watched")[turn % 2]
            measured = await one_round(traffic, app if name == "watched" else None, seconds)
            for kept_values, new_values in zip(measurements[name], measured, strict=True):
                kept_values.extend(new_values if isinstance(new_values, list) else [new_values])
    finally:
        await ledger.close()
    figures = {
        name: {
            "charges": len(latencies),
            "charge_and_bill": milliseconds(latencies),
            "held": milliseconds(delays_there),
            "cpu_ms_per_charge": round(1000 * float(np.median(cpu)), 3),
        }
        for name, (latencies, delays_there, _, cpu) in measurements.items()
    }
    return {
        "first_page_seconds": round(first, 2),
        "first_page_held": milliseconds(delays),
        "later_pages": milliseconds(measurements["watched"][2]),
        **figures,
    }


def main():
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(description="Load of the dashboard on a busy gateway process.")
    parser.add_argument("--lines", type=int, default=60_000, help="lines of the last day in the log")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each of six rounds")
    parser.add_argument("--json", metavar="FILE", help="also write the result; - for standard output alone")
    arguments = parser.parse_args()
    load = round(os.getloadavg()[0], 1)
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(run(arguments.lines, arguments.seconds, folder))
    result = {
        "command": f"python benchmarks/bench_dashboard.py --lines {arguments.lines} --seconds {arguments.seconds:g}",
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "load_average": load,  # before the run: other load on the machine
        **figures,
    }
    text = json.dumps(result, indent=2) + "\n"
    if arguments.json != "-":
        print(text, end="")
    if arguments.json:
        sys.stdout.write(text) if arguments.json == "-" else Path(arguments.json).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
