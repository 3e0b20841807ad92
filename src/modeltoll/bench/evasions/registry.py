"""The evasions of the bench by name. A new one is one file and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from modeltoll.bench.evasions.accounts import JoinedAccounts, ManyAccounts
from modeltoll.bench.evasions.fillers import FILLERS, Fillers
from modeltoll.bench.evasions.selective import AbandonExpensive, CheaperHalf
from modeltoll.bench.evasions.solvers import GpuSolver, NoEvasion, Replay

if TYPE_CHECKING:
    from modeltoll.bench.evasions.evasion import Evasion

__all__ = ["EVASIONS", "NO_EVASION"]

_ALL: tuple[Evasion, ...] = (
    NoEvasion(),
    *(ManyAccounts(accounts) for accounts in (10, 100, 1000)),
    *(ManyAccounts(accounts, anonymous=True) for accounts in (1, 10, 100, 1000)),
    *(ManyAccounts(accounts, together=True) for accounts in (10, 100, 1000)),
    *(JoinedAccounts(accounts) for accounts in (1, 10, 100, 1000)),
    *(Fillers(kind, each) for kind in FILLERS for each in (1, 2, 4, 8)),
    *(AbandonExpensive(times) for times in (1.0, 10.0)),
    CheaperHalf(),
    Replay(),
    GpuSolver(),
)

EVASIONS: Mapping[str, Evasion] = {evasion.name: evasion for evasion in _ALL}
NO_EVASION = "none"
