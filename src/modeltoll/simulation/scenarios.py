"""The plans of callers: honest ones, and thieves with many accounts, with fillers, or choosy about the price."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.records import Caller
from modeltoll.simulation.p_value_mixture import EVERYWHERE, PValueMixture, leaks_at
from modeltoll.simulation.traffic import Traffic, mixed_with_fillers, one_account, sample_rows, split_over_accounts

if TYPE_CHECKING:
    from modeltoll.records import Bools, Floats

__all__ = [
    "ABANDON",
    "ACCOUNTS",
    "CHEAPEST",
    "FILLERS",
    "HONEST",
    "RowSource",
    "Scenario",
    "ThiefPlan",
    "Times",
    "honest_scenarios",
    "take_all",
    "take_cheaper_half",
    "take_up_to",
    "thief_scenarios",
]

HONEST, ACCOUNTS, FILLERS, ABANDON, CHEAPEST = "honest", "accounts", "fillers", "abandon", "cheapest half"
REPEATED, JITTERED, MIDDLING, UNSEEN = "repeated", "jittered", "middling", "unseen honest"
_POINTS = {REPEATED: 1.0, JITTERED: 1.0, MIDDLING: 0.5}  # the p of these fillers


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds per row: of an undefended answer, and of the gateway's own work on it."""

    undefended: float
    gate: float = 0.0


@dataclass(frozen=True, slots=True)
class ThiefPlan:
    """What to simulate.

    ``rows`` per thief, drawn from what was recorded (None: as recorded); ``accounts`` that a thief spreads them over;
    ``fillers`` per stolen row, of every kind there is and of each ``stated`` distribution of p; a thief leaves rows
    dearer than so many times the undefended time (``abandon``). ``honest_callers`` of ``honest_rows`` rows are drawn
    from the calibration's own distribution. ``caller`` says of which kind all accounts are.
    """

    rows: int | None = 10_000
    accounts: tuple[int, ...] = (1, 10, 100, 1_000, 10_000)
    fillers: tuple[int, ...] = (1, 2, 4, 8)
    stated: Mapping[str, PValueMixture] = field(default_factory=dict)
    abandon: tuple[float, ...] = (1.0, 10.0)
    honest_callers: int = 20
    honest_rows: int = 10_000
    caller: Caller = field(default_factory=lambda: Caller("key:simulated"))


def take_all(seconds: Floats) -> Bools:
    """Whatever it costs."""
    return np.ones(len(seconds), np.bool_)


def take_up_to(limit: float) -> Callable[[Floats], Bools]:
    """Rows that cost so many seconds at most."""
    return lambda seconds: seconds <= limit


def take_cheaper_half(seconds: Floats) -> Bools:
    """The cheaper half of all rows, of equals the earlier."""
    bought = np.zeros(len(seconds), np.bool_)
    bought[np.argsort(seconds, kind="stable")[: len(seconds) // 2]] = True
    return bought


@dataclass(frozen=True, slots=True, eq=False)
class Scenario:
    """One caller's plan; ``buys`` says from the seconds that rows cost which of them are solved, both (rows,).

    ``pays`` (rows,) marks the rows that cost this caller anything (None: all); others are of people he hides behind.
    ``mode`` is what to call it; ``family``, ``kind`` and ``level`` say where it belongs in a figure.
    """

    mode: str
    family: str
    kind: str
    level: float
    traffic: Traffic
    buys: Callable[[Floats], Bools] = take_all
    pays: Bools | None = None


@dataclass(frozen=True, slots=True, eq=False)
class RowSource:
    """What rows are made from: honest rows (n, measures), and the scores (measures, n) that p-values refer to."""

    honest: Floats
    scores: Floats


def honest_scenarios(source: RowSource, plan: ThiefPlan, rng: np.random.Generator) -> Iterator[Scenario]:
    """One caller who sends the recorded rows, and many drawn from the calibration's own distribution."""
    yield Scenario("honest, as recorded", HONEST, "recorded", 1, one_account(source.honest))
    callers, rows = plan.honest_callers, plan.honest_rows
    if callers * rows:
        generated = leaks_at(source.scores, EVERYWHERE.draw(callers * rows, rng))
        title = f"honest, {callers:,} callers of {rows:,} rows"
        yield Scenario(title, HONEST, "drawn", callers, split_over_accounts(generated, callers))


def _fillers(kind: str, shape: tuple[int, int], source: RowSource, plan: ThiefPlan, rng: np.random.Generator) -> Floats:
    """So many rows times so many fillers of one kind, (rows, fillers, measures)."""
    count = shape[0] * shape[1]
    if kind == UNSEEN:
        leaks = sample_rows(source.honest, count, rng)
    elif kind in _POINTS:
        leaks = np.broadcast_to(leaks_at(source.scores, np.array([_POINTS[kind]])), (count, source.scores.shape[0]))
    else:
        leaks = leaks_at(source.scores, plan.stated[kind].draw(count, rng))
    return leaks.reshape(*shape, -1)


def thief_scenarios(
    name: str, stolen: Floats, source: RowSource, plan: ThiefPlan, times: Times, rng: np.random.Generator
) -> Iterator[Scenario]:
    """A thief who wants the rows (rows, measures): over accounts, behind fillers, choosy about the price."""
    for accounts in plan.accounts:
        if accounts <= len(stolen):
            noun = "account" if accounts == 1 else "accounts"
            yield Scenario(
                f"{name}, {accounts:,} {noun}", ACCOUNTS, "accounts", accounts, split_over_accounts(stolen, accounts)
            )
    for kind in (*_POINTS, UNSEEN, *plan.stated):
        for each in plan.fillers:
            fillers = _fillers(kind, (len(stolen), each), source, plan, rng)
            mixed = mixed_with_fillers(stolen, fillers, repeated=kind == REPEATED)
            noun = "filler" if each == 1 else "fillers"
            title = f"{noun} of p {kind}" if kind in plan.stated else f"{kind} {noun}"
            yield Scenario(f"{name}, {each} {title} a row", FILLERS, kind, each, mixed)
    for limit in plan.abandon:
        seconds = limit * times.undefended
        yield Scenario(
            f"{name}, leaves rows above {limit:g}x", ABANDON, "abandon", limit, one_account(stolen), take_up_to(seconds)
        )
    yield Scenario(
        f"{name}, buys the cheapest half", CHEAPEST, "cheapest half", 0.5, one_account(stolen), take_cheaper_half
    )
