"""The notebooks run as they stand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(path, capsys):
    document = json.loads(path.read_text())
    assert document["nbformat"] == 4
    cells = [cell for cell in document["cells"] if cell["cell_type"] == "code"]
    assert cells
    names: dict[str, object] = {}
    for cell in cells:
        assert cell["outputs"] == [], "outputs are made, not kept"
        exec(compile("".join(cell["source"]), f"{path.name}, {cell['id']}", "exec"), names)
    said = capsys.readouterr().out
    assert "accounts-100" in said
    assert "of unseen digits" in said


def test_there_is_a_notebook():
    assert NOTEBOOKS
