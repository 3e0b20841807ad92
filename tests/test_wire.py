"""The laws of the wire: what comes in is a value or a clean refusal, whatever a hostile peer sends."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from modeltoll import wire
from modeltoll.errors import TollMalformed
from modeltoll.records import Challenge, Part, Toll

seeds = st.binary(min_size=16, max_size=16)
bounds = st.integers(1, wire.MAX_BOUND)
zero = st.just(0)


def parts_of(checks, starts=zero):
    part = st.builds(Part, seeds, bounds, checks, starts).map(
        lambda part: replace(part, start=min(part.start, wire.MAX_BOUND - part.bound))
    )
    return st.lists(part, min_size=1, max_size=16, unique_by=lambda part: part.seed).map(tuple)


moduli = st.integers(2**2047, 2**2048 - 1).map(lambda modulus: (modulus | 1).to_bytes(256, "big"))
hidden = parts_of(seeds)
ahead = parts_of(seeds, bounds)  # made ahead: they begin anywhere
challenges = st.one_of(
    st.builds(Challenge, st.just(wire.SHA256), hidden),
    st.builds(Challenge, st.just(wire.ARGON2ID), ahead, st.integers(8, wire.MAX_MEMORY_KIB), st.just(1), st.just(1)),
    st.builds(Challenge, st.sampled_from(wire.HASHCASHES), parts_of(st.just(b""))),
    st.builds(Challenge, st.just(wire.TIMELOCK), hidden, modulus=moduli),
)
# Four digits are what the wire carries of a time.
times = st.floats(0, wire.MAX_TYPICAL_SECONDS).map(lambda seconds: float(f"{seconds:.4g}"))


@st.composite
def tolls(draw):
    challenge = draw(challenges)
    modes = {wire.TIMELOCK: (wire.SEALED,)} | dict.fromkeys(wire.HASHCASHES, (wire.REDEEM,))
    mode = draw(st.sampled_from(modes.get(challenge.puzzle, wire.MODES)))
    expires = draw(st.none() | bounds) if mode == wire.REDEEM else None
    return Toll(mode, challenge, draw(st.binary(max_size=80)), draw(bounds), draw(times), expires)


def json_of(numbers):
    return st.recursive(
        st.none() | st.booleans() | st.integers() | numbers | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=8,
    )


json_values = json_of(st.floats())
VALID = Toll(
    wire.SEALED,
    Challenge(wire.ARGON2ID, (Part(b"a" * 16, 64, b"c" * 16), Part(b"b" * 16, 64, b"d" * 16)), 256, 1, 1),
    b"cargo",
    rows=2,
    typical_seconds=0.25,
)
ABSURD = [
    None,
    True,
    False,
    -1,
    0,
    0.5,
    2.0,
    1e999,
    float("nan"),
    2**53,
    2**64,
    10**400,
    "",
    "1",
    [],
    [1],
    {},
    "\ud800",
    "ü",
]


def members():
    return json.loads(wire.encode_toll(VALID, "due"))


def places(node, path=()):
    """The path of every member within a document."""
    if path:
        yield path
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in inner:
        yield from places(value, (*path, key))


TOLL_PLACES = [path for path in places(members()) if path[0] == "toll"]


def changed(path, value):
    document = members()
    node = document
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return json.dumps(document).encode()


@given(tolls(), json_of(st.floats(allow_nan=False, allow_infinity=False)))
def test_a_toll_comes_back_as_it_went(toll, error):
    assert wire.decode_toll(wire.encode_toll(toll, error)) == toll


@given(st.binary(max_size=300))
@example(b"[" * 100_000)
@example(b'{"toll":' * 100_000)
@example(b"\xff\xfe{\x00}\x00")
@example(b"9" * 10_000)
@settings(max_examples=300)
def test_any_bytes_are_a_toll_or_malformed(body):
    with pytest.raises(TollMalformed):
        wire.decode_toll(body)


@given(st.binary(max_size=300) | json_values.map(lambda value: json.dumps(value).encode()))
@example(b"[" * 100_000)
@settings(max_examples=300)
def test_any_bytes_are_a_redemption_or_malformed(body):
    try:
        token, counters = wire.decode_redemption(body)
    except TollMalformed:
        return
    assert isinstance(token, bytes)
    assert all(type(n) is int and 0 <= n < 2**64 for n in counters)


@given(st.integers(0), st.integers(0, 255), st.integers(0, 3))
@settings(max_examples=500)
def test_a_toll_with_bytes_changed_is_a_value_or_malformed(position, byte, cut):
    body = bytearray(wire.encode_toll(VALID, "due"))
    body[position % len(body) : position % len(body) + cut] = bytes([byte])
    try:
        toll = wire.decode_toll(bytes(body))
    except TollMalformed:
        return
    assert_sane(toll)


@given(st.sampled_from(TOLL_PLACES), json_values | st.sampled_from(ABSURD))
@settings(max_examples=400)
def test_a_toll_with_a_member_changed_is_a_value_or_malformed(path, value):
    try:
        toll = wire.decode_toll(changed(path, value))
    except TollMalformed:
        return
    assert_sane(toll)


def assert_sane(toll):
    """An accepted toll has the documented types and ranges."""
    challenge = toll.challenge
    assert toll.mode in wire.MODES
    assert challenge.puzzle in wire.PUZZLES
    assert type(toll.rows) is int
    assert toll.rows >= 1
    assert type(toll.typical_seconds) is float
    assert 0 <= toll.typical_seconds <= wire.MAX_TYPICAL_SECONDS
    assert 1 <= len(challenge.parts) <= wire.MAX_PARTS
    assert len({part.seed for part in challenge.parts}) == len(challenge.parts)
    for part in challenge.parts:
        assert type(part.bound) is int
        assert 1 <= part.bound <= wire.MAX_BOUND
        assert len(part.seed) == 16
        assert len(part.check) == (0 if challenge.puzzle in wire.HASHCASHES else 16)
        assert type(part.start) is int
        assert 0 <= part.start <= (wire.MAX_BOUND - part.bound if challenge.puzzle == wire.ARGON2ID else 0)
    assert len(challenge.modulus) == (256 if challenge.puzzle == wire.TIMELOCK else 0)
    if challenge.puzzle == wire.ARGON2ID:
        assert type(challenge.memory_kib) is int
        assert 8 <= challenge.memory_kib <= wire.MAX_MEMORY_KIB
        assert (challenge.passes, challenge.lanes) == (1, 1)


@pytest.mark.parametrize(
    "path",
    [
        ("toll", "v"),
        ("toll", "mode"),
        ("toll", "rows"),
        ("toll", "sealed"),
        ("toll", "typical_seconds"),
        ("toll", "puzzle"),
        ("toll", "puzzle", "name"),
        ("toll", "puzzle", "m_kib"),
        ("toll", "puzzle", "t"),
        ("toll", "puzzle", "p"),
        ("toll", "puzzle", "parts"),
        ("toll", "puzzle", "parts", 0),
        ("toll", "puzzle", "parts", 1, "seed"),
        ("toll", "puzzle", "parts", 1, "n"),
        ("toll", "puzzle", "parts", 1, "check"),
    ],
    ids=lambda path: ".".join(map(str, path)),
)
def test_no_member_may_be_missing(path):
    document = members()
    node = document
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = None
    with pytest.raises(TollMalformed):
        wire.decode_toll(json.dumps(document).encode())
    if isinstance(node, dict):
        del node[path[-1]]
        with pytest.raises(TollMalformed):
            wire.decode_toll(json.dumps(document).encode())


NUMBERS = [
    ("toll", "v"),
    ("toll", "rows"),
    ("toll", "puzzle", "m_kib"),
    ("toll", "puzzle", "t"),
    ("toll", "puzzle", "p"),
    ("toll", "puzzle", "parts", 0, "n"),
    ("toll", "puzzle", "parts", 0, "start"),
]


@pytest.mark.parametrize(
    "value", [True, False, -1, 0, 0.5, 1.0, 2**53, 10**400, 1e999, float("nan"), "1", [1]], ids=repr
)
@pytest.mark.parametrize("path", NUMBERS, ids=lambda path: ".".join(map(str, path)))
def test_integers_are_integers_within_their_range(path, value):
    """Booleans, fractions, whole floats, negative, huge and infinite numbers are refused."""
    with pytest.raises(TollMalformed):
        wire.decode_toll(changed(path, value))


@pytest.mark.parametrize("value", [True, -0.1, 1e10, 10**400, float("inf"), float("nan"), "1"], ids=repr)
def test_a_time_is_a_finite_number_of_seconds(value):
    with pytest.raises(TollMalformed):
        wire.decode_toll(changed(("toll", "typical_seconds"), value))


@pytest.mark.parametrize("name", ["", "ARGON2ID", "scrypt", "argon2id ", "hashcash-md5", 1, ["sha256"]])
def test_unknown_puzzles_are_refused(name):
    with pytest.raises(TollMalformed):
        wire.decode_toll(changed(("toll", "puzzle", "name"), name))


@pytest.mark.parametrize("memory_kib", [7, wire.MAX_MEMORY_KIB + 1])
def test_memory_above_the_limit_is_refused(memory_kib):
    with pytest.raises(TollMalformed):
        wire.decode_toll(changed(("toll", "puzzle", "m_kib"), memory_kib))


@pytest.mark.parametrize("count", [0, wire.MAX_PARTS + 1, 5000])
def test_the_number_of_parts_is_limited(count):
    parts = [
        dict(members()["toll"]["puzzle"]["parts"][0], seed=wire.encode_base64url(bytes(14) + n.to_bytes(2, "big")))
        for n in range(count)
    ]
    with pytest.raises(TollMalformed):
        wire.decode_toll(changed(("toll", "puzzle", "parts"), parts))


def test_a_part_that_occurs_twice_is_refused():
    part = members()["toll"]["puzzle"]["parts"][0]
    with pytest.raises(TollMalformed):
        wire.decode_toll(changed(("toll", "puzzle", "parts"), [part, part]))
    with pytest.raises(TollMalformed):
        wire.decode_toll(changed(("toll", "puzzle", "parts"), [part, dict(part, n=3)]))


@pytest.mark.parametrize("text", ["YQ==", "YR", "Y", "a+b/", "a b", "\u00fc", "\ud800", "YWFh" * 5, ""])
def test_seeds_are_sixteen_bytes_of_strict_base64url(text):
    with pytest.raises(TollMalformed):
        wire.decode_toll(changed(("toll", "puzzle", "parts", 0, "seed"), text))


@pytest.mark.parametrize("name", wire.HASHCASHES)
def test_hashcash_cannot_seal(name):
    """Its counter unlocks nothing, so a sealed answer under it could not be opened."""
    with pytest.raises(TollMalformed, match="hashcash"):
        wire.decode_toll(changed(("toll", "puzzle", "name"), name))


LOCK = Challenge(wire.TIMELOCK, (Part(b"a" * 16, 1000, b"c" * 16),), modulus=b"\x80" + bytes(254) + b"\x01")


def test_a_time_lock_cannot_be_redeemed():
    """Its counter is public, so it would prove no work."""
    body = wire.encode_toll(replace(VALID, challenge=LOCK), "due")
    assert wire.decode_toll(body).challenge == LOCK
    with pytest.raises(TollMalformed, match="timelock"):
        wire.decode_toll(wire.encode_toll(replace(VALID, challenge=LOCK, mode=wire.REDEEM), "due"))


@pytest.mark.parametrize(
    "modulus", [b"", bytes(255) + b"\x01", b"\x80" + bytes(255), b"\x80" + bytes(253) + b"\x01", b"\xff" * 257]
)
def test_a_modulus_is_an_odd_number_of_2048_bits(modulus):
    with pytest.raises(TollMalformed, match="modulus"):
        wire.decode_toll(wire.encode_toll(replace(VALID, challenge=replace(LOCK, modulus=modulus)), "due"))


@pytest.mark.parametrize("name", [wire.SHA256, wire.TIMELOCK, wire.HASHCASH])
def test_only_argon2id_may_begin_elsewhere(name):
    """A start is for precomputed puzzles; with any other puzzle it would only be another form of the same toll."""
    part = Part(b"a" * 16, 64, b"" if name == wire.HASHCASH else b"c" * 16, start=5)
    mode = wire.REDEEM if name == wire.HASHCASH else wire.SEALED
    challenge = Challenge(name, (part,), modulus=LOCK.modulus)
    with pytest.raises(TollMalformed, match="start"):
        wire.decode_toll(wire.encode_toll(replace(VALID, challenge=challenge, mode=mode), "due"))


@pytest.mark.parametrize("value", [True, -1, 0.5, 2**53, "1", None], ids=repr)
def test_an_expiry_is_a_time(value):
    document = json.loads(wire.encode_toll(replace(VALID, mode=wire.REDEEM, expires=7), "due"))
    assert wire.decode_toll(json.dumps(document).encode()).expires == 7
    document["toll"]["expires"] = value
    with pytest.raises(TollMalformed, match="expires"):
        wire.decode_toll(json.dumps(document).encode())


@given(json_values)
def test_a_body_without_a_toll_is_not_ours(value):
    """402 may also ask for money: a body without the toll is None, not an error."""
    assert wire.find_toll(json.dumps(value).encode()) is None or isinstance(value, dict)
    with pytest.raises(TollMalformed):
        wire.decode_toll(json.dumps(value).encode())


@given(st.text(max_size=300) | st.from_regex(r"[a-z0-9, ]*(; ?(mode|memory)=[a-zA-Z0-9]*)*", fullmatch=True))
@example("")
@example(";;;memory=;mode=")
@example("memory=64MiB")
@example("argon2id; memory=\u0663MiB")
@settings(max_examples=300)
def test_parsing_an_accept_header_never_raises(value):
    accept = wire.parse_accept(value)
    assert isinstance(accept.puzzles, tuple)
    assert accept.puzzles
    assert set(accept.puzzles) <= set(wire.PUZZLES)
    assert accept.mode in wire.MODES
    assert type(accept.memory_kib) is int
    assert 0 <= accept.memory_kib < 2**31


def test_missing_options_have_their_defaults():
    assert wire.parse_accept("") == wire.Accept()
    assert wire.parse_accept("sha256") == wire.Accept((wire.SHA256,))
    assert wire.parse_accept("nonsense; memory=2MiB") == wire.Accept(memory_kib=2048)
    assert wire.parse_accept("; mode=redeem; memory=-1MiB") == wire.Accept(mode=wire.REDEEM)


@given(
    st.lists(st.sampled_from(wire.PUZZLES), min_size=1, max_size=5, unique=True),
    st.sampled_from(wire.MODES),
    st.integers(0, 4096),
)
def test_what_a_client_says_is_what_the_server_reads(puzzles, mode, mib):
    accept = wire.Accept(tuple(puzzles), mode, mib * 1024)
    assert wire.parse_accept(wire.format_accept(accept)) == accept


@given(st.binary(max_size=100), st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=16))
def test_a_redemption_comes_back_as_it_went(token, counters):
    assert wire.decode_redemption(wire.encode_redemption(token, tuple(counters))) == (token, tuple(counters))


@pytest.mark.parametrize(
    "counters", [[], [0] * 17, [True], [1.0], [-1], [2**64], ["1"], [None], {}, "12", None], ids=repr
)
def test_a_solution_is_a_short_list_of_counters(counters):
    with pytest.raises(TollMalformed):
        wire.decode_redemption(json.dumps({"token": "YQ", "solution": counters}).encode())


@given(st.binary(max_size=60))
def test_base64url_comes_back_as_it_went(data):
    assert wire.decode_base64url(wire.encode_base64url(data)) == data


@given(st.text(max_size=12))
def test_bytes_have_one_spelling(text):
    """No two texts decode to the same bytes: otherwise one token could be shown in many forms."""
    try:
        data = wire.decode_base64url(text)
    except ValueError:
        return
    assert wire.encode_base64url(data) == text


@given(challenges, challenges)
def test_different_challenges_have_different_canonical_bytes(first, second):
    same = wire.canonical_challenge(first, wire.SEALED) == wire.canonical_challenge(second, wire.SEALED)
    assert same == (first == second)
    assert wire.canonical_challenge(first, wire.SEALED) != wire.canonical_challenge(first, wire.REDEEM)


@given(tolls())
def test_the_header_shows_the_challenge(toll):
    header = wire.format_authenticate(toll, 'a "quoted" realm')
    shown = header.partition('request="')[2].removesuffix('"')
    assert header.startswith('Payment id="')
    assert 'realm="a quoted realm"' in header
    assert wire.decode_base64url(shown) == wire.canonical_challenge(toll.challenge, toll.mode)


@given(st.integers(1, 10**6), st.floats())
def test_a_receipt_is_a_header_whatever_the_work(rows, seconds):
    text = wire.format_receipt(rows, seconds, wire.SEALED)
    assert text.startswith(f"rows={rows}; work=")
    assert "nan" not in text
    assert "inf" not in text


@pytest.mark.parametrize("length", ["0", "12", "9999999999"])
def test_a_content_type_carries_the_length_of_the_json_and_gives_it_back(length):
    folded = wire.with_binary_length("application/octet-stream", length)
    assert wire.content_headers(folded) == {"Content-Type": "application/octet-stream", wire.BINARY_HEADER: length}
    assert wire.with_binary_length(folded, "7") == wire.with_binary_length("application/octet-stream", "7")


@pytest.mark.parametrize("length", [None, "", "-1", "x", "1.5", "٣", "12345678901", "1\r\nX: y"])
def test_a_length_that_is_none_is_left_out(length):
    assert wire.with_binary_length("text/plain", length) == "text/plain"


@pytest.mark.parametrize("value", ["x", "", "1; a=b", "12345678901"])
def test_a_content_type_with_another_parameter_stays_one_header(value):
    odd = f"text/plain; inference-header-content-length={value}"
    assert wire.content_headers(odd) == {"Content-Type": odd}
