"""Identifies callers by the API keys of a key file, which is read again when it changes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modeltoll.errors import CallerRefused, SettingsError
from modeltoll.gateway.callers.api_key_file import read_keys
from modeltoll.gateway.callers.identify import hash_key
from modeltoll.gateway.file_watch import FileWatch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from modeltoll.gateway.callers.api_key_file import KeyDocument, KeyRecord
    from modeltoll.gateway.callers.identify import Tier
    from modeltoll.records import Caller

__all__ = ["ApiKeys"]

_NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class _StoredKey:
    caller: Caller
    expires: float  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class _KeyTable:
    """The keys of a file by their hashes. ``used`` are those that came with a request, with their callers.

    ``expiries``: of the keys that expire, in order, in seconds since the epoch.
    """

    records: Mapping[str, KeyRecord] = field(default_factory=dict)
    expiries: tuple[float, ...] = ()
    used: dict[str, _StoredKey] = field(default_factory=dict)


class ApiKeys:
    """The keys of one file. ``tiers`` are the tiers that a key may name; ``clock`` gives seconds since the epoch.

    There are no keys until ``file_watch`` has read the file.
    """

    def __init__(self, path: Path, tiers: Mapping[str, Tier], clock: Callable[[], float]) -> None:
        self.file_watch = FileWatch(path, self._load, "the key file")
        self._path = path
        self._tiers = tiers
        self._clock = clock
        self._table = _KeyTable()

    @property
    def valid_count(self) -> int:
        """The number of keys that have not expired."""
        table = self._table
        return len(table.records) - bisect_right(table.expiries, self._clock())

    def caller(self, credential: str) -> Caller | None:
        """See ``Credentials.caller``; an expired key is refused."""
        table, hashed = self._table, hash_key(credential)
        key = table.used.get(hashed)
        if key is None:
            record = table.records.get(hashed)
            if record is None:
                return None
            key = table.used[hashed] = self._stored(record)
        if key.expires <= self._clock():
            raise CallerRefused("the API key has expired")
        return key.caller

    def _load(self) -> None:
        self._table = self._table_of(read_keys(self._path))

    def _table_of(self, document: KeyDocument) -> _KeyTable:
        unknown = {key.tier for key in document.keys} - self._tiers.keys()
        if unknown:
            known = ", ".join(self._tiers)
            raise SettingsError(
                [f"{self._path}: there is no tier {tier!r}; there are: {known}" for tier in sorted(unknown)]
            )
        expiries = sorted(key.expires.timestamp() for key in document.keys if key.expires)
        return _KeyTable({key.sha256: key for key in document.keys}, tuple(expiries))

    def _stored(self, key: KeyRecord) -> _StoredKey:
        groups = (f"org:{key.organisation}",) * bool(key.organisation)
        expires = key.expires.timestamp() if key.expires else _NEVER
        return _StoredKey(self._tiers[key.tier].caller(f"key:{key.name}", groups), expires)
