"""What ``fit-novelty`` says of its data and of the measure that it fitted."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from modeltoll.formatting import percent

if TYPE_CHECKING:
    from modeltoll.leak.novelty_report import NoveltyReport
    from modeltoll.leak.private_rows import PrivateRows

__all__ = ["data_line", "network_line", "report_headings", "report_json", "report_lines"]

_HEADINGS = ("rows", "median leak", "beyond 99 % of private rows")
_WITHOUT_KINDS = ("fitted without kinds: median leak", "beyond 99 %")
_STRANGER = "stranger"


def data_line(private: PrivateRows, kinds: tuple[str, ...]) -> str:
    """What was read."""
    rows, width = private.inputs.shape
    what = (
        f"{width} codes, in hashed pairs"
        if private.codes
        else f"{'x'.join(map(str, private.shape))} numbers, standardised"
    )
    return f"{rows:,} private rows of {what}; kinds: {', '.join(kinds) or 'none'}"


def network_line(report: NoveltyReport) -> str:
    """How accurate the network is on rows that were kept back."""
    if report.accuracy is None:
        return "network: none; inputs are compared as they are, codes by how rare their pairs are"
    of_kinds = "" if report.kinds_accuracy is None else f", {percent(report.kinds_accuracy)} under the kinds"
    return f"network: {percent(report.accuracy)} of {report.held:,} rows right that were kept back{of_kinds}"


def report_headings(report: NoveltyReport) -> tuple[str, ...]:
    """The headings of ``report_lines``."""
    return _HEADINGS + (_WITHOUT_KINDS if _has_kinds(report) else ())


def report_lines(report: NoveltyReport) -> list[list[str]]:
    """How far private rows, kinds and generic strangers lie: a line each."""
    lines = []
    for row in report.rows:
        name = f"{row.name} ({_STRANGER})" if row.role == _STRANGER else row.name
        cells = [name, f"{row.median:.2f}", percent(row.beyond)]
        without = [f"{row.clean_median:.2f}", percent(row.clean_beyond)] if _has_kinds(report) else []
        lines.append(cells + without)
    return lines


def report_json(report: NoveltyReport) -> dict[str, Any]:
    """All of the report, shares in 0..1."""
    return asdict(report)


def _has_kinds(report: NoveltyReport) -> bool:
    return any(row.role == "kind" for row in report.rows)
