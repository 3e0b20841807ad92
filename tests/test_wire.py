"""The laws of the wire: what comes in is a value or a clean refusal, whatever a hostile peer sends."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from urllib.parse import urljoin

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from modeltoll import wire
from modeltoll.errors import TollMalformed
from modeltoll.toll_records import Challenge, Part, Toll

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


paths = st.integers(1, 60).map(lambda depth: "/x" * depth) | st.sampled_from(["/predict", "/v2/models/m/infer"])


@st.composite
def tolls(draw):
    """A toll as a gateway makes it, without the references, which only a decoded one has."""
    challenge = draw(challenges)
    mode = draw(st.sampled_from((wire.REDEEM,) if challenge.puzzle in wire.HASHCASHES else wire.MODES))
    redeem = mode == wire.REDEEM
    expires = draw(st.none() | bounds) if redeem else None
    flag = draw(st.booleans())
    payload = draw(st.binary(max_size=80))
    return Toll(
        mode,
        challenge,
        payload,
        draw(bounds),
        draw(times),
        expires,
        admission=redeem and flag,
        settles=flag and not redeem,
    )


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
PATH = "/v2/models/m/infer"
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
    return json.loads(wire.encode_toll(VALID, "due", PATH))


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


@given(tolls(), json_of(st.floats(allow_nan=False, allow_infinity=False)), paths)
def test_a_toll_comes_back_as_it_went(toll, error, path):
    decoded = wire.decode_toll(wire.encode_toll(toll, error, path))
    assert replace(decoded, redeem="", settle="") == toll
    assert bool(decoded.redeem) == (toll.mode == wire.REDEEM)
    assert bool(decoded.settle) == toll.settles


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
        redemption = wire.decode_redemption(body)
    except TollMalformed:
        return
    assert isinstance(redemption.token, bytes)
    assert len(redemption.proof) in (0, 32)
    assert bool(redemption.proof) != bool(redemption.counters)
    assert all(type(n) is int and 0 <= n < 2**64 for n in redemption.counters)


@given(st.binary(max_size=300) | json_values.map(lambda value: json.dumps({"receipts": value}).encode()))
@example(b"[" * 100_000)
@example(b'{"receipts":[' + b'"YQ",' * 9_000 + b'"YQ"]}')
@settings(max_examples=300)
def test_any_bytes_are_a_settlement_or_malformed(body):
    try:
        receipts = wire.decode_settlement(body)
    except TollMalformed:
        return
    assert 1 <= len(receipts) <= 64
    assert all(1 <= len(receipt) <= 256 for receipt in receipts)


receipt_lists = st.lists(st.binary(min_size=1, max_size=256), max_size=16, unique=True)


@given(receipt_lists)
def test_receipts_come_back_as_they_went(receipts):
    header = wire.format_settle(receipts)
    assert wire.parse_settle(header) == tuple(receipts)
    assert header.isascii()
    if receipts:
        assert wire.decode_settlement(wire.encode_settlement(tuple(receipts))) == tuple(receipts)


@given(st.text(max_size=400) | st.from_regex(r"([A-Za-z0-9_-]{0,12}[ ,=;]*)*", fullmatch=True))
@example("YQ," * 100_000)
@example("," * 100_000)
@example("A" * 100_000)
@example("YQ==, YR, \u00e4, YWI")
@settings(max_examples=300)
def test_parsing_a_settle_header_never_raises(value):
    receipts = wire.parse_settle(value)
    assert len(receipts) <= 16
    assert len(set(receipts)) == len(receipts)
    assert all(1 <= len(receipt) <= 256 for receipt in receipts)


def test_a_settle_header_has_the_first_sixteen_receipts_each_once_without_unknown_text():
    many = [bytes([n]) * 110 for n in range(40)]
    assert wire.parse_settle(wire.format_settle(many)) == tuple(many[:16])
    assert wire.parse_settle(", ".join(wire.encode_base64url(receipt) for receipt in many)) == tuple(many[:16])
    assert wire.parse_settle("YQ, =, YQ, b!, ,YmI") == (b"a", b"bb")
    assert wire.parse_settle(wire.encode_base64url(bytes(257))) == ()


@pytest.mark.parametrize("count", [0, 65])
def test_a_settlement_is_of_1_to_64_receipts(count):
    with pytest.raises(ValueError, match="64"):
        wire.encode_settlement((b"r",) * count)
    with pytest.raises(TollMalformed, match="64"):
        wire.decode_settlement(json.dumps({"receipts": ["cg"] * count}).encode())


@pytest.mark.parametrize("receipt", ["", "YQ==", "a b", 1, None, ["YQ"], True, "A" * 344], ids=repr)
def test_a_settlement_with_one_receipt_that_is_none_is_malformed(receipt):
    with pytest.raises(TollMalformed):
        wire.decode_settlement(json.dumps({"receipts": ["YQ", receipt]}).encode())


@pytest.mark.parametrize(
    ("path", "redeem", "settle"),
    [
        ("/v2/models/m/infer", "../../../.well-known/modeltoll/redeem", "../../../.well-known/modeltoll/settle"),
        ("/predict", ".well-known/modeltoll/redeem", ".well-known/modeltoll/settle"),
        ("/", ".well-known/modeltoll/redeem", ".well-known/modeltoll/settle"),
        (wire.REDEEM_PATH, "../../.well-known/modeltoll/redeem", "../../.well-known/modeltoll/settle"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "/models", "/a/b/c"])
def test_a_reference_resolves_below_any_prefix_that_a_proxy_removes(path, redeem, settle, prefix):
    assert wire.relative_reference(path, wire.REDEEM_PATH) == redeem
    assert wire.relative_reference(path, wire.SETTLE_PATH) == settle
    for reference, target in ((redeem, wire.REDEEM_PATH), (settle, wire.SETTLE_PATH)):
        assert urljoin(f"https://host{prefix}{path}?query=/x", reference) == f"https://host{prefix}{target}"


HOSTILE_REFERENCES = [
    "",
    "/.well-known/modeltoll/redeem",
    "//other/.well-known/modeltoll/redeem",
    "https://other/.well-known/modeltoll/redeem",
    "./.well-known/modeltoll/redeem",
    "../.well-known/modeltoll/settle",
    "../" * 65 + ".well-known/modeltoll/redeem",
    "../.well-known/modeltoll/redeem?x",
    "../.well-known/modeltoll/redeem/",
    "../.well-known/modeltoll/redeem\n",
    "..\\.well-known/modeltoll/redeem",
    "../../x/.well-known/modeltoll/redeem",
    None,
    1,
    ["../.well-known/modeltoll/redeem"],
]


@pytest.mark.parametrize("reference", HOSTILE_REFERENCES, ids=repr)
def test_a_reference_is_to_the_gateways_own_path(reference):
    """A client posts its token and its credentials there."""
    document = json.loads(wire.encode_toll(replace(VALID, mode=wire.REDEEM), "due", PATH))
    document["toll"]["redeem"] = reference
    with pytest.raises(TollMalformed, match="redeem"):
        wire.decode_toll(json.dumps(document).encode())
    document = json.loads(wire.encode_toll(replace(VALID, settles=True), "due", PATH))
    swapped = {"redeem": "settle", "settle": "redeem"}
    document["toll"]["settle"] = (
        re.sub("redeem|settle", lambda found: swapped[found[0]], reference) if isinstance(reference, str) else reference
    )
    with pytest.raises(TollMalformed, match="settle"):
        wire.decode_toll(json.dumps(document).encode())


def test_a_toll_to_redeem_says_where():
    document = json.loads(wire.encode_toll(replace(VALID, mode=wire.REDEEM), "due", PATH))
    del document["toll"]["redeem"]
    with pytest.raises(TollMalformed, match="redeem"):
        wire.decode_toll(json.dumps(document).encode())


@pytest.mark.parametrize("identity", ["", "YQ", wire.encode_base64url(b"b" * 16), None, 1], ids=repr)
def test_the_identity_of_a_toll_is_its_first_seed(identity):
    assert members()["toll"]["id"] == wire.encode_base64url(VALID.challenge.parts[0].seed)
    with pytest.raises(TollMalformed, match="id"):
        wire.decode_toll(changed(("toll", "id"), identity))


@given(st.integers(0), st.integers(0, 255), st.integers(0, 3))
@settings(max_examples=500)
def test_a_toll_with_bytes_changed_is_a_value_or_malformed(position, byte, cut):
    body = bytearray(wire.encode_toll(VALID, "due", PATH))
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
    assert bool(toll.redeem) == (toll.mode == wire.REDEEM)
    assert bool(toll.settle) == toll.settles
    assert len(challenge.modulus) == (256 if challenge.puzzle == wire.TIMELOCK else 0)
    if challenge.puzzle == wire.ARGON2ID:
        assert type(challenge.memory_kib) is int
        assert 8 <= challenge.memory_kib <= wire.MAX_MEMORY_KIB
        assert (challenge.passes, challenge.lanes) == (1, 1)


@pytest.mark.parametrize(
    "path",
    [
        ("toll", "v"),
        ("toll", "id"),
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


@pytest.mark.parametrize("mode", wire.MODES)
def test_a_time_lock_serves_both_modes(mode):
    """Its counter is public; its proof is not."""
    body = wire.encode_toll(replace(VALID, challenge=LOCK, mode=mode), "due", PATH)
    assert wire.decode_toll(body).challenge == LOCK


@pytest.mark.parametrize(
    "modulus", [b"", bytes(255) + b"\x01", b"\x80" + bytes(255), b"\x80" + bytes(253) + b"\x01", b"\xff" * 257]
)
def test_a_modulus_is_an_odd_number_of_2048_bits(modulus):
    with pytest.raises(TollMalformed, match="modulus"):
        wire.decode_toll(wire.encode_toll(replace(VALID, challenge=replace(LOCK, modulus=modulus)), "due", PATH))


@pytest.mark.parametrize("name", [wire.SHA256, wire.TIMELOCK, wire.HASHCASH])
def test_only_argon2id_may_begin_elsewhere(name):
    """A start is for precomputed puzzles; with any other puzzle it would only be another form of the same toll."""
    part = Part(b"a" * 16, 64, b"" if name == wire.HASHCASH else b"c" * 16, start=5)
    mode = wire.REDEEM if name == wire.HASHCASH else wire.SEALED
    challenge = Challenge(name, (part,), modulus=LOCK.modulus)
    with pytest.raises(TollMalformed, match="start"):
        wire.decode_toll(wire.encode_toll(replace(VALID, challenge=challenge, mode=mode), "due", PATH))


@pytest.mark.parametrize("value", [True, -1, 0.5, 2**53, "1", None], ids=repr)
def test_an_expiry_is_a_time(value):
    document = json.loads(wire.encode_toll(replace(VALID, mode=wire.REDEEM, expires=7), "due", PATH))
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
    assert type(accept.receipts) is bool


def test_missing_options_have_their_defaults():
    assert wire.parse_accept("") == wire.Accept()
    assert wire.parse_accept("sha256") == wire.Accept((wire.SHA256,))
    assert wire.parse_accept("nonsense; memory=2MiB") == wire.Accept(memory_kib=2048)
    assert wire.parse_accept("; mode=redeem; memory=-1MiB") == wire.Accept(mode=wire.REDEEM)


@given(
    st.lists(st.sampled_from(wire.PUZZLES), min_size=1, max_size=5, unique=True),
    st.sampled_from(wire.MODES),
    st.integers(0, 4096),
    st.booleans(),
)
def test_what_a_client_says_is_what_the_server_reads(puzzles, mode, mib, receipts):
    accept = wire.Accept(tuple(puzzles), mode, mib * 1024, receipts)
    assert wire.parse_accept(wire.format_accept(accept)) == accept


@pytest.mark.parametrize(
    ("value", "receipts"),
    [
        ("argon2id, sha256; mode=sealed; memory=64MiB; receipts", True),
        ("argon2id; receipts; mode=redeem", True),
        (";RECEIPTS ", True),
        ("receipts", False),
        ("argon2id; receipts=no", False),
        ("argon2id; receipts=", False),
        ("argon2id; mode=receipts", False),
    ],
)
def test_receipts_are_announced_anywhere_among_the_options(value, receipts):
    assert wire.parse_accept(value).receipts is receipts


@given(st.binary(max_size=100), st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=16))
def test_a_redemption_by_counters_comes_back_as_it_went(token, counters):
    body = wire.encode_redemption(token, counters=tuple(counters))
    assert wire.decode_redemption(body) == wire.Redemption(token, counters=tuple(counters))


@given(st.binary(max_size=100), st.binary(min_size=32, max_size=32))
def test_a_redemption_by_proof_comes_back_as_it_went(token, proof):
    body = wire.encode_redemption(token, proof=proof)
    assert wire.decode_redemption(body) == wire.Redemption(token, proof=proof)


@pytest.mark.parametrize("solved", [{}, {"proof": b"p" * 32, "counters": (1,)}])
def test_a_redemption_is_by_a_proof_or_by_counters(solved):
    with pytest.raises(ValueError, match="redeemed"):
        wire.encode_redemption(b"token", **solved)


PROOF = wire.encode_base64url(b"p" * 32)


@pytest.mark.parametrize(
    "solved",
    [
        {},
        {"proof": PROOF, "solution": [1]},
        {"proof": PROOF, "solution": None},
        {"proof": None},
        {"proof": ""},
        {"proof": PROOF[:-1]},
        {"proof": PROOF + "AA"},
        {"proof": PROOF + "="},
        {"proof": [1]},
        {"proof": 7},
    ],
    ids=repr,
)
def test_a_redemption_with_neither_with_both_or_with_another_proof_is_malformed(solved):
    with pytest.raises(TollMalformed):
        wire.decode_redemption(json.dumps({"token": "YQ", **solved}).encode())


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
