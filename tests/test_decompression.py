"""One layer of gzip or deflate is taken off whole, whatever its length and wherever its chunks are cut."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeltoll.decompression import DataFollows, inflated, inflated_blocks, inflated_chunks

BLOCK = 1 << 18  # bytes that are inflated at once
LIMIT = 4 * BLOCK


def raw_deflate(body):
    engine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return engine.compress(body) + engine.flush()


CODINGS = {"gzip": ("gzip", gzip.compress), "zlib": ("deflate", zlib.compress), "raw": ("deflate", raw_deflate)}


async def chunks_of(raw, cuts):
    """The bytes, cut at these places."""
    places = sorted({0, len(raw), *(min(cut, len(raw)) for cut in cuts)})
    for start, end in itertools.pairwise(places):
        yield raw[start:end]


async def collected(chunks):
    return b"".join([block async for block in chunks])


@given(
    coding=st.sampled_from(sorted(CODINGS)),
    size=st.one_of(st.integers(0, 600), st.integers(BLOCK - 300, BLOCK + 300), st.just(3 * BLOCK)),
    pattern=st.binary(min_size=1, max_size=8),
    cuts=st.lists(st.integers(0, 2000), max_size=4),
)
@settings(max_examples=300, deadline=None)
def test_whole_and_in_chunks_a_body_is_what_was_compressed(coding, size, pattern, cuts):
    """At the end of a block a part of a long repetition can be pending where every byte was read already."""
    name, compress = CODINGS[coding]
    body = (pattern * (size // len(pattern) + 1))[:size]
    raw = compress(body)
    assert inflated(raw, name, LIMIT) == body
    assert all(len(block) <= BLOCK for block in inflated_blocks(raw, name, LIMIT))
    assert asyncio.run(collected(inflated_chunks(chunks_of(raw, cuts), name, LIMIT))) == body


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("cut", [0, 1, 5, 40])
def test_a_part_of_a_body_data_behind_it_and_too_much_of_it_are_errors(coding, cut):
    name, compress = CODINGS[coding]
    raw = compress(bytes(range(256)) * 8)
    for bad, error in ((raw[:-1], ValueError), (raw + b"\0", DataFollows), (compress(bytes(LIMIT + 1)), OverflowError)):
        with pytest.raises(error):
            inflated(bad, name, LIMIT)
        with pytest.raises(error):
            asyncio.run(collected(inflated_chunks(chunks_of(bad, [cut, len(bad) - 1]), name, LIMIT)))


def test_an_empty_body_that_comes_in_chunks_is_plain_and_a_whole_one_is_not_complete():
    """Servers name a coding beside answers without a body, too."""
    assert asyncio.run(collected(inflated_chunks(chunks_of(b"", []), "gzip", LIMIT))) == b""
    with pytest.raises(ValueError, match="not complete"):
        inflated(b"", "gzip", LIMIT)
