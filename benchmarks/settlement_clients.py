"""The processes of the honest callers of ``bench_settlement.py``: clients, the sidecar, and a gateway that counts requests.

    python benchmarks/settlement_clients.py ROLE ...

``gateway`` runs a gateway; ``GET /counts`` on its public address tells how many requests reached each path.
``httpx``, ``requests`` and ``aiohttp`` post the bodies of a file one after the other and print JSON, as
``clients/js/bench/settlement.mjs`` does. ``program`` does so without paying tolls, behind a sidecar; ``sidecar`` runs
one on a free port, which it prints.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import sys
import time
from pathlib import Path

from modeltoll.client.purse import Purse
from modeltoll.client.receipts import Receipts
from modeltoll.errors import TollError, TollTooDear

WITHOUT_RECEIPTS = "argon2id, sha256; mode=sealed; memory=64MiB"
MODES = ("receipts", "redeem", "dropped")
failures = []  # of requests whose tolls were within the limit


class DroppedReceipts(Receipts):
    """Receipts that are lost."""

    def add(self, *_args, **_options):
        """Keep nothing."""


def purse_of(mode, max_seconds, **options):
    """The purse of a client: ``receipts``, ``redeem`` (announces none) or ``dropped`` (announces them, returns none)."""
    purse = Purse(max_seconds, memory_kib=64 << 10, **options)
    if mode == "dropped":
        purse.receipts = DroppedReceipts()
    return purse


def headers_of(given):
    """The headers of a client's requests."""
    headers = {"content-type": "application/json", "x-api-key": given.key}
    return headers | ({"toll-accept": WITHOUT_RECEIPTS} if given.mode == "redeem" else {})


def checked(status, content):
    """Whether an answer came; False for a refusal of the sidecar's.

    Raises:
        SystemExit: anything else came.
    """
    if status == 200 and b"outputs" in content:
        return True
    if status == 402 and b"the toll takes about" in content:
        return False
    raise SystemExit(f"{status}: {content[:500]!r}")


@contextlib.contextmanager
def counted_errors():
    """Let a toll be refused. Other errors of tolls are counted as failures."""
    try:
        yield
    except TollTooDear:
        pass
    except TollError as error:
        failures.append(str(error))


@contextlib.contextmanager
def httpx_post(given, purse):
    """``post(body)``: whether it was answered."""
    import httpx  # noqa: PLC0415  in its own process alone

    from modeltoll.client.httpx import TollTransport  # noqa: PLC0415

    transport = TollTransport(purse=purse) if purse else None
    with httpx.Client(transport=transport, headers=headers_of(given), timeout=120) as client:

        def post(body):
            response = client.post(given.url, content=body)
            return checked(response.status_code, response.content)

        yield post


@contextlib.contextmanager
def requests_post(given, purse):
    """The same with requests."""
    import requests  # noqa: PLC0415

    from modeltoll.client.requests import TollAdapter  # noqa: PLC0415

    with requests.Session() as session:
        session.mount("http://", TollAdapter(purse=purse))

        def post(body):
            response = session.post(given.url, data=body, headers=headers_of(given))
            return checked(response.status_code, response.content)

        yield post


async def aiohttp_posts(given, purse, bodies):
    """Post all bodies with aiohttp, ``--at-once`` of them at once; returns what ``posts`` does."""
    import aiohttp  # noqa: PLC0415

    from modeltoll.client.aiohttp import TollMiddleware  # noqa: PLC0415

    answered, begin, left = 0, time.perf_counter(), list(enumerate(bodies))[::-1]
    async with aiohttp.ClientSession(middlewares=[TollMiddleware(purse=purse)], headers=headers_of(given)) as session:

        async def work():
            nonlocal answered, begin
            while left:
                number, body = left.pop()
                if number == given.warm_up:
                    begin = time.perf_counter()
                with counted_errors():
                    async with session.post(given.url, data=body) as response:
                        answered += checked(response.status, await response.read())

        await asyncio.gather(*(work() for _ in range(given.at_once)))
        seconds = time.perf_counter() - begin
    return seconds, answered


def posts(given, opened, bodies):
    """Post all bodies: seconds for those after the warm-up, without closing the client, and how many were answered."""
    answered, begin = 0, time.perf_counter()
    with opened as post:
        for number, body in enumerate(bodies):
            if number == given.warm_up:
                begin = time.perf_counter()
            with counted_errors():
                answered += post(body)
        seconds = time.perf_counter() - begin
    return seconds, answered


def client(given):
    """Run a client, and print what it saw."""
    bodies = [body.encode() for body in json.loads(given.bodies.read_text())]
    purse = None if given.role == "program" else purse_of(given.mode, given.max_seconds)
    if given.role == "aiohttp":
        seconds, answered = asyncio.run(aiohttp_posts(given, purse, bodies))
    else:
        opened = requests_post if given.role == "requests" else httpx_post
        seconds, answered = posts(given, opened(given, purse), bodies)
    paid = sum(payment.expected for payment in purse.payments) if purse else 0.0
    refused = len(bodies) - answered - len(failures)
    seen = {"seconds": seconds, "answered": answered, "refused": refused, "failed": len(failures), "paid": paid}
    print(json.dumps(seen | {"failures": sorted(set(failures))}))


def sidecar(given):
    """Run a sidecar until SIGTERM. Prints its port; its purse's payments are on ``/metrics``."""
    from modeltoll.client.sidecar import SidecarMetrics, application, serve, upstream_url  # noqa: PLC0415

    metrics = SidecarMetrics()
    purse = purse_of(given.mode, given.max_seconds, paid=metrics.record_payment)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        app = application(upstream_url(given.url), purse, metrics)
        asyncio.run(serve(app, listening, lambda: print(port, flush=True)))


def gateway(given):
    """Run a gateway that counts requests."""
    from settlement_gateway import run_gateway  # noqa: PLC0415

    run_gateway(given.settings)


def main():
    """Run the role that the arguments name."""
    parser = argparse.ArgumentParser(description="Processes of bench_settlement.py.")
    parser.add_argument("role", choices=("httpx", "requests", "aiohttp", "program", "sidecar", "gateway"))
    parser.add_argument("--url", help="where to post; of a sidecar, its upstream")
    parser.add_argument("--key", default="", help="API key")
    parser.add_argument("--bodies", type=Path, help="JSON file of request bodies")
    parser.add_argument("--mode", choices=MODES, default=MODES[0])
    parser.add_argument("--warm-up", type=int, default=0, help="requests before the time starts")
    parser.add_argument("--at-once", type=int, default=1, help="requests at once, of aiohttp")
    parser.add_argument("--max-seconds", type=float, default=1e6)
    parser.add_argument("--settings", type=Path)
    given = parser.parse_args()
    {"sidecar": sidecar, "gateway": gateway}.get(given.role, client)(given)


if __name__ == "__main__":
    sys.exit(main())
