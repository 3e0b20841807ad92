"""Calibration files: they read back exactly, and only valid calibrations are accepted."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeltoll.errors import CalibrationError
from modeltoll.pricing.calibration import Calibration, CalibrationProvenance, KindReport, PricedClass
from modeltoll.pricing.calibration_file import (
    decode_calibration,
    encode_calibration,
    load_calibration,
    save_calibration,
)
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.kinds import CALLER, CLASS, DECLARED, FittedKind, FittedStranger
from modeltoll.pricing.validation import CalibrationReport
from modeltoll.testing.tariffs import check_tariff


def made():
    """A calibration with a value in every member."""
    rng = np.random.default_rng(0)
    scores = np.sort(rng.lognormal(size=(2, 60)), axis=1)
    plain = Calibration("digits", ("entropy", "novelty"), scores, (0.3, 0.7), 0.8, 0.001)
    cells = plain.cells.count

    def counts(rows):
        return rng.multinomial(rows, rng.dirichlet(np.ones(cells))).astype(np.int64)

    def of(rows):
        return np.sort(rng.lognormal(size=(2, rows)), axis=1)

    return dataclasses.replace(
        plain,
        kinds=(
            *plain.kinds,
            FittedKind("dark", DECLARED, counts(40)),
            FittedKind("class 1", CLASS, counts(30)),
            FittedKind("5f0c", CALLER, counts(25), of(25), "the scanner of the ward"),
        ),
        priced_classes=(PricedClass((1, 7), of(20)),),
        clean_scores=of(60),
        strangers=(FittedStranger("photographs", counts(50)), FittedStranger("noise", counts(50), generic=True)),
        undefended_seconds=0.002,
        gate_seconds=0.001,
        provenance=CalibrationProvenance("rows of May", "modeltoll calibrate …", "2026-11-23", "bench"),
        report=CalibrationReport(40, 0.9, 0.8, 1.1, ((0.5, 0.001), (0.99, 0.01)), (0.2, 1.6), ("a warning",)),
        kind_reports=(
            KindReport("dark", DECLARED, 30, 0.9, (0.8, 1.0), 0.02, -2.5),
            KindReport("5f0c", CALLER, 30, 1.9, (1.5, 2.0), 0.03, 14.5, 320, "the scanner of the ward"),
        ),
    )


FITTED = made()
VALID = json.loads(encode_calibration(FITTED))


def paths_in(value, path=()):
    """The paths of all members of objects, in lists too."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in inner:
        if isinstance(value, dict):
            yield (*path, name)
        yield from paths_in(member, (*path, name))


PATHS = list(paths_in(VALID))
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
    assert read.kind_reports == FITTED.kind_reports
    assert [kind.label for kind in read.kinds] == [kind.label for kind in FITTED.kinds]
    assert [stranger.generic for stranger in read.strangers] == [False, True]
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
        (("version",), 1, "'version' must be 2"),
        (("version",), 3, "'version' must be 2"),
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
        (("kinds",), [], "'kinds' must not be empty"),
        (("kinds",), [7], "'kinds' must be a list of objects"),
        (("kinds", 1, "role"), "hoped for", r"'kinds\[1\]\.role' must be one of"),
        (("kinds", 1, "counts"), [1.5], r"'kinds\[1\]\.counts' must be a list of integers"),
        (("kinds", 1, "counts"), [True], r"'kinds\[1\]\.counts' must be a list of integers"),
        (("kinds", 1, "counts"), [10**30], r"'kinds\[1\]\.counts' must be numbers of rows"),
        (("kinds", 1, "surprise"), 1, r"'kinds\[1\]\.surprise' is not known"),
        (("coordinates",), [], "'coordinates' must not be empty"),
        (("coordinates",), ["other"], "'coordinates' must be one or 2"),
        (("clean_scores",), [], "'clean_scores' must hold"),
        (("priced_classes", 0, "classes"), [1, 1], "'priced_classes' must name"),
        (("strangers", 0, "generic"), 1, r"'strangers\[0\]\.generic' must be true or false"),
        (("kind_reports", 0, "interval"), [1.0], r"'kind_reports\[0\]\.interval' must be two"),
        (("kind_reports", 0, "suspected_at"), 1.5, r"'kind_reports\[0\]\.suspected_at' must be an integer"),
        (("suspicion", "rho0"), -1, "'suspicion.rho0' must lie"),
        (("surprise",), 1, "'surprise' is not known"),
        (("entry", "surprise"), 1, "'entry.surprise' is not known"),
    ],
)
def test_an_error_names_the_member_and_the_remedy(path, value, fault):
    with pytest.raises(CalibrationError, match=rf"^here\.json: {fault}.*; make a new one with 'modeltoll calibrate'$"):
        decode_calibration(altered(path, value), "here.json")


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_every_member_is_needed(path):
    document = json.loads(json.dumps(VALID))
    inner = document
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    with pytest.raises(CalibrationError, match=f"{path[-1]}' is missing"):
        decode_calibration(json.dumps(document).encode())


def test_a_file_of_the_version_before_is_refused_with_the_remedy():
    old = {name: VALID[name] for name in ("format", "model", "measures", "weights", "g", "scores")} | {"version": 1}
    with pytest.raises(CalibrationError, match="'version' must be 2; make a new one with 'modeltoll calibrate'"):
        decode_calibration(json.dumps(old).encode())


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
