"""The pricing documents' tables are what the results hold."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "results" / "pricing" / "tables.py"


def script():
    spec = importlib.util.spec_from_file_location("pricing_tables", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", script().DOCUMENTS, ids=lambda path: path.name)
def test_tables_are_made_from_the_results(path):
    text = path.read_text(encoding="utf-8")
    assert "<!-- pricing: " in text
    assert script().refreshed(text) == text
