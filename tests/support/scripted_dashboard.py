"""Serves the dashboard with one day of sample traffic, for tests in a browser and for screenshots.

Run it as a program. It prints the dashboard's URL, then reads one command per line from standard input until that ends, and
prints ``done`` after each: ``more`` adds a minute with five requests, ``hostile`` the same by a caller with HTML in its name,
``stop-ledger`` and ``start-ledger`` make the ledger fail and work again.
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
from sample_traffic import CallerPlan, SampleTraffic, build_tariff, sample_callers, simulate_day

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.records import LogEntry

__all__ = ["HOSTILE", "FailingLedger", "run_command"]

HOSTILE = Caller("key:<img src=x onerror=alert(1)>\"'><script>alert(2)</script>")
_DAY_END = 1_795_478_400.0  # 2026-11-24 00:00 UTC
_SEED = 0


class FailingLedger(MemoryLedger):
    """A ledger that raises an error on every read of its log while ``failing`` is set."""

    failing = False

    async def log(self, after: int, limit: int) -> Sequence[tuple[int, str, LogEntry]]:
        """See ``Ledger.log``."""
        if self.failing:
            raise LedgerError("the ledger's server cannot be reached")
        return await super().log(after, limit)


async def run_command(command: str, traffic: SampleTraffic, ledger: FailingLedger) -> None:
    """Run one command of the program; an unknown one is ignored."""
    if command in {"more", "hostile"}:
        traffic.clock.advance(60.0)
        caller = HOSTILE if command == "hostile" else Caller("key:alice")
        await simulate_day(traffic, [CallerPlan(caller, 5, (23.99, 24.0))], _SEED)
    elif command in {"stop-ledger", "start-ledger"}:
        traffic.clock.advance(60.0)
        ledger.failing = command == "stop-ledger"


async def _serve() -> None:
    ledger = FailingLedger()
    await ledger.open()
    traffic = SampleTraffic.start(ledger, build_tariff(_SEED), _DAY_END)
    await simulate_day(traffic, sample_callers(), _SEED)
    app = Starlette(routes=[Mount("/dashboard", traffic.dashboard)])
    with listen("admin", "127.0.0.1:0") as listening:
        async with background_server(app, listening):
            _print_line(f"http://127.0.0.1:{listening.getsockname()[1]}/dashboard/")
            while line := await asyncio.to_thread(sys.stdin.readline):
                await run_command(line.strip(), traffic, ledger)
                _print_line("done")


def _print_line(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    asyncio.run(_serve())
