"""Calibration files: versioned JSON, each member of which is validated."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from modeltoll.errors import CalibrationError
from modeltoll.json_document import StrictObject, decode_document, encode_document, read_bytes, write_bytes
from modeltoll.pricing.calibration import (
    Calibration,
    CalibrationProvenance,
    KindReport,
    NewAccountToll,
    PricedClass,
)
from modeltoll.pricing.kinds import FittedKind, FittedStranger
from modeltoll.pricing.suspicion import SuspicionTerms
from modeltoll.pricing.tariff import NEW_ACCOUNT_ROWS
from modeltoll.pricing.validation import CalibrationReport

if TYPE_CHECKING:
    from pathlib import Path

    from modeltoll.records import Floats, Integers

__all__ = [
    "FORMAT",
    "VERSION",
    "decode_calibration",
    "encode_calibration",
    "load_calibration",
    "save_calibration",
]

FORMAT = "modeltoll-calibration"
VERSION = 2
_REMEDY = "make a new one with 'modeltoll calibrate'"
_ROLES: dict[str, Literal["all traffic", "declared", "class", "caller"]] = {
    "all traffic": "all traffic",
    "declared": "declared",
    "class": "class",
    "caller": "caller",
}
_LARGEST_COUNT = 2**53


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
        "kind_reports": [asdict(kind_report) for kind_report in calibration.kind_reports],
        "coordinates": calibration.coordinates,
        "scores": calibration.scores.tolist(),
        "clean_scores": _listed(calibration.clean_scores),
        "kinds": [_encode_kind(kind) for kind in calibration.kinds],
        "priced_classes": [
            {"classes": priced.classes, "scores": priced.scores.tolist()} for priced in calibration.priced_classes
        ],
        "strangers": [
            {"name": stranger.name, "generic": stranger.generic, "counts": stranger.counts.tolist()}
            for stranger in calibration.strangers
        ],
    }
    return encode_document(members)


def _listed(scores: Floats | None) -> list[list[float]] | None:
    return None if scores is None else scores.tolist()


def _encode_kind(kind: FittedKind) -> dict[str, Any]:
    names = {"name": kind.name, "role": kind.role, "label": kind.label}
    return names | {"counts": kind.counts.tolist(), "scores": _listed(kind.scores)}


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


def _scores(members: StrictObject, name: str) -> Floats:
    """Lists of numbers as an array of two dimensions that cannot be written."""
    table = members.table(name)
    scores = np.array(table, dtype=np.float64).reshape(len(table), len(table[0]) if table else 0)
    scores.setflags(write=False)
    return scores


def _counts(members: StrictObject) -> Integers:
    numbers = members.integers("counts")
    if any(abs(number) > _LARGEST_COUNT for number in numbers):
        raise members.fault("counts", "must be numbers of rows")
    counts = np.array(numbers, dtype=np.int64)
    counts.setflags(write=False)
    return counts


def _kind(members: StrictObject) -> FittedKind:
    name, role, label = (members.text(member) for member in ("name", "role", "label"))
    if role not in _ROLES:
        raise members.fault("role", f"must be one of {', '.join(_ROLES)}")
    scores = None if members.null("scores") else _scores(members, "scores")
    kind = FittedKind(name, _ROLES[role], _counts(members), scores, label)
    members.done()
    return kind


def _priced_class(members: StrictObject) -> PricedClass:
    priced = PricedClass(members.integers("classes"), _scores(members, "scores"))
    members.done()
    return priced


def _stranger(members: StrictObject) -> FittedStranger:
    stranger = FittedStranger(members.text("name"), _counts(members), members.boolean("generic"))
    members.done()
    return stranger


def _kind_report(members: StrictObject) -> KindReport:
    interval = members.numbers("interval")
    if len(interval) != 2:
        raise members.fault("interval", "must be two numbers")
    report = KindReport(
        name=members.text("name"),
        role=members.text("role"),
        rows=members.integer("rows"),
        mean_units=members.number("mean_units"),
        interval=(interval[0], interval[1]),
        p99_seconds=members.number("p99_seconds"),
        max_log_evidence=members.number("max_log_evidence"),
        suspected_at=None if members.null("suspected_at") else members.integer("suspected_at"),
        label=members.text("label"),
    )
    members.done()
    return report


def _calibration(members: StrictObject) -> Calibration:
    if members.text("format") != FORMAT:
        raise members.fault("format", f"must be {FORMAT!r}")
    if members.integer("version") != VERSION:
        raise members.fault("version", f"must be {VERSION}")
    report = members.optional("report")
    coordinates, kinds = members.texts("coordinates"), tuple(map(_kind, members.objects("kinds")))
    if not coordinates or not kinds:  # of which the record has defaults
        raise members.fault("kinds" if coordinates else "coordinates", "must not be empty")
    return Calibration(
        model=members.text("model"),
        measures=members.texts("measures"),
        scores=_scores(members, "scores"),
        weights=members.numbers("weights"),
        g=members.number("g"),
        unit_seconds=members.number("unit_seconds"),
        undefended_seconds=members.number("undefended_seconds"),
        gate_seconds=members.number("gate_seconds"),
        suspicion=_suspicion(members.object("suspicion")),
        new_account_toll=_new_account_toll(members.object("entry")),
        coordinates=coordinates,
        kinds=kinds,
        priced_classes=tuple(map(_priced_class, members.objects("priced_classes"))),
        clean_scores=None if members.null("clean_scores") else _scores(members, "clean_scores"),
        strangers=tuple(map(_stranger, members.objects("strangers"))),
        provenance=_provenance(members.object("provenance")),
        report=None if report is None else _report(report),
        kind_reports=tuple(map(_kind_report, members.objects("kind_reports"))),
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
