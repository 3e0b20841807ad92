"""Random steps: every ledger gives the same results as the one in memory, which follows ``account_math``."""

from __future__ import annotations

import asyncio
import math
import random

import pytest

from modeltoll.ledger import retention
from modeltoll.ledger.from_url import ledger_from_url
from modeltoll.records import Caller, Charge, LogEntry, Work

CALLERS = [
    Caller("key:a", groups=("org:é", "prefix:198.51.0.0/16")),
    Caller("key:b", groups=("prefix:198.51.0.0/16", "org:é")),
    Caller("net:198.51.100.0/24", groups=("prefix:198.51.0.0/16",)),
    Caller("key:" + "long" * 5000, groups=("org:" + "wide" * 5000,)),
    Caller("key:{a}\r\n*1 '; DROP TABLE x --\t\U0001f308"),
]
MODELS = ["digits", "}:account:\\ $1 %s {0} \U0001f40d", "m" * 9000]


def new_charge(dice, at):
    shape = dice.choice([(2, 14), (2, 14), (2, 14), (1, 3), (0, 5)])
    rows = dice.choice([1, 1, 1, 2, 40])
    return Charge(
        model=dice.choice(MODELS),
        rows=rows,
        leaks=tuple(dice.random() * rows for _ in range(shape[0])),
        bins=tuple(tuple(dice.randrange(shape[1]) for _ in range(shape[0])) for _ in range(rows)),
        fingerprints=tuple(
            dice.choice([dice.randbytes(8), bytes(7) + bytes([dice.randrange(9)])]) for _ in range(rows)
        ),
        shape=shape,
        tariff=dice.choice(["first", "first", "first", "second"]),
        at=at,
    )


def log_entry(dice, at):
    seconds = dice.random() * 10 ** dice.randrange(-9, 9)
    work = Work(seconds, 1, seconds, 0.0, 1 + dice.random(), 1.0)
    return LogEntry(
        at, dice.choice(MODELS), 1, ("gap", 'no"velty'), ((dice.random(), 5e-324),), (dice.random(),), work, "free"
    )


def alike(one, other):
    """Equal up to the last digits of decayed numbers."""
    if isinstance(one, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-140)
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(alike, one, other))
    if hasattr(one, "__slots__"):
        return type(one) is type(other) and all(alike(getattr(one, n), getattr(other, n)) for n in one.__slots__)
    return one == other


async def story(url, seed):
    """The results of a ledger for random steps of a seed; times jump, mostly forward, by up to 40 years."""
    dice, at, said = random.Random(seed), 1e9, []
    ledger = ledger_from_url(f"{url}?half_life_days=3&keep_log_days=forever")
    await ledger.open()
    for _ in range(150):
        at += dice.choice([0.0, 1.0, 3600.0, -3600.0, 1e5, 1e5, 1e7, 1e9])
        caller = dice.choice(CALLERS)
        step = dice.choice(["charge"] * 6 + ["bill", "bill", "account", "reset"])
        if step == "charge":
            said.append(await ledger.charge(caller, new_charge(dice, at)))
        elif step == "bill":
            await ledger.bill(caller, log_entry(dice, at))
        elif step == "account":
            said.append(await ledger.account(caller, dice.choice(MODELS), at))
        else:
            said.append(await ledger.reset(Caller(dice.choice([caller.name, *caller.groups])), dice.choice(MODELS)))
    said.append(await ledger.largest(5, at))
    said.append(await ledger.largest(100, at))
    said.append([line for _, _, line in await ledger.log(0, 1000)])
    await ledger.close()
    return said


@pytest.mark.parametrize("store", ["sqlite", "postgresql", "valkey"])
@pytest.mark.parametrize("seed", range(4))
def test_every_ledger_agrees_with_the_memory(store, seed, stores, monkeypatch):
    monkeypatch.setattr(retention, "UNTOUCHED", 1e12)  # Valkey forgets by its own clock, which does not jump
    found, expected = asyncio.run(story(stores[store], seed)), asyncio.run(story("memory://", seed))
    for step, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert alike(one, other), step
