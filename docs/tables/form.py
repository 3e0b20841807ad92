"""Functions that all tables share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["NOT_RUN", "RESULTS", "read", "table"]

RESULTS = Path(__file__).resolve().parents[2] / "results"
NOT_RUN = "This suite was not run on this data set with the present tariff.\n"


def read(name: str) -> Any:
    """A JSON file of the results, named without its ending."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def table(head: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """A Markdown table: the first ``words`` columns hold words, the others numbers."""
    rule = ["---"] * words + ["---:"] * (len(head) - words)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, rule, *rows))
