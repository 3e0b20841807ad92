"""Copies a demo's result into ``results/demo`` and writes the documents' tables from the results.

    python docs/refresh.py [DEMO-OUT]

A table in a document is between ``<!-- table: KIND ARGUMENT... -->`` and ``<!-- end -->`` and is made by the
function of that name in ``docs/tables``.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docs"))

import tables  # noqa: E402  beside this script

TABLE = re.compile(r"(<!-- table: (?P<kind>\S+)(?P<arguments>[^>]*?) -->\n).*?(<!-- end -->)", re.DOTALL)
TABLE_MODULES = [
    import_module(f"tables.{found.name}") for found in iter_modules(tables.__path__) if found.name != "form"
]
KINDS: Mapping[str, Callable[..., str]] = {
    name: getattr(module, name) for module in TABLE_MODULES for name in module.__all__
}


def refreshed(document: str) -> str:
    """A document with its tables written again."""
    return TABLE.sub(lambda match: match[1] + KINDS[match["kind"]](*match["arguments"].split()) + match[4], document)


def documents() -> list[Path]:
    """Every document that may hold tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def main() -> None:
    """Copy the result, if one is given, and refresh the documents."""
    if len(sys.argv) > 1:
        out = Path(sys.argv[1])
        data = json.loads((out / "result.json").read_text())["data"]
        (ROOT / "results" / "demo").mkdir(parents=True, exist_ok=True)
        shutil.copy(out / "result.json", ROOT / "results" / "demo" / f"{data}.json")
        if data == "digits":
            shutil.copy(out / "ratios.png", ROOT / "docs" / "images" / "demo.png")
    for path in documents():
        path.write_text(refreshed(path.read_text()))


if __name__ == "__main__":
    main()
