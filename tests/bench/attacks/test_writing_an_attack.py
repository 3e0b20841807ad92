"""The example in the guide to writing an attack works."""

from __future__ import annotations

import re
import types
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "writing-an-attack.md"


@pytest.fixture
def example(monkeypatch):
    """A module with the guide's example and its test."""
    module = types.ModuleType("brightness")
    monkeypatch.setitem(__import__("sys").modules, "brightness", module)
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), module.__dict__)
    return module


def test_the_example_attack_passes_the_conformance_suite(example, world):
    example.test_brightness_passes_the_conformance_suite(world)
    assert example.Brightness.__module__ == "brightness"
