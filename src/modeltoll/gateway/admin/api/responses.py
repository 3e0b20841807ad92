"""Accounts, models and lines of the log as responses of the admin API."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from modeltoll.gateway.admin.api import schemas
from modeltoll.pricing.conformal_tariff import ConformalTariff

if TYPE_CHECKING:
    from modeltoll.gateway.core.gate import Gate
    from modeltoll.gateway.settings.gateway import Settings
    from modeltoll.pricing.explanations import CallerExplanation
    from modeltoll.records import Account, LogEntry

__all__ = [
    "account_response",
    "explained_account_response",
    "log_line_response",
    "model_response",
    "suspect_response",
    "utc_time",
]


def utc_time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def model_response(name: str, gate: Gate, settings: Settings) -> schemas.ModelResponse:
    tariff, model = gate.config.tariff, settings.models[name]
    return schemas.ModelResponse(
        name=name,
        protocol=model.protocol,
        mode=model.mode,
        measures=tuple(measure.name for measure in model.measures),
        unit_seconds=tariff.calibration.unit_seconds if isinstance(tariff, ConformalTariff) else None,
    )


def account_response(account: Account, evidence: schemas.EvidenceResponse | None = None) -> schemas.AccountResponse:
    """An account; by default with the evidence as the ledger has it."""
    return schemas.AccountResponse(
        caller=account.caller.name,
        model=account.model,
        rows=account.rows,
        requests=account.requests,
        work_seconds=account.work,
        first_seen=utc_time(account.first_seen),
        last_seen=utc_time(account.last_seen),
        tariff=account.tariff,
        leaks=account.leaks,
        evidence=evidence or _evidence_response(account),
    )


def _evidence_response(account: Account) -> schemas.EvidenceResponse:
    state = account.evidence
    return schemas.EvidenceResponse(
        since=utc_time(state.since),
        rows=state.rows,
        log_evidence=state.log_evidence,
        finished_log=None if state.finished_log == -math.inf else state.finished_log,
        carried_log=state.carried_log,
        counts=state.counts,
    )


def explained_account_response(account: Account, explanation: CallerExplanation) -> schemas.AccountResponse:
    """An account with its evidence explained."""
    cells = tuple(
        schemas.CellResponse(
            bounds=cell.bounds,
            rows=cell.rows,
            share=cell.share,
            honest=cell.honest,
            log_ratio=cell.log_ratio,
            against=cell.against,
        )
        for cell in explanation.cells
    )
    evidence = _evidence_response(account).model_copy(
        update={
            "log_evidence": explanation.log_evidence,
            "suspected": explanation.suspected,
            "surcharge": explanation.surcharge,
            "known_honest": explanation.own_kind is not None,
            "nearest_kind": explanation.kinds[0].kind if explanation.kinds else None,
            "coordinates": explanation.coordinates,
            "cells": cells,
        }
    )
    return account_response(account, evidence)


def suspect_response(account: Account, surcharge: float) -> schemas.SuspectResponse:
    return schemas.SuspectResponse(
        caller=account.caller.name,
        model=account.model,
        rows=account.rows,
        rows_of_evidence=account.evidence.rows,
        first_seen=utc_time(account.first_seen),
        last_seen=utc_time(account.last_seen),
        evidence_since=utc_time(account.evidence.since),
        log_evidence=account.evidence.log_evidence,
        surcharge=surcharge,
    )


def log_line_response(number: int, hashed: str, entry: LogEntry) -> schemas.LogLineResponse:
    return schemas.LogLineResponse(
        line=number,
        who=hashed,
        at=utc_time(entry.at),
        model=entry.model,
        rows=entry.rows,
        mode=entry.mode,
        reason=entry.reason,
        work_seconds=entry.work.seconds,
        suspected=entry.work.suspected,
        measures=entry.measures,
        classes=entry.classes,
        leaks=entry.leaks,
        rarest=entry.rarest,
    )
