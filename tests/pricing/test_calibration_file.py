"""Calibration files: they read back exactly, and only valid calibrations are accepted."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeltoll.errors import CalibrationError
from modeltoll.pricing.calibration import CalibrationProvenance
from modeltoll.pricing.calibration_file import (
    decode_calibration,
    encode_calibration,
    load_calibration,
    save_calibration,
)
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.fit import RowCosts, fit_calibration
from modeltoll.records import Leaks
from modeltoll.testing.tariffs import check_tariff

FITTED = fit_calibration(
    "digits",
    Leaks(("entropy", "novelty"), np.random.default_rng(0).lognormal(size=(200, 2))),
    RowCosts(0.001, gate_seconds=0.0009),
    provenance=CalibrationProvenance("rows of May", "modeltoll calibrate …", "2026-11-23", "bench"),
)
VALID = json.loads(encode_calibration(FITTED))
PATHS = [(name,) for name in VALID] + [
    (name, inner) for name, value in VALID.items() if isinstance(value, dict) for inner in value
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def altered(path, value):
    """A valid document as bytes, with one member replaced."""
    document = json.loads(json.dumps(VALID))
    inner = document
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return json.dumps(document).encode()


def reads_as_a_tariff_or_is_refused(data):
    try:
        calibration = decode_calibration(data)
    except CalibrationError:
        return
    check_tariff(ConformalTariff(calibration))


def test_a_file_reads_back_exactly(tmp_path):
    path = tmp_path / "tariff.json"
    save_calibration(FITTED, path)
    read = load_calibration(path, model="digits", measures=("entropy", "novelty"))
    assert read.identity == FITTED.identity
    assert np.array_equal(read.scores, FITTED.scores)
    assert (read.provenance, read.report) == (FITTED.provenance, FITTED.report)
    assert encode_calibration(read) == encode_calibration(FITTED)
    assert [entry.name for entry in tmp_path.iterdir()] == ["tariff.json"], "no draft stays behind"


def test_a_failed_save_leaves_the_old_file_and_no_temporary_file(tmp_path):
    (tmp_path / "tariff.json").mkdir()  # cannot be replaced by a file
    with pytest.raises(CalibrationError, match="cannot write"):
        save_calibration(FITTED, tmp_path / "tariff.json")
    assert [entry.name for entry in tmp_path.iterdir()] == ["tariff.json"]


def test_a_missing_file_or_one_for_something_else_is_refused(tmp_path):
    path = tmp_path / "tariff.json"
    with pytest.raises(CalibrationError, match="cannot read"):
        load_calibration(path)
    save_calibration(FITTED, path)
    with pytest.raises(CalibrationError, match="'model' is 'digits', not 'letters'"):
        load_calibration(path, model="letters")
    with pytest.raises(CalibrationError, match="'measures' are entropy, novelty, not novelty, entropy"):
        load_calibration(path, measures=("novelty", "entropy"))


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        (("format",), "pickle", "'format' must be"),
        (("version",), 2, "'version' must be 1"),
        (("g",), "0.8", "'g' must be"),
        (("g",), 1.0, "'g' must lie"),
        (("unit_seconds",), True, "'unit_seconds' must be"),
        (("weights",), [0.5, 0.6], "'weights' must be"),
        (("weights",), [0.5, None], "'weights' must be"),
        (("scores",), [[1.0, 2.0], [1.0]], "'scores' must hold"),
        (("scores",), [[2.0, 1.0], [1.0, 2.0]], "'scores' must ascend"),
        (("scores",), [[1.0, 10**400]] * 2, "'scores' must be"),
        (("suspicion", "alpha"), 0, "'suspicion.alpha' must lie"),
        (("entry", "rows"), 1.5, "'entry.rows' must be"),
        (("entry", "rows"), 3, "'entry.rows' must be 10"),
        (("report", "waits"), [[1.0]], "'report.waits' must hold"),
        (("surprise",), 1, "'surprise' is not known"),
        (("entry", "surprise"), 1, "'entry.surprise' is not known"),
    ],
)
def test_an_error_names_the_member_and_the_remedy(path, value, fault):
    with pytest.raises(CalibrationError, match=rf"^here\.json: {fault}.*; make a new one with 'modeltoll calibrate'$"):
        decode_calibration(altered(path, value), "here.json")


@pytest.mark.parametrize("name", VALID)
def test_every_member_is_needed(name):
    document = {key: value for key, value in VALID.items() if key != name}
    with pytest.raises(CalibrationError, match=f"'{name}' is missing"):
        decode_calibration(json.dumps(document).encode())


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"\xff\xfe", b'{"g": NaN}', b'{"g": 1, "g": 1}', b"[" * 100_000, b"1" * 10_000]
)
def test_what_is_not_a_document_is_refused(data):
    with pytest.raises(CalibrationError):
        decode_calibration(data)


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_refused_with_a_calibration_error(data):
    reads_as_a_tariff_or_is_refused(data)


@settings(deadline=None)
@given(st.sampled_from(PATHS), JSON)
def test_any_single_fault_gives_a_sound_tariff_or_a_calibration_error(path, value):
    reads_as_a_tariff_or_is_refused(altered(path, value))
