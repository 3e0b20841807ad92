"""Reads a settings file as YAML, before its settings are checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import yaml

from modeltoll.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["UNKNOWN", "read_document"]

UNKNOWN = "is not a setting; see docs/reference/settings.md for those there are"


class _Strict(yaml.SafeLoader):
    """YAML in which no setting is given twice: the later one would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """As the parent, once every plain key of the mapping is known to be there once."""
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        twice = [key for key, count in keys.items() if count > 1]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]!r} is set twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_document(path: Path) -> dict[str, Any]:
    """The file's settings, not yet checked.

    Raises:
        SettingsError: it cannot be read, is not YAML, or holds no settings.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError([f"{path}: cannot be read: {error.strerror}"]) from None
    except ValueError:
        raise SettingsError([f"{path}: is not UTF-8 text"]) from None
    try:
        document = yaml.load(text, _Strict)  # noqa: S506  a safe loader
    except yaml.YAMLError as error:
        raise SettingsError([f"{path}: is not YAML: {' '.join(str(error).split())}"]) from None
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        # what PyYAML raises for impossible dates, numbers and tags
        raise SettingsError([f"{path}: holds a value that YAML cannot read; put it in quotes"]) from None
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise SettingsError([f"{path}: holds no settings; see docs/reference/settings.md"])
    hidden = [f"{name}: {UNKNOWN}" for name in document if name.startswith("_")]
    if hidden:  # pydantic-settings takes such names for its own
        raise SettingsError(hidden)
    return document
