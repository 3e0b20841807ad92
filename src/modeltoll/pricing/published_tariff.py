"""The published tariff, exact: Dziedzic et al., ICLR 2022 (arXiv 2201.09243), section 4.

The cumulative leak to a caller is compared with that to a standard user after as many queries, and the excess x is
exponentiated: T = clip(a^x, shortest, longest) seconds. It is here for reference and comparison; its flaws are known.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import CalibrationError
from modeltoll.evidence_records import Verdict
from modeltoll.pricing.tariff import check_leak_values
from modeltoll.records import Assessment, Work

if TYPE_CHECKING:
    from modeltoll.records import Account, Caller, Floats, Leaks

__all__ = ["PublishedTariff", "PublishedTerms", "StandardLine", "leading_zero_bits"]

_ROWS_PER_STEP = 1000  # of the authors' evaluation; the default


@dataclass(frozen=True, slots=True)
class PublishedTerms:
    """The parameters of the published tariff. The defaults are those of the PATE cost on MNIST and CIFAR-10.

    ``base``: a. ``shortest``, ``longest``: bounds of T in seconds. ``signed``: a caller with less leak than the standard
    user pays less; False takes the absolute value, as the authors do. ``rows_per_step``: one puzzle of T seconds is
    charged per so many rows; None is the authors' evaluation: one per row of a trace, or one per 1000 rows behind a
    gateway, where traces do not exist.

    Raises:
        CalibrationError: a term is out of range.
    """

    base: float = 1.0075
    shortest: float = 0.1
    longest: float = 2948.468
    signed: bool = True
    rows_per_step: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("base", 1.0), ("shortest", 0.0), ("longest", self.shortest)):
            if not least <= getattr(self, name) < math.inf:
                raise CalibrationError(f"'{name}' of the published tariff must be {least:g} or more, and finite")
        if self.rows_per_step is not None and self.rows_per_step < 1:
            raise CalibrationError("'rows_per_step' of the published tariff must be 1 or more")

    @property
    def step(self) -> int:
        """Rows per puzzle behind a gateway."""
        return _ROWS_PER_STEP if self.rows_per_step is None else self.rows_per_step

    def seconds(self, leak: Floats, predicted: Floats) -> Floats:
        """T in seconds, from cumulative leaks and those predicted for the standard user, of any shape."""
        excess = leak - predicted if self.signed else np.abs(leak - predicted)
        exponent = np.minimum(excess * math.log(self.base), math.log(self.longest))
        seconds: Floats = np.clip(np.exp(exponent), self.shortest, self.longest)
        return seconds


@dataclass(frozen=True, slots=True)
class StandardLine:
    """The standard user's cumulative leak: slope * queries + intercept."""

    slope: float
    intercept: float

    def leak(self, queries: Floats) -> Floats:
        """The predicted cumulative leak, in the shape of ``queries``."""
        return self.slope * queries + self.intercept


def leading_zero_bits(seconds: Floats) -> Floats:
    """The authors' puzzle difficulty for T seconds: floor(3.51429 log10 T + 18.53175) leading zero bits, at least 16."""
    bits: Floats = np.maximum(np.floor(3.51429 * np.log10(seconds) + 18.53175), 16.0)
    return bits


@dataclass(frozen=True, slots=True)
class PublishedTariff:
    """The published tariff behind a gateway: each row pays its share, T / step, of the puzzle of its step.

    T is evaluated at the caller's cumulative leak and rows after the row. The price of a request is thus the increase
    of one running total: it does not depend on batching, parallel requests pay for different rows, and the total over
    a caller's history is the published price. When the tariff changes, the leaks of an account restart but its rows do
    not: reset such accounts, or a signed tariff charges them too little.
    """

    measure: str
    line: StandardLine
    terms: PublishedTerms = field(default_factory=PublishedTerms)

    @property
    def identity(self) -> str:
        """SHA-256, in hexadecimal, of measure, line and terms."""
        members = {"tariff": "published"} | asdict(self)
        return hashlib.sha256(json.dumps(members, sort_keys=True).encode("ascii")).hexdigest()

    @property
    def measures(self) -> tuple[str, ...]:
        """The single measure that it prices."""
        return (self.measure,)

    @property
    def cell_count(self) -> int:
        """0: this tariff keeps no evidence."""
        return 0

    @property
    def unit_seconds(self) -> float:
        """The share of one query of a standard user, T / step: whose leak is the line's, so that the excess is 0."""
        return float(self.terms.seconds(np.zeros(1), np.zeros(1))[0]) / self.terms.step

    def new_account_seconds(self, caller: Caller) -> float:  # noqa: ARG002  the protocol's signature
        """0: there is no new-account toll."""
        return 0.0

    def assess(self, leaks: Leaks, rng: np.random.Generator) -> Assessment:  # noqa: ARG002  the protocol's signature
        """The factors are the leaks of the rows, and all p-values are 1: rows are not compared with honest rows.

        Raises:
            CalibrationError: the leaks are of another measure.
            AnswerError: a leak is negative or not finite.
        """
        values = check_leak_values(leaks, self.measures)
        rows = len(values)
        return Assessment(values[:, 0].copy(), np.ones(rows), np.zeros(rows, np.int64), leaks)

    def verdict(self, account: Account, logged_as: str = "") -> Verdict:  # noqa: ARG002  the protocol's signature
        """No evidence, and nothing to store."""
        return Verdict()

    def work(
        self,
        assessment: Assessment,
        account: Account,
        verdict: Verdict,  # noqa: ARG002  the protocol's signature
        clean: Floats | None = None,  # noqa: ARG002
    ) -> Work:
        """The sum of T / step over the rows of the request, at the account's totals after each row."""
        rows = len(assessment.factors)
        leaks = account.leaks[0] - assessment.factors.sum() + np.cumsum(assessment.factors)
        queries = np.arange(account.rows - rows + 1, account.rows + 1, dtype=np.float64)
        seconds = float(self.terms.seconds(leaks, self.line.leak(queries)).sum()) / self.terms.step
        return Work(seconds, rows, seconds)
