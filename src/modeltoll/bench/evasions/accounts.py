"""Many accounts, with keys or without, one organisation's, or those of honest people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.evasions.evasion import EvasionPlan
from modeltoll.records import Caller
from modeltoll.simulation.scenarios import Scenario
from modeltoll.simulation.traffic import Traffic, sample_rows, split_over_accounts

if TYPE_CHECKING:
    from modeltoll.bench.evasions.evasion import Cover
    from modeltoll.records import Floats

__all__ = ["JoinedAccounts", "ManyAccounts"]

_KEYED, _ANONYMOUS = Caller("key:thief"), Caller("net:198.51.100.0/24")


@dataclass(frozen=True, slots=True)
class ManyAccounts:
    """So many accounts take the rows in turns. ``anonymous`` ones pay the entry toll; ``together``: one organisation's."""

    accounts: int
    anonymous: bool = False
    together: bool = False

    @property
    def name(self) -> str:
        """``accounts-100``."""
        return f"{self.family}-{self.accounts}"

    @property
    def family(self) -> str:
        """With keys, without, or in one organisation."""
        return "anonymous" if self.anonymous else "organisation" if self.together else "accounts"

    @property
    def level(self) -> float:
        """The accounts."""
        return float(self.accounts)

    def plan(self, stolen: Floats, cover: Cover, rng: np.random.Generator) -> EvasionPlan:
        """As ``Evasion.disguise``; no more accounts than rows."""
        del cover, rng
        accounts = min(self.accounts, len(stolen))
        caller = _ANONYMOUS if self.anonymous else _KEYED
        if self.together:
            caller = Caller(caller.name, groups=("org:thief",))
        scenario = Scenario(self.name, self.family, self.family, self.level, split_over_accounts(stolen, accounts))
        return EvasionPlan(scenario, caller)


@dataclass(frozen=True, slots=True)
class JoinedAccounts:
    """The thief asks from so many honest people's accounts, whose own rows, ten times his, come with them and are not his to pay."""

    accounts: int
    honest_rows: int = 10
    family: str = "joining"

    @property
    def name(self) -> str:
        """``joining-100``."""
        return f"{self.family}-{self.accounts}"

    @property
    def level(self) -> float:
        """The accounts."""
        return float(self.accounts)

    def plan(self, stolen: Floats, cover: Cover, rng: np.random.Generator) -> EvasionPlan:
        """As ``Evasion.disguise``."""
        accounts = min(self.accounts, len(stolen))
        own = sample_rows(cover.honest, self.honest_rows * len(stolen), rng).reshape(len(stolen), self.honest_rows, -1)
        rows = np.concatenate([own, stolen[:, None]], axis=1)
        turns = np.repeat(np.arange(len(stolen)) % accounts, self.honest_rows + 1)
        his = np.arange(len(turns)) % (self.honest_rows + 1) == self.honest_rows
        traffic = Traffic(rows.reshape(len(turns), -1), turns, his, np.ones(len(turns), np.bool_))
        return EvasionPlan(Scenario(self.name, self.family, self.family, self.level, traffic, pays=his))
