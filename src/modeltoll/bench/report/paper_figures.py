"""Sections after figures of the paper on single attacks: EntropyRev on foreign images, InOut, and the published toll's time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from modeltoll.bench.report.curves import accuracy_against_time, leak_of, panels, plain_extractions
from modeltoll.bench.report.model import Curve, ReportChart, Section, Table
from modeltoll.bench.toll_schemes import PUBLISHED
from modeltoll.formatting import number

if TYPE_CHECKING:
    from modeltoll.bench.report.aggregate import Results, SeedAggregate

__all__ = ["entropyrev", "inout", "published_time"]

_ENTROPYREV = ("standard", "knockoff-random", "entropyrev", "entropyrev-ood")
_INOUT = ("standard", "copycat", "inout")


def _leak_of_attacks(results: Results, attacks: tuple[str, ...], file: str, head: tuple[str, str]) -> Section | None:
    """The leak of some attacks against their queries; nothing without the last of them. ``head``: title and text."""
    found = [one for one in plain_extractions(results, PUBLISHED) if one["attack"] in attacks]
    shown = {one["dataset"] for one in found if one["attack"] == attacks[-1]}
    found = [one for one in found if one["dataset"] in shown]

    def curves(one: SeedAggregate) -> Iterable[Curve]:
        measure = leak_of(one)
        yield Curve(one["attack"], tuple((point["queries"], point["leak"][measure]) for point in one["course"]))

    rows = [
        (
            *(one["dataset"], one["attack"], leak_of(one), number(one["course"][-1]["queries"])),
            number(one["course"][-1]["leak"][leak_of(one)] / one["course"][-1]["queries"]),
        )
        for one in found
        if one["course"]
    ]
    table = Table(("data set", "attack", "leak measured as", "queries", "leak of a query"), tuple(rows), 3)
    chart = ReportChart(file, "queries", "summed leak", panels(found, curves))
    return Section(*head, table, chart) if rows else None


def entropyrev(results: Results) -> Section | None:
    """Figure 6."""
    text = (
        "The summed leak of an attack that asks what its clone is surest of, on images of the victim's kind and on foreign ones, "
        "beside honest queries and random foreign ones. Figure 6 of the paper; the first seed."
    )
    return _leak_of_attacks(results, _ENTROPYREV, "leak-entropyrev", ("EntropyRev on foreign images", text))


def inout(results: Results) -> Section | None:
    """Figure 11."""
    text = (
        "The summed leak of an attack that puts 500 honest queries between its batches of foreign images. Figure 11 of the paper; "
        "the first seed."
    )
    return _leak_of_attacks(results, _INOUT, "leak-inout", ("InOut", text))


def published_time(results: Results) -> Section | None:
    """Figure 8 under the published toll."""
    return accuracy_against_time(results, PUBLISHED)
