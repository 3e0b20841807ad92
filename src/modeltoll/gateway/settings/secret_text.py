"""Secrets as files and variables hold them: with a byte order mark in front, or the end of a line behind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, SecretStr

__all__ = ["SecretText", "TextOrFile", "clean_text", "read_text_file"]

_FILE = "file"  # {file: path} in place of a text
_MAX_BYTES = 64 << 10  # of a file
_BYTE_ORDER_MARK = "\ufeff"


def clean_text(text: str) -> str:
    """The text without a byte order mark at its beginning and without the ends of lines at its end."""
    return text.removeprefix(_BYTE_ORDER_MARK).rstrip("\r\n")


def read_text_file(path: Path) -> str:
    """The text of a file, cleaned.

    Raises:
        ValueError: it cannot be read, is not a text, is empty or too large. The message does not show its content.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > _MAX_BYTES:
        raise ValueError(f"{path}: is too large for one value")
    try:
        text = clean_text(content.decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not UTF-8 text") from None
    if not text:
        raise ValueError(f"{path}: is empty")
    return text


def _text_or_file(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, Mapping) and set(value) == {_FILE} and isinstance(value[_FILE], str):
        return read_text_file(Path(value[_FILE]))
    return value


def _without_blanks(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if text != text.strip():
        raise ValueError("begins or ends with a blank; take it away")
    return secret


TextOrFile = BeforeValidator(_text_or_file)  # for a text that may be secret in part, such as a URL
SecretText = Annotated[SecretStr, TextOrFile, AfterValidator(_without_blanks)]
