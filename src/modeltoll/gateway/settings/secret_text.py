"""Secrets as files and variables hold them: with a byte order mark in front, or the end of a line behind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, SecretStr

from modeltoll.files import clean_text, read_text_file

__all__ = ["MOST_TEXT_BYTES", "SecretText", "TextOrFile"]

_FILE = "file"  # {file: path} in place of a text
MOST_TEXT_BYTES = 64 << 10  # of a file


def _text_or_file(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, Mapping) and set(value) == {_FILE} and isinstance(value[_FILE], str):
        return read_text_file(Path(value[_FILE]), MOST_TEXT_BYTES)
    return value


def _without_blanks(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if text != text.strip():
        raise ValueError("begins or ends with a blank; take it away")
    return secret


TextOrFile = BeforeValidator(_text_or_file)  # for a text that may be secret in part, such as a URL
SecretText = Annotated[SecretStr, TextOrFile, AfterValidator(_without_blanks)]
