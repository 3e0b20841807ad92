"""The headers that the gateway itself adds to requests to the model server, with the server's key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeltoll.errors import SettingsError
from modeltoll.files import clean_text, read_text_file
from modeltoll.gateway.file_watch import FileWatch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["UpstreamHeaders"]

_MAX_KEY_BYTES = 16 << 10  # of a file
_AUTHORIZATION = "authorization"


class UpstreamHeaders:
    """Called, it gives the headers of the next request: ``fixed`` ones, and the server's key in ``key_header``.

    Names are in small letters. ``key`` is the key or a file of it; ``file_watch`` reads such a file again when it changes.
    """

    def __init__(
        self, fixed: Mapping[str, str], key: str | Path | None = None, key_header: str = _AUTHORIZATION
    ) -> None:
        """Read the key.

        Raises:
            SettingsError: the key cannot be read, or cannot stand in a header.
        """
        self._fixed = dict(fixed)
        self._headers: Mapping[str, str] = self._fixed
        self._key_header = key_header
        self.file_watch: FileWatch | None = None
        if isinstance(key, str):
            self._use(key, "upstream.api_key")
        elif key is not None:
            path = key
            self.file_watch = FileWatch(path, lambda: self._load(path), f"upstream.api_key_file {path}")
            self.file_watch.read()

    def __call__(self) -> Mapping[str, str]:
        """The headers."""
        return self._headers

    def _load(self, path: Path) -> None:
        try:
            text = read_text_file(path, _MAX_KEY_BYTES)
        except ValueError as error:
            raise SettingsError([f"upstream.api_key_file: {error}"]) from None
        self._use(text, f"upstream.api_key_file: {path}")

    def _use(self, key: str, setting: str) -> None:
        """Put a key into force, without the white space and byte order mark around it. The fault does not quote it."""
        key = clean_text(key.strip()).strip()
        if not (key and key.isascii() and key.isprintable()):
            raise SettingsError([f"{setting}: is empty, or holds characters that a header cannot hold"])
        written = f"Bearer {key}" if self._key_header == _AUTHORIZATION else key
        self._headers = {**self._fixed, self._key_header: written}
