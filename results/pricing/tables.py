"""Brings the tables of docs/published-tariff.md and docs/pricing.md up to date with the files beside this one.

python results/pricing/tables.py

A table stands between ``<!-- pricing: NAME -->`` and ``<!-- end -->``.
"""  # noqa: INP001  a script

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DOCUMENTS = tuple(HERE.parents[1] / "docs" / name for name in ("published-tariff.md", "pricing.md"))
TABLE = re.compile(r"(<!-- pricing: (?P<name>\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
STEPS = {"paper": "per trace row", "64": "64", "1000": "1000", "10000": "10,000"}


def _read(name: str) -> Any:
    return json.loads((HERE / f"{name}.json").read_text())


def _ratio(ratio: float | None) -> str:
    if ratio is None:
        return "buys nothing"
    return f"{ratio:.3f}x" if ratio < 10 else f"{ratio:.1f}x" if ratio < 1000 else f"{ratio:,.0f}x"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]


def published(data: str) -> list[str]:
    """What the sign and the rows per step change, for each mode and count of queries."""
    variants = [(sign, step) for sign in ("unsigned", "signed") for step in STEPS]
    columns = [_read(f"published-{data}-{sign}-{step}") for sign, step in variants]
    rows = [
        [first["mode"], f"{first['queries']:,}", *(_ratio(column[place]["ratio"]) for column in columns)]
        for place, first in enumerate(columns[0])
    ]
    return _table(["mode", "queries", *(f"{sign}, {STEPS[step]}" for sign, step in variants)], rows)


def callers(data: str) -> list[str]:
    """Ratios of both tariffs, plan by plan; with and without keys where many accounts are used."""
    keyed, anonymous = (
        {(li["tariff"], li["mode"]): li for li in _read(f"callers-{data}-{kind}")} for kind in ("keyed", "anonymous")
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
    return _table(["caller", "ratio", "without keys", "p99 wait", "suspected", "published tariff"], rows)


def refreshed(text: str) -> str:
    """The document with its tables made anew."""

    def made(match: re.Match[str]) -> str:
        kind, _, data = match["name"].partition("-")
        lines = {"published": published, "callers": callers}[kind](data)
        return match[1] + "\n".join(lines) + "\n" + match[3]

    return TABLE.sub(made, text)


if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(refreshed(document.read_text()))
