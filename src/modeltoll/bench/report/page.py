"""Write the report: a folder with ``report.html``, ``report.md`` and their figures."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
from markupsafe import Markup, escape

from modeltoll.bench.report import curves, files, kinds, paper_figures, paper_tables, tables, thieves
from modeltoll.bench.report.aggregate import Results
from modeltoll.bench.report.drawing import draw_chart
from modeltoll.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from modeltoll.bench.report.model import Section

__all__ = ["report_sections", "write_report"]

_SECTION_BUILDERS = (
    tables.failed_checks,
    kinds.before_kinds,
    tables.table2,
    paper_tables.table2_cells,
    tables.table3,
    paper_tables.table3_cells,
    curves.leak_against_queries,
    curves.accuracy_against_leak,
    curves.accuracy_against_time,
    paper_figures.published_time,
    paper_figures.entropyrev,
    paper_figures.inout,
    curves.accounts,
    curves.fillers,
    tables.evasions,
    kinds.strangers,
    kinds.honest_kinds,
    kinds.trade_off,
    files.file_callers,
    files.file_thieves,
    files.file_disguises,
    files.file_clones,
    curves.honest_waits,
    tables.cost_per_accuracy_point,
    thieves.accuracy_per_euro,
    thieves.accuracy_by_labels,
    tables.defences,
    tables.live,
    tables.scaled_down,
)


def report_sections(results: Results) -> list[Section]:
    """The sections for which there are results."""
    made = (maker(results) for maker in _SECTION_BUILDERS)
    return [section for section in made if section is not None]


def _origins(results: Results) -> list[tuple[str, ...]]:
    """The distinct origins of the results: command, machine, versions."""
    found = {
        (one["command"], one["machine"], ", ".join(f"{name} {version}" for name, version in one["versions"].items()))
        for one in results.documents
    }
    return sorted(found)


def _emphasis(text: str) -> Markup:
    """Escaped text with ``*words*`` as ``<em>words</em>``."""
    parts = text.split("*")
    return Markup("").join(
        Markup("<em>{}</em>").format(part) if place % 2 else escape(part) for place, part in enumerate(parts)
    )


def _anchor(title: str) -> str:
    return "-".join("".join(sign if sign.isalnum() else " " for sign in title.lower()).split())


def write_report(documents: Iterable[Mapping[str, Any]], folder: Path) -> tuple[Path, Path]:
    """Write the report of results; the paths of the HTML and the Markdown page.

    Raises:
        SettingsError: there are no results.
    """
    results = Results(documents)
    if not results.documents:
        raise SettingsError(["there are no results to report; create some with modeltoll bench run"])
    folder.mkdir(parents=True, exist_ok=True)
    shown = [
        (section, draw_chart(section.chart, folder) if section.chart else {}) for section in report_sections(results)
    ]
    written = []
    for name, escaped in (("report.html", True), ("report.md", False)):
        environment = jinja2.Environment(
            autoescape=escaped,  # noqa: S701  Markdown is no markup, and the results are our own
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters |= {"emphasis": _emphasis, "anchor": _anchor}
        template = resources.files("modeltoll.bench.report").joinpath(f"{name}.j2").read_text(encoding="utf-8")
        page = environment.from_string(template).render(
            shown=shown,
            origins=_origins(results),
            count=len(results.documents),
            failed_checks=len(results.failed_checks()),
        )
        path = folder / name
        path.write_text(page, encoding="utf-8")
        written.append(path)
    return written[0], written[1]
