"""What each row of a traffic costs under a tariff, all rows at once; the same as a gateway would charge one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from modeltoll.pricing.grouped import grouped_cumsum, grouped_rank
from modeltoll.pricing.leak_samples import leak_columns, select_measures
from modeltoll.records import Leaks

if TYPE_CHECKING:
    from modeltoll.pricing.conformal import ConformalTariff
    from modeltoll.pricing.published import PublishedTariff
    from modeltoll.records import Bools, Caller, Floats
    from modeltoll.simulation.traffic import Traffic

__all__ = ["BatchCharges", "BatchTariff", "ConformalBatchTariff", "PublishedBatchTariff"]


@dataclass(frozen=True, slots=True, eq=False)
class BatchCharges:
    """Reference seconds of work asked for each row, (rows,), and whether its caller was under suspicion then."""

    seconds: Floats
    suspected: Bools


class BatchTariff(Protocol):
    """A tariff with the memory that it needs."""

    @property
    def name(self) -> str:
        """What to call it in a table."""

    def charge(self, traffic: Traffic, caller: Caller, rng: np.random.Generator) -> BatchCharges:
        """Charge every row at once. Every account is new, and of the kind of ``caller`` (a key, or anonymous)."""


@dataclass(frozen=True, slots=True)
class ConformalBatchTariff:
    """The conformal tariff on rows of which the ``recorded`` measures are known; counts do not fade.

    Where the caller has groups, all accounts are in them, and no account sends a row that another has sent.

    Raises:
        CalibrationError: one of the tariff's measures was not recorded.
    """

    tariff: ConformalTariff
    recorded: tuple[str, ...]
    name: str = "conformal"

    def __post_init__(self) -> None:
        leak_columns(self.recorded, self.tariff.measures)

    def charge(self, traffic: Traffic, caller: Caller, rng: np.random.Generator) -> BatchCharges:
        """Each row at the account after it: factor, surcharges on rare rows, markup or discount, its share of the entry toll."""
        tariff = self.tariff
        assessment = tariff.assess(select_measures(Leaks(self.recorded, traffic.leaks), tariff.measures), rng)
        suspicion = tariff.suspicion
        surcharge = suspicion.surcharge_at(
            suspicion.running_log_evidence(assessment.bins, traffic.accounts, traffic.fresh)
        )
        group_surcharge: float | Floats = 1.0
        if caller.groups:
            log_evidence = suspicion.running_log_evidence(
                assessment.bins, np.zeros_like(traffic.accounts), traffic.fresh
            )
            group_surcharge = suspicion.surcharge_at(log_evidence, group=True)
        units = assessment.factors * tariff.multipliers(assessment, surcharge, group_surcharge) * caller.markup
        units[surcharge <= 1.0] *= 1.0 - caller.discount
        entry = tariff.calibration.entry
        new = grouped_rank(traffic.accounts) < entry.rows
        units += new * (entry.whole(caller) / entry.rows)
        return BatchCharges(tariff.calibration.unit_seconds * units, surcharge > 1.0)


@dataclass(frozen=True, slots=True)
class PublishedBatchTariff:
    """The published tariff, each row paying its share of its step's puzzle. Raises as ``ConformalBatchTariff`` does."""

    tariff: PublishedTariff
    recorded: tuple[str, ...]
    name: str = "published"

    def __post_init__(self) -> None:
        leak_columns(self.recorded, self.tariff.measures)

    def charge(self, traffic: Traffic, caller: Caller, rng: np.random.Generator) -> BatchCharges:  # noqa: ARG002  the plug's
        """Each row at its account's totals after it; this tariff suspects nobody and knows no entry toll."""
        (column,) = leak_columns(self.recorded, self.tariff.measures)
        leaks = grouped_cumsum(traffic.leaks[:, column], traffic.accounts)
        queries = (grouped_rank(traffic.accounts) + 1).astype(np.float64)
        terms = self.tariff.terms
        seconds = terms.seconds(leaks, self.tariff.line.leak(queries)) / terms.step
        return BatchCharges(seconds, np.zeros(len(seconds), np.bool_))
