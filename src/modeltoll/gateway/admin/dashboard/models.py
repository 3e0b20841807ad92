"""The models that the dashboard shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from modeltoll.pricing.conformal_tariff import ConformalTariff

if TYPE_CHECKING:
    from modeltoll.pricing.drift import DriftReading
    from modeltoll.pricing.tariff import Tariff

__all__ = ["LONG_STANDING_SECONDS", "DashboardModel", "DriftState"]

LONG_STANDING_SECONDS = 30 * 86_400.0  # by default


class DriftState(Protocol):
    """The drift monitor of one model; see ``DriftMonitor``."""

    def current_tariff(self, tariff: Tariff) -> Tariff:
        """The tariff for the next request."""

    def reading(self) -> DriftReading:
        """The monitor's current figures."""


@dataclass(frozen=True, slots=True)
class DashboardModel:
    """One model: its name, its mode (``enforce`` or ``shadow``), its tariff, and its drift monitor, if it has one.

    ``long_standing_seconds``: how long a caller with a key has been known until its suspicion is an alarm.
    """

    name: str
    mode: str
    tariff: Tariff
    drift_state: DriftState | None = None
    long_standing_seconds: float = LONG_STANDING_SECONDS

    @property
    def tariff_in_force(self) -> ConformalTariff | None:
        """The tariff for the next request; None if it is not a conformal one."""
        tariff = self.tariff if self.drift_state is None else self.drift_state.current_tariff(self.tariff)
        return tariff if isinstance(tariff, ConformalTariff) else None
