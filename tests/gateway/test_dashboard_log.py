"""The dashboard reads all of the day's log, no line twice, and no more than the limits allow."""

from __future__ import annotations

import asyncio
import contextlib
from bisect import bisect_right

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeltoll.errors import LedgerError
from modeltoll.gateway.admin.dashboard.ledger_reader import LedgerReader
from modeltoll.gateway.admin.dashboard.log_arrays import DAY
from modeltoll.gateway.admin.dashboard.log_tail import LogTailReader, TailLimits
from modeltoll.ledger.memory import MemoryLedger
from modeltoll.records import Caller, LogEntry, Work
from modeltoll.testing.clock import FakeClock

NOW = 1_750_000_000.0
ENTROPY, BOTH = ("entropy",), ("entropy", "novelty")


def log_entry(at, rows=1, measures=ENTROPY, model="m", mode="sealed", surcharge=1.0):
    leaks = tuple(tuple((at % 1000) + row + place for place in range(len(measures))) for row in range(rows))
    work = Work(0.5 * rows + 0.25, rows, 0.5 * rows, 0.25, surcharge)
    return LogEntry(at, model, rows, measures, leaks, (0.5,) * rows, work, mode)


class Log:
    """A log with gaps in its line numbers, as after deletions and rollbacks; records all reads."""

    def __init__(self, lines=()):
        self.lines, self.numbers = list(lines), [line[0] for line in lines]
        self.reads = []

    def write(self, *entries, gap=1, caller="c"):
        for one in entries:
            number = (self.numbers[-1] if self.numbers else 0) + gap
            self.lines.append((number, caller, one))
            self.numbers.append(number)

    async def log(self, after, limit):
        start = bisect_right(self.numbers, after)
        found = self.lines[start : start + limit]
        self.reads.append((limit, [line[0] for line in found]))
        return found


def tail(tail_reader, now=NOW):
    return asyncio.run(tail_reader.tail(now))


def times(tail, model="m", measures=ENTROPY):
    return tail.day(model, measures).at.tolist()


@settings(max_examples=60)
@given(
    ages=st.lists(st.floats(0.0, 3 * DAY), max_size=40),
    gap=st.integers(1, 1000),
    page=st.integers(1, 7),
)
def test_the_tail_is_every_line_of_the_last_day_whatever_came_before(ages, gap, page):
    log = Log()
    log.write(*(log_entry(NOW - age) for age in sorted(ages, reverse=True)), gap=gap)
    found = tail(LogTailReader(log, TailLimits(page=page)))
    assert times(found) == [one.at for _, _, one in log.lines if one.at >= NOW - DAY]
    assert (found.complete, found.since, found.until) == (True, NOW - DAY, NOW)
    assert all(len(numbers) <= page for _, numbers in log.reads)


def test_the_start_of_the_day_in_a_long_log_is_found_with_few_short_reads():
    log = Log((number, "c", log_entry(NOW - 10 * DAY + number)) for number in range(1, 200_000))
    log = Log([*log.lines, (200_001, "c", log_entry(NOW - 5.0)), (200_002, "c", log_entry(NOW - 4.0))])
    assert times(tail(LogTailReader(log, TailLimits()))) == [NOW - 5.0, NOW - 4.0]
    assert len(log.reads) < 4 * 18  # two bisections of 2**18 numbers
    assert sum(len(numbers) for _, numbers in log.reads) < 4 * 18


def test_a_second_read_reads_only_new_lines():
    log = Log()
    log.write(*(log_entry(NOW - 100 + number) for number in range(20)))
    tail_reader = LogTailReader(log, TailLimits(page=8))
    tail(tail_reader)
    log.reads.clear()
    log.write(*(log_entry(NOW + number) for number in range(3)))
    assert len(times(tail(tail_reader, NOW + 10))) == 23
    assert [number for _, numbers in log.reads for number in numbers] == [21, 22, 23]


def test_lines_older_than_a_day_are_dropped():
    log = Log()
    log.write(*(log_entry(NOW - number) for number in (50, 40, 30, 20)))
    tail_reader = LogTailReader(log, TailLimits(page=1))
    tail(tail_reader)
    assert times(tail(tail_reader, NOW - 35 + DAY)) == [NOW - 30, NOW - 20]
    assert times(tail(tail_reader, NOW + DAY)) == []


@pytest.mark.parametrize("limits", [TailLimits(page=10, lines=40), TailLimits(page=10, rows=80)], ids=["lines", "rows"])
def test_of_too_many_lines_the_latest_are_kept_with_their_start(limits):
    log = Log()
    log.write(*(log_entry(NOW - 1000 + number, rows=2) for number in range(100)))
    found = tail(LogTailReader(log, limits))
    times_kept = times(found)
    assert times_kept == [one.at for _, _, one in log.lines][-len(times_kept) :]
    assert 20 <= len(times_kept) <= 41
    assert not found.complete
    assert times_kept[0] - 1 <= found.since <= times_kept[0]


def test_a_log_that_was_too_long_is_complete_again_once_the_day_is_short_enough():
    log = Log()
    log.write(*(log_entry(NOW - 1000 + number) for number in range(100)))
    tail_reader = LogTailReader(log, TailLimits(page=10, lines=40))
    assert not tail(tail_reader).complete
    log.write(log_entry(NOW + DAY))
    later = tail(tail_reader, NOW + DAY + 1)
    assert (later.complete, times(later)) == (True, [NOW + DAY])


def test_a_read_after_a_long_time_does_not_read_all_missed_lines():
    log = Log()
    log.write(log_entry(NOW - 1))
    tail_reader = LogTailReader(log, TailLimits(page=10, lines=50))
    tail(tail_reader)
    log.write(*(log_entry(NOW + number) for number in range(5000)))
    log.reads.clear()
    assert len(times(tail(tail_reader, NOW + 5000))) <= 51
    assert sum(len(numbers) for _, numbers in log.reads) < 200


def test_an_interrupted_read_loses_no_line():
    class HaltingLog(Log):
        left = 10**9

        async def log(self, after, limit):
            self.left -= 1
            if self.left < 0:
                self.halted.set()
                await asyncio.Event().wait()
            return await super().log(after, limit)

    async def interrupted(tail_reader, steps):
        log.left, log.halted = steps, asyncio.Event()
        reading = asyncio.create_task(tail_reader.tail(NOW))
        halted = asyncio.create_task(log.halted.wait())
        await asyncio.wait({reading, halted}, return_when=asyncio.FIRST_COMPLETED)
        halted.cancel()
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
        log.left = 10**9

    for steps in range(40):
        log = HaltingLog()
        log.write(*(log_entry(NOW - 2 * DAY + number) for number in range(30)))
        log.write(*(log_entry(NOW - 100 + number) for number in range(6)))
        tail_reader = LogTailReader(log, TailLimits(page=4, lines=8))
        asyncio.run(interrupted(tail_reader, steps))
        assert len(times(tail(tail_reader))) == 6
        log.write(*(log_entry(NOW - 50 + number) for number in range(14)))
        asyncio.run(interrupted(tail_reader, steps))
        found = tail(tail_reader)
        times_kept = times(found)
        assert times_kept == [one.at for _, _, one in log.lines][-len(times_kept) :]
        assert len(times_kept) >= 5
        assert not found.complete


def test_pages_of_large_batches_are_short():
    log = Log()
    log.write(*(log_entry(NOW - 100 + number, rows=50) for number in range(64)))
    assert len(times(tail(LogTailReader(log, TailLimits(page=32, page_rows=200))))) == 64
    assert max(len(numbers) for _, numbers in log.reads) <= 4


def test_lines_of_other_models_and_measures_do_not_mix():
    log = Log()
    log.write(
        log_entry(NOW - 9, rows=2),
        log_entry(NOW - 8, model="other"),
        log_entry(NOW - 7, rows=3, measures=BOTH),
        caller="a",
    )
    log.write(log_entry(NOW - 6, rows=1, surcharge=2.0), caller="b")
    day = tail(LogTailReader(log, TailLimits())).day("m", ENTROPY)
    assert day.at.tolist() == [NOW - 9, NOW - 7, NOW - 6]
    assert day.rows.tolist() == [2, 3, 1]
    assert day.measured.tolist() == [True, False, True]
    assert day.row_lines.tolist() == [0, 0, 2]
    assert day.leaks[:, 0].tolist() == [leak for line in (0, 3) for (leak,) in log.lines[line][2].leaks]
    assert [day.hashes[place] for place in day.callers] == ["a", "a", "b"]
    assert day.suspected.tolist() == [False, False, True]
    assert day.seconds.tolist() == [1.25, 1.75, 0.75]
    assert day.select(np.array([False, False, True])).row_lines.tolist() == [0]


def open_ledger():
    ledger = MemoryLedger()
    asyncio.run(ledger.open())
    return ledger


def test_a_snapshot_is_reused_for_some_seconds():
    ledger, clock = open_ledger(), FakeClock(NOW)
    reader = LedgerReader(ledger, clock)
    first = asyncio.run(reader.read())
    asyncio.run(ledger.bill(Caller("key:a"), log_entry(NOW)))
    clock.advance(4.9)
    assert asyncio.run(reader.read()) is first
    clock.advance(0.2)
    assert times(asyncio.run(reader.read()).tail) == [NOW]
    clock.advance(-3600.0)  # a clock that was set back
    assert asyncio.run(reader.read()).at == clock.now


def test_concurrent_reads_share_one_snapshot():
    log_reads = []

    class CountingLedger(MemoryLedger):
        async def log(self, after, limit):
            log_reads.append(after)
            await asyncio.sleep(0)
            return await super().log(after, limit)

    ledger = CountingLedger()

    async def look():
        await ledger.open()
        reader = LedgerReader(ledger, FakeClock(NOW))
        return await asyncio.gather(*(reader.read() for _ in range(50)))

    assert len({id(reading) for reading in asyncio.run(look())}) == 1
    assert len(log_reads) == 2  # the first line, and the lines after it


def test_a_ledger_that_takes_too_long_is_an_error():
    class StuckLedger(MemoryLedger):
        async def log(self, after, limit):
            await asyncio.Event().wait()

        async def account(self, caller, model):
            await asyncio.Event().wait()

    reader = LedgerReader(StuckLedger(), FakeClock(NOW), timeout=0.01)
    with pytest.raises(LedgerError, match="takes too long"):
        asyncio.run(reader.read())
    with pytest.raises(LedgerError, match="takes too long"):
        asyncio.run(reader.account(Caller("key:a"), "m"))


def test_an_invalid_name_is_a_value_error():
    with pytest.raises(ValueError, match="names"):
        asyncio.run(LedgerReader(open_ledger(), FakeClock(NOW)).account(Caller("key:\0"), "m"))


def test_the_slower_the_largest_accounts_are_read_the_more_rarely():
    reads = []

    class SlowLedger(MemoryLedger):
        async def largest(self, limit):
            reads.append(clock.now)
            timer.advance(0.05)
            return await super().largest(limit)

    ledger, clock, timer = SlowLedger(), FakeClock(NOW), FakeClock(0.0)
    asyncio.run(ledger.open())
    reader = LedgerReader(ledger, clock, timer=timer)
    for _ in range(12):
        asyncio.run(reader.read())
        clock.advance(10.0)
    assert reads == [NOW, NOW + 50.0, NOW + 100.0]
