"""The benchmark of a machine."""

from __future__ import annotations

import random

import pytest

from modeltoll.puzzle import native_kernels, squaring
from modeltoll.puzzle.benchmark import measure_profile, measure_puzzles, measure_rate


class Ticking:
    """A clock that advances by a second with each call."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


def test_a_rate_is_evaluations_over_the_clocks_seconds():
    """On one core 16 evaluations of 256 KiB are done between two polls of the control."""
    assert measure_rate("argon2id", 256, 1, 3.0, Ticking()) == pytest.approx(16.0)


def test_a_rate_is_taken_over_some_evaluations_however_slow_they_are():
    clock = Ticking()
    measure_rate("argon2id", 4096, 1, 1e-9, clock)
    assert clock.now >= 9


def test_a_measurement_needs_time():
    with pytest.raises(ValueError):
        measure_rate("sha256", 0, 1, 0.0, Ticking())


def test_a_profile_holds_every_rung_and_says_how_it_was_measured():
    profile = measure_profile(2.0, "here", Ticking(), ladder=(256, 512))
    assert profile.name == "here"
    assert profile.argon2id == {256: pytest.approx(16.0), 512: pytest.approx(8.0)}
    assert "argon2-cffi" in profile.source


def test_a_profile_has_the_rates_without_native_kernels():
    """On any machine: 2^12 hashes and 2^8 squarings are done between two polls of pure Python."""
    profile = measure_profile(2.0, "here", Ticking(), ladder=(256,))
    assert (profile.sha256, profile.squarings) == (native_kernels.PYTHON.chunk, squaring.PYTHON.chunk) == (2**12, 2**8)


def test_there_is_a_row_for_every_puzzle_rung_kernel_and_number_of_cores():
    """And the variation is near its theory: 0.58 with one part, 0.29 with four, 1 for hashcash, 0 for time locks."""
    rows = measure_puzzles(0.02, (1, 2), Ticking(), random.Random(1), ladder=(256,))
    names = [one.name for one in native_kernels.kernels()]
    assert [(row.puzzle, row.parameters) for row in rows[::2]] == [
        ("argon2id", "m=256KiB t=1 p=1 parts=1"),
        ("argon2id", "m=256KiB t=1 p=1 parts=4"),
        ("sha256", f"kernel={names[0]} parts=1"),
        ("sha256", f"kernel={names[0]} parts=4"),
        *(("sha256", f"kernel={name} parts=1") for name in names[1:]),
        ("hashcash", "sha256"),
        ("hashcash-sha1", "sha1"),
        *(("timelock", f"2048 bits, {squarer.name}") for squarer in squaring.squarers()),
    ]
    assert [row.cores for row in rows] == [1, 2] * (len(rows) // 2)
    assert all(row.evaluations_per_second > 0 and row.make_ms > 0 and row.check_ms > 0 for row in rows)
    for row in rows:
        assert row.cv == pytest.approx(row.cv_theory, rel=0.12)
    assert sorted({round(row.cv_theory, 2) for row in rows}) == [0.0, 0.29, 0.58, 1.0]
