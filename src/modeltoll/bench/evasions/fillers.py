"""Evasions by fillers: cheap or honest rows before each stolen row, or a bank of honest rows before all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import rankdata

from modeltoll.bench.evasions.evasion import EASY, JITTERED, EvasionPlan
from modeltoll.simulation.scenarios import Scenario
from modeltoll.simulation.traffic import after_bank, mixed_with_fillers, sample_rows

if TYPE_CHECKING:
    from modeltoll.bench.evasions.evasion import Cover
    from modeltoll.records import Bools, Floats, Integers
    from modeltoll.simulation.traffic import Rows, Traffic

__all__ = ["FILLERS", "FRESH", "STOLEN_ROWS", "Bank", "Fillers", "UnpaidFillers"]

STOLEN_ROWS = 600  # that a thief with a bank, or with many fillers, wants at most
_FEW_FILLERS = 8  # per stolen row; with no more of them a thief wants every row
FRESH = "fresh-fillers"

_Choice = Callable[["Cover", int, np.random.Generator], "Rows"]


def _copies(rows: Rows, row: int, count: int) -> Rows:
    places: Integers = np.full(count, row)
    return rows[places]


def _typical_honest(cover: Cover, count: int, rng: np.random.Generator) -> Rows:
    """The honest row that is nearest to the median under every measure."""
    del rng
    ranks = rankdata(cover.honest.leaks, axis=0) / (len(cover.honest) + 1)
    return _copies(cover.honest, int(np.abs(ranks - 0.5).max(axis=1).argmin()), count)


def _imitation(cover: Cover, count: int, rng: np.random.Generator) -> Rows:
    """Honest rows of the more expensive half, so that the p-values of all rows together look uniform."""
    prices = cover.price(cover.honest)
    return sample_rows(cover.honest[prices >= np.median(prices)], count, rng)


FILLERS: Mapping[str, _Choice] = {
    "repeated": lambda cover, count, _: _copies(cover.fillers[EASY], 0, count),
    "jittered": lambda cover, count, rng: sample_rows(cover.fillers[JITTERED], count, rng),
    FRESH: lambda cover, count, rng: sample_rows(cover.honest, count, rng),
    "middling": _typical_honest,
    "imitating": _imitation,
}


@dataclass(frozen=True, slots=True)
class Fillers:
    """``each`` fillers before each stolen row, of one ``kind``.

    ``repeated``: one easy row; ``jittered``: distinct copies of it; ``middling``: one typical honest row;
    ``fresh-fillers``: honest rows that were not sent before; ``imitating``: honest rows of the more expensive half. With
    more than eight fillers the thief wants the first ``STOLEN_ROWS`` rows only.
    """

    kind: str
    each: int

    @property
    def name(self) -> str:
        """``jittered-4``."""
        return f"{self.kind}-{self.each}"

    @property
    def family(self) -> str:
        """The kind."""
        return self.kind

    @property
    def level(self) -> float:
        """Fillers per stolen row."""
        return float(self.each)

    def plan(self, stolen: Rows, cover: Cover, rng: np.random.Generator) -> EvasionPlan:
        """As ``Evasion.plan``, from one account."""
        wanted = stolen if self.each <= _FEW_FILLERS else stolen[:STOLEN_ROWS]
        traffic = _with_fillers(wanted, self.kind, self.each, cover, rng)
        return EvasionPlan(Scenario(self.name, self.family, self.kind, self.level, traffic))


def _with_fillers(stolen: Rows, kind: str, each: int, cover: Cover, rng: np.random.Generator) -> Traffic:
    fillers = FILLERS[kind](cover, len(stolen) * each, rng)
    return mixed_with_fillers(stolen, fillers, repeated=kind == "repeated")


@dataclass(frozen=True, slots=True)
class Bank:
    """The account sends ``rows`` honest rows first, then up to ``STOLEN_ROWS`` stolen rows with ``each`` fresh fillers before each.

    The thief does not pay the bank: the account may be that of an honest caller.
    """

    rows: int = 4_000
    each: int = 0
    family: str = "bank"

    @property
    def name(self) -> str:
        """``bank``, or ``bank-4`` with four fillers for each stolen row."""
        return f"{self.family}-{self.each}" if self.each else self.family

    @property
    def level(self) -> float:
        """Fillers per stolen row."""
        return float(self.each)

    def plan(self, stolen: Rows, cover: Cover, rng: np.random.Generator) -> EvasionPlan:
        """As ``Evasion.plan``, from one account."""
        bank = sample_rows(cover.honest, self.rows, rng)
        traffic = after_bank(bank, _with_fillers(stolen[:STOLEN_ROWS], FRESH, self.each, cover, rng))
        pays = np.arange(len(traffic.leaks)) >= self.rows
        return EvasionPlan(Scenario(self.name, self.family, self.family, self.level, traffic, pays=pays))


@dataclass(frozen=True, slots=True)
class UnpaidFillers:
    """Fresh fillers before each of the first ``STOLEN_ROWS`` stolen rows, whose tolls are thrown away.

    Where tolls are settled, the account may leave its credit unpaid; beyond that each request is paid in advance.
    """

    each: int
    family: str = "unpaid"

    @property
    def name(self) -> str:
        """``unpaid-4``."""
        return f"{self.family}-{self.each}"

    @property
    def level(self) -> float:
        """Fillers per stolen row."""
        return float(self.each)

    def plan(self, stolen: Rows, cover: Cover, rng: np.random.Generator) -> EvasionPlan:
        """As ``Evasion.plan``, from one account; only the tolls of stolen rows are solved."""
        wanted = Fillers(FRESH, self.each).plan(stolen[:STOLEN_ROWS], cover, rng).scenario
        scenario = replace(
            wanted, mode=self.name, family=self.family, kind=self.family, buys=_Only(wanted.traffic.wanted)
        )
        return EvasionPlan(scenario)


@dataclass(frozen=True, slots=True, eq=False)
class _Only:
    """Buys the marked rows (rows,) at any price."""

    marked: Bools

    def __call__(self, seconds: Floats) -> Bools:
        del seconds
        return self.marked
