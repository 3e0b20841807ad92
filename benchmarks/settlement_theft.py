"""The theft of photograph patches, by thieves who pay every toll and by thieves who pay none (``bench_settlement.py``).

The victim is a small network on scikit-learn's digits behind ``modeltoll serve``, with the measures entropy and novelty.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import httpx
import numpy as np

from modeltoll import wire
from modeltoll.client.httpx import TollTransport
from modeltoll.client.purse import Purse
from modeltoll.errors import TollMalformed
from modeltoll.puzzle.machine_profile import DEFAULT_PROFILE
from modeltoll.puzzle.proof import proof_of
from modeltoll.testing.model_servers import serving
from modeltoll.toll_records import Solution

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
from laboratory import (
    KEYS,
    MODEL,
    UNIT,
    Laboratory,
    ModelServer,
    RunningGateway,
    patches_of_photographs,
    train_victim,
)

__all__ = [
    "KEYS",
    "MODEL",
    "PATH",
    "RunningGateway",
    "infer_body",
    "laboratory",
    "playing_along",
    "refusing_to_play",
]

PATH = f"/v2/models/{MODEL}/infer"
CREDIT = 10.0  # reference seconds, the default of callers with a key
BANK, BANK_REQUEST, FILLERS = 4000, 250, 16  # rows
MOST_COUNTERS, AT_ONCE, WORKERS = 512, 8, 2
SEALED = "argon2id, sha256; mode=sealed; memory=64MiB; receipts"
REDEEM = "argon2id, sha256; mode=redeem; memory=64MiB"


def infer_body(rows):
    """The body of a request for some rows."""
    rows = np.atleast_2d(rows)
    tensor = {"name": "x", "shape": list(rows.shape), "datatype": "FP64", "data": rows.ravel().tolist()}
    return json.dumps({"inputs": [tensor]}).encode()


@contextlib.contextmanager
def laboratory(unit):
    """A laboratory whose tariff has a unit of ``unit`` reference seconds."""
    victim = train_victim()
    with tempfile.TemporaryDirectory() as name, serving((server := ModelServer(victim)).application()) as upstream:
        for rows in ("private", "honest"):
            np.save(Path(name) / f"{rows}.npy", getattr(victim, rows))
        made = Laboratory(Path(name), victim, server, upstream)
        made.run("calibrate", made.write(made.settings()), "--inputs", "honest.npy", "--unit-ms", 1000 * unit)
        yield made


@dataclass
class RecordingPurse:
    """Makes purses, and adds up the work of the tolls that they pay."""

    evaluations: int = 0
    seconds: float = 0.0
    variance: float = 0.0  # of ``seconds``
    tolls: Counter = field(default_factory=Counter)

    def purse(self):
        """A purse that pays every toll."""
        record = self

        class Recording(Purse):
            def pay(self, toll, cancelled=None):
                solution = super().pay(toll, cancelled)
                record.add(toll, solution)
                return solution

        return Recording(1e6, memory_kib=64 << 10)

    def add(self, toll, solution):
        """Add the evaluations up to the counters that were found, and their reference seconds.

        A counter is uniform, so that the variance of its evaluations is a fourth of their mean square.
        """
        evaluations, memory = [counter + 1 for counter in solution.counters], toll.challenge.memory_kib
        rate = DEFAULT_PROFILE.rate(memory)
        self.evaluations += sum(evaluations)
        self.seconds += sum(evaluations) / rate
        self.variance += sum(count**2 for count in evaluations) / 4 / rate**2
        kind = "admission" if toll.admission else f"{toll.challenge.puzzle} {memory} KiB"
        self.tolls[kind] += 1


def playing_along(rows, accounts, unit):
    """Steal ``rows`` patches with so many anonymous accounts that pay every toll: the work done over that promised."""
    patches, record, begin = patches_of_photographs(rows), RecordingPurse(), time.monotonic()
    with laboratory(unit) as laboratory_, laboratory_.gateway(callers={"trusted_proxies": ["127.0.0.1/32"]}) as gateway:
        shares = [(number, patches[number::accounts]) for number in range(accounts)]
        with ThreadPoolExecutor(min(WORKERS, accounts)) as pool:
            answered = sum(pool.map(lambda share: _pay_for(gateway, record.purse(), *share), shares))
        lines = gateway.log()
    promised = sum(line["work_seconds"] for line in lines)
    return {
        "accounts": accounts,
        "rows": rows,
        "unit_ms": 1000 * unit,
        "answers": answered,
        "promised_seconds": round(promised, 3),
        "done_seconds": round(record.seconds, 3),
        "done_over_promised": round(record.seconds / promised, 3),
        "standard_deviation": round(math.sqrt(record.variance) / promised, 3),
        "evaluations": record.evaluations,
        "tolls": dict(sorted(record.tolls.items())),
        "suspected_rows": sum(line["rows"] for line in lines if line["suspected"]),
        "wall_seconds": round(time.monotonic() - begin, 1),
    }


def _pay_for(gateway, purse, number, patches):
    """The answers that one account gets; each account is an address of a network of its own."""
    headers = {"content-type": "application/json", "x-forwarded-for": f"198.51.{number}.7"}
    with httpx.Client(
        base_url=gateway.url, headers=headers, timeout=60, transport=TollTransport(purse=purse)
    ) as client:
        responses = [client.post(PATH, content=infer_body(patch)) for patch in patches]
    return sum(response.status_code == 200 and "outputs" in response.json() for response in responses)


def refusing_to_play(rows, accounts, *, fillers):
    """Steal ``rows`` patches with so many accounts that pay no toll: what they get, and what the model server does.

    ``fillers``: whether each account first throws 4,000 jittered honest rows away, and 16 before each patch.
    """
    with laboratory(UNIT) as laboratory_, laboratory_.gateway() as gateway:
        begin, before = time.monotonic(), len(laboratory_.server.bodies)
        thief = _Thief(gateway.url, laboratory_.victim.test[:200] if fillers else None)
        asyncio.run(thief.steal(patches_of_photographs(rows), accounts))
        bodies = laboratory_.server.bodies[before:]
        lines = gateway.log()
    answered = sum(json.loads(body)["inputs"][0]["shape"][0] for body in bodies)
    return {
        "accounts": accounts,
        "fillers": fillers,
        "rows": rows,
        "unit_ms": 1000 * UNIT,
        "answers": thief.answers,
        "evaluations": 0,  # the thief's code has no call of a solver
        "rows_asked": thief.rows_asked,
        "rows_of_the_model_server": answered,
        "rows_of_all_credits": round(accounts * CREDIT / UNIT),
        "patches_priced": sum(line["rows"] for line in lines if line["rows"] == 1),
        "tolls": dict(sorted(thief.tolls.items())),
        "guessed_counters": thief.guessed["counters"],
        "guessed_proofs": thief.guessed["proofs"],
        "statuses_of_guesses": {str(status): count for status, count in sorted(thief.statuses.items())},
        "lengths": {
            mode: {"tolls": sum(seen.values()), "different": len(seen)} for mode, seen in thief.lengths.items()
        },
        "wall_seconds": round(time.monotonic() - begin, 1),
    }


class _Thief:
    """Throws fillers away, and guesses at the redeem path instead of solving; ``honest``: what its fillers are
    made of, None for no fillers."""

    def __init__(self, url, honest):
        self._url, self._honest, self._rng = url, honest, np.random.default_rng(5)
        self.answers = self.rows_asked = 0
        self.tolls, self.guessed, self.statuses = Counter(), Counter(), Counter()
        self.lengths = {wire.SEALED: Counter(), wire.REDEEM: Counter()}

    async def steal(self, patches, accounts):
        """Steal the patches, with each account in turn."""
        connector = aiohttp.TCPConnector(limit=AT_ONCE)
        async with aiohttp.ClientSession(self._url, connector=connector) as self._session:
            for number in range(accounts):
                await self._steal_with(KEYS[number], patches[number::accounts])

    async def _steal_with(self, key, patches):
        for _ in range(BANK // BANK_REQUEST if self._honest is not None else 0):
            await self._ask(key, self._fillers(BANK_REQUEST), SEALED)
        for patch in patches:
            if self._honest is not None:
                await self._ask(key, self._fillers(FILLERS), SEALED)
            for accept in (SEALED, REDEEM):
                toll = await self._ask(key, patch, accept)
                if toll is not None and not toll.admission:
                    self.lengths[toll.mode][len(toll.payload)] += 1
            if toll is not None:
                await self._guess(key, toll)

    def _fillers(self, count):
        rows = self._honest[self._rng.integers(len(self._honest), size=count)]
        return (rows + self._rng.uniform(-0.003, 0.003, rows.shape) * (rows > 0)).round(5)

    async def _ask(self, key, rows, accept):
        """The toll for some rows, which is not paid; None for an answer."""
        body = infer_body(rows)
        self.rows_asked += len(np.atleast_2d(rows))
        status, content = await self._post(PATH, key, body, {"toll-accept": accept})
        if status == wire.STATUS:
            toll = wire.decode_toll(content)
            self.tolls["admission" if toll.admission else toll.mode] += 1
            return toll
        self._count_answer(status, content)
        return None

    async def _guess(self, key, toll):
        """Try what can be known without an evaluation: every counter below the bound, and proofs of published bytes."""
        most = min(toll.challenge.parts[0].bound, MOST_COUNTERS)
        parts = len(toll.challenge.parts)
        bodies = [wire.encode_redemption(toll.payload, counters=(counter,) * parts) for counter in range(most)]
        self.guessed["counters"] += len(bodies)
        for proof in _published_proofs(toll):
            bodies.append(wire.encode_redemption(toll.payload, proof=proof))
            self.guessed["proofs"] += 1
        for status, content in await asyncio.gather(*(self._post(wire.REDEEM_PATH, key, body) for body in bodies)):
            self.statuses[status] += 1
            self._count_answer(status, content)

    def _count_answer(self, status, content):
        if status == 200 and b"outputs" in content:
            self.answers += 1

    async def _post(self, path, key, body, headers=None):
        sent = {"content-type": "application/json", "x-api-key": key} | (headers or {})
        async with self._session.post(path, data=body, headers=sent) as response:
            return response.status, await response.read()


def _published_proofs(toll):
    """Proofs made of the bytes that a toll publishes, as if they were the secret, and some that are made of nothing."""
    parts = toll.challenge.parts
    checks, seeds = b"".join(part.check for part in parts), b"".join(part.seed for part in parts)
    zeros = tuple(0 for _ in parts)
    for secret in (checks, seeds, bytes(16 * len(parts)), checks[::-1], seeds[::-1]):
        with contextlib.suppress(ValueError, TollMalformed):
            yield proof_of(Solution(zeros, secret))
    yield from ((checks * 2)[:32], (seeds * 2)[:32], bytes(32), b"\xff" * 32, toll.payload[:32], toll.payload[-32:])
