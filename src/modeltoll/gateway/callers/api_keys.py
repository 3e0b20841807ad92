"""Identifies callers by the API keys of a key file, which is read again when it changes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modeltoll.errors import CallerRefused, SettingsError
from modeltoll.gateway.callers.api_key_file import each_record, parse_record, read_keys
from modeltoll.gateway.callers.identify import hash_key
from modeltoll.gateway.file_watch import FileWatch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from modeltoll.gateway.callers.api_key_file import KeyRecord
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
    """The keys of a file by their hashes, as texts. ``used`` are those that came with a request, with their callers.

    ``expiries``: of the keys that expire, in order, in seconds since the epoch. Texts, unlike objects, take no time of the
    collector of garbage, which would hold up requests.
    """

    texts: Mapping[str, bytes] = field(default_factory=dict)
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
        return len(table.texts) - bisect_right(table.expiries, self._clock())

    def caller(self, credential: str) -> Caller | None:
        """See ``Credentials.caller``; an expired key is refused."""
        table, hashed = self._table, hash_key(credential)
        key = table.used.get(hashed)
        if key is None:
            text = table.texts.get(hashed)
            if text is None:
                return None
            key = table.used[hashed] = self._stored(parse_record(text))
        if key.expires <= self._clock():
            raise CallerRefused("the API key has expired")
        return key.caller

    def _load(self) -> None:
        texts: dict[str, bytes] = {}
        expiries, tiers, count = [], set(), 0
        for key, text in each_record(self._path):
            texts[key.sha256], count = text, count + 1
            tiers.add(key.tier)
            if key.expires:
                expiries.append(key.expires.timestamp())
        if len(texts) != count:
            read_keys(self._path)  # which names the key that is there twice
        if unknown := tiers - self._tiers.keys():
            known = ", ".join(self._tiers)
            raise SettingsError(
                [f"{self._path}: there is no tier {tier!r}; there are: {known}" for tier in sorted(unknown)]
            )
        self._table = _KeyTable(texts, tuple(sorted(expiries)))

    def _stored(self, key: KeyRecord) -> _StoredKey:
        groups = (f"org:{key.organisation}",) * bool(key.organisation)
        expires = key.expires.timestamp() if key.expires else _NEVER
        return _StoredKey(self._tiers[key.tier].caller(f"key:{key.name}", groups), expires)
