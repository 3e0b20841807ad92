"""Serves the dashboard of a believable day, for tests in browsers and for pictures: ``python -m`` this module.

It prints its address and then obeys, line by line, until standard input ends: ``more`` lets a minute pass in which
somebody asks, ``stranger`` lets somebody with a hostile name ask, ``silence`` and ``speak`` stop and mend the ledger. Each is
answered by ``done``.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.routing import Mount

from modeltoll.errors import LedgerError
from modeltoll.gateway.server.serve import background_server, listen
from modeltoll.ledger.memory import MemoryLedger
from modeltoll.records import Caller
from modeltoll.testing.believable_day import CallerPlan, SampleTraffic, build_tariff, sample_callers, simulate_day

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.records import LogEntry

__all__ = ["STRANGER", "ScriptedLedger", "run_commands"]

STRANGER = Caller("key:<img src=x onerror=alert(1)>\"'><script>alert(2)</script>")
_MIDNIGHT = 1_795_478_400.0  # the day's end, 2026-11-24
_SEED = 0


class ScriptedLedger(MemoryLedger):
    """A ledger whose log can be silenced."""

    silent = False

    async def log(self, after: int, limit: int) -> Sequence[tuple[int, str, LogEntry]]:
        """See ``Ledger.log``."""
        if self.silent:
            raise LedgerError("the ledger's server cannot be reached")
        return await super().log(after, limit)


async def run_commands(word: str, town: SampleTraffic, ledger: ScriptedLedger) -> None:
    """Do what one line says; anything else is passed over."""
    if word in {"more", "stranger"}:
        town.clock.advance(60.0)
        caller = STRANGER if word == "stranger" else Caller("key:alice")
        await simulate_day(town, [CallerPlan(caller, 5, (23.99, 24.0))], _SEED)
    elif word in {"silence", "speak"}:
        town.clock.advance(60.0)
        ledger.silent = word == "silence"


async def _serve() -> None:
    ledger = ScriptedLedger()
    await ledger.open()
    town = SampleTraffic.of(ledger, build_tariff(_SEED), _MIDNIGHT)
    await simulate_day(town, sample_callers(), _SEED)
    app = Starlette(routes=[Mount("/dashboard", town.dashboard)])
    with listen("admin", "127.0.0.1:0") as listening:
        async with background_server(app, listening):
            _say(f"http://127.0.0.1:{listening.getsockname()[1]}/dashboard/")
            while line := await asyncio.to_thread(sys.stdin.readline):
                await run_commands(line.strip(), town, ledger)
                _say("done")


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201  whoever started it reads this


if __name__ == "__main__":
    asyncio.run(_serve())
