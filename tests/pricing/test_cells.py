"""Cells: every row is in exactly one, and none is narrower than the p-values can resolve."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltoll.pricing.cells import Cells

CELLS = st.builds(Cells, st.sampled_from([1, 2]), st.integers(1, 10**6))


def test_cells_are_those_of_the_design():
    assert Cells(1, 10**6).edges == ((0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97, 0.99, 1),)
    assert Cells(2, 10**6).edges == (
        (0, 0.01, 0.03, 0.1, 0.35, 0.65, 1),
        (0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.35, 0.65, 1),
    )
    assert (Cells(1, 10**6).count, Cells(2, 10**6).count) == (14, 48)


@given(st.integers(1, 10**6), st.sampled_from([1, 2]))
def test_no_bin_is_narrower_than_the_resolution_of_p_values(honest_rows, coordinates):
    for edges in Cells(coordinates, honest_rows).edges:
        assert (edges[0], edges[-1]) == (0.0, 1.0)
        assert min(np.diff(edges)) >= 1.0 / (honest_rows + 1) - 1e-15


@given(CELLS, st.data())
def test_a_row_lies_within_the_bounds_of_its_cell(cells, data):
    rows = data.draw(st.lists(st.tuples(*[st.floats(0.0, 1.0)] * len(cells.edges)), min_size=1, max_size=20))
    found = cells.of(np.array(rows))
    for row, cell in zip(rows, found.tolist(), strict=True):
        assert 0 <= cell < cells.count
        assert cells.of_list(list(row)) == cell
        assert all(low < p <= high or p == low == 0.0 for p, (low, high) in zip(row, cells.bounds(cell), strict=True))


@given(CELLS)
def test_widths_are_the_chances_of_independent_uniform_p_values(cells):
    assert cells.widths.sum() == pytest.approx(1.0)
    for cell in range(cells.count):
        assert cells.widths[cell] == pytest.approx(np.prod([high - low for low, high in cells.bounds(cell)]))


def test_the_index_counts_answer_bins_first():
    cells = Cells(2, 10**6)
    assert cells.of_list([0.02, 0.5]) == 1 * 8 + 6
    assert cells.bounds(14) == ((0.01, 0.03), (0.35, 0.65))
