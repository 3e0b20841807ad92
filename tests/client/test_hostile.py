"""Malformed, oversized and misleading responses: a clear error, no work, and no credentials to other origins."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import tracemalloc

import pytest
from starlette.responses import RedirectResponse, Response, StreamingResponse

from modeltoll import wire
from modeltoll.client.purse import Purse
from modeltoll.errors import SealBroken, TollError, TollMalformed, TollTooDear
from modeltoll.puzzle.counter import Argon2idCounter
from modeltoll.records import Answer, MachineProfile

ANSWER = Answer(200, "a/b", b"body")
REDEEM = {wire.ACCEPT_HEADER: "sha256; mode=redeem"}
MIB = 1 << 20
HUGE = 2**53 - 1


def member(name, value):
    def change(toll):
        toll[name] = value

    return change


def puzzle(name, value):
    return lambda toll: member(name, value)(toll["puzzle"])


def part(name, value):
    return lambda toll: member(name, value)(toll["puzzle"]["parts"][0])


def lost(*path):
    def change(toll):
        for name in path[:-1]:
            toll = toll[name]
        del toll[path[-1]]

    return change


def doubled(toll):
    toll["puzzle"]["parts"] *= 2


def hashcash(toll):
    toll["puzzle"] = {"name": "hashcash", "parts": [{"seed": "A" * 22, "n": 1}]}


NOT_INTEGERS = (None, -1, 0, 1.5, 2.0, True, "5", [], {}, 10**30, float("1e300"))
MALFORMED = {
    **{f"version {value!r}": member("v", value) for value in (None, 0, 1, 3, True, 2.0, "2")},
    **{f"mode {value!r}": member("mode", value) for value in (None, "free", 1, ["sealed"])},
    **{f"rows {value!r}": member("rows", value) for value in NOT_INTEGERS},
    **{f"typical {value!r}": member("typical_seconds", value) for value in (None, -1, True, "1", 1e10, 10**400)},
    **{f"sealed {value!r}": member("sealed", value) for value in (None, 7, "?", "AA==", "Zoë")},
    **{f"puzzle {value!r}": member("puzzle", value) for value in (None, [], "argon2id", {})},
    **{f"name {value!r}": puzzle("name", value) for value in (None, "scrypt", "", 3, "SHA256")},
    **{f"parts {value!r}": puzzle("parts", value) for value in (None, [], {}, [None], ["seed"])},
    **{f"m_kib {value!r}": puzzle("m_kib", value) for value in (*NOT_INTEGERS, 2**20)},
    **{f"t {value!r}": puzzle("t", value) for value in (*NOT_INTEGERS, 2)},
    **{f"p {value!r}": puzzle("p", value) for value in (*NOT_INTEGERS, 2)},
    **{f"n {value!r}": part("n", value) for value in (*NOT_INTEGERS, HUGE + 1)},
    **{f"seed {value!r}": part("seed", value) for value in (None, "", "AA", "A" * 23, 5)},
    **{f"check {value!r}": part("check", value) for value in (None, "", "AA", 5)},
    **{f"no {name}": lost(name) for name in ("v", "mode", "puzzle", "rows", "sealed", "typical_seconds")},
    **{f"no puzzle {name}": lost("puzzle", name) for name in ("name", "parts", "m_kib", "t", "p")},
    **{f"no part {name}": lost("puzzle", "parts", 0, name) for name in ("seed", "n", "check")},
    "a part twice": doubled,
    "seventeen parts": lambda toll: puzzle("parts", toll["puzzle"]["parts"] * 17)(toll),
    "hashcash, sealed": hashcash,
}


@pytest.fixture
def document(toll):
    """A valid argon2id toll as JSON, to be changed."""
    maker = Argon2idCounter(MachineProfile("unit", "", 1.0, {256: 1.0}), ladder=[256])
    return json.loads(wire.encode_toll(toll(ANSWER, evaluations=2.0, maker=maker), "toll", "/infer"))


@pytest.fixture
def no_solving(monkeypatch):
    """Solving fails the test."""

    def fail(*_):
        raise AssertionError("work was done")

    monkeypatch.setattr("modeltoll.client.purse.solve", fail)


def toll_402(document):
    return Response(json.dumps(document), 402, media_type="application/json")


@pytest.mark.usefixtures("no_solving")
@pytest.mark.parametrize("any_driver", ["httpx-sync", "httpx2-async", "requests", "aiohttp"], indirect=True)
@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_toll_costs_nothing(any_driver, toll_server, document, key, case):
    MALFORMED[case](document["toll"])
    with pytest.raises(TollMalformed):
        any_driver.send(any_driver.toll(), "GET", toll_server.serve_response(toll_402(document)), headers=key)
    assert toll_server.paths() == ["/infer"]


@pytest.mark.usefixtures("no_solving")
@pytest.mark.parametrize(
    ("change", "words"), [(part("n", HUGE), "max_seconds"), (puzzle("m_kib", 256 * 1024), "memory_kib")]
)
def test_too_much_work_is_refused_with_the_name_of_the_setting(any_driver, toll_server, document, change, words):
    change(document["toll"])
    purse = Purse(memory_kib=64 * 1024)
    with pytest.raises(TollTooDear, match=words):
        any_driver.send(any_driver.toll(purse), "GET", toll_server.serve_response(toll_402(document)))


@pytest.mark.usefixtures("no_solving")
@pytest.mark.parametrize("text", ["NaN", "-Infinity", "9" * 5000])
def test_invalid_json_is_no_toll(any_driver, toll_server, document, text):
    """The response is passed on unchanged, and nothing is paid."""
    body = json.dumps(document).replace('"rows": 1', f'"rows": {text}').encode()
    toll_server.serve_response(Response(body, 402, media_type="application/json"))
    assert any_driver.send(any_driver.toll(), "GET", toll_server.url + "/infer").content == body


def test_a_puzzle_without_solution_ends(any_driver, toll_server, document):
    part("check", "A" * 22)(document["toll"])
    with pytest.raises(TollMalformed, match="no counter"):
        any_driver.send(any_driver.toll(), "GET", toll_server.serve_response(toll_402(document)))


@pytest.mark.parametrize("change", [part("n", 63), member("sealed", "A" * 64), member("sealed", "")])
def test_a_seal_that_does_not_open(any_driver, toll_server, document, change):
    change(document["toll"])
    with pytest.raises(SealBroken):
        any_driver.send(any_driver.toll(), "GET", toll_server.serve_response(toll_402(document)))
    assert toll_server.paths() == ["/infer"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 402])
def test_neither_a_redirect_nor_a_toll_may_be_in_a_seal(any_driver, toll_server, status):
    url = toll_server.serve_toll(Answer(status, "application/json", b"{}"))
    with pytest.raises(SealBroken, match=str(status)):
        any_driver.send(any_driver.toll(), "GET", url, client={"follow_redirects": True})
    assert toll_server.paths() == ["/infer"]


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_a_redemption_follows_no_redirect(any_driver, toll_server, other_server, key, status):
    url = toll_server.serve_toll(ANSWER)
    toll_server.serve_response(RedirectResponse(other_server.url + wire.REDEEM_PATH, status), wire.REDEEM_PATH)
    with pytest.raises(SealBroken, match="redirect"):
        any_driver.send(any_driver.toll(), "GET", url, headers=key | REDEEM, client={"follow_redirects": True})
    assert (toll_server.paths(), other_server.paths()) == (["/infer", wire.REDEEM_PATH], [])


@pytest.mark.parametrize("mode", ["redeem", "sealed"])
def test_a_toll_that_names_another_address_is_malformed(any_driver, toll_server, other_server, key, toll, mode):
    """Neither proofs nor receipts nor credentials go there."""
    document = json.loads(wire.encode_toll(toll(ANSWER, mode, receipt=b"r"), "toll", "/infer"))
    name = "redeem" if mode == "redeem" else "settle"
    document["toll"][name] = other_server.url + document["toll"][name]
    with pytest.raises(TollMalformed):
        any_driver.send(any_driver.toll(), "GET", toll_server.serve_response(toll_402(document)), headers=key)
    assert (toll_server.paths(), other_server.paths()) == (["/infer"], [])


@pytest.mark.parametrize("prefix", ["", "/eu/api"])
def test_a_redemption_goes_to_the_gateway_below_the_prefix_of_the_request(any_driver, toll_server, key, toll, prefix):
    """A proxy in front of the gateway removed the prefix."""
    sold = Response(wire.encode_toll(toll(ANSWER, "redeem"), "toll", "/v2/infer"), 402, media_type="application/json")
    url = toll_server.serve_response(sold, prefix + "/v2/infer") + "?a=b%2Fc"
    toll_server.handlers[prefix + wire.REDEEM_PATH] = toll_server.redeem
    assert any_driver.send(any_driver.toll(), "GET", url, headers=key).content == b"body"
    assert toll_server.paths() == [prefix + "/v2/infer", prefix + wire.REDEEM_PATH]


@pytest.mark.parametrize("kind", ["application/json", "text/html"])
def test_a_second_toll_is_not_paid(any_driver, toll_server, key, toll, toll_response, kind):
    """A server that always answers with tolls gets two requests and one payment."""
    again = toll_response(toll(ANSWER, "redeem"))
    again.headers["content-type"] = kind
    purse = Purse()
    url = toll_server.serve_toll(ANSWER)
    toll_server.serve_response(again, wire.REDEEM_PATH)
    with pytest.raises(SealBroken, match="another toll"):
        any_driver.send(any_driver.toll(purse), "GET", url, headers=key | REDEEM)
    assert toll_server.paths() == ["/infer", wire.REDEEM_PATH]
    assert len(purse.payments) == 1


@pytest.mark.parametrize("status", [403, 410, 500, 503])
def test_a_refused_redemption_is_returned_to_the_caller(any_driver, toll_server, key, status):
    url = toll_server.serve_toll(ANSWER)
    toll_server.serve_response(Response(b"refused", status), wire.REDEEM_PATH)
    response = any_driver.send(any_driver.toll(), "GET", url, headers=key | REDEEM)
    assert (response.status_code, response.content) == (status, b"refused")


def test_errors_return_their_connection_to_the_pool(any_driver, toll_server, key, document, toll_response, toll):
    """A pool of one connection works after each of them."""
    pool = any_driver.single_connection()
    good, odd = toll_server.serve_toll(ANSWER, "/good"), toll_server.serve_toll(ANSWER, "/odd")
    toll_server.serve_response(RedirectResponse("/"), wire.REDEEM_PATH)
    part("n", HUGE)(document["toll"])
    expensive, plain = (
        toll_server.serve_response(toll_402(document), "/dear"),
        toll_server.serve_response(Response(b"hi"), "/plain"),
    )
    large = toll_server.serve_response(
        StreamingResponse(repeat(b" " * MIB, 100), 402, None, "application/json"), "/large"
    )
    urls = [expensive, odd, large, good, plain]
    raised = any_driver.errors_of(any_driver.toll(inner=pool), urls, headers=key | REDEEM, timeout=5.0)
    assert raised == [TollTooDear, SealBroken, TollMalformed, SealBroken, None]


async def repeat(chunk, times):
    for _ in range(times):
        yield chunk


@pytest.mark.parametrize(
    ("chunk", "times", "headers"),
    [
        (b'{"toll": "' + b"A" * MIB, 100, {}),
        (b"0", 1, {"content-length": str(100 * MIB)}),
        (gzip.compress(bytes(100 * MIB), 1), 1, {"content-encoding": "gzip"}),
    ],
    ids=["said without end", "announced", "packed"],
)
def test_a_toll_that_is_too_large_is_refused_within_bounds(any_driver, toll_server, chunk, times, headers):
    def shouted(_request, _body):
        return StreamingResponse(repeat(chunk, times), 402, headers, "application/json")

    toll_server.handlers["/infer"] = shouted
    tracemalloc.start()
    with pytest.raises(TollMalformed, match="larger than"):
        any_driver.send(any_driver.toll(), "GET", toll_server.url + "/infer")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 130 * MIB


def test_json_of_many_small_values_does_not_fill_the_memory(any_driver, toll_server):
    """30 MiB of empty lists would take 700 MiB once parsed."""
    chunk = b"[]," * (MIB // 3)
    toll_server.handlers["/infer"] = lambda *_: StreamingResponse(repeat(chunk, 30), 402, None, "application/json")
    tracemalloc.start()
    assert any_driver.send(any_driver.toll(), "GET", toll_server.url + "/infer").status_code == 402
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 130 * MIB


def test_a_deep_document_is_no_toll(any_driver, toll_server):
    toll_server.serve_response(Response(b"[" * 9_999, 402, media_type="application/json"))
    assert any_driver.send(any_driver.toll(), "GET", toll_server.url + "/infer").status_code == 402


def test_a_server_that_closes_the_connection_during_the_redemption(any_driver, toll_server, key):
    async def die():
        yield b"half"
        raise ConnectionError("gone")

    url = toll_server.serve_toll(ANSWER)
    toll_server.serve_response(StreamingResponse(die(), 200, {"content-length": "9"}), wire.REDEEM_PATH)
    with pytest.raises(any_driver.disconnect_error):
        any_driver.send(any_driver.toll(), "GET", url, headers=key | REDEEM)


def test_a_server_that_stops_sending_during_the_redemption(any_driver, toll_server, key):
    over = threading.Event()

    async def wait():
        await asyncio.to_thread(over.wait, 10)
        yield b"late"

    url = toll_server.serve_toll(ANSWER)
    toll_server.serve_response(StreamingResponse(wait(), 200), wire.REDEEM_PATH)
    with pytest.raises(any_driver.timeout_error):
        any_driver.send(any_driver.toll(), "GET", url, headers=key | REDEEM, client={"timeout": 0.1})
    over.set()


def test_no_error_contains_the_key(any_driver, toll_server, document, key):
    part("n", HUGE)(document["toll"])
    with pytest.raises(TollError) as caught:
        any_driver.send(any_driver.toll(), "GET", toll_server.serve_response(toll_402(document)), headers=key)
    assert "the-key" not in str(caught.value) + caught.value.private + repr(caught.value)
