"""Prices of callers under the published tariff and ours: results/pricing."""

from __future__ import annotations

from modeltoll.formatting import times
from tables.form import read, table

__all__ = ["callers", "published"]

STEPS = {"paper": "per trace row", "64": "64", "1000": "1000", "10000": "10,000"}


def _ratio(ratio: float | None) -> str:
    return times(ratio, decimals=3, whole_from=1000.0, missing="buys nothing")


def published(data: str) -> str:
    """Ratios of the published tariff by sign and rows per step, for each mode and count of queries."""
    variants = [(sign, step) for sign in ("unsigned", "signed") for step in STEPS]
    columns = [read(f"pricing/published-{data}-{sign}-{step}") for sign, step in variants]
    rows = [
        [first["mode"], f"{first['queries']:,}", *(_ratio(column[place]["ratio"]) for column in columns)]
        for place, first in enumerate(columns[0])
    ]
    return table(["mode", "queries", *(f"{sign}, {STEPS[step]}" for sign, step in variants)], rows)


def callers(data: str) -> str:
    """Ratios of both tariffs, plan by plan; with and without keys where many accounts are used."""
    keyed, anonymous = (
        {(li["tariff"], li["mode"]): li for li in read(f"pricing/callers-{data}-{kind}")}
        for kind in ("keyed", "anonymous")
    )
    rows = []
    for (tariff, mode), line in keyed.items():
        if tariff == "conformal" and (line["family"] != "fillers" or line["level"] in (1, 8)):
            without_key = anonymous[tariff, mode]["ratio"] if line["family"] == "accounts" else None
            alarm = (
                "-" if line["first_alarm"] is None else f"{line['suspected']:.0%} from row {line['first_alarm']:,.0f}"
            )
            row = [
                mode,
                _ratio(line["ratio"]),
                _ratio(without_key) if without_key else "",
                f"{line['p99_seconds']:.3g} s",
                alarm,
            ]
            rows.append([*row, _ratio(keyed["published", mode]["ratio"])])
    return table(["caller", "ratio", "without keys", "p99 wait", "suspected", "published tariff"], rows)
