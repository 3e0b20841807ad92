"""A thief beside an honest caller: what requests from the same network, or in another's name, do to somebody's prices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from laboratory import Thief
from modeltoll import wire
from modeltoll.client.httpx import TollTransport
from modeltoll.pricing.calibration import NewAccountToll
from modeltoll.pricing.calibration_file import load_calibration, save_calibration

PROXIES = ["127.0.0.0/8"]
THIEF, HONEST, ELSEWHERE = "203.0.113.66", "203.0.113.7", "198.51.100.7"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def gateway(laboratory):
    """Behind a proxy that is trusted, so that the test chooses addresses. A new account owes nothing."""
    settings = laboratory.settings(models={"digits": without_new_account_toll(laboratory)})
    settings["callers"] |= {"trusted_proxies": PROXIES, "anonymous_credit": {"seconds": 1e6, "units": 1}}
    with laboratory.gateway(settings=settings) as gateway:
        yield gateway


def without_new_account_toll(laboratory):
    model = laboratory.variant("digits")
    path = laboratory.folder / "no-new-account.tariff.json"
    save_calibration(
        replace(load_calibration(Path(model["tariff"])), new_account_toll=NewAccountToll(anonymous_units=0.0)), path
    )
    return model | {"tariff": str(path)}


@pytest.fixture
def asks(gateway, infer_body):
    """``asks(address, rows)``: the prices in seconds and the surcharged marks of rows, sent one by one from an address."""
    with httpx.Client(base_url=gateway.url, timeout=60) as client:
        thief = Thief(client, infer_body)

        def ask(address, rows, together=False):
            before = len(gateway.log())
            for row in [rows] if together else rows:
                assert "sealed" in thief.toll(row, **JSON, **{"x-forwarded-for": address})
            lines = gateway.log()[before:]
            return np.array([line["work_seconds"] for line in lines]), [line["rarest"][0] for line in lines]

        yield ask


def noise(seed=0):
    return np.random.default_rng(seed).random((40, 64))


def test_a_neighbour_makes_only_the_rarest_rows_dearer_and_those_tenfold_at_most(asks, victim, photograph_patches):
    """One unpaid request of 40 rows of noise from the same /24 raised a mean price from 3.2 to 309 ms."""
    rows = np.vstack([victim.test[:25], photograph_patches(5)])
    before, _ = asks("203.0.113.250", rows)
    for host in range(100, 104):
        asks(f"203.0.113.{host}", noise(host), together=True)
    after, rarest = asks(HONEST, rows)
    common = np.array(rarest) >= 0.1
    assert 10 < common.sum() < len(rows)
    assert after[common] == pytest.approx(before[common])
    assert np.all(after[~common] <= before[~common] * 10.001)
    assert after[~common].max() > before[~common].max() * 2  # the surcharge of groups was in force


def test_a_neighbour_on_another_network_does_nothing(asks, victim):
    rows = victim.test[30:40]
    before, _ = asks("192.0.2.1", rows)
    asks("192.0.3.2", noise(7), together=True)
    after, _ = asks("192.0.2.3", rows)
    assert after == pytest.approx(before)


def test_of_ipv6_a_64_is_one_caller_and_its_48_are_neighbours(asks, victim):
    rows = victim.test[40:60]
    before, _ = asks("2001:db8:1::1", rows)
    asks("2001:db8:2:1::1", noise(8), together=True)
    beside, rarest = asks("2001:db8:2:2::1", rows)
    same, _ = asks("2001:db8:2:1:ffff::1", rows)  # the thief itself
    common = np.array(rarest) >= 0.1
    assert beside[common] == pytest.approx(before[common])
    assert np.all(beside <= before * 10.001)
    surcharged = (np.array(rarest) >= 0.1) & (np.array(rarest) < 0.5)
    assert np.all(same[surcharged] > 2 * before[surcharged])


def test_who_has_paid_for_200_rows_has_no_neighbours(gateway, asks, victim, infer_body):
    address = "203.0.114.9"
    headers = JSON | {"x-forwarded-for": address}
    with httpx.Client(
        base_url=gateway.url, transport=TollTransport(max_seconds=60), headers=headers, timeout=60
    ) as client:
        for start in range(0, 250, 50):
            assert Thief(client, infer_body).ask(victim.test[start : start + 50]).status_code == 200
    rows = victim.test[60:80]
    before, rarest = asks("203.0.113.251".replace("113", "115"), rows)
    asks("203.0.114.66", np.vstack([noise(seed) for seed in range(9, 14)]), together=True)
    assert asks(address, rows)[0] == pytest.approx(before)
    stranger = asks("203.0.114.10", rows)[0]
    assert stranger.max() > 2 * before.max()
    assert min(rarest) < 0.1


@pytest.fixture(scope="module")
def direct(laboratory):
    """Without a proxy that is trusted."""
    settings = laboratory.settings(models={"digits": without_new_account_toll(laboratory)})
    settings["callers"] |= {"anonymous_credit": {"seconds": 0.001, "units": 30}}
    with laboratory.gateway(settings=settings) as gateway:
        yield gateway


SPOOFED = [
    {"x-forwarded-for": ELSEWHERE},
    {"forwarded": f"for={ELSEWHERE}"},
    {"x-real-ip": ELSEWHERE},
    {"x-forwarded-for": f"{ELSEWHERE}, 127.0.0.1"},
    {"true-client-ip": ELSEWHERE, "cf-connecting-ip": ELSEWHERE},
    {"x-forwarded-for": "::1", "x-forwarded-host": "localhost"},
    {"x-forwarded-for": "not an address"},
]


def test_headers_of_proxies_that_are_not_trusted_make_nobody_else(direct, thief, victim):
    """Each caller would have a credit of 30 units of its own."""
    client, admitted = thief(direct), []
    for number, headers in enumerate(SPOOFED * 4):
        toll = client.toll(victim.test[number * 3 : number * 3 + 3], **headers)
        admitted.append(not toll.get("admission"))
    assert 1 <= sum(admitted) <= 10
    callers = {line["who"] for line in direct.log()}
    assert len(callers) == 1


CROSS_SITE = {
    "text": {"content-type": "text/plain"},
    "form": {"content-type": "application/x-www-form-urlencoded"},
    "multipart": {"content-type": "multipart/form-data; boundary=x"},
    "text with charset": {"content-type": "text/plain; charset=utf-8; application/json"},
    "octets": {"content-type": "application/octet-stream"},
    "nothing, from a page": {"origin": "https://page.example"},
    "nothing, from a form of a page": {"origin": "null", "sec-fetch-site": "cross-site"},
}


@pytest.mark.parametrize("path", ["/v2/models/digits/infer", wire.REDEEM_PATH, wire.SETTLE_PATH])
@pytest.mark.parametrize("headers", CROSS_SITE.values(), ids=CROSS_SITE)
def test_what_any_web_page_can_send_is_not_charged_to_its_reader(direct, laboratory, infer_body, headers, path):
    before, asked = len(direct.log()), len(laboratory.server.bodies)
    body = infer_body(noise()) if path.startswith("/v2") else wire.encode_settlement((bytes(110),))
    request = httpx.Request("POST", direct.url + path, content=body, headers=headers)
    with httpx.Client(timeout=30) as client:
        assert client.send(request).status_code == 415
    assert (len(direct.log()), len(laboratory.server.bodies)) == (before, asked)
