"""What is asked of the desk, and what it tells: the shapes behind its OpenAPI document. Times are in UTC, work and
durations in seconds."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

__all__ = [
    "AccountTold",
    "Accounts",
    "AskAccount",
    "AskAccounts",
    "AskLog",
    "AskNothing",
    "AskReset",
    "AskTier",
    "Forgotten",
    "KeyTold",
    "Keys",
    "Known",
    "LineTold",
    "Log",
    "Moved",
    "Refused",
    "SettingsTold",
    "Status",
]


Name = Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=r"^[^\x00]+$")]  # no store keeps a NUL


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AskNothing(_Shape):
    """Nothing need be said."""


class AskAccounts(_Shape):
    """How many."""

    limit: int = Field(20, ge=1, le=1000, description="Those with the most work first.")


class AskAccount(_Shape):
    """Whose account."""

    caller: Name = Field(description="key:alice, jwt:alice, net:198.51.100.0/24, or a group: org:acme.")
    model: Name | None = Field(None, description="Of this model alone.")


class AskReset(AskAccount):
    """Whose account is forgotten."""


class AskTier(_Shape):
    """Whose keys get which tier."""

    caller: Name = Field(description="key:alice: a caller whose keys are in the key file.")
    tier: Name = Field(description="exempt, discounted, normal, strict, or one of the settings' own.")


class AskLog(_Shape):
    """Which lines."""

    after: int = Field(0, ge=0, le=2**62, description="The number of the last line that is known already.")
    limit: int = Field(100, ge=1, le=1000)


class ModelTold(_Shape):
    """A model as it is served. ``unit_seconds`` is the work of an average honest row, None without a tariff."""

    name: str
    protocol: str
    mode: str
    measures: tuple[str, ...]
    unit_seconds: float | None


class Status(_Shape):
    """How the gateway stands. ``broken``: the settings file cannot be used as it is, those of ``settled`` are in force."""

    version: str
    settled: datetime
    broken: bool
    leaving: bool
    ledger: str
    models: tuple[ModelTold, ...]


class SettingsTold(_Shape):
    """The settings in force, without secrets."""

    settings: dict[str, Any]


class AccountTold(_Shape):
    """What the ledger knows of a caller of one model. ``counts`` (measures, bins) are p-value counts as they count now."""

    caller: str
    model: str
    rows: int
    requests: int
    work_seconds: float
    first_seen: datetime
    last_seen: datetime
    tariff: str
    leaks: tuple[float, ...]
    counts: tuple[tuple[float, ...], ...]


class Accounts(_Shape):
    """Accounts, those with the most work first."""

    accounts: tuple[AccountTold, ...]


class Known(_Shape):
    """All that is known of a caller, and what he has had of his day (UTC), of all models together."""

    accounts: tuple[AccountTold, ...]
    rows_today: int
    work_seconds_today: float


class Forgotten(_Shape):
    """The models whose account of the caller was forgotten."""

    models: tuple[str, ...]


class Moved(_Shape):
    """How many keys of the caller are of that tier now."""

    keys: int


class KeyTold(_Shape):
    """A key of the key file; ``identity`` is the beginning of its hash."""

    caller: str
    tier: str
    organisation: str | None
    identity: str
    created: datetime
    expires: datetime | None
    note: str


class Keys(_Shape):
    """The keys of the key file."""

    keys: tuple[KeyTold, ...]


class LineTold(_Shape):
    """A line of the ledger's log; ``who`` is the caller's hash."""

    line: int
    who: str
    at: datetime
    model: str
    rows: int
    mode: str
    work_seconds: float
    suspected: bool
    leaks: tuple[tuple[float, ...], ...]
    rarest: tuple[float, ...]


class Log(_Shape):
    """A page of the log, in the order of its lines."""

    lines: tuple[LineTold, ...]


class Refused(_Shape):
    """Why not."""

    error: str
