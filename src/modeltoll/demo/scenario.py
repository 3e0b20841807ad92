"""Who asks what, directly and through the gateway, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.demo.http_callers import DemoRequest, Endpoint, PaidAnswer, ask, buy, requests_for
from modeltoll.demo.summary import PaidRequest

if TYPE_CHECKING:
    from modeltoll.demo.data import DataSizes, DemoData
    from modeltoll.demo.servers import DemoServers
    from modeltoll.records import Bools, Floats, MachineProfile, Progress

__all__ = [
    "HONEST",
    "JITTERED",
    "NOISE",
    "PICTURES",
    "REPEATED",
    "SPREAD",
    "Scenario",
    "Task",
    "honest_task",
    "thief_tasks",
]


HONEST, PICTURES, NOISE = "honest", "pictures", "noise"
SPREAD, REPEATED, JITTERED = "spread", "repeated", "jittered"
_BLOCK = 20  # honest rows are asked directly and through the gateway in turns, so that both meet the same machine


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What one caller is going to ask: rows (requests, dimensions), and which of them are more than filler."""

    name: str
    keys: tuple[str, ...]
    rows: Floats
    wanted: Bools

    @property
    def questions(self) -> list[DemoRequest]:
        """Its requests, one row each."""
        return requests_for(self.rows, self.keys)


def _whole(name: str, rows: Floats, accounts: int = 1) -> Task:
    keys = tuple(f"{name}-{number}" for number in range(accounts))
    return Task(name, keys, rows, np.ones(len(rows), np.bool_))


def _diluted(name: str, stolen: Floats, fillers: Floats) -> Task:
    """Fillers (stolen, fillers, dimensions) go before each stolen row."""
    rows = np.concatenate([fillers, stolen[:, None]], axis=1)
    wanted = np.zeros(rows.shape[:2], np.bool_)
    wanted[:, -1] = True
    return Task(name, (f"{name}-0",), rows.reshape(-1, rows.shape[-1]), wanted.ravel())


def honest_task(world: DemoData) -> Task:
    """Unseen digits, each once."""
    return _whole(HONEST, world.honest)


def thief_tasks(world: DemoData, confident: Floats, sizes: DataSizes, rng: np.random.Generator) -> tuple[Task, ...]:
    """The thieves' plans. ``confident`` (dimensions,) is a digit that the victim is sure of."""
    stolen = world.pictures[: sizes.diluted]
    repeated = np.broadcast_to(confident, (len(stolen), sizes.fillers, len(confident)))
    steps = rng.integers(-1, 2, repeated.shape) / world.levels
    return (
        _whole(PICTURES, world.pictures),
        _whole(NOISE, world.noise),
        _whole(SPREAD, world.pictures, sizes.accounts),
        _diluted(REPEATED, stolen, repeated),
        _diluted(JITTERED, stolen, np.clip(repeated + steps, 0.0, 1.0)),
    )


class Scenario:
    """Asks for everything, directly and through the gateway, and remembers both."""

    def __init__(self, street: DemoServers, profile: MachineProfile, budget: float) -> None:
        self._victim_url = street.victim_url
        self._seller = Endpoint(street.gateway_url, profile)
        self._budget = budget
        self.direct: dict[bytes, PaidAnswer] = {}
        self.visits: list[PaidRequest] = []

    def honest(self, errand: Task, progress: Progress) -> None:
        """Ask directly and through the gateway in turns, and solve every toll."""
        asked = errand.questions
        bought: list[PaidAnswer] = []
        for start in range(0, len(asked), _BLOCK):
            block = asked[start : start + _BLOCK]
            self._ask(block, lambda: None)
            bought += buy(self._seller, block, lambda: None)
            progress(len(bought), len(asked))
        self._visited(errand, asked, bought)

    def ask(self, errands: Sequence[Task], progress: Progress) -> None:
        """Ask the victim what the thieves are going to ask, each question once."""
        asked = {question.body: question for errand in errands for question in errand.questions}
        self._ask(list(asked.values()), _Counter(progress, len(asked)))

    def steal(self, errand: Task, progress: Progress) -> None:
        """Ask through the gateway and solve until the budget is spent."""
        asked = errand.questions
        bought = buy(self._seller, asked, _Counter(progress, len(asked)), self._budget)
        self._visited(errand, asked, bought)

    def _ask(self, asked: Sequence[DemoRequest], tick: Callable[[], None]) -> None:
        for question, purchase in zip(asked, ask(self._victim_url, asked, tick), strict=True):
            self.direct[question.body] = purchase

    def _visited(self, errand: Task, asked: list[DemoRequest], bought: list[PaidAnswer]) -> None:
        self.visits.append(PaidRequest(errand.name, len(errand.keys), asked, bought, errand.wanted))


class _Counter:
    """Turns ticks into progress."""

    def __init__(self, progress: Progress, most: int) -> None:
        self._progress, self._done, self._most = progress, 0, most

    def __call__(self) -> None:
        self._done += 1
        self._progress(self._done, self._most)
