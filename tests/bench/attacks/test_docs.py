"""The document for strangers who write an attack says what is so."""

from __future__ import annotations

import re
import types
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "writing-an-attack.md"


@pytest.fixture
def example(monkeypatch):
    """The page's own file and test, in a module."""
    module = types.ModuleType("brightness")
    monkeypatch.setitem(__import__("sys").modules, "brightness", module)
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), module.__dict__)
    return module


def test_the_attack_of_the_page_keeps_the_law(example, world):
    example.test_brightness_keeps_the_law(world)
    assert example.Brightness.__module__ == "brightness"
