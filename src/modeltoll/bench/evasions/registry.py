"""The evasions of the bench. A new one is one line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from modeltoll.bench.evasions.accounts import Accounts, Joining
from modeltoll.bench.evasions.fillers import FILLERS, Fillers
from modeltoll.bench.evasions.selective import Abandoning, CheapHalf
from modeltoll.bench.evasions.solvers import Card, Plain, Replay

if TYPE_CHECKING:
    from modeltoll.bench.evasions.evasion import Evasion

__all__ = ["EVASIONS", "PLAIN"]

_ALL: tuple[Evasion, ...] = (
    Plain(),
    *(Accounts(accounts) for accounts in (10, 100, 1000)),
    *(Accounts(accounts, anonymous=True) for accounts in (1, 10, 100, 1000)),
    *(Accounts(accounts, together=True) for accounts in (10, 100, 1000)),
    *(Joining(accounts) for accounts in (1, 10, 100, 1000)),
    *(Fillers(kind, each) for kind in FILLERS for each in (1, 2, 4, 8)),
    *(Abandoning(times) for times in (1.0, 10.0)),
    CheapHalf(),
    Replay(),
    Card(),
)

EVASIONS: Mapping[str, Evasion] = {evasion.name: evasion for evasion in _ALL}
PLAIN = "none"
