"""The callers of the demo: what each one sends, directly and through the gateway, and the answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.demo.http_callers import (
    DemoRequest,
    GatewayEndpoint,
    TimedAnswer,
    ask_directly,
    ask_with_toll,
    requests_for,
)
from modeltoll.demo.summary import CallerTraffic

if TYPE_CHECKING:
    from modeltoll.demo.data import DataSizes, DemoData
    from modeltoll.demo.servers import DemoServers
    from modeltoll.records import Bools, Floats, MachineProfile, Progress

__all__ = [
    "BANK",
    "FRESH",
    "HONEST",
    "JITTERED",
    "NOISE",
    "PICTURES",
    "REPEATED",
    "SHIFTED",
    "SPECIALIST",
    "SPREAD",
    "DemoScenario",
    "Task",
    "honest_tasks",
    "thief_tasks",
]


HONEST, SPECIALIST, SHIFTED = "honest", "specialist", "shifted"
PICTURES, NOISE, SPREAD = "pictures", "noise", "spread"
REPEATED, JITTERED, FRESH, BANK = "repeated", "jittered", "fresh", "bank"
_BLOCK = 20  # requests sent directly, then through the gateway, in turns, so that other load affects both alike


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What one caller sends: API keys, rows (requests, dimensions), and which of them are not fillers, (requests,)."""

    name: str
    keys: tuple[str, ...]
    rows: Floats
    wanted: Bools

    @property
    def requests(self) -> list[DemoRequest]:
        """One request per row."""
        return requests_for(self.rows, self.keys)


def _plain_task(name: str, rows: Floats, accounts: int = 1) -> Task:
    keys = tuple(f"{name}-{number}" for number in range(accounts))
    return Task(name, keys, rows, np.ones(len(rows), np.bool_))


def _diluted_task(name: str, stolen: Floats, fillers: Floats) -> Task:
    """A task with fillers (stolen rows, fillers, dimensions) before each stolen row."""
    rows = np.concatenate([fillers, stolen[:, None]], axis=1)
    wanted = np.zeros(rows.shape[:2], np.bool_)
    wanted[:, -1] = True
    return Task(name, (f"{name}-0",), rows.reshape(-1, rows.shape[-1]), wanted.ravel())


def honest_tasks(data: DemoData, sizes: DataSizes) -> tuple[Task, ...]:
    """The honest callers' tasks: unseen digits, each once; those of one class; others of a declared kind."""
    frequent = int(np.bincount(data.test_y).argmax())
    return (
        _plain_task(HONEST, data.honest),
        _plain_task(SPECIALIST, data.test_x[data.test_y == frequent][: sizes.specialist]),
        _plain_task(SHIFTED, data.of_kind(data.test_x[::-1][: sizes.shifted])),
    )


def thief_tasks(data: DemoData, confident: Floats, sizes: DataSizes, rng: np.random.Generator) -> tuple[Task, ...]:
    """The thieves' tasks. ``confident`` (dimensions,) is a digit that the victim classifies with high confidence."""
    stolen = data.pictures[: sizes.diluted]
    repeated = np.broadcast_to(confident, (len(stolen), sizes.fillers, len(confident)))
    steps = rng.integers(-1, 2, repeated.shape) / data.levels
    fresh = data.test_x[: sizes.covered * sizes.fresh].reshape(sizes.covered, sizes.fresh, -1)
    bank, banked = data.test_x[: sizes.bank], data.pictures[: sizes.banked]
    wanted = np.arange(len(bank) + len(banked)) >= len(bank)
    return (
        _plain_task(PICTURES, data.pictures[: sizes.plain]),
        _plain_task(NOISE, data.noise),
        _plain_task(SPREAD, data.pictures, sizes.accounts),
        _diluted_task(REPEATED, stolen, repeated),
        _diluted_task(JITTERED, stolen, np.clip(repeated + steps, 0.0, 1.0)),
        _diluted_task(FRESH, data.pictures[: sizes.covered], fresh),
        Task(BANK, (f"{BANK}-0",), np.concatenate([bank, banked]), wanted),
    )


class DemoScenario:
    """Sends every task, directly and through the gateway, and records the answers of both."""

    def __init__(self, servers: DemoServers, profile: MachineProfile, budget: float) -> None:
        self._victim_url = servers.victim_url
        self._endpoint = GatewayEndpoint(servers.gateway_url, profile)
        self._budget = budget
        self.direct: dict[bytes, TimedAnswer] = {}
        self.traffic: list[CallerTraffic] = []

    def run_honest(self, task: Task, progress: Progress) -> None:
        """Send the honest task directly and through the gateway in turns, and solve every toll."""
        requests = task.requests
        answers: list[TimedAnswer] = []
        for start in range(0, len(requests), _BLOCK):
            block = requests[start : start + _BLOCK]
            self._send_directly(block, lambda: None)
            answers += ask_with_toll(self._endpoint, block, lambda: None)
            progress(len(answers), len(requests))
        self._record(task, requests, answers)

    def run_directly(self, tasks: Sequence[Task], progress: Progress) -> None:
        """Send the thieves' requests to the model server, each distinct one once."""
        requests = {request.body: request for task in tasks for request in task.requests}
        self._send_directly(list(requests.values()), _Counter(progress, len(requests)))

    def run_thief(self, task: Task, progress: Progress) -> None:
        """Send a thief's task through the gateway, and solve tolls until the budget is spent."""
        requests = task.requests
        answers = ask_with_toll(self._endpoint, requests, _Counter(progress, len(requests)), self._budget)
        self._record(task, requests, answers)

    def _send_directly(self, requests: Sequence[DemoRequest], on_answer: Callable[[], None]) -> None:
        for request, answer in zip(requests, ask_directly(self._victim_url, requests, on_answer), strict=True):
            self.direct[request.body] = answer

    def _record(self, task: Task, requests: list[DemoRequest], answers: list[TimedAnswer]) -> None:
        self.traffic.append(CallerTraffic(task.name, len(task.keys), requests, answers, task.wanted))


class _Counter:
    """Counts calls and reports them as progress."""

    def __init__(self, progress: Progress, most: int) -> None:
        self._progress, self._done, self._most = progress, 0, most

    def __call__(self) -> None:
        self._done += 1
        self._progress(self._done, self._most)
