"""What is asked of the desk, and what it tells: the shapes behind its OpenAPI document. Times are in UTC, work and
durations in seconds."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

__all__ = [
    "AccountQuery",
    "AccountResponse",
    "AccountsQuery",
    "AccountsResponse",
    "CallerResponse",
    "ErrorResponse",
    "KeyResponse",
    "KeysResponse",
    "LogLineResponse",
    "LogQuery",
    "LogResponse",
    "NoParameters",
    "ResetRequest",
    "ResetResponse",
    "SettingsResponse",
    "StatusResponse",
    "TierRequest",
    "TierResponse",
]


Name = Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=r"^[^\x00]+$")]  # no store keeps a NUL


class _Schema(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NoParameters(_Schema):
    """Nothing need be said."""


class AccountsQuery(_Schema):
    """How many."""

    limit: int = Field(20, ge=1, le=1000, description="Those with the most work first.")


class AccountQuery(_Schema):
    """Whose account."""

    caller: Name = Field(description="key:alice, jwt:alice, net:198.51.100.0/24, or a group: org:acme.")
    model: Name | None = Field(None, description="Of this model alone.")


class ResetRequest(AccountQuery):
    """Whose account is forgotten."""


class TierRequest(_Schema):
    """Whose keys get which tier."""

    caller: Name = Field(description="key:alice: a caller whose keys are in the key file.")
    tier: Name = Field(description="exempt, discounted, normal, strict, or one of the settings' own.")


class LogQuery(_Schema):
    """Which lines."""

    after: int = Field(0, ge=0, le=2**62, description="The number of the last line that is known already.")
    limit: int = Field(100, ge=1, le=1000)


class ModelResponse(_Schema):
    """A model as it is served. ``unit_seconds`` is the work of an average honest row, None without a tariff."""

    name: str
    protocol: str
    mode: str
    measures: tuple[str, ...]
    unit_seconds: float | None


class StatusResponse(_Schema):
    """How the gateway stands. ``broken``: the settings file cannot be used as it is, those of ``settled`` are in force."""

    version: str
    settled: datetime
    broken: bool
    leaving: bool
    ledger: str
    models: tuple[ModelResponse, ...]


class SettingsResponse(_Schema):
    """The settings in force, without secrets."""

    settings: dict[str, Any]


class AccountResponse(_Schema):
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


class AccountsResponse(_Schema):
    """Accounts, those with the most work first."""

    accounts: tuple[AccountResponse, ...]


class CallerResponse(_Schema):
    """All that is known of a caller, and what he has had of his day (UTC), of all models together."""

    accounts: tuple[AccountResponse, ...]
    rows_today: int
    work_seconds_today: float


class ResetResponse(_Schema):
    """The models whose account of the caller was forgotten."""

    models: tuple[str, ...]


class TierResponse(_Schema):
    """How many keys of the caller are of that tier now."""

    keys: int


class KeyResponse(_Schema):
    """A key of the key file; ``identity`` is the beginning of its hash."""

    caller: str
    tier: str
    organisation: str | None
    identity: str
    created: datetime
    expires: datetime | None
    note: str


class KeysResponse(_Schema):
    """The keys of the key file."""

    keys: tuple[KeyResponse, ...]


class LogLineResponse(_Schema):
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


class LogResponse(_Schema):
    """A page of the log, in the order of its lines."""

    lines: tuple[LogLineResponse, ...]


class ErrorResponse(_Schema):
    """Why not."""

    error: str
