"""The price of all rows of simulated traffic at once, equal to what a gateway would charge row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from modeltoll.pricing.grouped import grouped_cumsum, grouped_rank
from modeltoll.pricing.leak_samples import clean_values, leak_columns, select_measures
from modeltoll.pricing.suspicion import GROUP_SETTLED_ROWS
from modeltoll.pricing.tariff import NEW_ACCOUNT_ROWS
from modeltoll.records import Leaks
from modeltoll.simulation.settlement import SettlementTerms

if TYPE_CHECKING:
    from collections.abc import Callable

    from modeltoll.pricing.conformal_tariff import ConformalTariff
    from modeltoll.pricing.published_tariff import PublishedTariff
    from modeltoll.records import Bools, Caller, Floats
    from modeltoll.simulation.traffic import Traffic

__all__ = ["BatchCharges", "BatchTariff", "ConformalBatchTariff", "PublishedBatchTariff"]


@dataclass(frozen=True, slots=True, eq=False)
class BatchCharges:
    """The work of each row in reference seconds, (rows,), and whether its account was under suspicion, (rows,)."""

    seconds: Floats
    suspected: Bools


class BatchTariff(Protocol):
    """A tariff applied to all rows of simulated traffic."""

    @property
    def name(self) -> str:
        """The tariff's name in tables."""

    def charge(self, traffic: Traffic, caller: Caller, rng: np.random.Generator) -> BatchCharges:
        """Charge all rows at once. Every account is new and has the attributes of ``caller`` (with a key, or anonymous)."""

    def settlement(self, caller: Caller) -> SettlementTerms | None:
        """How the tolls of these accounts are settled; None where tolls may be thrown away at no cost."""


@dataclass(frozen=True, slots=True)
class ConformalBatchTariff:
    """The conformal tariff. ``recorded``: the measures of the traffic's leaks.

    If the caller has groups, all accounts belong to them, and no account may send a row that another one has sent.
    ``credit``: of a caller, in seconds, for a unit in seconds; None where tolls are not settled.

    Raises:
        CalibrationError: a measure of the tariff was not recorded.
    """

    tariff: ConformalTariff
    recorded: tuple[str, ...]
    name: str = "conformal"
    credit: Callable[[Caller, float], float] | None = None

    def __post_init__(self) -> None:
        leak_columns(self.recorded, self.tariff.measures)

    def charge(self, traffic: Traffic, caller: Caller, rng: np.random.Generator) -> BatchCharges:
        """Charge each row by its account after it: factor, surcharges, markup, discount, share of the new-account toll.

        Each row is taken to be paid before the account's next one.
        """
        tariff, suspicion = self.tariff, self.tariff.suspicion
        leaks = Leaks(self.recorded, traffic.leaks, traffic.classes)
        assessment = tariff.assess(select_measures(leaks, tariff.measures), rng)
        running = suspicion.running(assessment.cells, traffic.accounts, traffic.fresh)
        surcharge = np.asarray(suspicion.surcharge_at(running.log_evidence))
        group_surcharge: float | Floats = 1.0
        rank = grouped_rank(traffic.accounts)
        if caller.groups:
            group = suspicion.running(assessment.cells, np.zeros_like(traffic.accounts), traffic.fresh)
            surcharges = suspicion.surcharge_at(group.log_evidence, group=True)
            group_surcharge = np.where(rank < GROUP_SETTLED_ROWS, surcharges, 1.0)
        clean = clean_values(leaks, tariff.measures)
        units = tariff.row_units(assessment, surcharge, running.frequent, group_surcharge, clean) * caller.markup
        units[surcharge <= 1.0] *= 1.0 - caller.discount
        seconds = tariff.unit_seconds * units
        seconds[rank < NEW_ACCOUNT_ROWS] += tariff.new_account_seconds(caller) / NEW_ACCOUNT_ROWS
        return BatchCharges(seconds, surcharge > 1.0)

    def settlement(self, caller: Caller) -> SettlementTerms | None:
        """Each row reserves one unit, less the caller's discount, from its account's credit."""
        unit = self.tariff.unit_seconds
        if self.credit is None:
            return None
        return SettlementTerms(unit * (1.0 - caller.discount), self.credit(caller, unit))


@dataclass(frozen=True, slots=True)
class PublishedBatchTariff:
    """The published tariff; each row pays its share of its step's puzzle. Raises as ``ConformalBatchTariff`` does."""

    tariff: PublishedTariff
    recorded: tuple[str, ...]
    name: str = "published"

    def __post_init__(self) -> None:
        leak_columns(self.recorded, self.tariff.measures)

    def charge(self, traffic: Traffic, caller: Caller, rng: np.random.Generator) -> BatchCharges:  # noqa: ARG002  the protocol's
        """Charge each row by its account's totals after it; there is no suspicion and no new-account toll."""
        (column,) = leak_columns(self.recorded, self.tariff.measures)
        leaks = grouped_cumsum(traffic.leaks[:, column], traffic.accounts)
        queries = (grouped_rank(traffic.accounts) + 1).astype(np.float64)
        terms = self.tariff.terms
        seconds = terms.seconds(leaks, self.tariff.line.leak(queries)) / terms.step
        return BatchCharges(seconds, np.zeros(len(seconds), np.bool_))

    def settlement(self, caller: Caller) -> SettlementTerms | None:
        """None: the published tariff keeps no account of tolls."""
        del caller
        return None
