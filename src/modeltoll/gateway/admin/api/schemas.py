"""Request and response schemas of the admin API. Times are UTC; work is in reference seconds."""

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
    "CellResponse",
    "ErrorResponse",
    "EvidenceResponse",
    "KeyResponse",
    "KeysResponse",
    "KnownHonestRequest",
    "KnownHonestResponse",
    "LogLineResponse",
    "LogQuery",
    "LogResponse",
    "NoParameters",
    "ResetRequest",
    "ResetResponse",
    "SettingsResponse",
    "StatusResponse",
    "SuspectResponse",
    "SuspectsResponse",
    "TierRequest",
    "TierResponse",
]


Name = Annotated[
    str, StringConstraints(min_length=1, max_length=300, pattern=r"^[^\x00]+$")
]  # ledgers cannot store NUL


class _Schema(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NoParameters(_Schema):
    """A request without parameters."""


class AccountsQuery(_Schema):
    """Parameters of the list of accounts."""

    limit: int = Field(20, ge=1, le=1000, description="Number of accounts, at most.")


class AccountQuery(_Schema):
    """A caller or group, and optionally a model."""

    caller: Name = Field(
        description="Account name: key:alice, jwt:alice, net:198.51.100.7, or a group such as org:acme."
    )
    model: Name | None = Field(None, description="Only the account for this model.")


class ResetRequest(AccountQuery):
    """The account to delete."""


class TierRequest(_Schema):
    """The caller whose keys are changed, and their new tier."""

    caller: Name = Field(description="A caller with keys in the key file, such as key:alice.")
    tier: Name = Field(description="exempt, discounted, normal, strict, or a tier of the settings.")


class KnownHonestRequest(_Schema):
    """The caller whose keys are marked, and whether it is known to be honest."""

    caller: Name = Field(description="A caller with keys in the key file, such as key:alice.")
    known_honest: bool = Field(description="Mark the keys as of now, or take the mark away.")


class LogQuery(_Schema):
    """Parameters of a page of the log."""

    after: int = Field(0, ge=0, le=2**62, description="Return lines with a number above this.")
    limit: int = Field(100, ge=1, le=1000, description="Number of lines, at most.")


class ModelResponse(_Schema):
    """A served model. ``unit_seconds`` is the work of an average honest row, None without a tariff."""

    name: str
    protocol: str
    mode: str
    measures: tuple[str, ...]
    unit_seconds: float | None


class StatusResponse(_Schema):
    """The state of a gateway.

    ``settled`` is the time at which the settings in force were read. ``broken``: the settings file is invalid now, so the
    earlier settings stay in force. ``leaving``: the gateway is shutting down.
    """

    version: str
    settled: datetime
    broken: bool
    leaving: bool
    ledger: str
    models: tuple[ModelResponse, ...]


class SettingsResponse(_Schema):
    """The settings in force, with secrets masked."""

    settings: dict[str, Any]


class CellResponse(_Schema):
    """A cell of a caller's rows: from where to where the p-value of each coordinate reaches, and the share of the rows.

    ``honest``: the share under the honest law that fits the caller best. ``log_ratio``: what the cell adds to the evidence,
    or takes away where it is below 0; ``against``: whether it speaks against the caller.
    """

    bounds: tuple[tuple[float, float], ...]
    rows: int
    share: float
    honest: float
    log_ratio: float
    against: bool


class EvidenceResponse(_Schema):
    """The evidence against a caller. Logarithms are natural ones.

    ``rows``: fresh rows since ``since``. ``log_evidence``: that of the latest bill, a lower bound. ``finished_log``,
    ``carried_log``: what finished blocks and earlier tariffs add, None for nothing. ``counts``: rows in each cell.
    ``suspected``, ``surcharge``, ``nearest_kind`` and ``cells`` are None or empty in lists, and where the account is of
    another tariff than the one in force.
    """

    since: datetime
    rows: int
    log_evidence: float
    finished_log: float | None
    carried_log: float | None
    counts: tuple[int, ...]
    suspected: bool | None = None
    surcharge: float | None = None
    known_honest: bool | None = None
    nearest_kind: str | None = None
    coordinates: tuple[str, ...] = ()
    cells: tuple[CellResponse, ...] = ()


class AccountResponse(_Schema):
    """The account of a caller for one model."""

    caller: str
    model: str
    rows: int
    requests: int
    work_seconds: float
    first_seen: datetime
    last_seen: datetime
    tariff: str
    leaks: tuple[float, ...]
    evidence: EvidenceResponse


class AccountsResponse(_Schema):
    """Accounts, the one with the most work first."""

    accounts: tuple[AccountResponse, ...]


class CallerResponse(_Schema):
    """The accounts of a caller, its standing over all models, and its usage of today's quota (UTC day).

    ``unsettled_seconds``: work of tolls that were not proved to be paid, at the time of the caller's last request.
    ``prepaid_seconds``: work done for admission and not used yet. ``settled_rows``: rows whose tolls were paid.
    """

    accounts: tuple[AccountResponse, ...]
    unsettled_seconds: float
    prepaid_seconds: float
    new_account_seconds_paid: float
    settled_rows: int
    rows_today: int
    work_seconds_today: float


class SuspectResponse(_Schema):
    """A suspected caller of one model. ``rows_of_evidence``: fresh rows since ``evidence_since``."""

    caller: str
    model: str
    rows: int
    rows_of_evidence: int
    first_seen: datetime
    last_seen: datetime
    evidence_since: datetime
    log_evidence: float
    surcharge: float


class SuspectsResponse(_Schema):
    """The suspected callers among the ``considered`` accounts with the most work, the one with the most work first."""

    considered: int
    suspects: tuple[SuspectResponse, ...]


class ResetResponse(_Schema):
    """The models for which an account was deleted."""

    models: tuple[str, ...]


class TierResponse(_Schema):
    """The number of keys that were changed."""

    keys: int


class KnownHonestResponse(_Schema):
    """The number of keys that were changed, and the moment up to which the caller's log may become a kind."""

    keys: int
    known_honest: datetime | None


class KeyResponse(_Schema):
    """A key in the key file; ``identity`` is the start of its hash. ``known_honest``: when its caller was marked as such."""

    caller: str
    tier: str
    organisation: str | None
    identity: str
    created: datetime
    expires: datetime | None
    known_honest: datetime | None
    note: str


class KeysResponse(_Schema):
    """The keys in the key file."""

    keys: tuple[KeyResponse, ...]


class LogLineResponse(_Schema):
    """A line of the log; ``who`` is the caller's hash, ``rarest`` the smallest p-value of each row.

    ``leaks`` are of the ``measures``; ``classes`` has the predicted class of each row, and is empty without scores.
    ``reason`` says why shadow mode answered the request without measuring it.
    """

    line: int
    who: str
    at: datetime
    model: str
    rows: int
    mode: str
    reason: str
    work_seconds: float
    suspected: bool
    measures: tuple[str, ...]
    classes: tuple[int, ...]
    leaks: tuple[tuple[float, ...], ...]
    rarest: tuple[float, ...]


class LogResponse(_Schema):
    """A page of the log, in the order of its lines."""

    lines: tuple[LogLineResponse, ...]


class ErrorResponse(_Schema):
    """The reason of an error."""

    error: str
