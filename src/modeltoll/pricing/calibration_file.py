"""Calibration files: versioned JSON, each member of which is validated."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from modeltoll.errors import CalibrationError
from modeltoll.json_document import StrictObject, decode_document, encode_document, read_bytes, write_bytes
from modeltoll.pricing.calibration import Calibration, CalibrationProvenance, NewAccountToll
from modeltoll.pricing.suspicion import SuspicionTerms
from modeltoll.pricing.tariff import NEW_ACCOUNT_ROWS
from modeltoll.pricing.validation import CalibrationReport

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "FORMAT",
    "VERSION",
    "decode_calibration",
    "encode_calibration",
    "load_calibration",
    "save_calibration",
]

FORMAT = "modeltoll-calibration"
VERSION = 1
_REMEDY = "make a new one with 'modeltoll calibrate'"


def encode_calibration(calibration: Calibration) -> bytes:
    """The calibration as ASCII JSON, one member per line. Numbers survive the round trip exactly."""
    report = calibration.report
    members: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "model": calibration.model,
        "measures": calibration.measures,
        "weights": calibration.weights,
        "g": calibration.g,
        "unit_seconds": calibration.unit_seconds,
        "undefended_seconds": calibration.undefended_seconds,
        "gate_seconds": calibration.gate_seconds,
        "suspicion": asdict(calibration.suspicion),
        "entry": asdict(calibration.new_account_toll) | {"rows": NEW_ACCOUNT_ROWS},
        "provenance": asdict(calibration.provenance),
        "report": None if report is None else asdict(report),
        "scores": calibration.scores.tolist(),
    }
    return encode_document(members)


def _report(members: StrictObject) -> CalibrationReport:
    waits = members.table("waits")
    if any(len(wait) != 2 for wait in waits):
        raise members.fault("waits", "must hold pairs of a share and seconds")
    report = CalibrationReport(
        held_back=members.integer("held_back"),
        mean=members.number("mean"),
        low=members.number("low"),
        high=members.number("high"),
        waits=tuple((share, seconds) for share, seconds in waits),
        factors=members.numbers("factors"),
        warnings=members.texts("warnings"),
    )
    members.done()
    return report


def _suspicion(members: StrictObject) -> SuspicionTerms:
    terms = SuspicionTerms(**{term.name: members.number(term.name) for term in fields(SuspicionTerms)})
    members.done()
    return terms


def _new_account_toll(members: StrictObject) -> NewAccountToll:
    terms = NewAccountToll(members.number("anonymous_units"), members.number("keyed_units"))
    if members.integer("rows") != NEW_ACCOUNT_ROWS:
        raise members.fault("rows", f"must be {NEW_ACCOUNT_ROWS}")
    members.done()
    return terms


def _provenance(members: StrictObject) -> CalibrationProvenance:
    provenance = CalibrationProvenance(*(members.text(name) for name in ("source", "command", "created", "machine")))
    members.done()
    return provenance


def _calibration(members: StrictObject) -> Calibration:
    if members.text("format") != FORMAT:
        raise members.fault("format", f"must be {FORMAT!r}")
    if members.integer("version") != VERSION:
        raise members.fault("version", f"must be {VERSION}")
    report = members.optional("report")
    scores = np.array(members.table("scores"), dtype=np.float64)
    scores.setflags(write=False)
    return Calibration(
        model=members.text("model"),
        measures=members.texts("measures"),
        scores=scores,
        weights=members.numbers("weights"),
        g=members.number("g"),
        unit_seconds=members.number("unit_seconds"),
        undefended_seconds=members.number("undefended_seconds"),
        gate_seconds=members.number("gate_seconds"),
        suspicion=_suspicion(members.object("suspicion")),
        new_account_toll=_new_account_toll(members.object("entry")),
        provenance=_provenance(members.object("provenance")),
        report=None if report is None else _report(report),
    )


def decode_calibration(data: bytes, where: str = "the calibration") -> Calibration:
    """Parse and validate a document; ``where`` names it in error messages.

    Raises:
        CalibrationError: not a valid calibration; the message names the member and the remedy.
    """
    return decode_document(data, _calibration, where, _REMEDY)


def save_calibration(calibration: Calibration, path: Path) -> None:
    """Write the file atomically.

    Raises:
        CalibrationError: it cannot be written.
    """
    write_bytes(path, encode_calibration(calibration))


def load_calibration(path: Path, *, model: str | None = None, measures: tuple[str, ...] | None = None) -> Calibration:
    """Read a file; ``model`` and ``measures``, if given, must equal the file's, in order.

    Raises:
        CalibrationError: it cannot be read, is not valid, or is for another model or other measures.
    """
    calibration = decode_calibration(read_bytes(path), str(path))
    if model is not None and calibration.model != model:
        raise CalibrationError(f"{path}: 'model' is {calibration.model!r}, not {model!r}; {_REMEDY}")
    if measures is not None and calibration.measures != measures:
        found, wanted = ", ".join(calibration.measures), ", ".join(measures)
        raise CalibrationError(f"{path}: 'measures' are {found}, not {wanted}; {_REMEDY}")
    return calibration
