"""The notebooks run from top to bottom."""

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
        assert cell["outputs"] == [], "outputs are not committed"
        exec(compile("".join(cell["source"]), f"{path.name}, {cell['id']}", "exec"), names)
    output = capsys.readouterr().out
    assert "accounts-100" in output
    assert "unseen digits" in output


def test_there_is_a_notebook():
    assert NOTEBOOKS
