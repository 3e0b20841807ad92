"""A gateway that counts the requests that reach it: its process, and how ``bench_settlement.py`` sees it."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
from settlement_theft import PATH, RunningGateway

from modeltoll.gateway.assembly.build import build_gateway
from modeltoll.gateway.server.serve import run
from modeltoll.gateway.settings.load import load_settings
from modeltoll.wire import REDEEM_PATH, SETTLE_PATH

__all__ = ["CountingGateway", "run_gateway"]

KINDS = {PATH: "inference", REDEEM_PATH: "redemption", SETTLE_PATH: "settlement"}


class CountingApplication:
    """An ASGI application that counts the requests that reach another one, by path."""

    def __init__(self, application):
        self._application, self._counts = application, Counter()

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http" and scope["path"] == "/counts":
            body = json.dumps(self._counts).encode()
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            return
        if scope["type"] == "http":
            self._counts[scope["path"]] += 1
        await self._application(scope, receive, send)


def run_gateway(settings):
    """Run a gateway: ``modeltoll serve``'s own code, and the counts."""

    loaded = load_settings(settings)
    built = build_gateway(loaded)
    run(loaded, replace(built, public=CountingApplication(built.public)))


@dataclass
class CountingGateway:
    """A running gateway that counts requests."""

    url: str
    admin: str
    process: subprocess.Popen
    lines: int = 0  # of the log that were read

    def counts(self):
        """Requests that reached the gateway so far, by kind."""
        found = Counter()
        for path, count in httpx.get(f"{self.url}/counts").json().items():
            found[KINDS.get(path, path)] += count
        return found

    def admissions(self):
        """Admission tolls asked so far."""
        samples = httpx.get(f"{self.admin}/metrics").text
        return sum(
            map(float, re.findall(r'^modeltoll_requests_total\{.*mode="admission".*\} (\S+)$', samples, re.MULTILINE))
        )

    def processor_seconds(self):
        """Processor time so far, without the thread of lower priority that computes puzzles ahead."""
        total = 0
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            if (task / "stat").read_text().rpartition(")")[2].split()[16] == "0":
                total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9

    def price(self):
        """Reference seconds that the log promised since the last call."""
        lines = RunningGateway(self.url, self.admin, self.process).log()
        new, self.lines = lines[self.lines :], len(lines)
        return sum(line["work_seconds"] for line in new)
