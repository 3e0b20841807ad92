"""Real model servers behind the gateway: are their answers untouched, and what do honest and strange rows cost?

    python benchmarks/real_servers.py [--only mlserver mlflow litserve fastapi] [--work DIR] [--json FILE]

Each server comes from PyPI into an environment of its own under DIR, trains the demo's forest on the demo's private
digits (``benchmarks/servers``), and is calibrated by ``modeltoll calibrate`` with digits that it has not seen. Three
callers with a key each then send one row a request, each to the server itself and to ``modeltoll serve`` in front of it:
unseen digits, photograph patches and noise. They pay until ``BUDGET`` is spent; what they got must be the server's own
answer, byte for byte. A row that is too dear counts with the work that the gateway logged. FastAPI has the gate within,
as middleware; its answers are compared with those of the same application without.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import httpx
import numpy as np
from servers.sites import MODEL, SERVERS, TARIFF, Site

from modeltoll.client.httpx import TollTransport
from modeltoll.client.purse import Purse
from modeltoll.demo.data import DATA_LOADERS, DataSizes
from modeltoll.errors import TollTooDear
from modeltoll.gateway.assembly.components import build_served_model
from modeltoll.gateway.settings.load import load_settings
from modeltoll.ledger.from_url import ledger_from_url
from modeltoll.pricing.calibration_file import load_calibration
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.records import Leaks, LogEntry

SIZES = DataSizes(honest=100, pictures=40, noise=40)
BUDGET = 20.0  # seconds of work that each caller does
MEMORY_KIB = 256 * 1024  # callers under suspicion get puzzles of this size
TIMEOUT = 120.0  # seconds


@dataclass(frozen=True, slots=True)
class Came:
    """What came of one request: the wait, and the answer's type and body, None where the toll was not paid."""

    seconds: float
    answer: tuple[str, bytes] | None


def told(what: str) -> None:
    """A step, on standard error."""
    print(what, file=sys.stderr, flush=True)


def questions(settings: Path, url: str, rows: Mapping[str, np.ndarray]) -> tuple[str, dict[str, list[bytes]]]:
    """Where to ask, and one request for each caller's row, written by the protocol itself.

    An Open Inference request has a name: MLServer makes one up, and answers with it, where there is none.
    """
    subject = build_served_model(load_settings(settings), MODEL)
    metadata = httpx.get(url + subject.metadata_path).content if subject.metadata_path else b""
    bodies = {}
    for who, table in rows.items():
        bodies[who] = [subject.protocol.ask(row[None], metadata, subject.service) for row in table]
        if subject.protocol.name == "oip":
            named = ({"id": f"{who}-{place}", **json.loads(body)} for place, body in enumerate(bodies[who]))
            bodies[who] = [json.dumps(document).encode() for document in named]
    return subject.infer_path, bodies


def sent(client: httpx.Client, url: str, body: bytes) -> Came:
    """One request."""
    begin, answer = time.perf_counter(), None
    try:
        response = client.post(url, content=body).raise_for_status()
        answer = response.headers["content-type"], response.content
    except TollTooDear:
        pass
    return Came(time.perf_counter() - begin, answer)


def visit(url: str, toll_url: str, who: str, bodies: Sequence[bytes]) -> tuple[list[Came], list[Came]]:
    """One caller's requests, each sent to the server and then to the toll house, paid for while the budget lasts."""
    headers = {"content-type": "application/json", "x-api-key": f"{who}-key"}
    purse = Purse(math.inf, max_seconds_per_hour=BUDGET, memory_kib=MEMORY_KIB)
    direct, paid = [], []
    with (
        httpx.Client(headers=headers, timeout=TIMEOUT) as plain,
        httpx.Client(headers=headers, timeout=TIMEOUT, transport=TollTransport(purse=purse)) as paying,
    ):
        for body in bodies:
            direct.append(sent(plain, url, body))
            paid.append(sent(paying, toll_url, body))
    return direct, paid


async def logged(settings: Path) -> list[LogEntry]:
    """What the gate logged, in order."""
    ledger = ledger_from_url(load_settings(settings).ledger.url)
    await ledger.open()
    try:
        return [bill for _, _, bill in await ledger.log(0, 10_000)]
    finally:
        await ledger.close()


def figures(direct: Sequence[Came], paid: Sequence[Came], bills: Sequence[LogEntry], tariff: ConformalTariff) -> dict:
    """One caller: what his rows are worth by themselves, in units, what he was asked, and how much longer he waits.

    ``ratio`` is 1 + what the toll adds to a row, measured in turns with the server itself, over a row's calibrated time.
    """
    leaks = Leaks(tariff.measures, np.array([bill.leaks[0] for bill in bills]))
    work = np.array([bill.work.seconds for bill in bills])
    opened = np.array([came.answer is not None for came in paid])
    added = np.array([b.seconds - a.seconds for a, b in zip(direct, paid, strict=True)]) + np.where(opened, 0.0, work)
    return {
        "rows": len(bills),
        "opened": int(opened.sum()),
        "changed": sum(a.answer != b.answer for a, b in zip(direct, paid, strict=True) if b.answer is not None),
        "row_units": float(tariff.assess(leaks, np.random.default_rng(0)).factors.mean()),
        "charged_units": float(work.mean()) / tariff.calibration.unit_seconds,
        "suspected_from_row": next((place for place, bill in enumerate(bills, 1) if bill.work.suspected), None),
        "ratio": 1.0 + float(added.mean()) / tariff.calibration.undefended_seconds,
    }


def study(name: str, work: Path) -> dict:
    """One server: what came of it."""
    site = Site(name, work / name, work / f"{name}-run")
    shutil.rmtree(site.folder, ignore_errors=True)
    site.folder.mkdir()
    data = DATA_LOADERS["digits"](SIZES, None, np.random.default_rng(0))
    np.savez(site.folder / "private.npz", x=data.private_x, y=data.private_y)
    np.save(site.folder / "private.npy", data.private_x)
    np.save(site.folder / "unseen.npy", data.calibration)
    rows = {"honest": data.honest, "pictures": data.pictures, "noise": data.noise}
    told(f"{name}: install")
    site.install()
    told(f"{name}: start")
    with site.running(site.port) as url:
        settings = site.write_settings(url, list(rows))
        told(f"{name}: calibrate")
        command = [sys.executable, "-m", "modeltoll", "calibrate", settings, "--inputs", site.folder / "unseen.npy"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        path, bodies = questions(settings, url, rows)
        told(f"{name}: ask")
        settings = site.write_settings("app" if site.server.within else url, list(rows))
        with site.guarded(settings) as toll_url:
            visits = {who: visit(url + path, toll_url + path, who, asked) for who, asked in bodies.items()}
    tariff = ConformalTariff(load_calibration(site.folder / TARIFF))
    bills = iter(asyncio.run(logged(settings)))
    callers = {
        who: figures(direct, paid, list(islice(bills, len(paid))), tariff) for who, (direct, paid) in visits.items()
    }
    return {
        "server": site.version(),
        "protocol": load_settings(settings).models[MODEL].protocol,
        "within": site.server.within,
        "undefended_ms": 1e3 * tariff.calibration.undefended_seconds,
        "gate_ms": 1e3 * tariff.calibration.gate_seconds,
        "unit_ms": 1e3 * tariff.calibration.unit_seconds,
        "callers": callers,
    }


def main() -> None:
    """Study the servers that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(SERVERS), default=list(SERVERS))
    parser.add_argument("--work", type=Path, default=Path("build/servers"), help="where the environments are made")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    servers = []
    for name in given.only:
        servers.append(study(name, given.work.resolve()))
        print(json.dumps(servers[-1]), flush=True)
    if given.json:
        document = {
            "command": "python benchmarks/real_servers.py",
            "budget_seconds": BUDGET,
            "load_average": os.getloadavg()[2],
            "servers": servers,
        }
        given.json.write_text(json.dumps(document, indent=2) + "\n")
    if any(caller["changed"] for server in servers for caller in server["callers"].values()):
        raise SystemExit("an answer was changed")


if __name__ == "__main__":
    main()
