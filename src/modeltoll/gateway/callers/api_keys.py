"""Identifies callers by the API keys of a key file, which is read again when it changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeltoll.errors import CallerRefused, SettingsError
from modeltoll.gateway.callers.api_key_file import read_keys
from modeltoll.gateway.callers.identify import hash_key
from modeltoll.gateway.file_watch import FileWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from modeltoll.gateway.callers.api_key_file import KeyDocument
    from modeltoll.gateway.callers.identify import Tier
    from modeltoll.records import Caller

__all__ = ["ApiKeys"]

_NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class _StoredKey:
    caller: Caller
    expires: float  # seconds since the epoch


class ApiKeys:
    """The keys of one file. ``tiers`` are the tiers that a key may name; ``clock`` gives seconds since the epoch.

    There are no keys until ``file_watch`` has read the file.
    """

    def __init__(self, path: Path, tiers: Mapping[str, Tier], clock: Callable[[], float]) -> None:
        self.file_watch = FileWatch(path, self._load, "the key file")
        self._path = path
        self._tiers = tiers
        self._clock = clock
        self._keys: Mapping[str, _StoredKey] = {}

    @property
    def valid_count(self) -> int:
        """The number of keys that have not expired."""
        now = self._clock()
        return sum(key.expires > now for key in self._keys.values())

    def caller(self, credential: str) -> Caller | None:
        """See ``Credentials.caller``; an expired key is refused."""
        key = self._keys.get(hash_key(credential))
        if key is None:
            return None
        if key.expires <= self._clock():
            raise CallerRefused("the API key has expired")
        return key.caller

    def _load(self) -> None:
        self._keys = self._stored_keys(read_keys(self._path))

    def _stored_keys(self, document: KeyDocument) -> Mapping[str, _StoredKey]:
        unknown = {key.tier for key in document.keys} - self._tiers.keys()
        if unknown:
            known = ", ".join(self._tiers)
            raise SettingsError(
                [f"{self._path}: there is no tier {tier!r}; there are: {known}" for tier in sorted(unknown)]
            )
        return {
            key.sha256: _StoredKey(
                self._tiers[key.tier].caller(f"key:{key.name}", (f"org:{key.organisation}",) * bool(key.organisation)),
                key.expires.timestamp() if key.expires else _NEVER,
            )
            for key in document.keys
        }
