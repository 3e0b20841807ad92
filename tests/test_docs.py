"""What the documents say is what the results hold, and what they link to is there."""

import importlib.util
import re
from pathlib import Path

import pytest

from modeltoll.bench.experiment import read_results
from modeltoll.bench.report.aggregate import Results
from modeltoll.bench.report.page import sections

ROOT = Path(__file__).resolve().parent.parent


def refresh():
    spec = importlib.util.spec_from_file_location("refresh", ROOT / "docs" / "refresh.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DOCUMENTS = refresh().documents()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_tables_are_made_from_the_results(path):
    text = path.read_text()
    assert refresh().refreshed(text) == text


@pytest.mark.parametrize(
    "path", [*DOCUMENTS, ROOT / "CHANGELOG.md", ROOT / "results" / "README.md"], ids=lambda path: path.name
)
def test_relative_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_the_readme_begins_with_what_it_is_two_commands_and_a_picture():
    head = (ROOT / "README.md").read_text()[:1500]
    assert "make demo" in head
    assert "pip install" in head
    assert "](docs/demo.png)" in head


def test_the_whole_report_is_made_from_the_results():
    """``modeltoll bench report results/bench -o docs/report``; its charts are not compared."""
    results = Results(read_results(ROOT / "results" / "bench"))
    text = (ROOT / "docs" / "report" / "report.md").read_text()
    rows = [row for section in sections(results) for row in section.table.rows]
    assert len(rows) > 1000
    assert [row for row in rows if f"| {' | '.join(row)} |" not in text] == []
    assert f"{len(results.documents)} results." in text
