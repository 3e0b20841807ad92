"""Votes on disk are those of the voters, and what was voted on is not voted on again."""

from __future__ import annotations

import numpy as np

from modeltoll.bench.vote_cache import CachedVoters


class Voters:
    def __init__(self):
        self.rows = 0

    def __call__(self, inputs, /):
        self.rows += len(inputs)
        first = np.round(inputs[:, 0] * 250).astype(np.int64)
        return np.stack([first, 250 - first], axis=1)


def test_large_batches_are_voted_on_once_and_small_ones_each_time(tmp_path):
    voters, inputs = Voters(), np.random.default_rng(0).random((150, 4))
    cached = CachedVoters(voters, tmp_path / "votes")
    first = cached(inputs)
    assert voters.rows == 150
    assert np.array_equal(CachedVoters(voters, tmp_path / "votes")(inputs.copy()), first)
    assert voters.rows == 150
    assert np.array_equal(first, Voters()(inputs))
    assert first.dtype == np.int64
    for times in (1, 2):
        assert np.array_equal(cached(inputs[:3]), first[:3])
        assert voters.rows == 150 + 3 * times
    changed = inputs.copy()
    changed[149, 3] += 1e-9
    cached(changed)
    assert voters.rows == 306
    cached(inputs[:100].reshape(200, 2))
    assert voters.rows == 506
