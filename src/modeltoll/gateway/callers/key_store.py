"""The keys of a key file, as the file is now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeltoll.errors import CallerRefused, SettingsError
from modeltoll.gateway.callers.identify import hash_key
from modeltoll.gateway.callers.key_file import read_keys
from modeltoll.gateway.file_watch import FileWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from modeltoll.gateway.callers.identify import Tier
    from modeltoll.gateway.callers.key_file import KeyDocument
    from modeltoll.records import Caller

__all__ = ["KeyStore"]

_NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class _StoredKey:
    caller: Caller
    until: float


class KeyStore:
    """The keys of one file, whose callers are of the ``tiers`` that it names. ``clock`` gives seconds since the epoch.

    None is in force until ``watch`` has read the file.
    """

    def __init__(self, path: Path, tiers: Mapping[str, Tier], clock: Callable[[], float]) -> None:
        self.watch = FileWatch(path, self._load, "the key file")
        self._path = path
        self._tiers = tiers
        self._clock = clock
        self._entries: Mapping[str, _StoredKey] = {}

    @property
    def good(self) -> int:
        """How many keys are in force."""
        now = self._clock()
        return sum(entry.until > now for entry in self._entries.values())

    def caller(self, credential: str) -> Caller | None:
        """See ``Credentials.caller``: refuses a key that has expired."""
        entry = self._entries.get(hash_key(credential))
        if entry is None:
            return None
        if entry.until <= self._clock():
            raise CallerRefused("the API key has expired")
        return entry.caller

    def _load(self) -> None:
        self._entries = self._admitted(read_keys(self._path))

    def _admitted(self, document: KeyDocument) -> Mapping[str, _StoredKey]:
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
