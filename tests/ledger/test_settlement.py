"""Settlement in every ledger: random histories, processes, kills, and its order of locks."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modeltoll.ledger.from_url import ledger_from_url, open_ledger
from modeltoll.ledger.settlement_math import adjust, settle
from modeltoll.records import Caller
from modeltoll.settlement_records import Adjustment, Receipt, Reservation, Standing
from modeltoll.testing.ledger_charges import MODEL, NOW, make_charge, make_log_entry
from modeltoll.testing.ledger_histories import compare_history, random_history

SETTLER = Path(__file__).with_name("settling_process.py")
SHARED = Caller("key:shared")
LASTING = ["sqlite", "postgresql", "valkey"]
SECONDS = st.one_of(st.just(0.0), st.floats(1e-9, 1e9))


def start(url, act, count, first=0):
    command = [sys.executable, str(SETTLER), url, act, str(count), str(first)]
    # Without a buffer, or lines that readline() took ahead would be missing from what communicate() returns.
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)


def finish(process):
    said, complaints = process.communicate(timeout=120)
    assert process.returncode == 0, complaints.decode()
    return [tuple(map(int, line.split())) for line in said.decode().splitlines()]


def stored(url):
    async def read():
        async with open_ledger(url) as ledger:
            return await ledger.standing(SHARED)

    return asyncio.run(read())


@st.composite
def standings(draw):
    return Standing(draw(SECONDS), draw(SECONDS), draw(SECONDS), draw(st.integers(0, 2**40)), draw(SECONDS))


@st.composite
def receipts(draw):
    return Receipt(draw(st.binary(min_size=16, max_size=16)), 1e10, draw(SECONDS), 1, draw(SECONDS), draw(SECONDS))


RESERVATIONS = st.builds(Reservation, SECONDS, SECONDS, SECONDS, st.floats(0.0, 1.0))


@given(st.none() | standings(), st.lists(receipts(), max_size=3), RESERVATIONS, SECONDS)
def test_what_is_admitted_is_covered_and_what_is_missing_admits(before, fresh, reservation, at):
    after, admission = settle(before, fresh, reservation, at)
    rounding = 1e-6 * (reservation.seconds + reservation.credit)
    if admission.admitted:
        assert admission.from_credit + admission.from_prepaid == pytest.approx(reservation.seconds)
        negligible = 1e-9 * (reservation.seconds + reservation.credit)  # as much is never missing
        assert admission.from_credit <= negligible or after.unsettled <= reservation.credit + rounding
        assert min(after.unsettled, after.prepaid, admission.from_credit, admission.from_prepaid) >= 0.0
        return
    assert (admission.from_credit, admission.from_prepaid) == (0.0, 0.0)
    assert admission.missing <= reservation.seconds
    paid = Receipt(b"p" * 16, 1e10, prepaid=admission.missing, new_account=admission.missing_new_account)
    if any(receipt.new_account for receipt in fresh):  # was paid for the request that was refused
        reservation = Reservation(reservation.seconds, reservation.credit)
    assert settle(after or before, [paid], reservation, at)[1].admitted


@given(st.none() | standings(), st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_an_adjustment_adds_and_never_goes_below_zero(before, unsettled, prepaid):
    known = before or Standing()
    after = adjust(before, Adjustment(unsettled, prepaid))
    assert after.unsettled == max(0.0, known.unsettled + unsettled)
    assert after.prepaid == max(0.0, known.prepaid + prepaid)
    assert (after.new_account, after.settled_rows) == (known.new_account, known.settled_rows)


@pytest.mark.parametrize("store", ["memory", *LASTING])
def test_every_ledger_follows_the_pure_functions_bit_for_bit(store, stores):
    @settings(
        max_examples=15, deadline=None, suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow]
    )
    @given(st.integers(0, 2**32), st.integers(1, 40))
    def compare(seed, steps):
        async def go():
            async with open_ledger(stores[store]) as ledger:
                await ledger.reset(SHARED, MODEL)
                await compare_history(ledger, SHARED, random_history(random.Random(seed), steps))

        asyncio.run(go())

    compare()


@pytest.mark.parametrize("store", LASTING)
def test_two_processes_reserve_exactly_and_count_each_receipt_once(store, stores):
    url = stores[store]
    reserved = [line for process in [start(url, "reserve", 200) for _ in range(2)] for line in finish(process)]
    assert [admitted for admitted, _ in reserved] == [1] * 400
    assert stored(url) == Standing(unsettled=400.0, drained=NOW)
    shown = [line for process in [start(url, "show", 200) for _ in range(2)] for line in finish(process)]
    assert len(shown) == 400
    assert stored(url).settled_rows == 200


@pytest.mark.parametrize("store", LASTING)
@pytest.mark.parametrize("act", ["reserve", "show"])
def test_a_killed_process_loses_nothing_acknowledged_and_counts_nothing_twice(store, act, stores):
    url = stores[store]
    process = start(url, act, 1_000_000)
    for _ in range(100):
        process.stdout.readline()
    process.kill()
    rest, _ = process.communicate(timeout=60)
    acknowledged = 100 + rest.count(b"\n")
    standing = stored(url)
    counted = standing.unsettled if act == "reserve" else standing.settled_rows
    assert acknowledged <= counted <= acknowledged + 1
    finish(start(url, act, acknowledged))  # the receipts once more, or as many reservations
    again = stored(url)
    if act == "show":
        assert again.settled_rows == counted
    else:
        assert again.unsettled == counted + acknowledged


@pytest.mark.parametrize("store", ["postgresql", "valkey"])
def test_a_server_killed_in_the_middle_loses_no_settlement_where_it_is_durable(store, stores, request):
    server = request.getfixturevalue({"postgresql": "postgres", "valkey": "valkey"}[store])
    url = stores[store] + ("?options=-c%20synchronous_commit%3Don" if store == "postgresql" else "")
    process = start(url, "show", 1_000_000)
    for _ in range(100):
        process.stdout.readline()
    server.kill()
    rest, _ = process.communicate(timeout=60)
    acknowledged = 100 + rest.count(b"\n")
    server.start()
    counted = stored(url).settled_rows
    assert acknowledged <= counted <= acknowledged + 1
    finish(start(url, "show", acknowledged))
    assert stored(url).settled_rows == counted


@pytest.mark.parametrize("store", LASTING)
def test_all_steps_of_one_caller_at_once_never_block_each_other(store, stores):
    """Settlements, adjustments, bills, charges and resets take their locks in one order."""

    async def go():
        one, other = ledger_from_url(stores[store]), ledger_from_url(stores[store])
        for ledger in (one, other):
            await ledger.open()
        for turn in range(8):
            steps = []
            for number in range(8):
                ledger, receipt = (one, other)[number % 2], Receipt(bytes([turn] * 8 + [number] * 8), NOW + 9.0, rows=1)
                steps += [
                    ledger.charge(SHARED, make_charge(number)),
                    ledger.settle(SHARED, (receipt,), Reservation(1.0, 1e6), NOW),
                    ledger.bill(SHARED, make_log_entry(1.0), Adjustment(1.0, 1.0)),
                    ledger.adjust(SHARED, Adjustment(-1.0)),
                ]
            await asyncio.gather(*steps, one.reset(SHARED, MODEL))
        for ledger in (one, other):
            await ledger.close()

    asyncio.run(go())
