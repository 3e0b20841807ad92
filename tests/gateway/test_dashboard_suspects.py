"""Who is suspected, since when, why, and who would be freed or caught; what may be said of the traffic."""

from __future__ import annotations

import asyncio
import html
import math
import re
from dataclasses import replace

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeltoll.evidence_records import EvidenceState
from modeltoll.gateway.admin.dashboard.kinds import kinds_view
from modeltoll.gateway.admin.dashboard.ledger_reader import LedgerReader, LedgerSnapshot
from modeltoll.gateway.admin.dashboard.log_arrays import DAY, LogTail, pages_of
from modeltoll.gateway.admin.dashboard.overview import ModelSnapshot, ViewOptions, overview
from modeltoll.gateway.admin.dashboard.suspected_since import SuspicionMemory, suspected_since
from modeltoll.gateway.admin.dashboard.suspects import findings, suspects
from modeltoll.gateway.admin.dashboard.what_if import compare
from modeltoll.gateway.admin.dashboard.what_if_form import other_settings
from modeltoll.ledger.memory import MemoryLedger
from modeltoll.names import clean_name
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.explain_cells import cell_readings
from modeltoll.pricing.kinds import CALLER, FittedKind
from modeltoll.pricing.unpriced_tariff import UnpricedTariff
from modeltoll.records import Caller, Charge, LogEntry, Work
from modeltoll.testing.tariffs import new_account
from sample_traffic import (
    MEASURES,
    MODEL,
    THIEF,
    CallerPlan,
    SampleTraffic,
    build_tariff,
    honest_leaks,
    sample_callers,
    simulate_day,
)

NOW = 1_750_000_000.0
MONTH = 30 * DAY
TARIFF = build_tariff()


def entry(at, rows=1, surcharge=1.0, mode="sealed"):
    leaks = tuple((0.1 + row / 100, 0.9) for row in range(rows))
    return LogEntry(
        at, MODEL, rows, MEASURES, leaks, (0.5,) * rows, Work(0.01 * rows, rows, 0.01 * rows, 0.0, surcharge), mode
    )


def tail_of(lines, memory=None):
    """The log tail of lines (caller, entry), in the order of time."""
    pages = pages_of([(number, caller, each) for number, (caller, each) in enumerate(lines)])
    before = {} if memory is None else memory.state
    return LogTail(tuple(pages), NOW - DAY, NOW, complete=True, suspected_before=before)


def snapshot_of(accounts, tail):
    hashes = tuple(account.caller.name.removeprefix("key:") for account in accounts)
    return LedgerSnapshot(NOW, tail, tuple(accounts), hashes)


def account_of(name, cells, first_seen=NOW - 40 * DAY, tariff=TARIFF, rows=None):
    """An account with so many fresh rows in each of these cells."""
    counts = tuple(cells.get(cell, 0) for cell in range(tariff.cell_count))
    state = replace(EvidenceState.new(tariff.cell_count, first_seen), counts=counts)
    bare = new_account(tariff, Caller(name), MODEL)
    return replace(
        bare,
        rows=rows or max(1, sum(counts)),
        evidence=state,
        first_seen=first_seen,
        last_seen=NOW,
        tariff=tariff.identity,
    )


HONEST_CELLS = {cell: int(500 * width) for cell, width in enumerate(TARIFF.cells.widths) if 500 * width >= 1.0}


@settings(max_examples=80)
@given(
    lines=st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(1, 3)), max_size=30),
    dropped=st.integers(0, 30),
)
def test_a_caller_is_suspected_since_the_first_line_after_its_last_unsuspected_one(lines, dropped):
    """Whether the lines are still kept or were dropped; exact where an unsuspected line was seen before."""
    logged = [
        (caller, entry(NOW - 1000.0 + number, rows, 2.0 if suspected else 1.0))
        for number, (caller, suspected, rows) in enumerate(lines)
    ]
    memory = SuspicionMemory()
    for page in pages_of([(0, caller, each) for caller, each in logged[:dropped]]):
        memory.drop(page)
    found = suspected_since(tail_of(logged[dropped:], memory).day(MODEL, MEASURES))
    for caller in "abc":
        own = [each for name, each in logged if name == caller]
        end = 0
        while end < len(own) and own[len(own) - 1 - end].work.suspected:
            end += 1
        if end == 0:
            assert caller not in found
            continue
        since = found[caller]
        assert since.at == own[len(own) - end].at
        assert since.exact == (end < len(own))
        assert since.rows == sum(each.rows for each in own[len(own) - end :])


def test_where_lines_were_skipped_nothing_is_remembered():
    memory = SuspicionMemory()
    for page in pages_of([(0, "a", entry(NOW - 9.0, surcharge=2.0))]):
        memory.drop(page)
    assert memory.state
    memory.clear()
    assert not memory.state


def listed(accounts, lines, tariff=TARIFF, long_standing=MONTH):
    tail = tail_of(lines)
    found = findings(snapshot_of(accounts, tail), MODEL, tariff)
    return suspects(found, tail.day(MODEL, MEASURES), tariff, long_standing)


def test_suspects_come_with_their_cells_and_with_how_long_they_were_not_suspected():
    lines = [("old", entry(NOW - 900.0, 5)), ("old", entry(NOW - 600.0, 20, 3.0)), ("new", entry(NOW - 300.0, 4, 2.0))]
    stolen = {0: 30, TARIFF.cell_count - 1: 3}
    accounts = [
        account_of("key:old", stolen, NOW - 40 * DAY, rows=1000),
        account_of("key:new", stolen, NOW - 300.0, rows=4),
        account_of("key:good", HONEST_CELLS),
    ]
    seen = listed(accounts, lines)
    assert seen.callers == 3
    new, old = seen.suspects  # those who have become so last first
    assert (new.name, old.name) == ("key:new", "key:old")
    assert (old.since.at, old.since.exact, old.known_rows) == (NOW - 600.0, True, 980)
    assert old.known_seconds == 40 * DAY - 600.0
    assert (new.since.exact, new.known_seconds, new.known_rows) == (False, None, None)
    cells = cell_readings(TARIFF, accounts[0].evidence.counts)
    assert (old.against, old.others) == (cells[:1], cells[1:])
    assert (old.against[0].cell, old.others[0].cell) == (0, TARIFF.cell_count - 1)
    assert old.nearest.kind == "all traffic"
    assert old.evidence.suspected
    assert [each.name for each in seen.alarms] == ["key:old"]


@pytest.mark.parametrize(
    ("name", "rows", "first_seen", "alarm"),
    [
        ("key:old", 1000, NOW - 31 * DAY, True),
        ("key:old", 1000, NOW - 29 * DAY, False),
        ("key:old", 219, NOW - 31 * DAY, False),  # of which 199 before
        ("key:old", 220, NOW - 31 * DAY, True),
        ("net:198.51.100.7", 1000, NOW - 31 * DAY, False),
    ],
)
def test_only_keys_that_were_known_for_long_and_with_many_rows_raise_the_alarm(name, rows, first_seen, alarm):
    hashed = name.removeprefix("key:")
    lines = [(hashed, entry(NOW - 900.0)), (hashed, entry(NOW - 1.0, 20, 3.0))]
    seen = listed([account_of(name, {0: 30}, first_seen, rows=rows)], lines)
    assert len(seen.suspects) == 1
    assert (len(seen.alarms) == 1) == alarm


def test_a_suspect_without_a_known_account_is_listed_by_the_log_and_one_who_ended_is_not():
    lines = [("gone", entry(NOW - 9.0, 2, 5.0)), ("back", entry(NOW - 8.0, 2, 5.0)), ("back", entry(NOW - 7.0))]
    (gone,) = listed([], lines).suspects
    assert (gone.hash, gone.name, gone.rows, gone.evidence, gone.against) == ("gone", None, 2, None, ())


def test_an_account_of_another_tariff_is_judged_by_the_log():
    other = account_of("key:old", {0: 30}, tariff=build_tariff(seed=1))
    assert listed([other], [("old", entry(NOW - 9.0))]).suspects == ()


def test_the_pages_have_the_alarm_and_the_command_that_marks_a_caller_as_honest():
    """A key that sent honest rows 40 days ago sends others today."""
    ledger, old = MemoryLedger(), Caller("key:old")
    asyncio.run(ledger.open())
    traffic = SampleTraffic.start(ledger, TARIFF, NOW - 40 * DAY)
    asyncio.run(simulate_day(traffic, [CallerPlan(old, 250)]))
    traffic.clock.now = NOW
    asyncio.run(simulate_day(traffic, [CallerPlan(old, 120, (2.0, 20.0), stolen=True)]))

    async def pages():
        transport = httpx.ASGITransport(traffic.dashboard)
        async with httpx.AsyncClient(transport=transport, base_url="http://operator") as client:
            return [(await client.get(path)).text for path in ("/", "/caller?name=key:old")]

    page, caller = (" ".join(html.unescape(re.sub("<[^>]+>", " ", text)).split()) for text in asyncio.run(pages()))
    assert "1 caller of long standing now under suspicion." in page
    assert re.search(
        r"key:old , since 2025-06-1[45] [0-9:]+ , after 4[01]\.\d days and 2\d\d rows without suspicion", page
    )
    assert "unlike every kind" in page
    assert "as calibrated" not in page
    assert "modeltoll keys known-honest modeltoll.yaml old" in caller
    assert "not against" in caller


def test_a_caller_whose_own_log_is_a_kind_is_known_honest_and_no_one_else_is():
    counts = np.zeros(TARIFF.cell_count, np.int64)
    counts[0] = 300
    own = FittedKind("old", CALLER, counts, label="key:old")
    calibration = replace(TARIFF.calibration, kinds=(*TARIFF.calibration.kinds, own))
    tariff = ConformalTariff(calibration)
    accounts = [account_of(name, {0: 60}, tariff=tariff) for name in ("key:old", "key:other")]
    tail = tail_of([])
    found = findings(snapshot_of(accounts, tail), MODEL, tariff)
    assert (found["old"].evidence.known_honest, found["old"].evidence.suspected) == (True, False)
    assert (found["other"].evidence.known_honest, found["other"].evidence.suspected) == (False, True)
    day = tail.day(MODEL, MEASURES)
    view = kinds_view(found, day, tariff, tariff.assess(day.leak_record, np.random.default_rng(0)), None)
    assert {(line.name, line.callers, line.suspects) for line in view.lines} == {
        ("a caller's own log", 1, 0),
        ("all traffic", 1, 1),
    }


# What may be said of the traffic


def state_of(accounts, lines, reading=None):
    tail = tail_of(lines)
    day = tail.day(MODEL, MEASURES)
    assessment = TARIFF.assess(day.leak_record, np.random.default_rng(0))
    return kinds_view(findings(snapshot_of(accounts, tail), MODEL, TARIFF), day, TARIFF, assessment, reading)


def test_as_calibrated_is_said_only_where_every_caller_can_be_honest():
    good, few = account_of("key:good", HONEST_CELLS), account_of("key:few", {TARIFF.cell_count - 1: 3})
    thief = account_of("key:thief", {0: 30})
    line = [("good", entry(NOW - 9.0))]
    assert (state_of([good], line).state, state_of([good], line).good) == ("as calibrated", True)
    assert state_of([few], line).state == "too few rows to tell"
    assert state_of([good, thief], line).state == "1 caller unlike every kind"
    by_log = [*line, ("gone", entry(NOW - 8.0, surcharge=4.0))]
    assert state_of([good], by_log).state == "1 caller unlike every kind"
    for seen in (state_of([few], line), state_of([good, thief], line), state_of([good], by_log)):
        assert not seen.good


def test_as_calibrated_is_not_said_of_drifted_or_dear_traffic():
    good = account_of("key:good", HONEST_CELLS)

    class Drifted:
        drifted = True

    assert state_of([good], [("good", entry(NOW - 9.0))], Drifted()).state == "has drifted"
    dear = LogEntry(
        NOW - 9.0, MODEL, 1000, MEASURES, ((0.9, 3.0),) * 1000, (0.001,) * 1000, Work(1.0, 1000, 1.0), "sealed"
    )
    seen = state_of([good], [("good", dear)])
    assert seen.state == "dearer than calibrated: all traffic"
    (line,) = seen.lines
    assert (line.callers, line.suspects, line.rows) == (1, 0, 1000)
    assert line.mean_units > 1.25


# Who would be freed or caught


def who(accounts, query, lines=()):
    tail = tail_of(list(lines))
    day = tail.day(MODEL, MEASURES)
    found = findings(snapshot_of(accounts, tail), MODEL, TARIFF)
    other = other_settings(TARIFF, query)
    rated = TARIFF.assess(day.leak_record, np.random.default_rng(0))
    return compare(day, found, TARIFF, rated, other and (other, rated)).who


def near_the_threshold(log_excess):
    """The number of rows in a slightly too frequent cell at which the evidence lies this much above the threshold."""
    for count in range(1, 400):
        account = account_of("key:near", HONEST_CELLS | {9: HONEST_CELLS.get(9, 0) + count})
        log_evidence = TARIFF.verdict(account).log_evidence
        if log_evidence >= -math.log(1e-6) + log_excess:
            return account
    raise AssertionError("no number of rows reaches the threshold")


def test_who_would_be_freed_or_caught_is_named():
    near, sure = near_the_threshold(1.0), account_of("key:sure", {0: 60})
    good = account_of("key:good", HONEST_CELLS)
    (sure_now, near_now) = sorted(who([good, sure, near], {}), key=lambda each: each.name, reverse=True)
    assert (sure_now.name, near_now.name) == ("key:sure", "key:near")
    changes = {each.name: each for each in who([good, sure, near], {"alpha": "1e-12"})}
    assert changes["key:near"].freed
    assert not changes["key:sure"].freed
    assert "key:good" not in changes
    assert who([good, near], {"rho": "2"})[0].freed
    below = near_the_threshold(-6.0)
    assert not TARIFF.verdict(below).suspected
    (caught,) = who([good, below], {"alpha": "0.01"})
    assert (caught.name, caught.caught, caught.from_account) == ("key:near", True, True)


def test_a_caller_without_a_known_account_is_judged_by_the_rows_of_the_day():
    leaks = tuple((0.95 + number / 1000, 4.0 + number) for number in range(40))
    stolen = LogEntry(NOW - 9.0, MODEL, 40, MEASURES, leaks, (0.001,) * 40, Work(1.0, 40, 1.0), "sealed")
    (caught,) = who([], {}, [("gone", stolen)])
    assert (caught.hash, caught.name, caught.before, caught.from_account) == ("gone", None, True, False)
    assert caught.mean_before > 0.0
    (freed,) = who([], {"maximum": "1"}, [("gone", stolen)])
    assert freed.freed
    assert freed.mean_after < freed.mean_before


# Shadow mode before the first tariff


def test_rows_logged_before_the_first_tariff_are_priced_with_the_present_one():
    """In shadow mode, with the clean leaks in further columns; without suspicion, and rows of an exempt caller are free."""
    ledger = MemoryLedger()
    asyncio.run(ledger.open())
    unpriced, rng = UnpricedTariff(MEASURES), np.random.default_rng(5)
    columns = (*MEASURES, clean_name("novelty"))
    rows = [honest_leaks(3, rng) for _ in range(40)]

    async def write():
        for number, leaks in enumerate(rows):
            work = unpriced.work(unpriced.assess(leaks, rng), None, None)
            values = np.column_stack([leaks.values, 2.0 * leaks.values[:, 1]])
            lines = tuple(map(tuple, values.tolist()))
            each = LogEntry(NOW - 500.0 + number, MODEL, 3, columns, lines, (1.0,) * 3, work, "shadow", (0, 1, 1))
            caller = Caller(f"key:{number % 2}")
            await ledger.charge(caller, charge_of(leaks, unpriced, rng, NOW))
            await ledger.bill(caller, each)

    asyncio.run(write())
    snapshot = asyncio.run(LedgerReader(ledger, lambda: NOW).read())
    day = snapshot.tail.day(MODEL, MEASURES)
    assert day.measured.all()
    assert np.array_equal(day.clean[:, 1], 2.0 * day.leaks[:, 1])
    assert np.array_equal(day.clean[:, 0], day.leaks[:, 0])
    assert day.leak_record.classes.tolist() == [0, 1, 1] * 40
    factors = np.concatenate([TARIFF.assess(leaks, rng).factors for leaks in rows])
    view = overview(ModelSnapshot(MODEL, MEASURES, NOW, snapshot, TARIFF, None), ViewOptions.of({}))
    assert view.waits.unpriced_requests == 40
    assert view.waits.all_rows == view.waits.rows == 120
    assert view.waits.all_mean_units == pytest.approx(factors.mean())
    assert view.traffic.work == pytest.approx(TARIFF.unit_seconds * factors.sum())
    assert {each.suspected_today for each in view.callers} == {False}
    without = overview(ModelSnapshot(MODEL, MEASURES, NOW, snapshot, None, None), ViewOptions.of({}))
    assert without.traffic.work == 0.0


def charge_of(leaks, tariff, rng, at):
    assessment = tariff.assess(leaks, rng)
    return Charge(
        MODEL,
        len(leaks.values),
        tuple(leaks.values.sum(axis=0).tolist()),
        tuple(assessment.cells.tolist()) if tariff.cell_count else (),
        tuple(rng.bytes(8) for _ in leaks.values),
        tariff.cell_count,
        tariff.identity,
        at,
    )


def test_priced_lines_stay_as_they_are():
    tail = tail_of([("a", entry(NOW - 9.0, 2)), ("b", entry(NOW - 8.0, 2, mode="shadow"))])
    day = tail.day(MODEL, MEASURES)
    assessment = TARIFF.assess(day.leak_record, np.random.default_rng(0))
    assert day.priced(TARIFF, assessment) is day


def test_the_overview_of_a_day_names_its_thief():
    ledger = MemoryLedger()
    asyncio.run(ledger.open())
    traffic = SampleTraffic.start(ledger, TARIFF, NOW)
    asyncio.run(simulate_day(traffic, sample_callers(0.1)))
    snapshot = asyncio.run(LedgerReader(ledger, traffic.clock).read())
    view = overview(ModelSnapshot(MODEL, MEASURES, NOW, snapshot, TARIFF, None), ViewOptions.of({"alpha": "1e-9"}))
    assert [each.name for each in view.suspects.suspects] == [THIEF.name]
    assert [each.name for each in view.comparison.who] == [THIEF.name]
    assert view.kinds.state == "1 caller unlike every kind"
    assert sum(line.suspects for line in view.kinds.lines) == 1
    assert view.suspects.alarms == ()
