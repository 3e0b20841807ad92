"""How much work callers may leave unsettled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modeltoll.records import Caller

__all__ = ["DEFAULT_CREDIT", "Credit", "CreditTerms"]


@dataclass(frozen=True, slots=True)
class Credit:
    """How much work a caller may leave unsettled: the larger of ``seconds`` and of ``units`` of the model's unit."""

    seconds: float
    units: float

    def at(self, unit_seconds: float) -> float:
        """The credit in reference seconds."""
        return max(self.seconds, self.units * unit_seconds)


@dataclass(frozen=True, slots=True)
class CreditTerms:
    """The credit of callers with a key or token, and that of anonymous ones."""

    known: Credit
    anonymous: Credit

    def at(self, caller: Caller, unit_seconds: float) -> float:
        """The caller's credit in reference seconds."""
        return (self.anonymous if caller.anonymous else self.known).at(unit_seconds)


DEFAULT_CREDIT = CreditTerms(Credit(10.0, 200.0), Credit(2.0, 50.0))
