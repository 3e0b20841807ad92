"""What accounts and logs hold after kill -9 under load: of a worker, of the gateway, of the ledger's server.

    python benchmarks/load/kills.py [--seconds 6] [--connections 32] [--rounds 1] [--json FILE]

Real processes and real servers. Each connection sends one request after the other and notes how it ended. A process is
killed after a third of the time and restarted after another third, unless the gateway restarts it itself; then the gateway is
stopped and the ledger is read. The rules: every toll that a caller received is in the accounts and in the log; no answer was
released unpriced; and what was charged without an answer was in flight when a process was killed: at most one request per
connection and kill. Exits with 1 where a rule is broken.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psutil
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

sys.path.insert(0, str(Path(__file__).parents[1]))

import exact_counting as counting

from modeltoll.testing.model_servers import serving
from modeltoll.testing.servers import postgres_server, valkey_server

DURABLE = "?options=-c%20synchronous_commit%3Don"  # the setting under which PostgreSQL loses nothing when it is killed
PAUSE = 0.02  # seconds before a broken connection sends its next request


@dataclass
class Outcomes:
    """The statuses of all requests; 0 for a broken connection."""

    statuses: Counter = field(default_factory=Counter)
    rows: int = 0  # of tolls

    def add(self, status, rows):
        self.statuses[status] += 1
        self.rows += rows if status == 402 else 0


class Gateway:
    """``modeltoll serve --workers 2``, which can be killed and started again at the same address."""

    def __init__(self, folder, upstream, ledger):
        plan = counting.Plan(rows=8, callers=4, gateways=1, workers=2)
        ((self.path, port, admin),) = counting.settings(folder, upstream, ledger, plan)
        self.url, self.admin = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}"
        self.log = folder / "log"
        self.process = None
        self.starts = 0

    def start(self):
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "modeltoll", "serve", str(self.path), "--workers", "2"]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        self.starts += 1

    async def await_all_workers(self):
        """Wait until every worker serves. One that cannot open the ledger at the start ends the gateway."""
        for _ in range(1200):
            if self.log.read_text().count("2 workers") >= self.starts:
                return
            if self.process.poll() is not None:
                break
            await asyncio.sleep(0.05)
        raise RuntimeError(f"a gateway did not start: {self.log.read_text()[-2000:]}")

    def workers(self):
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]

    def busiest(self):
        """The worker with the most requests: a kept connection stays with the worker that accepted it."""
        return max(self.workers(), key=lambda worker: worker.cpu_times().user)

    def kill(self):
        """Kill the parent and its workers at once."""
        for process in (*self.workers(), self.process):
            process.kill()
        self.process.wait()

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)


async def connection(number, url, outcomes, stop):
    """One caller's requests of 1 to 3 rows, one after the other, all rows different."""
    headers, turn = {"x-api-key": f"key-{number % 4}"}, 0
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20), headers=headers) as session:
        while not stop.is_set():
            turn += 1
            batch = [[float(number), turn + part / 4] for part in range(1 + turn % 3)]
            tensor = {"name": "x", "shape": [len(batch), 2], "datatype": "FP64", "data": batch}
            try:
                async with session.post(url + counting.PATH, json={"inputs": [tensor]}) as response:
                    await response.read()
                    outcomes.add(response.status, len(batch))
                    failed = response.status != 402
            except (aiohttp.ClientError, TimeoutError):
                outcomes.add(0, len(batch))
                failed = True
            if failed:
                await asyncio.sleep(PAUSE)


async def load_and_kill(gateway, victim, server, plan):
    """Load, a kill, a recovery, load; the outcomes."""
    outcomes, stop = Outcomes(), asyncio.Event()
    await gateway.await_all_workers()
    async with asyncio.TaskGroup() as group:
        for number in range(plan.connections):
            group.create_task(connection(number, gateway.url, outcomes, stop))
        for _ in range(plan.rounds):
            await asyncio.sleep(plan.seconds / 3)
            if victim == "worker":
                gateway.busiest().kill()
            elif victim == "gateway":
                await asyncio.to_thread(gateway.kill)
            else:
                await asyncio.to_thread(server.kill)
            await asyncio.sleep(plan.seconds / 3)
            if victim == "gateway":
                gateway.start()
            elif victim == "ledger":
                await asyncio.to_thread(server.start)
            await gateway.await_all_workers()
            async with aiohttp.ClientSession() as session:
                await counting.await_ready(session, gateway.admin)
        before = outcomes.statuses[402]
        while outcomes.statuses[402] < before + plan.connections:  # noqa: ASYNC110  until it serves again
            await asyncio.sleep(0.05)
        await asyncio.sleep(plan.seconds / 3)
        stop.set()
    return outcomes


@dataclass(frozen=True)
class Plan:
    """How long, by how many connections, and how many kills."""

    seconds: float
    connections: int
    rounds: int = 1


def trial(store, victim, plan):
    """One line of the result."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(STORES[store]()) if STORES[store] else None
        ledger = f"sqlite:///{folder}/ledger.db" if server is None else server.url + (DURABLE * (store == "postgresql"))
        ready = Route("/v2/health/ready", lambda _: Response())
        model = Starlette(routes=[Route(counting.PATH, counting.infer, methods=["POST"]), ready])
        upstream = stack.enter_context(serving(model))
        gateway = Gateway(folder, upstream, ledger)
        gateway.start()
        try:
            outcomes = asyncio.run(load_and_kill(gateway, victim, server, plan))
            gateway.stop()
        finally:
            if gateway.process.poll() is None:
                gateway.kill()
        known, lines, _, _ = asyncio.run(counting.accounts(ledger))
    return summarise(store, victim, plan, outcomes, (known.values(), lines))


def summarise(store, victim, plan, outcomes, ledger_contents):
    accounts, lines = ledger_contents
    tolls, statuses = outcomes.statuses[402], outcomes.statuses
    result = {
        "store": store,
        "killed": victim,
        "connections": plan.connections,
        "kills": plan.rounds,
        "tolls": tolls,
        "refused_5xx": sum(count for status, count in statuses.items() if status >= 500),
        "broken_off": statuses[0],
        "released_unpriced": sum(count for status, count in statuses.items() if status == 200),
        "requests_charged": sum(account.requests for account in accounts),
        "rows_of_tolls": outcomes.rows,
        "rows_charged": sum(account.rows for account in accounts),
        "lines_in_log": lines,
    }
    result["charged_without_answer"] = result["requests_charged"] - tolls
    result["lost"] = max(0, -result["charged_without_answer"]) + max(0, tolls - lines)
    return result | {"holds": follows_rules(result, plan, set(statuses))}


def follows_rules(result, plan, statuses):
    """Whether the result follows the rules at the head of this file."""
    return (
        result["lost"] == result["released_unpriced"] == 0
        and 0 <= result["charged_without_answer"] <= plan.connections * plan.rounds
        and result["rows_charged"] >= result["rows_of_tolls"]
        and statuses <= {0, 402, 500, 502, 503, 504}
        and result["tolls"] > 0
    )


STORES = {"sqlite": None, "postgresql": postgres_server, "valkey": valkey_server}
VICTIMS = [
    (store, victim)
    for store in STORES
    for victim in ("worker", "gateway", "ledger")
    if (store, victim) != ("sqlite", "ledger")  # a file cannot be killed
]


def main():
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description="Accounts and logs after kill -9.")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", metavar="FILE", help="also write the result; - for standard output alone")
    given = parser.parse_args()
    plan, lines = Plan(given.seconds, given.connections, given.rounds), []
    begin = time.perf_counter()
    for store, victim in VICTIMS:
        lines.append(trial(store, victim, plan))
        if given.json != "-":
            print(
                f"{store}, {victim} killed: " + ", ".join(f"{n} {v}" for n, v in list(lines[-1].items())[2:]),
                flush=True,
            )
    result = {
        "command": f"python benchmarks/load/kills.py --seconds {given.seconds:g} --connections {given.connections}"
        f" --rounds {given.rounds}",
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "seconds": round(time.perf_counter() - begin, 1),
        "kills": lines,
    }
    if given.json:
        text = json.dumps(result, indent=2) + "\n"
        sys.stdout.write(text) if given.json == "-" else Path(given.json).write_text(text, encoding="utf-8")
    sys.exit(0 if all(line["holds"] for line in lines) else 1)


if __name__ == "__main__":
    main()
