"""The models that the dashboard shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from modeltoll.pricing.conformal import ConformalTariff

if TYPE_CHECKING:
    from modeltoll.pricing.drift import DriftReading
    from modeltoll.pricing.tariff import Tariff

__all__ = ["DashboardModel", "DriftState"]


class DriftState(Protocol):
    """What watches one model's traffic; see ``Monitor``."""

    def current_tariff(self, tariff: Tariff) -> Tariff:
        """The tariff for the next request."""

    def reading(self) -> DriftReading:
        """How the traffic stands now."""


@dataclass(frozen=True, slots=True)
class DashboardModel:
    """A model: its mode (``enforce`` or ``shadow``), its tariff, and what watches its traffic, if anything does."""

    model: str
    mode: str
    tariff: Tariff
    watch: DriftState | None = None

    @property
    def priced(self) -> ConformalTariff | None:
        """The tariff in force, where there is one that has prices to show."""
        tariff = self.tariff if self.watch is None else self.watch.current_tariff(self.tariff)
        return tariff if isinstance(tariff, ConformalTariff) else None
