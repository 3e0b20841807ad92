"""Honest callers of a gateway with settlement, without receipts, and without settlement (``bench_settlement.py``).

Clients, sidecars and gateways are processes of their own (``settlement_clients.py``, ``clients/js/bench/settlement.mjs``).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
from gateway_fixtures import running
from settlement_gateway import CountingGateway
from settlement_theft import KEYS, MODEL, PATH, infer_body, laboratory

from modeltoll.ledger.from_url import open_ledger
from modeltoll.records import Caller

__all__ = ["CLIENTS", "honest_callers"]

CLIENTS = ("httpx", "requests", "aiohttp", "sidecar", "node")
MODES = {"receipts": "usual", "redeem": "usual", "dropped": "open"}  # and the gateway for each
UNIT, CREDIT_UNITS = 0.00005, 200  # reference seconds; as few units as the default credit ever is
WARM_UP, WITHIN_CREDIT, BATCH, BATCHES = 20, (64, 150), 10_000, 3
AT_ONCE, AT_ONCE_ROWS, AT_ONCE_REQUESTS = 8, 64, 40
JS = Path(__file__).parents[1] / "clients" / "js"


def itself(role, **options):
    """The command of a role of ``settlement_clients.py``."""
    given = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    return [sys.executable, str(Path(__file__).with_name("settlement_clients.py")), role, *given]


class _Callers:
    """Runs blocks of requests. ``gateways``: by name; ``folder``: for files of bodies."""

    def __init__(self, gateways, folder, honest):
        self.gateways, self._folder, self._honest = gateways, folder, honest
        self._rng, self._accounts = np.random.default_rng(3), Counter()

    def bodies(self, requests, rows):
        """Bodies of requests for honest rows."""
        drawn = self._rng.integers(len(self._honest), size=(requests, rows))
        return [infer_body(self._honest[chosen]).decode() for chosen in drawn]

    def ledger_url(self, gateway):
        """The URL of a gateway's ledger."""
        return f"sqlite:///{self._folder / gateway}.db"

    def fresh_key(self, gateway):
        """An API key that was not used at this gateway before."""
        self._accounts[gateway] += 1
        return KEYS[len(KEYS) - self._accounts[gateway]]

    def block(self, client, mode, gateway, bodies, key, **options):
        """Post bodies with a client. Adds to what it saw what the gateway saw, once the client is closed."""
        file, seen = self._folder / "bodies.json", self.gateways[gateway]
        file.write_text(json.dumps(bodies))
        counts, admissions, processor = seen.counts(), seen.admissions(), seen.processor_seconds()
        result = self._run(client, mode, seen.url, file, key, **({"warm_up": 0, "max_seconds": 1e6} | options))
        result["processor_seconds"] = seen.processor_seconds() - processor
        result["admissions"] = round(seen.admissions() - admissions)
        result["round_trips"] = dict(seen.counts() - counts)
        print(f"{client:>9} {mode:>9} {gateway:>8} {len(bodies):>5} requests: {result}", file=sys.stderr)
        return result

    def _run(self, client, mode, url, file, key, *, warm_up, max_seconds, at_once=1):
        options = {"url": url + PATH, "key": key, "bodies": file, "warm_up": warm_up, "at_once": at_once}
        if client == "node":
            arguments = (url + PATH, key, file, mode, warm_up, max_seconds)
            return _output(["node", JS / "bench" / "settlement.mjs", *arguments])
        if client != "sidecar":
            return _output(itself(client, mode=mode, max_seconds=max_seconds, **options))
        with _sidecar(url, mode, max_seconds) as local:
            result = _output(itself("program", mode=mode, **options | {"url": local + PATH}))
            metrics = httpx.get(f"{local}/metrics").text
        paid = re.search(r"^modeltoll_proxy_work_seconds_total (\S+)$", metrics, re.MULTILINE)
        return result | {"paid": float(paid[1])}


def _output(command):
    """The JSON that a client prints."""
    run = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{run.stdout}{run.stderr}")
    return json.loads(run.stdout)


@contextlib.contextmanager
def _sidecar(url, mode, max_seconds):
    """A sidecar while the block lasts; at its end it returns its receipts."""
    command = itself("sidecar", url=url, mode=mode, max_seconds=max_seconds)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.communicate(timeout=30)


def check_node():
    """Refuse to start where the Node client cannot run.

    Raises:
        SystemExit: there is no Node, or the package was not built.
    """
    if shutil.which("node") is None or not (JS / "dist" / "index.js").exists():
        raise SystemExit("the Node client needs Node and 'make js'; or leave node out of --clients")


@contextlib.contextmanager
def _gateways(laboratory_):
    """The gateways: ``usual`` and ``batches`` with a credit of 200 units, ``open`` with more than anybody uses."""
    usual = {"seconds": 1e-6, "units": CREDIT_UNITS}
    settings = {
        "usual": (usual, "coarse"),
        "open": ({"seconds": 1e6, "units": 1}, "coarse"),
        "batches": (usual, "exact"),
    }
    with contextlib.ExitStack() as stack:
        started = {}
        for name, (credit, disclose) in settings.items():
            document = laboratory_.settings(limits={"rows": BATCH})
            document["ledger"] = {"url": f"sqlite:///{laboratory_.folder / name}.db"}
            document["callers"]["credit"] = credit
            document["models"][MODEL]["puzzle"] = {"disclose": disclose}
            admin = f"http://{document['admin']}"
            command = itself("gateway", settings=laboratory_.write(document))
            process = stack.enter_context(running(command, f"{admin}/livez"))
            started[name] = CountingGateway(f"http://{document['listen']}", admin, process)
        yield started


def honest_callers(clients, repetitions, block):
    """All that is measured of honest callers."""
    if "node" in clients:
        check_node()
    with laboratory(UNIT) as laboratory_, _gateways(laboratory_) as gateways:
        callers = _Callers(gateways, laboratory_.folder, laboratory_.victim.test)
        return {
            "unit_ms": 1000 * UNIT,
            "credit_units": CREDIT_UNITS,
            "single_rows": _single_rows(callers, clients, repetitions, block),
            "within_credit": [_within_credit(callers, client, rows) for client in clients for rows in WITHIN_CREDIT],
            "large_batches": [_large_batches(callers, client) for client in clients],
            "refusals": [line for client in clients for line in _refusals(callers, client)],
            "at_once": [_at_once(callers)] if "aiohttp" in clients else [],
        }


def _single_rows(callers, clients, repetitions, block):
    """Requests of one row, in alternating blocks."""
    runs = {(client, mode): [] for client in clients for mode in MODES}
    for repetition in range(repetitions):
        for number, client in enumerate(clients):
            bodies = callers.bodies(WARM_UP + block, 1)
            for mode in sorted(MODES, reverse=repetition % 2 == 1):
                result = callers.block(client, mode, MODES[mode], bodies, KEYS[number], warm_up=WARM_UP)
                runs[client, mode].append(result | {"per_second": block / result["seconds"]})
    return [_summary(client, mode, results, runs[client, "dropped"]) for (client, mode), results in runs.items()]


def _summary(client, mode, results, without):
    """One client in one mode; ratios are to blocks of the same repetition in which nothing was settled."""
    requests = sum(result["answered"] for result in results)
    trips = Counter()
    for result in results:
        trips.update(result["round_trips"])
    paired = list(zip(results, without, strict=True))
    speed = [one["per_second"] / other["per_second"] for one, other in paired]
    processor = [one["processor_seconds"] / other["processor_seconds"] for one, other in paired]
    return {
        "client": client,
        "mode": mode,
        "requests": requests,
        "refused": sum(result["refused"] for result in results),
        "failed": sum(result["failed"] for result in results),
        "round_trips": {kind: round(count / requests, 3) for kind, count in sorted(trips.items())},
        "round_trips_per_request": round(sum(trips.values()) / requests, 3),
        "per_second": round(statistics.median(result["per_second"] for result in results)),
        "processor_ms": round(1e3 * sum(result["processor_seconds"] for result in results) / requests, 3),
        "per_second_ratio": _spread(speed),
        "processor_ratio": _spread(processor),
        "admission_tolls": sum(result["admissions"] for result in results),
    }


def _spread(values):
    """The median, the smallest and the largest."""
    return [round(value, 3) for value in (statistics.median(values), min(values), max(values))]


def _within_credit(callers, client, rows):
    """Batches that fit the credit, one after the other."""
    result = callers.block(client, "receipts", "usual", callers.bodies(20, rows), callers.fresh_key("usual"))
    trips = sum(result["round_trips"].values()) / 20
    return {"client": client, "rows": rows, "requests": 20, **_kept(result), "round_trips_per_request": trips}


def _large_batches(callers, client):
    """Batches far above the credit, which pay for admission first: what was paid over the price.

    What is left of the prepaid work is taken off the tolls that follow, and does not count as paid here.
    """
    gateway, key, bodies = callers.gateways["batches"], callers.fresh_key("batches"), callers.bodies(BATCHES, BATCH)
    gateway.price()
    result = callers.block(client, "receipts", "batches", bodies, key)
    price, left = gateway.price(), asyncio.run(_prepaid(callers.ledger_url("batches"), key))
    return {
        "client": client,
        "rows": BATCH,
        "requests": BATCHES,
        **_kept(result),
        "round_trips": result["round_trips"],
        "price_seconds": round(price, 4),
        "paid_seconds": round(result["paid"], 4),
        "prepaid_left_seconds": round(left, 4),
        "paid_over_price": round((result["paid"] - left) / price, 3),
    }


async def _prepaid(url, key):
    """Seconds that a caller has paid for admission, and that no price has used yet."""
    async with open_ledger(url) as ledger:
        return (await ledger.standing(Caller(f"key:{key}"))).prepaid


def _refusals(callers, client):
    """Callers who refuse tolls above a limit: one batch, after which single rows follow; and the dear ones among single rows.

    The limit of the first is above the price of any row, and below that of nearly any batch of its size.
    """
    cases = {"a batch of 190 rows": (70, [(1, 190), (50, 1)]), "the dear ones of 200 rows": (2, [(200, 1)])}
    found = []
    for case, (limit, requests) in cases.items():
        bodies = [body for count, rows in requests for body in callers.bodies(count, rows)]
        key, limit_seconds = callers.fresh_key("usual"), limit * UNIT
        result = callers.block(client, "receipts", "usual", bodies, key, max_seconds=limit_seconds)
        found.append(
            {"client": client, "refuses": case, "limit_units": limit, "requests": len(bodies), **_kept(result)}
        )
    return found


def _at_once(callers):
    """Batches that several tasks of one client send at once, more of them than the credit has room for."""
    bodies = callers.bodies(AT_ONCE_REQUESTS, AT_ONCE_ROWS)
    key = callers.fresh_key("usual")
    result = callers.block("aiohttp", "receipts", "usual", bodies, key, at_once=AT_ONCE)
    sent = {"client": "aiohttp", "at_once": AT_ONCE, "rows": AT_ONCE_ROWS, "requests": AT_ONCE_REQUESTS}
    return sent | _kept(result) | {"failures": result["failures"], "round_trips": result["round_trips"]}


def _kept(result):
    """What the later tables show of a block."""
    names = {"answered": "answered", "refused": "refused", "failed": "failed", "admissions": "admission_tolls"}
    return {shown: result[name] for name, shown in names.items()}
