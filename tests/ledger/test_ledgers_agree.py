"""Random steps: every ledger gives the same results as the one in memory, which follows ``account_math``."""

from __future__ import annotations

import asyncio
import random

import pytest

from modeltoll.evidence_records import EvidenceUpdate, FoldedBlock
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
    measures, cells = dice.choice([(2, 48), (2, 48), (2, 48), (1, 3), (0, 5), (1, 0)])
    rows = dice.choice([1, 1, 1, 2, 40, 90])
    return Charge(
        model=dice.choice(MODELS),
        rows=rows,
        leaks=tuple(dice.random() * rows for _ in range(measures)),
        cells=tuple(dice.randrange(cells) for _ in range(rows if cells else 0)),
        fingerprints=tuple(
            dice.choice([dice.randbytes(8), bytes(7) + bytes([dice.randrange(9)])]) for _ in range(rows)
        ),
        cell_count=cells,
        tariff=dice.choice(["first", "first", "first", "second"]),
        at=at,
    )


def log_entry(dice, at):
    seconds = dice.random() * 10 ** dice.randrange(-9, 9)
    work = Work(seconds, 1, seconds, 0.0, 1 + dice.random(), 1.0)
    leaks, classes = ((dice.random(), 5e-324),), dice.choice([(), (0,), (255,), (256,), (70_000,), (2**31 - 1,)])
    return LogEntry(at, dice.choice(MODELS), 1, ("gap", 'no"velty'), leaks, (dice.random(),), work, "free", classes)


def updates(dice, caller):
    """Updates of some of the caller's accounts, which may not exist, be of another tariff, or have no such block."""
    return [
        EvidenceUpdate(
            name,
            dice.choice(["first", "first", "second"]),
            dice.gauss(0.0, 30.0),
            tuple(FoldedBlock(restart, dice.choice([1, 1, 2]), dice.gauss(0.0, 30.0)) for restart in range(3)),
        )
        for name in (caller.name, *caller.groups)
        if dice.random() < 0.7
    ]


async def story(url, seed):
    """The results of a ledger for random steps of a seed; times jump, mostly forward, by up to 40 years."""
    dice, at, said = random.Random(seed), 1e9, []
    ledger = ledger_from_url(f"{url}?period_days=100&keep_log_days=forever")
    await ledger.open()
    for _ in range(150):
        at += dice.choice([0.0, 1.0, 3600.0, -3600.0, 1e5, 1e5, 1e7, 1e9])
        caller = dice.choice(CALLERS)
        step = dice.choice(["charge"] * 6 + ["bill", "bill", "account", "reset"])
        if step == "charge":
            said.append(await ledger.charge(caller, new_charge(dice, at)))
        elif step == "bill":
            await ledger.bill(caller, log_entry(dice, at), None, updates(dice, caller))
        elif step == "account":
            said.append(await ledger.account(caller, dice.choice(MODELS)))
        else:
            said.append(await ledger.reset(Caller(dice.choice([caller.name, *caller.groups])), dice.choice(MODELS)))
    said.append(await ledger.largest(5))
    said.append(await ledger.largest(100))
    said.append([line for _, _, line in await ledger.log(0, 1000)])
    await ledger.close()
    return said


@pytest.mark.parametrize("store", ["sqlite", "postgresql", "valkey"])
@pytest.mark.parametrize("seed", range(4))
def test_every_ledger_agrees_with_the_memory(store, seed, stores, monkeypatch):
    monkeypatch.setattr(retention, "UNTOUCHED", 1e12)  # Valkey forgets by its own clock, which does not jump
    found, expected = asyncio.run(story(stores[store], seed)), asyncio.run(story("memory://", seed))
    for step, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one == other, step
