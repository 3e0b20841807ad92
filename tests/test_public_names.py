"""The public modules export what they define: ``__all__`` has every public name of the module and nothing else."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

import modeltoll.client
import modeltoll.testing

MODULES = [
    *(f"modeltoll.client.{module.name}" for module in pkgutil.iter_modules(modeltoll.client.__path__)),
    *(f"modeltoll.testing.{module.name}" for module in pkgutil.iter_modules(modeltoll.testing.__path__)),
    "modeltoll.gateway.middleware",
]


def defined_names(source):
    """The public names of classes, functions and variables that a module's source defines at its top level."""
    names = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {part.id for target in node.targets for part in ast.walk(target) if isinstance(part, ast.Name)}
        elif isinstance(node, ast.AnnAssign):
            names.add(node.target.id)
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("name", MODULES)
def test_a_public_module_exports_what_it_defines(name):
    module = importlib.import_module(name)
    exported = module.__all__
    assert len(set(exported)) == len(exported)
    assert set(exported) == defined_names(Path(module.__file__).read_text())


def test_names_that_are_not_exported_are_found():
    source = "A = 1\nB, _c = 2, 3\nd: int = 4\ndef e(): ...\nclass F: ...\nimport g\n__all__ = ['A']\n"
    assert defined_names(source) == {"A", "B", "d", "e", "F"}
