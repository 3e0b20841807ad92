"""Scenarios: honest callers, and thieves with many accounts, with fillers, or who abandon expensive rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.records import Caller
from modeltoll.simulation.p_value_mixture import UNIFORM, PValueMixture, leaks_at
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
_POINTS = {REPEATED: 1.0, JITTERED: 1.0, MIDDLING: 0.5}  # p-value of these fillers


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds per row: of an answer without a gateway, and of the gateway itself."""

    undefended: float
    gate: float = 0.0


@dataclass(frozen=True, slots=True)
class ThiefPlan:
    """What to simulate.

    ``rows``: per thief, drawn from the recorded ones; None for these themselves. ``accounts``: numbers of accounts over
    which a thief spreads the rows. ``fillers``: numbers of filler rows per stolen row, of every built-in kind and of
    each distribution of p in ``distributions``. ``abandon``: a thief abandons rows that cost more than so many times the
    undefended time. ``honest_callers``, ``honest_rows``: callers drawn from the calibration's distribution, and rows of
    each. ``caller``: attributes of all accounts.
    """

    rows: int | None = 10_000
    accounts: tuple[int, ...] = (1, 10, 100, 1_000, 10_000)
    fillers: tuple[int, ...] = (1, 2, 4, 8)
    distributions: Mapping[str, PValueMixture] = field(default_factory=dict)
    abandon: tuple[float, ...] = (1.0, 10.0)
    honest_callers: int = 20
    honest_rows: int = 10_000
    caller: Caller = field(default_factory=lambda: Caller("key:simulated"))


def take_all(seconds: Floats) -> Bools:
    """Buy all rows."""
    return np.ones(len(seconds), np.bool_)


def take_up_to(limit: float) -> Callable[[Floats], Bools]:
    """Buy rows that cost at most ``limit`` seconds."""
    return lambda seconds: seconds <= limit


def take_cheaper_half(seconds: Floats) -> Bools:
    """Buy the cheaper half of all rows; of equal prices the earlier rows."""
    bought = np.zeros(len(seconds), np.bool_)
    bought[np.argsort(seconds, kind="stable")[: len(seconds) // 2]] = True
    return bought


@dataclass(frozen=True, slots=True, eq=False)
class Scenario:
    """The rows of one caller, and which of them it buys.

    ``buys``: from the price of each row in seconds (rows,) to whether it is solved (rows,). ``pays`` (rows,): rows that
    this caller pays for, None for all; the others belong to honest callers among which it hides. ``mode``: title in
    tables. ``family``, ``kind`` and ``level`` are for figures.
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
    """The source of rows: honest leaks (n, measures), and the scores (measures, n) to which p-values refer."""

    honest: Floats
    scores: Floats


def honest_scenarios(source: RowSource, plan: ThiefPlan, rng: np.random.Generator) -> Iterator[Scenario]:
    """One caller with the recorded rows, and many with rows drawn from the calibration's distribution."""
    yield Scenario("honest, as recorded", HONEST, "recorded", 1, one_account(source.honest))
    callers, rows = plan.honest_callers, plan.honest_rows
    if callers * rows:
        generated = leaks_at(source.scores, UNIFORM.draw(callers * rows, rng))
        title = f"honest, {callers:,} callers of {rows:,} rows"
        yield Scenario(title, HONEST, "drawn", callers, split_over_accounts(generated, callers))


def _fillers(kind: str, shape: tuple[int, int], source: RowSource, plan: ThiefPlan, rng: np.random.Generator) -> Floats:
    """Fillers of one kind, shape (rows, fillers, measures) for ``shape`` (rows, fillers)."""
    count = shape[0] * shape[1]
    if kind == UNSEEN:
        leaks = sample_rows(source.honest, count, rng)
    elif kind in _POINTS:
        leaks = np.broadcast_to(leaks_at(source.scores, np.array([_POINTS[kind]])), (count, source.scores.shape[0]))
    else:
        leaks = leaks_at(source.scores, plan.distributions[kind].draw(count, rng))
    return leaks.reshape(*shape, -1)


def thief_scenarios(
    name: str, stolen: Floats, source: RowSource, plan: ThiefPlan, times: Times, rng: np.random.Generator
) -> Iterator[Scenario]:
    """A thief who wants the rows ``stolen`` (rows, measures): over accounts, with fillers, abandoning expensive rows."""
    for accounts in plan.accounts:
        if accounts <= len(stolen):
            noun = "account" if accounts == 1 else "accounts"
            yield Scenario(
                f"{name}, {accounts:,} {noun}", ACCOUNTS, "accounts", accounts, split_over_accounts(stolen, accounts)
            )
    for kind in (*_POINTS, UNSEEN, *plan.distributions):
        for each in plan.fillers:
            fillers = _fillers(kind, (len(stolen), each), source, plan, rng)
            mixed = mixed_with_fillers(stolen, fillers, repeated=kind == REPEATED)
            noun = "filler" if each == 1 else "fillers"
            title = f"{noun} of p {kind}" if kind in plan.distributions else f"{kind} {noun}"
            yield Scenario(f"{name}, {each} {title} a row", FILLERS, kind, each, mixed)
    for limit in plan.abandon:
        seconds = limit * times.undefended
        yield Scenario(
            f"{name}, leaves rows above {limit:g}x", ABANDON, "abandon", limit, one_account(stolen), take_up_to(seconds)
        )
    yield Scenario(
        f"{name}, buys the cheapest half", CHEAPEST, "cheapest half", 0.5, one_account(stolen), take_cheaper_half
    )
