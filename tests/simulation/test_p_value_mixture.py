"""Distributions of p-values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltoll.errors import SettingsError
from modeltoll.simulation.p_value_mixture import PValueMixture, leaks_at, parse_mixture


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("0.5", ((1.0, 0.5, 0.5),)),
        ("0.1..1", ((1.0, 0.1, 1.0),)),
        ("0.3*0..0.1 + 0.7*0.5..1", ((0.3, 0.0, 0.1), (0.7, 0.5, 1.0))),
        (" 2*0.5 + 1e-3..1e-2", ((2.0, 0.5, 0.5), (1.0, 0.001, 0.01))),
    ],
)
def test_points_ranges_and_mixtures_are_read(text, parts):
    assert parse_mixture(text) == PValueMixture(parts)


@pytest.mark.parametrize(
    "text", ["", "x", "0.5..0.1", "-0.1", "1.1", "0..2", "0*0.5", "-1*0.5", "nan", "0.5+", "0.1..nan", "inf*0.5"]
)
def test_what_is_not_a_distribution_is_refused_with_an_example(text):
    with pytest.raises(SettingsError, match=r"write 0\.5"):
        parse_mixture(text)


def test_a_mixture_is_drawn_in_its_shares():
    drawn = parse_mixture("1*0..0.1 + 3*0.5").draw(40_000, np.random.default_rng(0))
    assert (drawn == 0.5).mean() == pytest.approx(0.75, abs=0.01)
    low = drawn[drawn != 0.5]
    assert ((low >= 0.0) & (low <= 0.1)).all()
    assert low.mean() == pytest.approx(0.05, abs=0.001)


@given(st.integers(1, 500), st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20))
def test_a_leak_has_the_p_value_that_was_given(honest, p_values):
    """To a resolution of 1 / (n + 1), and exactly for the smallest and the largest p."""
    scores = np.sort(np.random.default_rng(honest).lognormal(size=(2, honest)), axis=1)
    leaks = leaks_at(scores, np.array([*p_values, 0.0, 1.0]))
    at_least = (scores[None] >= leaks[:, :, None]).sum(axis=2)
    smallest, largest = at_least / (honest + 1), (at_least + 1) / (honest + 1)
    stated = np.array([*p_values, 0.0, 1.0])[:, None]
    assert ((smallest <= stated + 1e-12) & (stated <= largest + 1e-12)).all()
    assert (at_least[-2] == 0).all()
    assert (at_least[-1] == honest).all()
