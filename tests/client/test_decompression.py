"""A toll has at most one layer of gzip or deflate, and no body inflates beyond the size limit, in any driver."""

from __future__ import annotations

import gzip
import random
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import brotli
import pytest
from starlette.responses import Response

from modeltoll import wire
from modeltoll.client.decompression import check_encoding, decompressed
from modeltoll.client.http_messages import announce
from modeltoll.errors import TollMalformed
from modeltoll.records import Answer

MIB = 1 << 20
TEXT = random.Random(0).randbytes(1 << 18) + bytes(1 << 20)  # longer than the blocks that are inflated at once


def raw_deflate(data):
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


ENCODED = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("X-GZip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "deflate without header": ("deflate", raw_deflate),
    "identity": ("identity", bytes),
    "nothing": ("", bytes),
    "gzip and identity": ("identity, gzip", gzip.compress),
}


@pytest.mark.parametrize("case", ENCODED)
def test_one_layer_is_taken_off(case):
    encoding, encode = ENCODED[case]
    assert decompressed(encode(TEXT), encoding) == TEXT
    assert decompressed(b"", encoding) == b""


@pytest.mark.parametrize("encoding", ["gzip, gzip", "gzip,deflate", "br", "zstd", "gzip, br", "compress", "gzip;q=1"])
def test_several_layers_and_other_codings_are_malformed(encoding):
    with pytest.raises(TollMalformed):
        check_encoding(encoding)
    with pytest.raises(TollMalformed):
        decompressed(gzip.compress(gzip.compress(b"{}")), encoding)


@pytest.mark.parametrize(
    "bad", [b"no gzip", gzip.compress(TEXT, mtime=0)[:-20], b"\x1f\x8b", gzip.compress(TEXT, mtime=0)[:100] + b"?" * 99]
)
def test_a_body_that_is_not_of_its_coding_is_no_toll(bad):
    assert decompressed(bad, "gzip") == b""


@pytest.mark.parametrize("behind", [b"x", gzip.compress(b"{}", mtime=0), bytes(1 << 18)])
def test_data_behind_the_compressed_body_is_malformed(behind):
    """Libraries differ in what they read there."""
    with pytest.raises(TollMalformed, match="follows"):
        decompressed(gzip.compress(b"{}") + behind, "gzip")


def test_a_body_inflates_to_the_limit_at_most():
    at_most = gzip.compress(bytes(wire.MAX_TOLL_BYTES), 1)
    assert len(decompressed(at_most, "gzip")) == wire.MAX_TOLL_BYTES
    bomb = gzip.compress(bytes(4 * wire.MAX_TOLL_BYTES), 1)
    tracemalloc.start()
    with pytest.raises(TollMalformed, match="larger"):
        decompressed(bomb, "gzip")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < wire.MAX_TOLL_BYTES * 1.2


@pytest.mark.parametrize(
    ("offered", "announced"),
    [
        ("gzip, deflate, br, zstd", "gzip, deflate"),
        ("gzip, deflate", "gzip, deflate"),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", "gzip;q=0.8"),
        ("br", "identity"),
        ("identity", "identity"),
        (None, None),
    ],
)
def test_only_codings_in_which_a_toll_can_be_read_are_announced(offered, announced):
    headers = {} if offered is None else {"Accept-Encoding": offered}
    announce(headers, "sha256")
    assert headers.get("Accept-Encoding") == announced
    assert headers[wire.ACCEPT_HEADER] == "sha256"


LAYERS = {
    "twice, as announced": ("gzip, gzip", lambda bomb: gzip.compress(bomb, 9)),
    "once": ("gzip", bytes),
    "twice, but once announced": ("gzip", lambda bomb: gzip.compress(bomb, 9)),
    "brotli": ("br", lambda _bomb: brotli.compress(bytes(600 * MIB), quality=1)),
}


@pytest.fixture(scope="module")
def bomb():
    """600 MiB in 2.6 MiB."""
    return gzip.compress(bytes(600 * MIB), 1)


LIBRARIES = ["httpx", "httpx-async", "requests", "aiohttp", "aiohttp-undecoded"]  # the last one is the sidecar's


@pytest.mark.parametrize(
    ("library", "case"),
    [
        *((library, "twice, as announced") for library in LIBRARIES),
        *((library, "once") for library in LIBRARIES[1:]),
        ("aiohttp", "twice, but once announced"),
        ("aiohttp", "brotli"),
    ],
)
def test_no_driver_lets_a_402_fill_the_memory(toll_server, bomb, library, case):
    """The body of a toll and what is made of it; the warm-up loads what a toll needs anyway."""
    encoding, pack = LAYERS[case]
    warm_up = toll_server.serve_toll(Answer(200, "a/b", b"body"), "/warm-up")
    headers = {"content-encoding": encoding}
    url = toll_server.serve_response(Response(pack(bomb), 402, headers, "application/json"))
    command = [sys.executable, str(Path(__file__).with_name("bomb_client.py")), library, url, warm_up]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    error, grown = done.stdout.split()
    # What is inside the one layer is no JSON, and so no toll.
    assert error == ("passed" if case == "twice, but once announced" else "TollMalformed")
    assert int(grown) < 200
