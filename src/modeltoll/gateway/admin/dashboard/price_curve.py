"""The price curve in force."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.gateway.admin.dashboard.charts import Chart, Series, points

if TYPE_CHECKING:
    from modeltoll.pricing.conformal import ConformalTariff

__all__ = ["PriceCurve", "PriceCurveLine", "price_curve"]

_POINTS = 80
_SHARES = (1.0, 0.5, 0.1, 0.01, 0.001)


@dataclass(frozen=True, slots=True)
class PriceCurveLine:
    """What a row costs whose leak such a ``share`` of honest rows reaches, in reference seconds.

    ``leaks`` are those leaks, one per measure; ``suspected`` is the price for a caller under the highest suspicion.
    """

    share: float
    leaks: tuple[float, ...]
    seconds: float
    suspected: float


@dataclass(frozen=True, slots=True)
class PriceCurve:
    """Prices by rarity. ``honest`` is the number of calibration rows, ``weights`` are one per measure."""

    measures: tuple[str, ...]
    weights: tuple[float, ...]
    g: float
    unit_seconds: float
    honest: int
    alpha: float
    rho: float
    maximum: float
    lines: tuple[PriceCurveLine, ...]
    chart: Chart


def price_curve(tariff: ConformalTariff) -> PriceCurve:
    """The price of a row that is equally rare under every measure, unit * (1 - g) p^(-g)."""
    calibration = tariff.calibration
    g, unit, least = calibration.g, calibration.unit_seconds, 1.0 / (calibration.honest_rows + 1)
    terms = calibration.suspicion

    def seconds(share: float) -> float:
        return float(unit * (1.0 - g) * share**-g)

    def suspected(share: float) -> float:
        return seconds(share) * (terms.maximum if share < terms.rare_below else 1.0)

    shares = np.geomspace(least, 1.0, _POINTS).tolist()
    stated = sorted({share for share in _SHARES if share > least} | {least}, reverse=True)
    lines = tuple(PriceCurveLine(share, _reached(tariff, share), seconds(share), suspected(share)) for share in stated)
    chart = Chart(
        "Price of a row, by how rare its leak is",
        "share of honest rows that leak as much",
        "reference seconds",
        tuple(shares),
        (
            Series("any caller", points(map(seconds, shares)), "honest", "line"),
            Series("under the highest suspicion", points(map(suspected, shares)), "thief", "line"),
        ),
        x_kind="share",
        y_kind="seconds",
        x_log=True,
        y_log=True,
    )
    return PriceCurve(
        calibration.measures,
        calibration.weights,
        g,
        unit,
        calibration.honest_rows,
        terms.alpha,
        terms.rho,
        terms.maximum,
        lines,
        chart,
    )


def _reached(tariff: ConformalTariff, share: float) -> tuple[float, ...]:
    """The leak of each measure that such a share of the honest rows reaches."""
    scores = tariff.calibration.scores
    place = min(scores.shape[1] - 1, int((1.0 - share) * (scores.shape[1] + 1)))
    return tuple(scores[:, place].tolist())
