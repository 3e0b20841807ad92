"""JSON is read by msgspec only where the strict decoder would have read the same; what that one refuses is refused."""

from __future__ import annotations

import json
import random

import pytest

from modeltoll.errors import RequestError
from modeltoll.gateway.protocols import strict_json
from modeltoll.gateway.protocols.strict_json import BYTE_ORDER_MARK, load_request

SCALARS = [
    *(
        "1",
        "-0",
        "2.5",
        "1e5",
        "1e400",
        "-0.0",
        "123456789012345678901234567890",
        "null",
        "true",
        "NaN",
        "Infinity",
        "01",
    ),
    *('"a"', '"a:b"', '"\\u003a"', '"\\\\u003a"', '"é:"', '"\\":"', '"\\ud800"', '"\\ud83d\\ude00"', '"\t"'),
]
NAMES = ['"a"', '"b"', '"c:"', '"\\u0061"', '"\\u003a"', '"é"']


def text_of(rng, depth):
    """A random document, which may hold a member twice, or be no JSON."""
    shape = rng.random()
    if depth == 0 or shape < 0.4:
        return rng.choice(SCALARS)
    count = rng.randrange(4)
    if shape < 0.65:
        return f"[{rng.choice([',', ' , ']).join(text_of(rng, depth - 1) for _ in range(count))}]"
    return "{" + ",".join(f"{rng.choice(NAMES)}: {text_of(rng, depth - 1)}" for _ in range(count)) + "}"


def read(body, missing):
    try:
        return repr(load_request(body, missing=missing))
    except RequestError as error:
        return str(error)


@pytest.mark.parametrize("seed", range(20))
def test_a_document_is_what_the_strict_decoder_alone_makes_of_it(seed, monkeypatch):
    rng = random.Random(seed)
    bodies = []
    for _ in range(300):
        body = bytearray(text_of(rng, 4).encode())
        if rng.random() < 0.2:
            body[rng.randrange(len(body))] = rng.randrange(256)
        bodies.append(BYTE_ORDER_MARK * (rng.random() < 0.05) + bytes(body))
    found = [(read(body, False), read(body, True)) for body in bodies]
    monkeypatch.setattr(strict_json, "_has_unique_members", lambda *_: False)
    assert found == [(read(body, False), read(body, True)) for body in bodies]


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1, "a": 1}',
        b'{"a": {"b": [{"c": 1, "c": 2}]}}',
        b'{"a": 1, "\\u0061": 2}',
        b'{"a": "\\u003a", "b": 1, "b": 2}',  # an escaped colon does not stand for that of a member
        b'{"a": "\\u003A\\u003a", "b": "x", "b": ":"}',
    ],
)
def test_a_member_twice_is_refused_wherever_it_stands(body):
    with pytest.raises(RequestError, match="repeats a member"):
        load_request(body)


def test_ordinary_documents_are_not_read_twice(monkeypatch):
    """Tensors, texts with colons, and names with colons."""
    slow = []
    monkeypatch.setattr(strict_json, "_with_nan", [type("Decoder", (), {"decode": slow.append})] * 2)
    for body in (
        b'{"inputs": [{"name": "x", "data": [1, 2.5, null]}]}',
        b'{"a:b": ["c: d", {"e": ":"}]}',
        b'"\\n"',
        b"[]",
    ):
        load_request(body)
    assert slow == []


@pytest.mark.parametrize(
    "document", ['[1, 2.5, {"a": 1, "a": 2}]', '[1, "a:b", null]', "[1e308, 1e308, true]", "[9e99, null]"]
)
def test_a_list_is_plain_only_where_no_item_holds_a_colon(document):
    items = json.loads(document)
    assert strict_json._is_plain(items) == all(type(item) in (int, float, bool, type(None)) for item in items)


def test_a_member_that_is_repeated_behind_numbers_is_refused():
    with pytest.raises(RequestError):
        load_request(b'{"a": [1, 2.5, {"b": 1, "b": 2}]}')
