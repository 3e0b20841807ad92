"""What the dashboard costs a gateway that is at work: charges beside it, and beside nobody who looks.

    python benchmarks/bench_dashboard.py [--lines 60000] [--seconds 20] [--json FILE]

One process, as a worker is: a SQLite ledger with a log of so many lines of the last day, above the 50,000 that are held; one
caller who is charged and billed every 2 ms; and the dashboard's page, asked for once a second, which reads the ledger every 5
seconds. Rounds with and without somebody who looks take turns. ``held`` is how long a step of the event loop that should
have taken its turn at once had to wait.
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


async def charge(town, seconds, latencies):
    """Charge and bill one caller again and again."""
    caller = CallerPlan(sample_callers()[0].caller, 1, (23.0, 24.0))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.perf_counter()
        town.clock.now = time.time()
        await simulate_day(town, [caller], seed=len(latencies))
        latencies.append(time.perf_counter() - begin)
        await asyncio.sleep(PAUSE)


async def watch(held, over):
    """Note how long the event loop does not come round."""
    while not over.is_set():
        begin = time.perf_counter()
        await asyncio.sleep(0)
        held.append(time.perf_counter() - begin)
        await asyncio.sleep(PAUSE / 2)


async def page(app):
    """Ask for the page; how long that takes."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://operator") as client:
        begin = time.perf_counter()
        response = await client.get("/?g=0.6", timeout=60)
        assert response.status_code == 200, response.text
        return time.perf_counter() - begin


async def look(app, pages, over):
    """Ask for the page once a second."""
    while not over.is_set():
        pages.append(await page(app))
        await asyncio.sleep(1.0)


def milliseconds(values):
    """p50, p99 and the longest."""
    return {
        "p50_ms": round(1000 * float(np.quantile(values, 0.5)), 3),
        "p99_ms": round(1000 * float(np.quantile(values, 0.99)), 3),
        "longest_ms": round(1000 * float(max(values)), 1),
    }


async def one_round(town, app, seconds):
    """Charges for so long, with somebody who looks where there is an app to look at."""
    latencies, held, pages, over = [], [], [], asyncio.Event()
    tasks = [asyncio.create_task(watch(held, over))]
    if app is not None:
        tasks.append(asyncio.create_task(look(app, pages, over)))
    cpu = time.process_time()
    await charge(town, seconds, latencies)
    cpu = time.process_time() - cpu
    over.set()
    await asyncio.gather(*tasks)
    return latencies, held, pages, cpu / len(latencies)


async def run(lines, seconds, folder):
    """The whole of it; the result's figures."""
    ledger = SqliteLedger(Path(folder) / "ledger.db")
    await ledger.open()
    try:
        tariff = build_tariff()
        town = SampleTraffic.start(ledger, tariff, time.time())
        share = lines / sum(plan.requests for plan in sample_callers())
        await simulate_day(town, [replace(plan, drift=0.0) for plan in sample_callers(share)])
        shown = [DashboardModel(MODEL, "enforce", tariff, town.monitor)]

        app = dashboard_application(ledger, shown, time.time)
        held, over = [], asyncio.Event()
        watching = asyncio.create_task(watch(held, over))
        first = await page(app)
        over.set()
        await watching

        gathered = {name: ([], [], [], []) for name in ("alone", "watched")}
        for turn in range(ROUNDS):
            name = ("alone", "watched")[turn % 2]
            measured = await one_round(town, app if name == "watched" else None, seconds)
            for kept, new in zip(gathered[name], measured, strict=True):
                kept.extend(new if isinstance(new, list) else [new])
    finally:
        await ledger.close()
    figures = {
        name: {
            "charges": len(latencies),
            "charge_and_bill": milliseconds(latencies),
            "held": milliseconds(held_there),
            "cpu_ms_per_charge": round(1000 * float(np.median(cpu)), 3),
        }
        for name, (latencies, held_there, _, cpu) in gathered.items()
    }
    return {
        "first_page_seconds": round(first, 2),
        "first_page_held": milliseconds(held),
        "later_pages": milliseconds(gathered["watched"][2]),
        **figures,
    }


def main():
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description="What the dashboard costs a gateway that is at work.")
    parser.add_argument("--lines", type=int, default=60_000, help="lines of the last day in the log")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each of six rounds")
    parser.add_argument("--json", metavar="FILE", help="also write the result; - for standard output alone")
    given = parser.parse_args()
    load = round(os.getloadavg()[0], 1)
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(run(given.lines, given.seconds, folder))
    result = {
        "command": f"python benchmarks/bench_dashboard.py --lines {given.lines} --seconds {given.seconds:g}",
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "load_average": load,  # before: what else the machine had to do
        **figures,
    }
    text = json.dumps(result, indent=2) + "\n"
    if given.json != "-":
        print(text, end="")
    if given.json:
        sys.stdout.write(text) if given.json == "-" else Path(given.json).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
