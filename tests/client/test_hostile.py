"""A server that lies, shouts, leads astray or dies: a clear error, and nothing is spent or told to strangers."""

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
    **{f"version {value!r}": member("v", value) for value in (None, 0, 2, True, 1.0, "1")},
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
    """A good toll of argon2id, as JSON to spoil."""
    maker = Argon2idCounter(MachineProfile("unit", "", 1.0, {256: 1.0}), ladder=[256])
    return json.loads(wire.encode_toll(toll(ANSWER, evaluations=2.0, maker=maker), "toll"))


@pytest.fixture
def no_work(monkeypatch):
    """Nothing may be solved."""

    def fail(*_):
        raise AssertionError("work was done")

    monkeypatch.setattr("modeltoll.client.purse.solve", fail)


def offer(document):
    return Response(json.dumps(document), 402, media_type="application/json")


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("any_way", ["httpx-sync", "httpx2-async", "requests", "aiohttp"], indirect=True)
@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_toll_costs_nothing(any_way, house, document, key, case):
    MALFORMED[case](document["toll"])
    with pytest.raises(TollMalformed):
        any_way.send(any_way.toll(), "GET", house.say(offer(document)), headers=key)
    assert house.paths() == ["/infer"]


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    ("change", "words"), [(part("n", HUGE), "max_seconds"), (puzzle("m_kib", 256 * 1024), "memory_kib")]
)
def test_absurd_work_is_refused_in_words_that_name_the_setting(any_way, house, document, change, words):
    change(document["toll"])
    with pytest.raises(TollTooDear, match=words):
        any_way.send(any_way.toll(Purse()), "GET", house.say(offer(document)))


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("text", ["NaN", "-Infinity", "9" * 5000])
def test_what_json_does_not_know_makes_the_402_a_strangers(any_way, house, document, text):
    """It stands as it came, and nothing is paid."""
    body = json.dumps(document).replace('"rows": 1', f'"rows": {text}').encode()
    house.say(Response(body, 402, media_type="application/json"))
    assert any_way.send(any_way.toll(), "GET", house.url + "/infer").content == body


def test_a_puzzle_without_solution_ends(any_way, house, document):
    part("check", "A" * 22)(document["toll"])
    with pytest.raises(TollMalformed, match="no counter"):
        any_way.send(any_way.toll(), "GET", house.say(offer(document)))


@pytest.mark.parametrize("change", [part("n", 63), member("sealed", "A" * 64), member("sealed", "")])
def test_a_seal_that_does_not_open(any_way, house, document, change):
    change(document["toll"])
    with pytest.raises(SealBroken):
        any_way.send(any_way.toll(), "GET", house.say(offer(document)))
    assert house.paths() == ["/infer"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 402])
def test_neither_a_redirect_nor_a_toll_may_be_in_a_seal(any_way, house, status):
    url = house.sell(Answer(status, "application/json", b"{}"))
    with pytest.raises(SealBroken, match=str(status)):
        any_way.send(any_way.toll(), "GET", url, client={"follow_redirects": True})
    assert house.paths() == ["/infer"]


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_a_redemption_follows_no_redirect(any_way, house, neighbour, key, status):
    url = house.sell(ANSWER)
    house.say(RedirectResponse(neighbour.url + wire.REDEEM_PATH, status), wire.REDEEM_PATH)
    with pytest.raises(SealBroken, match="redirect"):
        any_way.send(any_way.toll(), "GET", url, headers=key | REDEEM, client={"follow_redirects": True})
    assert (house.paths(), neighbour.paths()) == (["/infer", wire.REDEEM_PATH], [])


def test_a_redemption_goes_to_its_own_origin_wherever_the_toll_points(any_way, house, neighbour, key, toll):
    document = json.loads(wire.encode_toll(toll(ANSWER, "redeem"), "toll"))
    document["toll"]["redeem"] = neighbour.url + wire.REDEEM_PATH
    assert any_way.send(any_way.toll(), "GET", house.say(offer(document)), headers=key).content == b"body"
    assert (house.paths(), neighbour.paths()) == (["/infer", wire.REDEEM_PATH], [])


@pytest.mark.parametrize("kind", ["application/json", "text/html"])
def test_a_toll_on_a_toll_is_not_paid(any_way, house, key, toll, reply, kind):
    """Whoever asks for ever gets two requests and one payment."""
    again = reply(toll(ANSWER, "redeem"))
    again.headers["content-type"] = kind
    purse = Purse()
    url = house.sell(ANSWER)
    house.say(again, wire.REDEEM_PATH)
    with pytest.raises(SealBroken, match="a toll on a toll"):
        any_way.send(any_way.toll(purse), "GET", url, headers=key | REDEEM)
    assert house.paths() == ["/infer", wire.REDEEM_PATH]
    assert len(purse.payments) == 1


@pytest.mark.parametrize("status", [403, 410, 500, 503])
def test_a_refused_redemption_is_the_callers_to_read(any_way, house, key, status):
    url = house.sell(ANSWER)
    house.say(Response(b"refused", status), wire.REDEEM_PATH)
    response = any_way.send(any_way.toll(), "GET", url, headers=key | REDEEM)
    assert (response.status_code, response.content) == (status, b"refused")


def test_refusals_leave_no_connection_behind(any_way, house, key, document, reply, toll):
    """A pool of one connection serves on after each of them."""
    pool = any_way.narrow()
    good, odd = house.sell(ANSWER, "/good"), house.sell(ANSWER, "/odd")
    house.say(RedirectResponse("/"), wire.REDEEM_PATH)
    part("n", HUGE)(document["toll"])
    dear, plain = house.say(offer(document), "/dear"), house.say(Response(b"hi"), "/plain")
    large = house.say(StreamingResponse(shout(b" " * MIB, 100), 402, None, "application/json"), "/large")
    urls = [dear, odd, large, good, plain]
    raised = any_way.refusals(any_way.toll(inner=pool), urls, headers=key | REDEEM, timeout=5.0)
    assert raised == [TollTooDear, SealBroken, TollMalformed, SealBroken, None]


async def shout(chunk, times):
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
def test_a_toll_that_is_too_large_is_refused_within_bounds(any_way, house, chunk, times, headers):
    def shouted(_request, _body):
        return StreamingResponse(shout(chunk, times), 402, headers, "application/json")

    house.handlers["/infer"] = shouted
    tracemalloc.start()
    with pytest.raises(TollMalformed, match="larger than"):
        any_way.send(any_way.toll(), "GET", house.url + "/infer")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 130 * MIB


def test_json_of_many_small_values_does_not_fill_the_memory(any_way, house):
    """30 MiB of empty lists would take 700 MiB once they are read; no toll looks like that."""
    chunk = b"[]," * (MIB // 3)
    house.handlers["/infer"] = lambda *_: StreamingResponse(shout(chunk, 30), 402, None, "application/json")
    tracemalloc.start()
    assert any_way.send(any_way.toll(), "GET", house.url + "/infer").status_code == 402
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 130 * MIB


def test_a_deep_document_is_no_toll(any_way, house):
    house.say(Response(b"[" * 9_999, 402, media_type="application/json"))
    assert any_way.send(any_way.toll(), "GET", house.url + "/infer").status_code == 402


def test_a_server_that_dies_during_the_redemption(any_way, house, key):
    async def die():
        yield b"half"
        raise ConnectionError("gone")

    url = house.sell(ANSWER)
    house.say(StreamingResponse(die(), 200, {"content-length": "9"}), wire.REDEEM_PATH)
    with pytest.raises(any_way.died):
        any_way.send(any_way.toll(), "GET", url, headers=key | REDEEM)


def test_a_server_that_falls_silent_during_the_redemption(any_way, house, key):
    over = threading.Event()

    async def wait():
        await asyncio.to_thread(over.wait, 10)
        yield b"late"

    url = house.sell(ANSWER)
    house.say(StreamingResponse(wait(), 200), wire.REDEEM_PATH)
    with pytest.raises(any_way.silent):
        any_way.send(any_way.toll(), "GET", url, headers=key | REDEEM, client={"timeout": 0.1})
    over.set()


def test_no_error_tells_the_key(any_way, house, document, key):
    part("n", HUGE)(document["toll"])
    with pytest.raises(TollError) as caught:
        any_way.send(any_way.toll(), "GET", house.say(offer(document)), headers=key)
    assert "the-key" not in str(caught.value) + caught.value.private + repr(caught.value)
