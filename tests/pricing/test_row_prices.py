"""The price of a row is at most one unit on average under every kind, by exact enumeration over ranks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeltoll.pricing.calibration import PricedClass
from modeltoll.pricing.kinds import DECLARED, FittedKind
from modeltoll.pricing.leak_ranks import LeakRanks, MergedRanks, SampleRanks, rounded_leaks
from modeltoll.pricing.row_prices import RowPrices

SCORES = st.one_of(
    st.floats(0.0, 1e300),  # any size, down to the subnormal
    st.integers(0, 3).map(float),  # heavy ties, within a kind and between kinds
    st.sampled_from([0.0, 1e-300, 1.0, 1.0 + 2**-52]),  # ties but for rounding
)


@pytest.fixture(scope="module", autouse=True)
def _kinds_of_few_rows():
    """Enumeration needs kinds of a few rows, which a calibration does not price by."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("modeltoll.pricing.calibration.KIND_PRICE_ROWS", 1)
        yield


@st.composite
def rows_of_kinds(draw):
    """Rows of all traffic, of up to three declared kinds and of a class, by one or two measures, and weights."""
    measures = draw(st.integers(1, 2))
    row = st.tuples(*[SCORES] * measures)
    samples = [np.array(draw(st.lists(row, min_size=2, max_size=9))) for _ in range(draw(st.integers(2, 5)))]
    shares = np.array(draw(st.lists(st.floats(0.01, 1.0), min_size=measures, max_size=measures)))
    return samples, tuple(shares / shares.sum())


def priced(make_calibration, samples, **terms):
    """The prices where the first sample is all traffic, the last one that of class 1, and those between declared kinds."""
    calibration = make_calibration(samples[0].T, **terms)
    counts = np.zeros(calibration.cells.count, np.int64)

    def kind(place, values):
        counts_of = counts.copy()
        counts_of[0] = len(values)
        return FittedKind(f"kind {place}", DECLARED, counts_of, np.sort(values.T, axis=1))

    kinds = tuple(kind(place, values) for place, values in enumerate(samples[1:-1]))
    classes = (PricedClass((1,), np.sort(samples[-1].T, axis=1)),)
    return RowPrices(dataclasses.replace(calibration, kinds=calibration.kinds + kinds, priced_classes=classes))


@settings(max_examples=60, deadline=None)
@given(rows_of_kinds(), st.floats(0.01, 0.99), st.lists(st.floats(0.01, 1.0), min_size=5, max_size=5))
def test_the_mean_price_is_at_most_one_under_every_kind_and_every_mixture(make_calibration, drawn, g, shares):
    """Exact: any of the n + 1 exchangeable rows of a kind may be the new one. Rows of a class are priced among it, too."""
    samples, weights = drawn
    means = []
    for place, rows in enumerate(samples):
        if len(rows) < 3:  # no row would be left of the kind, or one
            continue
        paid = []
        for new in range(len(rows)):
            others = [np.delete(rows, new, axis=0) if each is rows else each for each in samples]
            prices = priced(make_calibration, others, weights=weights, g=g)
            classes = np.array([1 if place == len(samples) - 1 else 0])
            paid.append(prices.factors(prices.p_values(rounded_leaks(rows[new : new + 1]), classes))[0])
        means.append(np.mean(paid))
    assert max(means, default=0.0) <= 1.0 + 1e-9
    if means:
        assert np.average(means, weights=shares[: len(means)]) <= 1.0 + 1e-9


@settings(max_examples=30, deadline=None)
@given(rows_of_kinds(), st.floats(0.05, 0.95))
def test_p_is_the_largest_among_the_kinds_and_the_class_counted_by_hand(make_calibration, drawn, g):
    samples, weights = drawn
    prices = priced(make_calibration, samples, weights=weights, g=g)
    rows, classes = np.concatenate(samples), np.arange(sum(map(len, samples))) % 3
    found = prices.p_values(rounded_leaks(rows), classes)
    for row, predicted, p_values in zip(rows, classes, found, strict=True):
        among = samples if predicted == 1 else samples[:-1]
        for column, leak in enumerate(row):
            own = rounded_leaks(np.array([leak]))[0]
            expected = max((1 + int((rounded_leaks(each[:, column]) >= own).sum())) / (len(each) + 1) for each in among)
            assert p_values[column] == expected
    factors = sum(w * prices.price_bins.factors(column, g) for w, column in zip(weights, found.T, strict=True))
    assert prices.factors(found) == pytest.approx(factors, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(rows_of_kinds(), st.floats(0.05, 0.95), st.booleans())
def test_a_row_on_its_own_is_priced_bit_for_bit_as_among_many(make_calibration, drawn, g, known):
    samples, weights = drawn
    prices = priced(make_calibration, samples, weights=weights, g=g)
    rounded = rounded_leaks(np.concatenate(samples))
    classes = np.arange(len(rounded)) % 3 if known else None
    p_values = prices.p_values(rounded, classes)
    for place, row in enumerate(rounded.tolist()):
        factor, least, places = prices.of_row(row, None if classes is None else int(classes[place]))
        assert factor == prices.factors(p_values)[place]
        assert least == p_values[place].min()
        for column in range(len(row)):
            ranks = prices.all_traffic.measures[column]
            above, at_least = prices.among_all_traffic(column, places[column], row[column])
            assert (above, at_least) == (
                ranks.count(rounded, "right")[place, column],
                ranks.count(rounded)[place, column],
            )


@settings(max_examples=30, deadline=None)
@given(rows_of_kinds(), st.floats(0.1, 0.9))
def test_another_kind_never_makes_a_row_dearer(make_calibration, drawn, g):
    samples, weights = drawn
    rounded = rounded_leaks(np.concatenate(samples))
    classes = np.ones(len(rounded), np.int64)
    with_all = priced(make_calibration, samples, weights=weights, g=g)
    fewer = priced(make_calibration, [samples[0], samples[-1]], weights=weights, g=g)
    assert (with_all.factors(with_all.p_values(rounded, classes)) <= fewer.factors(fewer.p_values(rounded))).all()


def test_at_another_g_the_bins_and_the_ranks_stay(make_calibration):
    rng = np.random.default_rng(0)
    samples = [rng.lognormal(size=(50, 2)) for _ in range(3)]
    prices = RowPrices(make_calibration(samples[0].T, g=0.5), 0.9)
    other = prices.at(0.7)
    p_values = np.arange(1, 52)[:, None] / 51 * np.ones(2)
    assert other.price_bins is prices.price_bins
    assert (other.factors(p_values) != prices.factors(p_values)).any()
    assert len(np.unique(other.factors(p_values))) == len(np.unique(prices.factors(p_values)))
    row = rounded_leaks(samples[1][:1])
    assert other.of_row(row[0].tolist())[0] == other.factors(other.p_values(row))[0]


@given(st.lists(SCORES, min_size=1, max_size=30), st.lists(SCORES, min_size=1, max_size=30), SCORES)
def test_merged_ranks_find_what_each_sample_finds(first, second, leak):
    samples = [LeakRanks(np.sort(np.array(scores))) for scores in (first, second)]
    merged, rounded = MergedRanks(samples), rounded_leaks(np.array([leak, *first, *second]))
    places = merged.places(rounded)
    assert merged.p_values[places].tolist() == np.max([each.p_values(rounded) for each in samples], axis=0).tolist()
    assert merged.at_least[places].tolist() == samples[0].count(rounded).tolist()


def test_ranks_by_several_measures_are_those_by_each():
    scores = np.sort(np.random.default_rng(0).lognormal(size=(2, 20)), axis=1)
    ranks, rounded = SampleRanks(scores), rounded_leaks(np.random.default_rng(1).lognormal(size=(5, 2)))
    for column in range(2):
        assert (
            ranks.p_values(rounded)[:, column].tolist()
            == LeakRanks(scores[column]).p_values(rounded[:, column]).tolist()
        )


def test_leaks_that_differ_in_the_last_bits_are_a_tie():
    leaks = np.array([0.1, np.nextafter(0.1, 1.0), np.nextafter(0.1, 0.0), 0.1 * (1 + 1e-6), -0.0, 0.0])
    rounded = rounded_leaks(leaks)
    assert len(set(rounded[:3].tolist())) == 1
    assert rounded[3] > rounded[0]
    assert rounded[4] == rounded[5] == 0
