"""Benchmark the steps of a request in every ledger, from an event loop: settle, charge, bill.

    python benchmarks/bench_ledger.py [--pairs 20000] [--folder DIR] [--json FILE]

Each caller repeatedly returns the receipt of the toll before and reserves one row in one settlement, charges the row
(two measures, 48 cells, a new input), and bills it; with 32 callers each has its own account. p50 and p99 are latencies of single calls. PostgreSQL and Valkey are real servers on the same machine,
from the wheels of the dev extra, at 127.0.0.1 with the ledgers' default settings. PostgreSQL has its defaults except
for fsync, which does not matter because commits do not wait for it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import sqlite3
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from modeltoll.evidence_records import EvidenceUpdate, FoldedBlock
from modeltoll.ledger.from_url import ledger_from_url
from modeltoll.ledger.memory import MemoryLedger
from modeltoll.ledger.sqlite import SqliteLedger
from modeltoll.records import Caller, Charge, LogEntry, Work
from modeltoll.settlement_records import Adjustment, Receipt, Reservation
from modeltoll.testing.servers import postgres_server, valkey_server

NOW = 1_750_000_000.0
DAY = 86_400.0
CELLS = 48
UNIT, PRICE, CREDIT = 0.005, 0.01, 10.0  # seconds
STEPS = ("settle", "charge", "bill")


def updates(account):
    """What a bill stores of the evidence of the account, all of whose waiting blocks are folded."""
    folded = tuple(
        FoldedBlock(restart, block.number, -1.0)
        for restart, block in enumerate(account.evidence.finished)
        if block is not None
    )
    return (EvidenceUpdate(account.caller.name, account.tariff, 0.5, folded),)


async def call(ledger, caller, rng, pairs, latencies):
    """One caller: ``pairs`` charges, each with its bill, and settlements before them; appends the latencies in seconds."""
    receipts, adjustment = [], Adjustment(unsettled=PRICE - UNIT)
    for number in range(pairs):
        at = NOW + number
        charge = Charge("m", 1, (0.1, 0.2), (rng.randrange(CELLS),), (rng.randbytes(8),), CELLS, "t", at)
        entry = LogEntry(
            at, "m", 1, ("entropy", "novelty"), ((0.1, 0.2),), (0.3,), Work(PRICE, 1, PRICE), "sealed", (3,)
        )
        start = time.perf_counter()
        admission = await ledger.settle(caller, receipts, Reservation(UNIT, CREDIT), at)
        settled = time.perf_counter()
        account = await ledger.charge(caller, charge)
        charged = time.perf_counter()
        await ledger.bill(caller, entry, adjustment, updates(account))
        billed = time.perf_counter()
        if not admission.admitted:  # every toll before was paid
            raise RuntimeError(f"the ledger did not count a receipt: {admission}")
        receipts = [Receipt(rng.randbytes(16), at + DAY, unsettled=PRICE, rows=1)]
        for step, seconds in zip(STEPS, (settled - start, charged - settled, billed - charged), strict=True):
            latencies[step].append(seconds)
        await asyncio.sleep(0)  # let the other callers run, as a gateway would


async def measure(store, ledger, callers, pairs):
    """One line of the table."""
    latencies = {step: [] for step in STEPS}
    await ledger.open()
    start, busy = time.perf_counter(), time.process_time()
    await asyncio.gather(
        *(
            call(ledger, Caller(f"key:{number}"), random.Random(number), pairs // callers, latencies)
            for number in range(callers)
        )
    )
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    await ledger.close()
    settlements, charges, bills = (sorted(latencies[step]) for step in STEPS)
    return {
        "store": store,
        "callers": callers,
        "pairs_per_second": round(len(charges) / seconds),
        "cpu_us": round(1e6 * busy / len(charges), 1),  # processor time of this process for all three steps
        "settle_p50_us": round(1e6 * settlements[len(settlements) // 2], 1),
        "settle_p99_us": round(1e6 * settlements[len(settlements) * 99 // 100], 1),
        "charge_p50_us": round(1e6 * charges[len(charges) // 2], 1),
        "charge_p99_us": round(1e6 * charges[len(charges) * 99 // 100], 1),
        "bill_p50_us": round(1e6 * bills[len(bills) // 2], 1),
    }


async def hop(rounds):
    """The median time of an empty call in another thread, in microseconds."""
    loop, times = asyncio.get_running_loop(), []
    with ThreadPoolExecutor(1) as thread:
        for _ in range(rounds):
            start = time.perf_counter()
            await loop.run_in_executor(thread, int)
            times.append(time.perf_counter() - start)
    return round(1e6 * sorted(times)[rounds // 2], 1)


def run(pairs, folder):
    """All lines: every ledger with 1 and 32 callers; servers run only while they are measured."""
    lines = []
    for callers in (1, 32):
        lines.append(asyncio.run(measure("memory", MemoryLedger(), callers, pairs)))
        file = Path(folder) / f"bench-{callers}.db"
        lines.append(asyncio.run(measure("sqlite", SqliteLedger(file), callers, pairs)))
        for store, start in (("postgresql", postgres_server), ("valkey", valkey_server)):
            with start() as server:
                lines.append(asyncio.run(measure(store, ledger_from_url(server.url), callers, pairs)))
    return lines


def show(lines):
    """Print the table."""
    columns = list(lines[0])
    print("  ".join(f"{column:>16}" for column in columns))
    for line in lines:
        print("  ".join(f"{line[column]:>16}" for column in columns))


def main():
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description="Settlements, charges and bills per second, and their latency.")
    parser.add_argument(
        "--pairs", type=int, default=20_000, help="charges (each with a settlement and a bill) per line"
    )
    parser.add_argument("--folder", help="folder of the SQLite files; default: a temporary folder")
    parser.add_argument("--json", metavar="FILE", help="also write the result; - for standard output alone")
    arguments = parser.parse_args()
    load = round(os.getloadavg()[0], 1)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        lines = run(arguments.pairs, folder)
    result = {
        "command": f"python benchmarks/bench_ledger.py --pairs {arguments.pairs}",
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "load_average": load,  # before the run: other load of the machine
        "thread_hop_p50_us": asyncio.run(hop(5000)),
        "ledgers": lines,
    }
    if arguments.json != "-":
        show(lines)
        print(f"a switch to another thread and back: {result['thread_hop_p50_us']} us (p50)")
    if arguments.json:
        text = json.dumps(result, indent=2) + "\n"
        sys.stdout.write(text) if arguments.json == "-" else Path(arguments.json).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
