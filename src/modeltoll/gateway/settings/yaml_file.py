"""Reads a settings file as YAML, before its settings are checked."""

from __future__ import annotations

import codecs
from functools import partial
from typing import TYPE_CHECKING, Any

import yaml

from modeltoll.errors import SettingsError
from modeltoll.gateway.settings.yaml_scalars import StrictLoader, YamlRefusal, written_at

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["UNKNOWN", "read_document", "written_values"]

UNKNOWN = "is not a setting; see docs/reference/settings.md for those there are"


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SettingsError([f"{path}: cannot be read: {error.strerror}"]) from None
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise SettingsError([f"{path}: is UTF-16 text; save it as UTF-8"])
    try:
        return content.decode("utf-8-sig")
    except ValueError:
        raise SettingsError([f"{path}: is not UTF-8 text"]) from None


def written_values(path: Path) -> Callable[[Sequence[int | str]], str]:
    """How the values that YAML does not read as texts are written, by place, in a file that ``read_document`` has read."""
    return partial(written_at, yaml.compose(_read_text(path), yaml.SafeLoader))


def read_document(path: Path) -> dict[str, Any]:
    """The file's settings, not yet checked.

    Raises:
        SettingsError: it cannot be read, is not YAML, or holds no settings.
    """
    text = _read_text(path)
    try:
        document = yaml.load(text, StrictLoader)  # noqa: S506  a safe loader
    except YamlRefusal as error:
        raise SettingsError([f"{path}: {error}"]) from None
    except yaml.YAMLError as error:
        if "\t" in text and "'\\t'" in str(error):
            line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
            raise SettingsError([f"{path}: line {line}: YAML is indented with blanks, not with tabs"]) from None
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
