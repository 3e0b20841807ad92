"""Mutations of requests and answers for the conformance suite of serving protocols: of their bytes and of their JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from modeltoll.records import Integers

__all__ = [
    "UNKNOWN",
    "first_of_each",
    "is_json",
    "json_mutation",
    "mutations",
    "reversed_members",
    "with_member_twice",
    "with_unknown_members",
]

UNKNOWN = "modeltoll_unknown"  # the name of a member that no protocol has
_ALPHABET = np.frombuffer(b'0123456789-.eE+"{}[]:,nulltrefasNaInity \\\x00\xff', np.uint8)
_VALUES = (
    "1e999",
    "-1e999",
    "NaN",
    "9007199254740993",
    "18446744073709551616",
    "9" * 400,
    "-0.0",
    "null",
    "true",
    '"\\ud800"',
    '"\\u0000"',
    '{"b64": "YQ=="}',
    "[]",
    "{}",
    "[" * 60 + "1" + "]" * 60,
    '{"a":' * 60 + "1" + "}" * 60,
)


def first_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object as a reader of JSON has it that keeps the first of two members of one name."""
    return dict(reversed(pairs))


def is_json(body: bytes) -> bool:
    """Whether a body is one JSON document, by a reader that is not strict."""
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def reversed_members(document: Any) -> Any:
    """The document with the members of each object in reverse order, which mean the same."""
    if isinstance(document, dict):
        return {name: reversed_members(document[name]) for name in reversed(document)}
    return [reversed_members(item) for item in document] if isinstance(document, list) else document


def _objects(document: Any) -> Iterator[dict[str, Any]]:
    """All objects of a document, which may be changed in place."""
    left = [document]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            yield item
        left += item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()


def with_unknown_members(body: bytes, value: object) -> Iterator[bytes]:
    """The JSON with an unknown member of that value in each of its objects, one after the other."""
    for place in range(sum(1 for _ in _objects(json.loads(body)))):
        document = json.loads(body)
        for number, holder in enumerate(_objects(document)):
            if number == place:
                holder[UNKNOWN] = value
                break
        yield json.dumps(document).encode()


def with_member_twice(body: bytes) -> Iterator[bytes]:
    """The JSON with the first member of each object once more, one after the other; its value is another one there."""
    for changed in with_unknown_members(body, 0):
        document = json.loads(changed)
        holder = next(holder for holder in _objects(document) if UNKNOWN in holder)
        first = next(iter(holder))
        if first != UNKNOWN:
            yield json.dumps(document).replace(f'"{UNKNOWN}": 0', f"{json.dumps(first)}: 0").encode()


def mutations(body: bytes, rng: np.random.Generator, count: int) -> Iterator[bytes]:
    """Bodies that are certainly none, and ``count`` mutations: half of the bytes, half of the JSON where it is some."""
    yield from (
        b"",
        body[:-1],
        body + body,
        b"\xff" + body,
        b"\xef\xbb\xbf" + body,
        b"[" * 200_000,
        b"null",
        b"{}",
        b"[]",
    )
    try:
        structural = isinstance(json.loads(body), dict | list)
    except ValueError:
        structural = False
    for number in range(count):
        yield (json_mutation if structural and number % 2 else _byte_mutation)(body, rng)


def _byte_mutation(body: bytes, rng: np.random.Generator) -> bytes:
    """The body truncated, with bytes changed, removed or inserted, or with a part doubled."""
    start = int(rng.integers(len(body)))
    end = min(len(body), start + int(rng.integers(1, 12)))
    noise = bytes(rng.choice(_ALPHABET, size=int(rng.integers(0, 6))))
    choices = (body[:start], body[:start] + noise + body[end:], body[:start] + noise + body[start:])
    return (*choices, body[:end] + body[start:])[int(rng.integers(4))]


def json_mutation(body: bytes, rng: np.random.Generator) -> bytes:
    """The JSON with a value changed, a member doubled, renamed, added or removed, or its members or items reordered."""
    document = json.loads(body)
    places = list(_places(document))
    if not places:
        return body
    marker = f"<{UNKNOWN}>"  # stands for text that no value has
    for _ in range(int(rng.integers(1, 3))):
        holder, key = places[int(rng.integers(len(places)))]
        change = _CHANGES[int(rng.integers(len(_CHANGES)))]
        change(holder, key, marker, rng)
    value = _VALUES[int(rng.integers(len(_VALUES)))]
    return json.dumps(document).replace(json.dumps(marker), value).encode()


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Each member of each object, and each item of each list."""
    left = [document]
    while left:
        holder = left.pop()
        for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
            yield holder, key
            if isinstance(holder[key], dict | list):
                left.append(holder[key])


def _has(holder: Any, key: Any) -> bool:
    return key in holder if isinstance(holder, dict) else key < len(holder)


def _replace(holder: Any, key: Any, marker: str, _: np.random.Generator) -> None:
    if _has(holder, key):
        holder[key] = marker


def _remove(holder: Any, key: Any, _: str, __: np.random.Generator) -> None:
    if _has(holder, key):
        del holder[key]


def _add(holder: Any, _: Any, marker: str, rng: np.random.Generator) -> None:
    if isinstance(holder, dict):
        holder[(UNKNOWN, "parameters", "data", "name", "x", "b64")[int(rng.integers(6))]] = marker
    else:
        holder.insert(int(rng.integers(len(holder) + 1)), marker)


def _double(holder: Any, key: Any, _: str, rng: np.random.Generator) -> None:
    """A member of another name takes the value, or an item stands twice."""
    if not _has(holder, key):
        return
    if isinstance(holder, dict):
        holder[list(holder)[int(rng.integers(len(holder)))]] = holder[key]
    else:
        holder.insert(key, holder[key])


def _reorder(holder: Any, _: Any, __: str, rng: np.random.Generator) -> None:
    order: Integers = rng.permutation(len(holder))
    if isinstance(holder, dict):
        items = list(holder.items())
        holder.clear()
        holder.update(items[place] for place in order)
    else:
        holder[:] = [holder[place] for place in order]


_CHANGES: tuple[Callable[[Any, Any, str, np.random.Generator], None], ...] = (
    _replace,
    _replace,
    _remove,
    _add,
    _double,
    _reorder,
)
