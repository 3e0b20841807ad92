"""Fitting novelty without torch: kinds, rows of all types and scales, what is reported, and what is refused."""

from __future__ import annotations

import contextlib
import importlib.util

import numpy as np
import pytest

from modeltoll.bench.datasets import digits
from modeltoll.errors import CalibrationError, SettingsError
from modeltoll.leak.corruptions import parse_kinds
from modeltoll.leak.fit_novelty import NO_NETWORK, SMALL, NoveltyPlan, PrivateData, fit_novelty
from modeltoll.leak.layered_novelty import NoveltyTerms, load_novelty
from modeltoll.leak.measure import clean_measure
from modeltoll.leak.novelty_report import KIND, STRANGER, report_novelty
from modeltoll.leak.private_rows import private_rows
from modeltoll.leak.strangers import STRANGERS
from modeltoll.records import Evidence
from modeltoll.testing.measures import check_measure

TERMS = NoveltyTerms(max_points=400)
KINDS = parse_kinds("dark,contrast:0.5")


def evidence_of(rows):
    return Evidence(tuple(i.to_bytes(8, "big") for i in range(len(rows))), inputs=np.asarray(rows, float))


def rng(seed=0):
    return np.random.default_rng(seed)


def blobs(rows=400, width=12, seed=0):
    """Two classes of rows in two clouds."""
    labels = rng(seed).integers(0, 2, rows)
    return rng(seed + 1).normal(size=(rows, width)) + 4.0 * labels[:, None] * (np.arange(width) % 2), labels


@pytest.fixture(scope="module")
def of_digits():
    images = digits()
    data = PrivateData(private_rows(images.x[:800]), images.y[:800])
    return fit_novelty(data, NoveltyPlan(KINDS, network=SMALL, terms=TERMS)), images.x[1500:].reshape(-1, 64)


def test_dark_images_are_usual_to_the_measure_and_strange_to_its_variant_without_kinds(of_digits):
    fitted, unseen = of_digits
    dark = evidence_of(0.3 * unseen)
    limits = [
        np.quantile(measure.measure(evidence_of(unseen)), 0.99)
        for measure in (fitted.measure, clean_measure(fitted.measure))
    ]
    assert (fitted.measure.measure(dark) > limits[0]).mean() < 0.05
    assert (clean_measure(fitted.measure).measure(dark) > limits[1]).mean() > 0.5
    assert fitted.measure.kinds == tuple(kind.name for kind in KINDS)


def test_the_report_says_what_the_measure_sees(of_digits):
    fitted, _ = of_digits
    done = []
    report = report_novelty(fitted, KINDS, lambda count, total: done.append((count, total)))
    assert report.held == 80
    assert report.accuracy > 0.9
    assert report.kinds_accuracy > 0.9
    assert done[-1] == (len(report.rows),) * 2
    first, *kinds = [row for row in report.rows if row.role != STRANGER]
    assert first.beyond <= 0.02
    assert [row.name for row in kinds] == [kind.name for kind in KINDS]
    assert {row.role for row in kinds} == {KIND}
    assert max(row.beyond for row in kinds) < 0.1
    assert max(row.clean_beyond for row in kinds) > 0.5
    strangers = {row.name: row for row in report.rows if row.role == STRANGER}
    assert set(strangers) == set(STRANGERS)
    assert strangers["noise"].beyond > 0.95
    assert strangers["permuted pixels"].median > 2.0 * first.median


def test_a_fitted_measure_passes_the_suite_and_is_saved(of_digits, tmp_path):
    fitted, unseen = of_digits
    fitted.measure.save(tmp_path / "novelty.npz")
    loaded = load_novelty(tmp_path / "novelty.npz")
    evidence = evidence_of(unseen[:12])
    for measure in (loaded, clean_measure(loaded)):
        check_measure(measure, evidence)
    assert np.array_equal(loaded.measure(evidence), fitted.measure.measure(evidence))
    assert np.array_equal(loaded.clean.measure(evidence), fitted.measure.clean.measure(evidence))


@pytest.mark.parametrize(("scale", "network"), [(1e-12, SMALL), (1e9, SMALL), (1e9, NO_NETWORK)])
def test_rows_of_any_scale_with_constant_columns_are_fitted(scale, network):
    rows, labels = blobs()
    rows[:, 3], rows[:, 4] = 5.0, 0.0
    data = PrivateData(private_rows(rows * scale), labels)
    fitted = fit_novelty(data, NoveltyPlan(network=network, terms=TERMS))
    usual, strange = blobs(100, seed=7)[0], blobs(100, seed=7)[0]
    usual[:, 3], usual[:, 4] = strange[:, 3], strange[:, 4] = 5.0, 0.0
    strange[:, 1] -= 9.0
    ours, theirs = (np.median(fitted.measure.measure(evidence_of(each * scale))) for each in (usual, strange))
    assert theirs > 2.0 * ours + 0.5
    assert (report_novelty(fitted, ()).accuracy or 1.0) > 0.95


def programs(count=400):
    """Rows of 120 codes, 0 to 255 with 256 at the end: words of one of two languages."""
    source = rng(3)
    words = source.integers(32, 127, (2, 40, 6))
    labels = source.integers(0, 2, count)
    rows = np.full((count, 120), 256)
    for row, label in zip(rows, labels, strict=True):
        text = words[label][source.integers(0, 40, 20)].ravel()[: source.integers(40, 121)]
        row[: len(text)] = text
    return rows, labels


def test_raw_codes_of_0_to_256_are_fitted_as_codes():
    rows, labels = programs()
    fitted = fit_novelty(PrivateData(private_rows(rows, codes=True), labels), NoveltyPlan(network=SMALL, terms=TERMS))
    report = report_novelty(fitted, ())
    assert report.accuracy > 0.95
    seen = {row.name: row.beyond for row in report.rows}
    assert seen["noise"] > 0.95
    assert seen["permuted pixels"] > 0.5
    check_measure(fitted.measure, evidence_of(rows[:10]))


def test_raw_integers_are_fitted_as_numbers_too():
    """Whole numbers up to 256 in a network that is not told their scale have no usable features."""
    rows, labels = blobs()
    whole = np.round(np.clip(60.0 * rows, 0, 256)).astype(np.int64)
    fitted = fit_novelty(PrivateData(private_rows(whole), labels), NoveltyPlan(network=SMALL, terms=TERMS))
    assert report_novelty(fitted, ()).accuracy > 0.95


def test_texts_are_fitted():
    words = [["red", "green", "blue", "grey"], ["one", "two", "three", "ten"]]
    labels = rng().integers(0, 2, 300)
    texts = np.array([" ".join(rng(i).choice(words[label], 9)) for i, label in enumerate(labels)])
    fitted = fit_novelty(PrivateData(private_rows(texts), labels), NoveltyPlan(network=SMALL, terms=TERMS))
    assert fitted.measure.input_width == 2048
    assert report_novelty(fitted, ()).accuracy > 0.95


def test_a_table_with_missing_values_is_fitted_with_the_kinds_of_tables():
    rows, labels = blobs(900)
    rows[rng().random(rows.shape) < 0.1] = np.nan
    kinds = parse_kinds("jitter:0.05,missing:0.1,scale:0.1")
    fitted = fit_novelty(PrivateData(private_rows(rows), labels), NoveltyPlan(kinds, network=SMALL))
    report = report_novelty(fitted, kinds)
    assert report.accuracy > 0.9
    assert max(row.beyond for row in report.rows if row.role == KIND) < 0.2
    check_measure(fitted.measure, evidence_of(rows[:10]))


def test_rows_of_the_operators_own_kind_are_points_and_some_are_kept_back():
    rows, labels = blobs()
    night = blobs(200, seed=5)[0] - 6.0
    plan = NoveltyPlan(rows={"night": night}, network=SMALL, terms=TERMS)
    fitted = fit_novelty(PrivateData(private_rows(rows), labels), plan)
    assert fitted.measure.kinds == ("night",)
    assert len(fitted.held_rows["night"]) == 20
    (seen,) = [row for row in report_novelty(fitted, ()).rows if row.role == KIND]
    assert seen.name == "night"
    assert seen.beyond < 0.3
    assert seen.clean_beyond > 0.9


def test_without_labels_there_is_no_network():
    fitted = fit_novelty(PrivateData(private_rows(blobs()[0]), None), NoveltyPlan(terms=TERMS))
    assert report_novelty(fitted, ()).accuracy is None
    assert fitted.network.stack is None
    with pytest.raises(SettingsError, match="needs labels"):
        fit_novelty(PrivateData(private_rows(blobs()[0]), None), NoveltyPlan(network=SMALL, terms=TERMS))


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="torch is installed")
def test_torch_is_not_needed_and_who_asks_for_it_is_told_the_extra():
    rows, labels = blobs(200)
    assert fit_novelty(PrivateData(private_rows(rows), labels), NoveltyPlan(terms=TERMS)).network.stack is not None
    with pytest.raises(SettingsError, match=r"modeltoll\[train\]"):
        fit_novelty(PrivateData(private_rows(rows), labels), NoveltyPlan(network="torch", terms=TERMS))


@pytest.mark.parametrize(
    ("rows", "labels"),
    [
        (np.full((50, 4), np.inf), np.arange(50) % 2),
        (np.zeros((50, 4)), np.arange(49)),
        (rng().random((50, 4)), np.zeros(50)),
        (np.zeros((50, 4)), np.arange(50) % 2),
    ],
    ids=["infinite", "one label too few", "one class", "all the same"],
)
def test_unusable_data_is_refused(rows, labels):
    with pytest.raises(CalibrationError):
        fit_novelty(PrivateData(private_rows(rows), labels), NoveltyPlan(network=SMALL, terms=TERMS))


def test_a_network_or_a_kind_that_does_not_exist_is_refused():
    data = PrivateData(private_rows(blobs(100)[0]), blobs(100)[1])
    with pytest.raises(SettingsError, match="no network"):
        fit_novelty(data, NoveltyPlan(network="deep", terms=TERMS))
    with pytest.raises(SettingsError, match="kind of images"):
        fit_novelty(data, NoveltyPlan(parse_kinds("blur"), network=SMALL, terms=TERMS))
    with pytest.raises(CalibrationError, match="row of the inputs"):
        fit_novelty(data, NoveltyPlan(rows={"odd": np.zeros((9, 5))}, network=SMALL, terms=TERMS))


def test_every_step_reports_progress_and_can_be_interrupted():
    data = PrivateData(private_rows(blobs(300)[0]), blobs(300)[1])
    titles = []

    @contextlib.contextmanager
    def stage(title):
        def interrupt(done, total):
            if title == "Fitting novelty with kinds" and done >= total // 2:
                raise KeyboardInterrupt

        titles.append(title)
        yield interrupt

    with pytest.raises(KeyboardInterrupt):
        fit_novelty(data, NoveltyPlan(parse_kinds("jitter"), network=SMALL, terms=TERMS), stage)
    assert titles == [
        "Training the network",
        "Fitting novelty",
        "Training the network with kinds",
        "Fitting novelty with kinds",
    ]


def test_the_same_seed_gives_the_same_measure():
    data, queries = PrivateData(private_rows(blobs(120)[0]), blobs(120)[1]), evidence_of(blobs(20, seed=9)[0])
    leaks = [
        fit_novelty(
            data, NoveltyPlan(parse_kinds("scale"), network=SMALL, terms=NoveltyTerms(seed=seed))
        ).measure.measure(queries)
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(leaks[0], leaks[1])
    assert not np.array_equal(leaks[0], leaks[2])
