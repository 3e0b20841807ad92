"""The price of a row as a function of its p-value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.gateway.admin.dashboard.charts import DashboardChart, Series, finite_values

if TYPE_CHECKING:
    from modeltoll.pricing.conformal_tariff import ConformalTariff

__all__ = ["PriceCurve", "PriceCurveLine", "price_curve"]

_CHART_POINTS = 80
_SHARES = (1.0, 0.5, 0.1, 0.01, 0.001)


@dataclass(frozen=True, slots=True)
class PriceCurveLine:
    """The price of a row with p-value ``share`` among every kind, in reference seconds; ``suspected``: with the full surcharge.

    ``leaks`` are the leaks, one per measure, that this share of honest rows reaches.
    """

    share: float
    leaks: tuple[float, ...]
    seconds: float
    suspected: float


@dataclass(frozen=True, slots=True)
class PriceCurve:
    """Prices by p-value, and the terms of the tariff. ``honest`` is the number of calibration rows."""

    measures: tuple[str, ...]
    weights: tuple[float, ...]
    g: float
    unit_seconds: float
    honest: int
    alpha: float
    rho: float
    maximum: float
    lines: tuple[PriceCurveLine, ...]
    chart: DashboardChart


def price_curve(tariff: ConformalTariff) -> PriceCurve:
    """The price of a row with the same p-value under every measure, in steps: one price per bin of p."""
    calibration = tariff.calibration
    smallest = 1.0 / (calibration.honest_rows + 1)
    terms = calibration.suspicion

    def seconds(share: float) -> float:
        return tariff.unit_seconds * tariff.factor_at(share)

    def suspected(share: float) -> float:
        """The price of a row of a suspected caller, as far as its clean p-value decides."""
        if share >= terms.rare_below:
            return seconds(share)
        return max(seconds(share), tariff.unit_seconds) * terms.maximum

    edges = tariff.row_prices.price_bins.edges
    edges = edges[edges >= smallest]
    shares = np.unique(np.concatenate([np.geomspace(smallest, 1.0, _CHART_POINTS), edges])).tolist()
    table_shares = sorted({share for share in _SHARES if share > smallest} | {smallest}, reverse=True)
    lines = tuple(
        PriceCurveLine(share, _leaks_at(tariff, share), seconds(share), suspected(share)) for share in table_shares
    )
    chart = DashboardChart(
        "Price of a row by its p-value",
        "p-value: share of honest rows that leak as much",
        "reference seconds",
        tuple(shares),
        (
            Series("any caller", finite_values(map(seconds, shares)), "honest", "line"),
            Series("suspected, full surcharge", finite_values(map(suspected, shares)), "thief", "line"),
        ),
        x_kind="share",
        y_kind="seconds",
        x_log=True,
        y_log=True,
    )
    return PriceCurve(
        calibration.measures,
        calibration.weights,
        calibration.g,
        tariff.unit_seconds,
        calibration.honest_rows,
        terms.alpha,
        terms.rho,
        terms.maximum,
        lines,
        chart,
    )


def _leaks_at(tariff: ConformalTariff, share: float) -> tuple[float, ...]:
    """The leak under each measure that this share of the honest rows reaches."""
    scores = tariff.calibration.scores
    index = min(scores.shape[1] - 1, int((1.0 - share) * (scores.shape[1] + 1)))
    return tuple(scores[:, index].tolist())
