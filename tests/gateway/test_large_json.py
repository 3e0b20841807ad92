"""A large document is read in pieces to the same values, and with the same refusals, as at once."""

from __future__ import annotations

import json
import random

import pytest

from modeltoll.errors import RequestError
from modeltoll.gateway.protocols import large_json
from modeltoll.gateway.protocols.large_json import decode_large
from modeltoll.gateway.protocols.strict_json import load_request

NUMBERS = [0, -7, 2**63, 0.1, -1e-300, 1.0, True, None]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Pieces so small that every document has many."""
    monkeypatch.setattr(large_json, "_PIECE_BYTES", 16)
    monkeypatch.setattr(large_json, "_PAUSE_SECONDS", 0.0)


def lists(rng, depth):
    """A random list of numbers, or of lists."""
    if depth == 0:
        return [rng.choice(NUMBERS) for _ in range(rng.randrange(12))]
    return [lists(rng, depth - 1) for _ in range(rng.randrange(1, 8))]


def document(rng):
    """A random document with large lists in it."""
    tensor = {
        "name": "x",
        "shape": [2, 3],
        "data": lists(rng, rng.randrange(4)),
        "note": rng.choice(["", "a,[b]", 'q"']),
    }
    return rng.choice([{"inputs": [tensor] * rng.randrange(1, 4), "id": "é"}, lists(rng, 2), [tensor, tensor, 3]])


def written(rng, value):
    """JSON with or without spaces."""
    return json.dumps(value, separators=rng.choice([(",", ":"), (", ", ": "), (" ,\n", " :\t")])).encode()


@pytest.mark.parametrize("seed", range(300))
def test_documents_are_read_to_the_same_values(seed):
    rng = random.Random(seed)
    text = written(rng, document(rng))
    try:
        found = decode_large(text)
    except ValueError:
        assert text.count(b"[") > 1  # of a form that is not cut; the slower decoder reads it
    else:
        assert repr(found) == repr(json.loads(text))


def test_the_forms_of_tensors_are_cut():
    """Flat, by rows, as one row, as images; and texts and objects beside them."""
    flat, row = [0.5] * 500, [[0.5] * 500]
    rows, images = [[0.5, 1.5]] * 200, [[[0.5, 1, 2]] * 5] * 40
    texts = [["word " * 50], [["word " * 50], []], [{"b64": "QUJD" * 50}]]
    for data in (flat, row, rows, images, *texts):
        text = json.dumps({"inputs": [{"name": "x", "data": data}]}).encode()
        assert decode_large(text) == json.loads(text)


@pytest.mark.parametrize("seed", range(300))
def test_what_is_no_json_is_never_read(seed):
    """A byte that is changed, left out or added: read to the same value as by the other decoder, or refused."""
    rng = random.Random(seed)
    text = bytearray(written(rng, document(rng)))
    for _ in range(40):
        broken, place = bytearray(text), rng.randrange(len(text))
        broken[place : place + rng.randrange(2)] = rng.choice(
            [b"", b",", b"]", b"[", b"}", b"1", b'"', b":", b"e", b" "]
        )
        try:
            found = decode_large(bytes(broken))
        except (ValueError, RecursionError):
            continue
        assert repr(found) == repr(json.loads(broken))


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": [1, 2, 3, 4, 5, 6, 7, 8], "a": 1}',
        b'{"a": [1e999, 2, 3, 4, 5, 6, 7, 8, 9]}',
        b"[1, 2, 3, 4, 5, 6, 7, 8, 9, ]",
    ],
)
def test_what_strict_json_refuses_or_reads_in_its_own_way_is_left_to_it(text, monkeypatch):
    monkeypatch.setattr("modeltoll.gateway.protocols.strict_json._LARGE_BYTES", 16)
    if b"1e999" in text:
        assert load_request(text)["a"][0] == float("inf")  # refused where it is read
        return
    with pytest.raises(RequestError):
        load_request(text)


@pytest.mark.parametrize("text", [b'["", ' + b"1," * 500 + b"1]", b"[" + b"{}," * 500 + b"{}, 1]"])
def test_numbers_beside_a_text_or_an_object_are_not_read_one_by_one(text):
    """Each would take many times the memory of its bytes."""
    with pytest.raises(ValueError, match="Expected"):
        decode_large(text)


def test_many_empty_objects_are_not_read_one_by_one():
    with pytest.raises(ValueError, match="too many"):
        decode_large(b"[" + b"{}," * 5000 + b"{}]")


@pytest.mark.parametrize("space", [b"\x0b", b"\x0c", b"\x1c", b"\x85", b"\xa0"])
@pytest.mark.parametrize(
    "form", [b"%b[1, 2, 3, 4, 5, 6, 7]", b"[%b[1, 2, 3, 4, 5, 6, 7]]", b'{"a": [1, 2, 3, 4, 5]}%b']
)
def test_only_white_space_of_json_is_left_out(form, space):
    decode_large(form % b" \t\r\n")
    with pytest.raises(ValueError):
        decode_large(form % space)


@pytest.mark.parametrize("text", [b'{"a":' * 5000 + b"1" + b"}" * 5000, b"[" * 50_000, b"[" * 50_000 + b"]" * 50_000])
def test_deep_nesting_is_refused_at_once(text):
    with pytest.raises((ValueError, RecursionError)):
        decode_large(text)


def test_no_piece_is_long_and_each_is_followed_by_a_pause(monkeypatch):
    """So another thread never waits for the interpreter until 8 MiB are read."""
    monkeypatch.undo()
    lengths, pauses = [], []
    whole = large_json._whole
    monkeypatch.setattr(large_json, "_whole", lambda text: lengths.append(len(text)) or whole(text))
    monkeypatch.setattr(large_json.time, "sleep", pauses.append)
    text = json.dumps({"inputs": [{"data": [0.123456789] * 600_000}]}).encode()
    assert decode_large(text)["inputs"][0]["data"][-1] == 0.123456789
    assert max(lengths) <= large_json._PIECE_BYTES + 32
    assert len(pauses) >= len(text) // max(lengths)
    assert min(pauses) > 0
