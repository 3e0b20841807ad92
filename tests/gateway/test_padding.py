"""Padding: what the length of a sealed answer tells."""

import asyncio
import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltoll import wire
from modeltoll.gateway.core.padding import LEAST_BYTES, MOST_BYTES, dither, padded_length
from modeltoll.gateway.core.tolls import TollContent, answer_toll
from modeltoll.gateway.settings.body_limits import largest_redemption
from modeltoll.records import Answer, Work
from modeltoll.settlement_records import RECEIPT_BYTES, Receipt

lengths = st.integers(0, 1 << 20)
offsets = st.floats(0.0, 1.0, exclude_max=True)


@given(lengths, st.integers(0, 1 << 20), offsets)
def test_within_the_bound_the_length_depends_on_the_bound_alone(length, bound, offset):
    padded = padded_length(length, bound, offset)
    assert padded >= max(length, LEAST_BYTES)
    if length <= bound:
        assert padded == max(LEAST_BYTES, bound)


@given(lengths, st.none() | st.integers(0, 1 << 40), offsets, st.integers(0, 1 << 20))
def test_no_length_is_above_the_largest_answer_and_what_is_there(length, bound, offset, most):
    padded = padded_length(length, bound, offset, most)
    assert length <= padded <= max(LEAST_BYTES, length, most)


@given(st.lists(lengths, min_size=2), st.integers(1 << 20, 1 << 40), offsets)
def test_a_bound_above_the_largest_answer_tells_no_more_than_one_within_it(some, bound, offset):
    assert len({padded_length(length, bound, offset, 1 << 20) for length in some}) == 1


@pytest.mark.parametrize(
    ("mode", "bound", "body"), [(wire.SEALED, 1 << 40, b"x"), (wire.REDEEM, None, bytes((32 << 20) + 1))]
)
def test_the_largest_padded_answer_fits_into_what_clients_take_and_its_redemption_into_what_the_gate_reads(
    harness, mode, bound, body
):
    """The content type is as long as HTTP servers take, the receipt and the path are the longest that clients take."""
    accept = wire.Accept(puzzles=(wire.SHA256,), mode=mode, receipts=True)
    request, receipt = harness.request(b"{}", accept=accept), Receipt(bytes(RECEIPT_BYTES), 1.0)
    content = TollContent(Answer(200, "a" * 8190, body), receipt, bytes(wire.MAX_RECEIPT_BYTES), bound, 0.99)
    selector = harness.gate().config.selector
    toll = asyncio.run(answer_toll(harness.runtime, selector, request, content, Work(1e-4, 1, 1e-4)))
    assert (toll.mode, content.length) == (mode, MOST_BYTES)
    encoded = wire.encode_toll(toll, "e" * (1 << 20), "/a" * 64)
    assert MOST_BYTES * 4 / 3 < len(encoded) <= wire.MAX_TOLL_BYTES
    if mode == wire.REDEEM:
        assert len(wire.encode_redemption(toll.payload, proof=bytes(32))) <= largest_redemption(1, MOST_BYTES)


@given(lengths, offsets)
def test_without_a_bound_there_are_two_lengths_for_a_body_and_both_are_powers_of_two(length, offset):
    padded = padded_length(length, None, offset)
    assert padded >= length
    assert padded & (padded - 1) == 0
    assert padded <= max(LEAST_BYTES, 4 * length)


def test_the_share_of_the_larger_length_grows_continuously_with_the_length():
    rng = random.Random(1)
    offsets = [rng.random() for _ in range(4000)]

    def larger(length):
        return sum(padded_length(length, None, offset) > 8192 for offset in offsets) / len(offsets)

    shares = [larger(length) for length in range(4096, 8193, 256)]
    assert shares == sorted(shares)
    assert max(b - a for a, b in itertools.pairwise(shares)) < 0.13
    assert larger(6000) == pytest.approx(math.log2(6000) - 12, abs=0.03)


def test_the_dither_is_fixed_for_a_request_and_differs_between_keys_and_requests():
    rows = (b"a" * 32, b"b" * 32)
    assert dither(b"k" * 32, rows) == dither(b"k" * 32, rows)
    others = {dither(key, some) for key in (b"k" * 32, b"l" * 32) for some in (rows, rows[:1], rows[::-1])}
    assert len(others) == 6
    assert all(0.0 <= one < 1.0 for one in others)


def test_the_dither_is_uniform():
    numbers = sorted(dither(b"k" * 32, (n.to_bytes(32, "big"),)) for n in range(2000))
    assert max(abs(number - (place + 0.5) / 2000) for place, number in enumerate(numbers)) < 0.05


def test_a_body_at_the_largest_size_is_not_padded_beyond_what_clients_take():
    assert padded_length((64 << 20) - 5, None, 0.9) == 64 << 20
    assert padded_length((64 << 20) + 5, None, 0.9) == (64 << 20) + 5
