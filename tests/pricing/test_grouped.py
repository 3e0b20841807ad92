"""Cumulative sums and ranks by account equal those of a loop over the rows."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltoll.pricing.grouped import grouped_cumsum, grouped_rank

ROWS = st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.floats(0.0, 1.0)), max_size=60)


@given(ROWS)
def test_totals_and_ranks_equal_those_of_a_loop_over_the_rows(rows):
    accounts = np.array([row[0] for row in rows], dtype=np.int64)
    counted = np.array([row[1] for row in rows], dtype=bool)
    values = np.array([row[2] for row in rows])
    totals, ranks, counted_ranks = defaultdict(float), Counter(), Counter()
    for place, account in enumerate(accounts.tolist()):
        totals[account] += values[place]
        assert grouped_cumsum(values, accounts)[place] == pytest.approx(totals[account])
        assert grouped_rank(accounts)[place] == ranks[account]
        ranks[account] += 1
        if counted[place]:
            assert grouped_rank(accounts, counted)[place] == counted_ranks[account]
            counted_ranks[account] += 1
