"""Scenarios: honest callers, and thieves with many accounts, with fillers, or who abandon expensive rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.records import Caller
from modeltoll.simulation.p_value_mixture import PValueMixture, leaks_at
from modeltoll.simulation.traffic import (
    Rows,
    Traffic,
    after_bank,
    draw_rows,
    mixed_with_fillers,
    one_account,
    sample_rows,
    split_over_accounts,
)

if TYPE_CHECKING:
    from modeltoll.records import Bools, Floats

__all__ = [
    "ABANDON",
    "ACCOUNTS",
    "BANK",
    "CHEAPEST",
    "FILLERS",
    "HONEST",
    "RowSource",
    "Scenario",
    "ThiefPlan",
    "Times",
    "honest_scenarios",
    "mixed_rows",
    "switching_rows",
    "take_all",
    "take_cheaper_half",
    "take_up_to",
    "thief_scenarios",
]

HONEST, ACCOUNTS, FILLERS, ABANDON, CHEAPEST = "honest", "accounts", "fillers", "abandon", "cheapest half"
BANK = "bank"
REPEATED, JITTERED, MIDDLING, FRESH = "repeated", "jittered", "middling", "fresh honest"
_POINTS = {REPEATED: 1.0, JITTERED: 1.0, MIDDLING: 0.5}  # p-value of these fillers
_SWITCH_ROWS = 50  # of one kind, before a caller who switches sends rows of another


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
    each distribution of p in ``distributions``. ``banks``: numbers of honest rows that an account sends before it steals.
    ``abandon``: a thief abandons rows that cost more than so many times the
    undefended time. ``honest_callers``, ``honest_rows``: callers drawn from the calibration's distribution, and rows of
    each. ``caller``: attributes of all accounts.
    """

    rows: int | None = 10_000
    accounts: tuple[int, ...] = (1, 10, 100, 1_000, 10_000)
    fillers: tuple[int, ...] = (1, 2, 4, 8)
    banks: tuple[int, ...] = (4_000,)
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
    """The source of rows: honest ones, the scores (measures, n) to which p-values refer, and honest rows of other kinds."""

    honest: Rows
    scores: Floats
    kinds: Mapping[str, Rows] = field(default_factory=dict)


def switching_rows(kinds: Sequence[Rows], count: int, rng: np.random.Generator) -> Rows:
    """``count`` rows of a caller who sends some rows of one kind, then of another, drawn at random each time."""
    turns = -(-count // _SWITCH_ROWS)
    parts = [draw_rows(kinds[kind], _SWITCH_ROWS, rng) for kind in rng.integers(0, len(kinds), turns).tolist()]
    return Rows.joined(parts)[:count]


def mixed_rows(kinds: Sequence[Rows], count: int, rng: np.random.Generator) -> Rows:
    """``count`` rows of a caller who sends all kinds in shares of its own, drawn uniformly from all shares."""
    kind = rng.choice(len(kinds), count, p=rng.dirichlet(np.ones(len(kinds))))
    parts = [draw_rows(rows, int((kind == index).sum()), rng) for index, rows in enumerate(kinds)]
    order = np.empty(count, np.int64)
    order[np.argsort(kind, kind="stable")] = np.arange(count)
    return Rows.joined(parts)[order]


def honest_scenarios(source: RowSource, plan: ThiefPlan, rng: np.random.Generator) -> Iterator[Scenario]:
    """One caller with the recorded rows, one with those of each kind, and many whose rows are drawn from the recorded ones."""
    yield Scenario("honest, as recorded", HONEST, "recorded", 1, one_account(source.honest))
    for name, rows in source.kinds.items():
        yield Scenario(f"honest, {name}", HONEST, name, 1, one_account(rows))
    callers, count = plan.honest_callers, plan.honest_rows
    if not callers * count:
        return
    title = f"honest, {callers:,} callers of {count:,} rows"
    drawn = draw_rows(source.honest, callers * count, rng)
    yield Scenario(title, HONEST, "drawn", callers, split_over_accounts(drawn, callers))
    if source.kinds:
        kinds = (source.honest, *source.kinds.values())
        for kind, draw in (("mixtures", mixed_rows), ("switching", switching_rows)):
            rows = Rows.joined([draw(kinds, count, rng) for _ in range(callers)])
            by_caller = np.arange(callers * count).reshape(callers, count).T.ravel()
            title = f"honest, {callers:,} callers of {count:,} rows, {kind} of kinds"
            yield Scenario(title, HONEST, kind, callers, split_over_accounts(rows[by_caller], callers))


def _fillers(kind: str, count: int, source: RowSource, plan: ThiefPlan, rng: np.random.Generator) -> Rows:
    """``count`` fillers of one kind."""
    if kind == FRESH:
        return sample_rows(source.honest, count, rng)
    if kind in _POINTS:
        leaks = leaks_at(source.scores, np.array([_POINTS[kind]]))
        return Rows(np.broadcast_to(leaks, (count, source.scores.shape[0])))
    return Rows(leaks_at(source.scores, plan.distributions[kind].draw(count, rng)))


def thief_scenarios(
    name: str, stolen: Rows, source: RowSource, plan: ThiefPlan, times: Times, rng: np.random.Generator
) -> Iterator[Scenario]:
    """A thief who wants the ``stolen`` rows: over accounts, with fillers, after a bank of honest rows, leaving dear rows."""
    for accounts in plan.accounts:
        if accounts <= len(stolen):
            noun = "account" if accounts == 1 else "accounts"
            yield Scenario(
                f"{name}, {accounts:,} {noun}", ACCOUNTS, "accounts", accounts, split_over_accounts(stolen, accounts)
            )
    for kind in (*_POINTS, FRESH, *plan.distributions):
        for each in plan.fillers:
            fillers = _fillers(kind, each * len(stolen), source, plan, rng)
            mixed = mixed_with_fillers(stolen, fillers, repeated=kind == REPEATED)
            noun = "filler" if each == 1 else "fillers"
            title = f"{noun} of p {kind}" if kind in plan.distributions else f"{kind} {noun}"
            yield Scenario(f"{name}, {each} {title} a row", FILLERS, kind, each, mixed)
    for count in plan.banks:
        banked = after_bank(sample_rows(source.honest, count, rng), one_account(stolen))
        yield Scenario(f"{name}, after {count:,} honest rows", BANK, "bank", count, banked)
    for limit in plan.abandon:
        seconds = limit * times.undefended
        yield Scenario(
            f"{name}, leaves rows above {limit:g}x", ABANDON, "abandon", limit, one_account(stolen), take_up_to(seconds)
        )
    yield Scenario(
        f"{name}, buys the cheapest half", CHEAPEST, "cheapest half", 0.5, one_account(stolen), take_cheaper_half
    )
