"""Whether several gateways with several workers each count exactly on one ledger.

    python benchmarks/exact_counting.py [--rows 10000] [--callers 100] [--gateways 2] [--workers 2] [--json FILE]

Real processes and real servers: PostgreSQL and Valkey from the wheels of the dev extra, and a SQLite file. Every caller
sends its rows in requests of 1 to 4, through all gateways in turn, many requests at once. Then the ledger's accounts, its
log and the gateways' metrics must hold exactly the rows that were sent. One more caller, whose tier has a quota of half of
the rows it sends, must have received exactly its quota. Exits with 1 where they do not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp
import numpy as np
import yaml
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from modeltoll.demo.processes import free_port
from modeltoll.gateway.callers.identify import hash_key
from modeltoll.ledger.from_url import ledger_from_url
from modeltoll.pricing.calibration_file import save_calibration
from modeltoll.pricing.fit import RowCosts, fit_calibration
from modeltoll.records import Caller, Leaks
from modeltoll.testing.model_servers import serving
from modeltoll.testing.servers import postgres_server, valkey_server

PATH = "/v2/models/digits/infer"
AT_ONCE = 32
CAPPED = "capped"


@dataclass(frozen=True)
class Plan:
    """How much is sent, and through how many processes; each caller sends ``rows`` / ``callers`` rows."""

    rows: int
    callers: int
    gateways: int
    workers: int

    @property
    def rows_per_caller(self):
        return self.rows // self.callers


async def infer(request):
    """A model server that answers every row with the same confident scores."""
    rows = (await request.json())["inputs"][0]["shape"][0]
    output = {"name": "p", "shape": [rows, 4], "datatype": "FP64", "data": [0.97, 0.01, 0.01, 0.01] * rows}
    return Response(json.dumps({"outputs": [output]}), media_type="application/json")


def batches(rows, caller):
    """The rows of one caller, all different, in requests of 1 to 4."""
    sizes, left = itertools.cycle((1, 2, 3, 4)), list(range(rows))
    while left:
        size = next(sizes)
        batch, left = left[:size], left[size:]
        yield [[float(caller), float(row)] for row in batch]


def settings(folder, upstream, ledger, plan):
    """A settings file for each gateway; they differ in their addresses only."""
    rng = np.random.default_rng(0)
    honest = Leaks(("entropy",), rng.random((200, 1)))
    save_calibration(fit_calibration("digits", honest, RowCosts(unit_seconds=1e-5)), folder / "tariff.json")
    names = [*map(str, range(plan.callers)), CAPPED]
    keys = [{"name": name, "sha256": hash_key(f"key-{name}")} for name in names]
    keys[-1]["tier"] = CAPPED
    model = {
        "tariff": "tariff.json",
        "inputs": [{"name": "x", "width": 2}],
        "output": {"name": "p", "kind": "probabilities"},
    }
    for number in range(plan.gateways):
        ports = [free_port(), free_port()]
        document = {
            "listen": f"127.0.0.1:{ports[0]}",
            "admin": f"127.0.0.1:{ports[1]}",
            "upstream": {"url": upstream},
            "ledger": {"url": ledger},
            "callers": {"keys": keys, "tiers": {CAPPED: {"daily_rows": plan.rows_per_caller // 2}}},
            "models": {"digits": {**model, "measures": [{"name": "entropy"}], "puzzle": {"allow": ["sha256"]}}},
        }
        path = folder / f"gateway-{number}.yaml"
        path.write_text(yaml.safe_dump(document))
        yield path, *ports


@contextlib.contextmanager
def gateways(folder, upstream, ledger, plan):
    """Run the gateways while the block lasts; yields their URLs, (public, admin). SIGTERM stops them."""
    running, addresses = [], []
    try:
        for path, port, admin in settings(folder, upstream, ledger, plan):
            command = [sys.executable, "-m", "modeltoll", "serve", str(path), "--workers", str(plan.workers)]
            with path.with_suffix(".log").open("wb") as log:
                running.append((subprocess.Popen(command, stdout=log, stderr=log), path.with_suffix(".log")))
            addresses.append((f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}"))
        yield addresses
    finally:
        for process, _ in running:
            process.send_signal(signal.SIGTERM)
        for process, log in running:
            if process.wait(60) != 0:
                raise RuntimeError(log.read_text())


async def await_ready(session, admin):
    for _ in range(1200):
        with contextlib.suppress(aiohttp.ClientError):
            async with session.get(f"{admin}/readyz") as response:
                if response.status == 200:
                    return
        await asyncio.sleep(0.05)
    raise RuntimeError("a gateway did not become ready")


async def ask_all(addresses, plan):
    """Send all requests.

    Returns the statuses of the callers' requests, how many rows of the capped caller were answered and refused, and the
    gateways' metrics.
    """
    connector = aiohttp.TCPConnector(limit=AT_ONCE, force_close=True)  # each request a new connection, for any worker
    async with aiohttp.ClientSession(connector=connector) as session:
        for _, admin in addresses:
            await await_ready(session, admin)
        turns = itertools.cycle(url for url, _ in addresses)

        async def ask(name, batch):
            tensor = {"name": "x", "shape": [len(batch), 2], "datatype": "FP64", "data": batch}
            headers = {"x-api-key": f"key-{name}"}
            async with session.post(next(turns) + PATH, json={"inputs": [tensor]}, headers=headers) as response:
                await response.read()
                return response.status

        jobs = [
            (str(caller), batch) for caller in range(plan.callers) for batch in batches(plan.rows_per_caller, caller)
        ]
        shuffled = [jobs[place] for place in np.random.default_rng(1).permutation(len(jobs))]
        capped = [[[-1.0, float(row)]] for row in range(plan.rows_per_caller)]
        statuses = await asyncio.gather(*(ask(*job) for job in shuffled))
        got = await asyncio.gather(*(ask(CAPPED, batch) for batch in capped))
        pages = []
        for _, admin in addresses:
            async with session.get(f"{admin}/metrics") as response:
                pages.append(await response.text())
    return statuses, got.count(402), got.count(403), pages


def metric_rows(page):
    return sum(float(value) for value in re.findall(r"^modeltoll_rows_total\{.*\} (\S+)$", page, re.MULTILINE))


async def accounts(url):
    """Read the ledger: accounts by caller, lines and rows of the log, and the capped caller's usage today."""
    ledger = ledger_from_url(url, create=False)
    await ledger.open()
    known = {account.caller.name: account for account in await ledger.largest(10_000)}
    lines, logged = [], 0
    while page := await ledger.log(lines[-1] if lines else 0, 1000):
        lines += [line for line, _, _ in page]
        logged += sum(bill.rows for _, _, bill in page)
    spent = await ledger.spent(Caller(f"key:{CAPPED}"), int(time.time() // 86_400))
    await ledger.close()
    return known, len(lines), logged, spent.rows


def count(store, ledger, plan):
    """One line of the result."""
    model = Starlette(routes=[Route(PATH, infer, methods=["POST"]), Route("/v2/health/ready", lambda _: Response())])
    with tempfile.TemporaryDirectory() as name, serving(model) as upstream:
        with gateways(Path(name), upstream, ledger, plan) as addresses:
            begin = time.perf_counter()
            statuses, got, refused, pages = asyncio.run(ask_all(addresses, plan))
            seconds = time.perf_counter() - begin
        known, lines, logged, spent = asyncio.run(accounts(ledger))
    capped = known.pop(f"key:{CAPPED}")
    result = {
        "store": store,
        **asdict(plan),
        "requests": len(statuses),
        "tolls": statuses.count(402),
        "callers_exact": sum(account.rows == plan.rows_per_caller for account in known.values()),
        "rows_in_accounts": sum(account.rows for account in known.values()),
        "requests_in_accounts": sum(account.requests for account in known.values()),
        "rows_in_log": logged - got,
        "lines_in_log": lines - got,
        "rows_in_metrics": sum(map(metric_rows, pages)) - got,
        "workers_in_metrics": sum(len(set(re.findall(r'worker="(\d+)"', page))) for page in pages),
        "capped_asked": plan.rows_per_caller,
        "capped_allowed": plan.rows_per_caller // 2,
        "capped_got": got,
        "capped_refused": refused,
        "capped_spent": spent,
        "seconds": round(seconds, 2),
    }
    return result | {"exact": exact(result, plan) and capped.rows >= got}


def exact(result, plan):
    """Whether accounts, log, metrics and quota hold exactly what was sent."""
    sent, requests = plan.rows_per_caller * plan.callers, result["requests"]
    return (
        result["tolls"] == result["requests_in_accounts"] == result["lines_in_log"] == requests
        and result["rows_in_accounts"] == result["rows_in_log"] == result["rows_in_metrics"] == sent
        and result["callers_exact"] == plan.callers
        and result["workers_in_metrics"] == plan.gateways * plan.workers
        and result["capped_got"] == result["capped_spent"] == result["capped_allowed"]
        and result["capped_got"] + result["capped_refused"] == plan.rows_per_caller
    )


@contextlib.contextmanager
def sqlite_file():
    with tempfile.TemporaryDirectory() as name:
        yield f"sqlite:///{name}/ledger.db"


@contextlib.contextmanager
def url_of(server):
    with server() as running:
        yield running.url


STORES = {
    "sqlite": sqlite_file,
    "postgresql": lambda: url_of(postgres_server),
    "valkey": lambda: url_of(valkey_server),
}


def main():
    """Parse, count, print."""
    parser = argparse.ArgumentParser(description="Several gateways on one ledger count exactly.")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--callers", type=int, default=100)
    parser.add_argument("--gateways", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", metavar="FILE", help="also write the result; - for standard output alone")
    given = parser.parse_args()
    plan = Plan(given.rows, given.callers, given.gateways, given.workers)
    lines = []
    for store, open_store in STORES.items():
        with open_store() as url:
            lines.append(count(store, url, plan))
        if given.json != "-":
            print(f"{store:>10}: " + ", ".join(f"{name} {value}" for name, value in list(lines[-1].items())[1:]))
    options = " ".join(f"--{name} {value}" for name, value in asdict(plan).items())
    result = {
        "command": f"python benchmarks/exact_counting.py {options}",
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "stores": lines,
    }
    if given.json:
        text = json.dumps(result, indent=2) + "\n"
        sys.stdout.write(text) if given.json == "-" else Path(given.json).write_text(text, encoding="utf-8")
    sys.exit(0 if all(line["exact"] for line in lines) else 1)


if __name__ == "__main__":
    main()
