"""Rare pairs of codes: what is counted, what a private row leaves out of its own count, and which changed rows are seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from modeltoll.errors import CalibrationError
from modeltoll.leak.fit_novelty import NO_NETWORK, SMALL, NoveltyPlan, PrivateData, fit_novelty
from modeltoll.leak.layered_novelty import LayeredNovelty, NoveltyTerms
from modeltoll.leak.pair_rarity import PairRarity
from modeltoll.leak.private_rows import private_rows
from modeltoll.records import Evidence
from modeltoll.testing.measures import check_measure

WIDTH, ROWS = 200, 400


def rng(seed=0):
    return np.random.default_rng(seed)


def languages(count, seed, only=None):
    """Rows of codes in a common or a rare language, where each code has few successors; ``only``: the language of all rows."""
    draw = rng(seed)
    successors = rng(99).integers(0, 256, (2, 256, 4))
    language = (draw.random(count) < 0.2).astype(int) if only is None else np.full(count, only)
    rows = np.empty((count, WIDTH))
    rows[:, 0] = draw.integers(0, 256, count)
    for place in range(1, WIDTH):
        rows[:, place] = successors[language, rows[:, place - 1].astype(int), draw.integers(0, 4, count)]
    return rows


def mutated(rows, share, seed=7):
    draw = rng(seed)
    return np.where(draw.random(rows.shape) < share, draw.integers(0, 256, rows.shape), rows)


def measured(measure, rows):
    return measure.measure(Evidence((b"",) * len(rows), inputs=rows))


@pytest.fixture(scope="module")
def fitted():
    data = PrivateData(private_rows(languages(ROWS, 1), codes=True), None)
    return fit_novelty(data, NoveltyPlan(network=NO_NETWORK))


def test_a_row_has_the_shares_of_its_pairs_by_how_many_rows_hold_them():
    rows = np.array([[1, 2, 3, 1, 2, 3], [1, 2, 3, 4, 5, 6]], float)
    rarity = PairRarity.fit(rows)
    assert sorted(rarity.holders[rarity.holders > 0].tolist()) == [1, 1, 2, 2]
    features = np.exp(rarity.features(np.array([[7, 7, 7, 7, 7, 7], [1, 2, 3, 4, 5, 9]], float))) - 0.002
    assert features.reshape(2, 2, 9).sum(axis=2) == pytest.approx(np.ones((2, 2)))
    assert features[:, 0] == pytest.approx([1.0, 0.0])  # of the first half: no pair and every pair is known
    assert features[:, 9] == pytest.approx([1.0, 0.5])  # of the second half: one of two pairs is


def test_a_private_row_is_compared_as_if_it_had_not_been_counted():
    rows = languages(40, 3)
    own = PairRarity.fit(rows).features_of_own(rows)
    for row in (0, 17, 39):
        others = PairRarity.fit(np.delete(rows, row, axis=0))
        assert np.array_equal(own[row], others.features(rows[row : row + 1])[0])


def test_rows_do_not_affect_each_other_and_any_number_is_a_code():
    rarity, rows = PairRarity.fit(languages(40, 3)), languages(30, 4)
    rows[0, 3], rows[1, 5] = np.nan, 1e99
    alone = np.concatenate([rarity.features(rows[place : place + 1]) for place in range(30)])
    assert np.array_equal(alone, rarity.features(rows))
    assert np.isfinite(alone).all()
    assert PairRarity.fit(np.ones((3, 1))).features(np.ones((1, 1))).shape == (1, 18)


def test_rows_without_codes_are_refused():
    rarity, none = PairRarity.fit(languages(40, 3)), np.empty((2, 0))
    for call in (PairRarity.fit, rarity.features, rarity.features_of_own, rarity.tells_apart):
        with pytest.raises(ValueError, match="rows without codes have no pairs"):
            call(none)


def test_changed_and_spliced_rows_are_far_where_fresh_rows_are_not(fitted):
    """At most the private rows' own share of fresh rows lies beyond their 99 % point; most changed rows do."""
    limit = np.quantile(measured(fitted.measure, languages(400, 11)), 0.99)
    assert (measured(fitted.measure, languages(400, 12)) > limit).mean() < 0.05
    spliced = np.hstack([languages(200, 13, 0)[:, : WIDTH // 2], languages(200, 14, 1)[:, WIDTH // 2 :]])
    strange = [mutated(languages(200, 15), 0.05), spliced, rng(16).integers(0, 256, (200, WIDTH))]
    assert [(measured(fitted.measure, rows) > limit).mean() > 0.9 for rows in strange] == [True] * 3


def test_a_saved_measure_compares_alike_and_one_of_images_counts_no_pairs(fitted, tmp_path):
    fitted.measure.save(tmp_path / "novelty.npz")
    rows = mutated(languages(20, 15), 0.05)
    loaded = LayeredNovelty.load(tmp_path / "novelty.npz")
    assert np.array_equal(measured(loaded, rows), measured(fitted.measure, rows))
    check_measure(loaded, Evidence(tuple(bytes([row]) for row in range(10)), inputs=rows[:10]))
    images = PrivateData(private_rows(rng().random((60, 6, 6))), None)
    assert fit_novelty(images, NoveltyPlan(network=NO_NETWORK)).network.rarity is None


def test_points_of_declared_rows_are_compared_as_further_rows(fitted):
    """Rows of a kind are no private rows, so that nothing of theirs is left out: they lie as near as others of the kind."""
    known = {"changed": mutated(languages(300, 21), 0.05)}
    rows = fitted.held.rows
    data = PrivateData(replace(rows, inputs=languages(ROWS, 1)), None)
    measure = fit_novelty(
        data, NoveltyPlan(network=NO_NETWORK, rows=known, terms=NoveltyTerms(max_points=2000))
    ).measure
    others = mutated(languages(200, 22), 0.05, seed=8)
    assert np.median(measured(measure, others)) < 0.5 * np.median(measured(measure.clean, others))


@pytest.mark.parametrize(
    "change",
    [
        {"pair_rows": np.array(0)},
        {"pair_rows": np.array([3])},
        {"pair_rows": np.array("many")},
        {"pair_rows": np.array(np.nan)},
        {"pair_rows": np.array(np.inf)},
        {"pair_holders": np.zeros(5, np.int64)},
        {"pair_holders": np.zeros(1 << 18)},
        {"pair_holders": np.full(1 << 18, -1)},
        {"pair_holders": np.full(1 << 18, 41)},
    ],
)
def test_unusable_counts_are_refused(change):
    with pytest.raises(CalibrationError, match="fit it anew"):
        PairRarity.of_arrays(PairRarity.fit(languages(40, 3)).arrays() | change)


def test_a_file_without_counts_has_no_rarity():
    assert PairRarity.of_arrays({}) is None


def test_codes_have_no_network_unless_it_is_asked_for():
    rows, labels = private_rows(languages(60, 5), codes=True), np.arange(60) % 2
    alone = fit_novelty(PrivateData(rows, labels))
    assert [features.shape for features in alone.network.features(rows.inputs[:2])] == [(2, 18)]
    asked = fit_novelty(PrivateData(rows, labels), NoveltyPlan(network=SMALL))
    assert [features.shape[1] for features in asked.network.features(rows.inputs[:2])] == [1024, 64, 18]


def test_short_texts_whose_shares_are_alike_are_compared_by_their_hashed_pairs():
    texts = np.array([" ".join(rng(seed).choice(["one", "two", "three", "ten"], 9)) for seed in range(200)])
    fitted = fit_novelty(PrivateData(private_rows(texts), np.arange(200) % 2), NoveltyPlan(network=NO_NETWORK))
    assert fitted.network.rarity is None
    assert (measured(fitted.measure, fitted.held.rows.inputs) < 3.0).all()


def test_a_table_of_few_columns_of_codes_has_other_views_beside_its_rare_pairs(monkeypatch):
    """All of its pairs are frequent, so that rare pairs alone would hardly tell another table's rows from its own."""
    rows, labels = private_rows(languages(200, 5)[:, :60], codes=True), np.arange(200) % 2
    unlabelled = fit_novelty(PrivateData(rows, None))
    assert [features.shape[1] for features in unlabelled.network.features(rows.inputs[:2])] == [1024, 18]
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)  # without torch
    assert fit_novelty(PrivateData(rows, labels)).network.stack is not None
