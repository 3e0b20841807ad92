"""A thief who opens no toll: what quotes, fillers and the model's time are worth to somebody who does no work."""

from __future__ import annotations

import json

import numpy as np
import pytest

from laboratory import KEYS, MODEL, UNIT
from modeltoll.client.httpx import TollTransport

CREDIT = 10.0  # reference seconds, the default of callers with a key
ROWS_OF_ONE_CREDIT = CREDIT / UNIT


def answered_rows(server, since):
    """Rows that reached the model server, from a place in its record on."""
    return sum(json.loads(body)["inputs"][0]["shape"][0] for body in server.bodies[since:])


def jittered(victim, count, seed=0):
    """Slightly moved copies of 200 honest rows, which all differ."""
    rng = np.random.default_rng(seed)
    rows = victim.test[rng.integers(200, size=count)]
    return (rows + rng.uniform(-0.003, 0.003, rows.shape) * (rows > 0)).round(5)


def test_a_bank_of_fillers_that_nobody_pays_ends_with_the_credit(laboratory, thief, victim):
    """4,000 slightly moved copies of honest rows in 16 requests kept a thief unsuspected for nothing."""
    since = len(laboratory.server.bodies)
    with laboratory.gateway() as gateway:
        thief = thief(gateway, KEYS[0])
        tolls = [thief.toll(jittered(victim, 250, seed)) for seed in range(16)]
        answered = [toll for toll in tolls if not toll.get("admission")]
        assert answered_rows(laboratory.server, since) == 250 * len(answered) <= ROWS_OF_ONE_CREDIT
        after = [thief.toll(victim.test[n : n + 1]) for n in range(10)]
        assert all(toll.get("admission") for toll in after[2:])
        assert sum(line["rows"] for line in gateway.log()) <= ROWS_OF_ONE_CREDIT + 2


def test_quotes_end_with_the_credit(laboratory, thief, photograph_patches):
    """Dear rows: each unopened toll takes up to half the credit, so that a handful of quotes is free in a day."""
    since = len(laboratory.server.bodies)
    with laboratory.gateway() as gateway:
        thief = thief(gateway, KEYS[1])
        tolls = [thief.toll(patch) for patch in photograph_patches(60)]
        priced = [toll for toll in tolls if not toll.get("admission")]
        work = sum(line["work_seconds"] for line in gateway.log())
        assert len(priced) < 60 or work <= 1.5 * CREDIT
        assert answered_rows(laboratory.server, since) == len(priced)


def test_fillers_beside_each_stolen_row_must_be_paid_like_the_row(laboratory, thief, victim, photograph_patches):
    """16 thrown-away fillers for each stolen row: the credit ends, and then each filler costs its unit before it counts."""
    since = len(laboratory.server.bodies)
    with laboratory.gateway() as gateway:
        thief = thief(gateway, KEYS[2])
        asked = [0.0]
        for number, patch in enumerate(photograph_patches(150)):
            for rows in (jittered(victim, 16, number), patch):
                toll = thief.toll(rows)
                asked.append(toll["typical_seconds"] if toll.get("admission") else 0.0)
        assert answered_rows(laboratory.server, since) <= ROWS_OF_ONE_CREDIT
        assert sum(1 for seconds in asked if seconds) > 20


@pytest.mark.parametrize("rows", [1, 10])
def test_thrown_away_rows_pay_nothing_of_the_new_account_toll(laboratory, thief, victim, rows):
    since = len(laboratory.server.bodies)
    with laboratory.gateway() as gateway:
        thief = thief(gateway)
        tolls = [thief.toll(victim.test[n : n + rows]) for n in range(20)]
        assert all(toll["admission"] for toll in tolls)
        bounds = {toll["typical_seconds"] for toll in tolls}
        assert min(bounds) > 0
        assert max(bounds) <= 2 * min(bounds)  # none of them was taken off
        assert len(laboratory.server.bodies) == since


def test_the_ledger_does_not_grow_with_unpaid_requests(laboratory, thief, victim):
    """A request of 1,024 rows that nobody paid took 64 KiB of the ledger, each time."""
    path = laboratory.folder / "growth.db"
    settings = laboratory.settings(ledger={"url": f"sqlite:///{path}"})
    with laboratory.gateway(settings=settings) as gateway:
        client = thief(gateway, KEYS[3])

        def size():
            return sum(file.stat().st_size for file in path.parent.glob("growth.db*"))

        for seed in range(10):
            client.ask(jittered(victim, 1000, seed))
        before = size()
        for seed in range(10, 60):
            assert client.toll(jittered(victim, 1000, seed))["admission"]
        assert size() - before <= 64 << 10
        assert len(gateway.log()) <= ROWS_OF_ONE_CREDIT / 1000 + 1


def test_credit_belongs_to_the_caller_and_not_to_the_connection_or_the_gateway(laboratory, thief, victim):
    """Two gateways with one ledger, many connections: one credit."""
    ledger = {"url": f"sqlite:///{laboratory.folder / 'shared.db'}"}
    since = len(laboratory.server.bodies)
    with laboratory.gateway(ledger=ledger) as one, laboratory.gateway(ledger=ledger) as other:
        for number in range(24):
            thief(one if number % 2 else other, KEYS[4]).ask(jittered(victim, 250, number))
        assert answered_rows(laboratory.server, since) <= ROWS_OF_ONE_CREDIT


def test_the_model_is_named_and_served(laboratory, thief, victim):
    """What is bounded above is not bounded because nothing is served: an honest caller is answered."""
    with laboratory.gateway() as gateway:
        client = thief(gateway, KEYS[5], transport=TollTransport(max_seconds=60))
        for start in range(0, 60, 5):
            response = client.ask(victim.test[start : start + 5])
            assert response.status_code == 200
            assert response.json()["model_name"] == MODEL
