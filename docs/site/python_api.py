"""Lists of the public Python interface that are found in the source: plug-in protocols and conformance suites."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

__all__ = ["plug_in_protocols", "suites"]

SOURCE = Path(__file__).resolve().parents[2] / "src"
# The protocols of DESIGN, section 2, by the names of their classes. Where each stands is looked up.
_GATEWAY = ("LeakMeasure", "Tariff", "Puzzle", "Ledger", "ServingProtocol", "Upstream")
_BENCH = ("Victim", "Attack", "Defence", "Evasion")
_SPECIFICATIONS = ("MeasureSpec", "PuzzleSpec", "LedgerSpec", "ProtocolSpec", "AttackSpec", "DefenceSpec")


@cache
def _protocols() -> dict[str, str]:
    """The full name of each ``typing.Protocol`` and plug-in specification of the package, by its class's name."""
    found: dict[str, str] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and (
                node.name in _SPECIFICATIONS or any(ast.unparse(base) == "Protocol" for base in node.bases)
            ):
                found[node.name] = f"{_module(path)}.{node.name}"
    return found


def _module(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts)


def plug_in_protocols() -> str:
    """A directive of mkdocstrings for each plug-in's protocol."""
    lines: list[str] = []
    for title, names in (("In the gateway", _GATEWAY), ("In the bench", _BENCH), ("Specifications", _SPECIFICATIONS)):
        lines += [f"## {title}", ""]
        for name in names:
            lines += [f"::: {_protocols()[name]}", "    options:", "      heading_level: 3", ""]
    return "\n".join(lines)


def _suites() -> Iterator[str]:
    """The modules of ``modeltoll.testing`` that export something."""
    for path in sorted((SOURCE / "modeltoll" / "testing").glob("*.py")):
        if path.name != "__init__.py":
            yield _module(path)


def suites() -> str:
    """A directive of mkdocstrings for each module of ``modeltoll.testing``."""
    return "\n".join(f"::: {name}\n    options:\n      heading_level: 2\n" for name in _suites())
