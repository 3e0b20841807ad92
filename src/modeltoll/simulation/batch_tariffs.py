"""The price of all rows of simulated traffic at once, equal to what a gateway would charge row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from modeltoll.pricing.grouped import grouped_cumsum, grouped_rank
from modeltoll.pricing.leak_samples import leak_columns, select_measures
from modeltoll.pricing.suspicion import GROUP_SETTLED_ROWS
from modeltoll.pricing.tariff import NEW_ACCOUNT_ROWS
from modeltoll.records import Leaks

if TYPE_CHECKING:
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


@dataclass(frozen=True, slots=True)
class ConformalBatchTariff:
    """The conformal tariff, without decay of counts. ``recorded``: the measures of the traffic's leaks.

    If the caller has groups, all accounts belong to them, and no account may send a row that another one has sent.

    Raises:
        CalibrationError: a measure of the tariff was not recorded.
    """

    tariff: ConformalTariff
    recorded: tuple[str, ...]
    name: str = "conformal"

    def __post_init__(self) -> None:
        leak_columns(self.recorded, self.tariff.measures)

    def charge(self, traffic: Traffic, caller: Caller, rng: np.random.Generator) -> BatchCharges:
        """Charge each row by its account after it: factor, surcharges, markup, discount, share of the new-account toll.

        Each row is taken to be paid before the account's next one.
        """
        tariff = self.tariff
        assessment = tariff.assess(select_measures(Leaks(self.recorded, traffic.leaks), tariff.measures), rng)
        suspicion = tariff.suspicion
        surcharge = suspicion.surcharge_at(
            suspicion.running_log_evidence(assessment.bins, traffic.accounts, traffic.fresh)
        )
        group_surcharge: float | Floats = 1.0
        rank = grouped_rank(traffic.accounts)
        if caller.groups:
            log_evidence = suspicion.running_log_evidence(
                assessment.bins, np.zeros_like(traffic.accounts), traffic.fresh
            )
            group_surcharge = np.where(rank < GROUP_SETTLED_ROWS, suspicion.surcharge_at(log_evidence, group=True), 1.0)
        units = assessment.factors * tariff.multipliers(assessment, surcharge, group_surcharge) * caller.markup
        units[surcharge <= 1.0] *= 1.0 - caller.discount
        seconds = tariff.unit_seconds * units
        seconds[rank < NEW_ACCOUNT_ROWS] += tariff.new_account_seconds(caller) / NEW_ACCOUNT_ROWS
        return BatchCharges(seconds, surcharge > 1.0)


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
