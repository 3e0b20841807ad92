"""Evasions by many accounts: keyed, anonymous, of one organisation, or shared with honest callers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.evasions.evasion import EvasionPlan
from modeltoll.records import Caller
from modeltoll.simulation.scenarios import Scenario
from modeltoll.simulation.traffic import Traffic, mixed_with_fillers, sample_rows, split_over_accounts

if TYPE_CHECKING:
    from modeltoll.bench.evasions.evasion import Cover
    from modeltoll.simulation.traffic import Rows

__all__ = ["JoinedAccounts", "ManyAccounts"]

_KEYED, _ANONYMOUS = Caller("key:thief"), Caller("net:198.51.100.7")


@dataclass(frozen=True, slots=True)
class ManyAccounts:
    """The rows are spread over accounts in turns.

    ``anonymous`` accounts pay the new-account toll; ``together``: the accounts belong to one organisation.
    """

    accounts: int
    anonymous: bool = False
    together: bool = False

    @property
    def name(self) -> str:
        """``accounts-100``."""
        return f"{self.family}-{self.accounts}"

    @property
    def family(self) -> str:
        """``accounts``, ``anonymous`` or ``organisation``."""
        return "anonymous" if self.anonymous else "organisation" if self.together else "accounts"

    @property
    def level(self) -> float:
        """The number of accounts."""
        return float(self.accounts)

    def plan(self, stolen: Rows, cover: Cover, rng: np.random.Generator) -> EvasionPlan:
        """As ``Evasion.plan``; no more accounts than rows."""
        del cover, rng
        accounts = min(self.accounts, len(stolen))
        caller = _ANONYMOUS if self.anonymous else _KEYED
        if self.together:
            caller = Caller(caller.name, groups=("org:thief",))
        scenario = Scenario(self.name, self.family, self.family, self.level, split_over_accounts(stolen, accounts))
        return EvasionPlan(scenario, caller)


@dataclass(frozen=True, slots=True)
class JoinedAccounts:
    """The rows are sent from honest callers' accounts, each after ``honest_rows`` honest ones, which the thief does not pay."""

    accounts: int
    honest_rows: int = 10
    family: str = "joining"

    @property
    def name(self) -> str:
        """``joining-100``."""
        return f"{self.family}-{self.accounts}"

    @property
    def level(self) -> float:
        """The number of accounts."""
        return float(self.accounts)

    def plan(self, stolen: Rows, cover: Cover, rng: np.random.Generator) -> EvasionPlan:
        """As ``Evasion.plan``."""
        accounts = min(self.accounts, len(stolen))
        honest = sample_rows(cover.honest, self.honest_rows * len(stolen), rng)
        mixed = mixed_with_fillers(stolen, honest, repeated=False)
        account = np.repeat(np.arange(len(stolen)) % accounts, self.honest_rows + 1)
        traffic = Traffic(mixed.leaks, account, mixed.wanted, mixed.fresh, mixed.classes)
        return EvasionPlan(Scenario(self.name, self.family, self.family, self.level, traffic, pays=mixed.wanted))
