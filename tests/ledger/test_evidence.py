"""Evidence in every ledger: its arithmetic, random histories, kills between a charge and its bill, and what is written."""

from __future__ import annotations

import asyncio
import math
import random
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modeltoll.evidence_records import (
    EVIDENCE_SECONDS,
    RESTART_ROWS,
    EvidenceState,
    EvidenceUpdate,
    FinishedBlock,
    FoldedBlock,
)
from modeltoll.ledger import counts_codec, evidence_math
from modeltoll.ledger.from_url import open_ledger
from modeltoll.records import Caller
from modeltoll.testing.ledger_charges import MODEL, NOW, make_charge, make_log_entry
from modeltoll.testing.ledger_evidence import folded_rows, folding_updates
from modeltoll.testing.ledger_evidence_histories import compare_evidence_history, random_evidence_history

GATEWAY = Path(__file__).with_name("evidence_process.py")
CALLER = Caller("key:shared", groups=("org:shared",))
LASTING = ["sqlite", "postgresql", "valkey"]
COUNTS = st.integers(0, 2**63 - 1)
LOGS = st.one_of(st.just(-math.inf), st.floats(-1e6, 1e6))


@given(st.lists(st.lists(st.integers(0, 3), max_size=90), max_size=30), st.data())
def test_every_row_is_in_a_folded_a_waiting_or_a_current_block_of_each_restart(requests, data):
    state, folded = EvidenceState.new(4, NOW), [[0] * 4 for _ in RESTART_ROWS]
    for cells in requests:
        state = evidence_math.counted(state, cells)
        restart = data.draw(st.integers(0, len(RESTART_ROWS) - 1))
        block = state.finished[restart]
        if block is not None:
            assert sum(block.counts) >= RESTART_ROWS[restart]
            folded[restart] = [old + new for old, new in zip(folded[restart], block.counts, strict=True)]
            update = EvidenceUpdate("key:a", "t", 0.0, (FoldedBlock(restart, block.number, 0.0),))
            state = evidence_math.updated(state, update)
    assert state.counts == tuple(np.bincount([cell for cells in requests for cell in cells], minlength=4))
    for restart, block in enumerate(state.finished):
        waiting = block.counts if block else (0,) * 4
        parts = zip(folded[restart], waiting, state.blocks[restart], strict=True)
        assert tuple(map(sum, parts)) == state.counts
        assert sum(state.blocks[restart]) < RESTART_ROWS[restart] or block is not None
        assert block is None or block.number == state.numbers[restart] - 1


@given(LOGS, LOGS)
def test_logarithms_add_as_numpy_says(one, other):
    added = evidence_math.add_logs(one, other)
    assert added == evidence_math.add_logs(other, one) >= max(one, other)
    assert added == pytest.approx(np.logaddexp(one, other), rel=1e-15, abs=1e-15)


@given(st.floats(0.0, 2 * EVIDENCE_SECONDS), LOGS, st.none() | LOGS, st.booleans(), st.booleans())
def test_evidence_goes_on_is_carried_or_is_dropped(age, log_evidence, carried, same, rows):
    before = replace(EvidenceState.new(2, NOW, carried), log_evidence=log_evidence)
    before = evidence_math.counted(before, [1] if rows else [])
    after = evidence_math.restarted(before, 3, NOW + age, EVIDENCE_SECONDS, same=same)
    if NOW + age - NOW >= EVIDENCE_SECONDS or not (same or rows or carried is not None):
        assert after == EvidenceState.new(3, NOW + age)
    elif same:
        assert after is before
    else:
        assert after == replace(EvidenceState.new(3, NOW + age, log_evidence), log_evidence=log_evidence)


@given(st.integers(0, 50), st.data())
def test_packed_counts_are_the_same_again(cells, data):
    vectors = st.lists(data.draw(st.sampled_from([st.integers(0, 9), COUNTS])), min_size=cells, max_size=cells).map(
        tuple
    )
    numbers = tuple(data.draw(st.lists(COUNTS, min_size=5, max_size=5)))
    blocks = tuple(data.draw(vectors) for _ in RESTART_ROWS)
    finished = tuple(data.draw(st.none() | st.builds(FinishedBlock, COUNTS, vectors)) for _ in RESTART_ROWS)
    assert counts_codec.unpack_counts(counts_codec.pack_counts(blocks[0])) == blocks[0]
    assert counts_codec.unpack_blocks(counts_codec.pack_blocks(numbers, blocks), cells) == (numbers, blocks)
    assert counts_codec.unpack_finished(counts_codec.pack_finished(finished), cells) == finished


@pytest.mark.parametrize("store", ["memory", *LASTING])
def test_every_ledger_follows_the_pure_functions_bit_for_bit(store, stores):
    @settings(
        max_examples=12, deadline=None, suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow]
    )
    @given(st.integers(0, 2**32), st.integers(1, 40))
    def compare(seed, steps):
        async def go():
            async with open_ledger(stores[store]) as ledger:
                for owner in (CALLER, Caller(CALLER.groups[0])):
                    await ledger.reset(owner, MODEL)
                history = random_evidence_history(random.Random(seed), steps, CALLER)
                await compare_evidence_history(ledger, CALLER, history)

        asyncio.run(go())

    compare()


def start(url, act, count, first=0):
    command = [sys.executable, str(GATEWAY), url, act, str(count), str(first)]
    # Without a buffer, or lines that readline() took ahead would be missing from what communicate() returns.
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)


def stored(url, *updates):
    """The caller's account, after a bill with these updates if there are some."""

    async def read():
        async with open_ledger(url) as ledger:
            if updates:
                await ledger.bill(CALLER, make_log_entry(1.0), None, updates)
            return await ledger.account(CALLER, MODEL)

    return asyncio.run(read())


@pytest.mark.parametrize("store", LASTING)
def test_a_block_of_a_gateway_killed_before_its_bill_is_folded_by_the_next_one(store, stores):
    url = stores[store]
    process = start(url, "wait", RESTART_ROWS[1])
    assert process.stdout.readline() == f"{RESTART_ROWS[1]}\n".encode()
    process.kill()
    process.communicate(timeout=60)
    left = stored(url)
    assert [block and block.number for block in left.evidence.finished] == [1, 1, None, None, None]
    assert left.groups[0].evidence == left.evidence
    for _ in range(2):  # the second bill finds nothing to fold
        after = stored(url, *folding_updates(left))
        for state in (after.evidence, after.groups[0].evidence):
            assert state.finished == (None,) * len(RESTART_ROWS)
            assert state.finished_log == pytest.approx(math.log(2 * RESTART_ROWS[1]))


@pytest.mark.parametrize("store", LASTING)
def test_gateways_that_are_killed_at_any_moment_fold_each_block_once(store, stores):
    url, rows = stores[store], 0
    for kill in range(4):
        process = start(url, "fold", 1_000_000, 1_000_000 * kill)
        for _ in range(37 + kill):  # in the middle of a request, before or after its bill
            rows = int(process.stdout.readline())
        process.kill()
        rest, _ = process.communicate(timeout=60)
        rows = int(rest.split()[-1]) if rest else rows
        account = stored(url)
        rows_found = account.evidence.rows
        assert rows <= rows_found <= rows + 40
        for state in (account.evidence, account.groups[0].evidence):
            assert state.rows == rows_found == account.rows
            assert math.exp(state.finished_log) == pytest.approx(folded_rows(state))
            assert folded_rows(state) > 0


def test_on_postgresql_only_the_end_of_a_block_and_its_fold_write_more_than_the_account(database):
    async def go():
        async with open_ledger(database) as ledger:
            for number in range(2 * RESTART_ROWS[0]):
                account = await ledger.charge(CALLER, make_charge(number))
                await ledger.bill(CALLER, make_log_entry(1.0), None, folding_updates(account))

    asyncio.run(go())
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute("SELECT pg_stat_force_next_flush()")
        query = "SELECT n_tup_ins, n_tup_upd FROM pg_stat_user_tables WHERE relname = 'evidence'"
        assert owner.execute(query).fetchone() == (2, 8)  # of two accounts: two blocks of 64, each ended and folded
    owner.close()


def test_in_sqlite_an_account_of_48_cells_and_100_000_rows_is_less_than_half_a_page(stores):
    async def go():
        async with open_ledger(stores["sqlite"]) as ledger:
            dice = random.Random(0)
            for number in range(20):
                rows = make_charge(*range(5000 * number, 5000 * (number + 1)))
                cells = tuple(dice.randrange(48) for _ in range(5000))
                account = await ledger.charge(CALLER, replace(rows, cells=cells, cell_count=48))
                await ledger.bill(CALLER, make_log_entry(1.0), None, folding_updates(account))

    asyncio.run(go())
    with sqlite3.connect(stores["sqlite"].removeprefix("sqlite:///")) as direct:
        query = "SELECT length(counts) + length(blocks), length(finished) FROM accounts WHERE caller = 'key:shared'"
        packed, waiting = direct.execute(query).fetchone()
    direct.close()
    assert packed < 700
    assert waiting == 0
