"""Jupyter notebooks as pages."""

from __future__ import annotations

import json
from pathlib import Path

__all__ = ["notebook"]


def notebook(path: Path) -> str:
    """A notebook in Markdown: its texts, and its code as blocks. Notebooks hold no outputs."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    return "\n\n".join(parts) + "\n"
