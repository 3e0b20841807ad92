"""The evasions of the bench by name. A new one is one file and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from modeltoll.bench.evasions.accounts import JoinedAccounts, ManyAccounts
from modeltoll.bench.evasions.changed_images import ChangedImages
from modeltoll.bench.evasions.fillers import FILLERS, FRESH, Bank, Fillers, UnpaidFillers
from modeltoll.bench.evasions.selective import AbandonExpensive, CheaperHalf
from modeltoll.bench.evasions.solvers import GpuSolver, NoEvasion, Replay

if TYPE_CHECKING:
    from modeltoll.bench.evasions.evasion import Evasion

__all__ = ["EVASIONS", "NO_EVASION", "image_change"]

_ALL: tuple[Evasion, ...] = (
    NoEvasion(),
    *(ManyAccounts(accounts) for accounts in (10, 100, 1000)),
    *(ManyAccounts(accounts, anonymous=True) for accounts in (1, 10, 100, 1000)),
    *(ManyAccounts(accounts, together=True) for accounts in (10, 100, 1000)),
    *(JoinedAccounts(accounts) for accounts in (1, 10, 100, 1000)),
    *(Fillers(kind, each) for kind in FILLERS if kind != FRESH for each in (1, 2, 4, 8)),
    *(Fillers(FRESH, each) for each in (1, 2, 4, 8, 16, 32, 64)),
    *(Bank(each=each) for each in (0, 4, 16)),
    *(UnpaidFillers(each) for each in (4, 16)),
    ChangedImages("darkened", "dark:0.4"),
    ChangedImages("blurred", "blur:0.033"),
    *(AbandonExpensive(times) for times in (1.0, 10.0)),
    CheaperHalf(),
    Replay(),
    GpuSolver(),
)

EVASIONS: Mapping[str, Evasion] = {evasion.name: evasion for evasion in _ALL}
NO_EVASION = "none"


def image_change(evasion: str) -> str:
    """The change of the foreign images of an evasion's extraction, as ``ChangedImages.change``; empty for none."""
    found = EVASIONS[evasion]
    return found.change if isinstance(found, ChangedImages) else ""
