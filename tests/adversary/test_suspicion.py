"""A thief against suspicion: honest rows beside, before and after the stolen ones, re-sent rows, new tariffs, stolen keys."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import httpx
import numpy as np
import pytest

from laboratory import KEYS, Thief
from modeltoll.client.httpx import TollTransport
from modeltoll.client.purse import Purse
from modeltoll.evidence_records import EVIDENCE_SECONDS
from modeltoll.ledger.memory import MemoryLedger
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.fit import RowCosts, fit_calibration
from modeltoll.pricing.kinds import CALLER, FittedKind
from modeltoll.records import Caller, Charge, Leaks, LogEntry
from sample_traffic import MEASURES, honest_leaks, stolen_leaks

THIEF, HONEST = Caller("key:thief"), Caller("key:honest")
CALIBRATION_ROWS = 4000
ALONE = 12  # stolen rows after which a thief who sends nothing else is under suspicion, at the most
MODEL = "digits"


def stolen(rows, rng):
    return stolen_leaks(rows, rng).values


def honest(rows, rng):
    return honest_leaks(rows, rng).values


def unusual(rows, rng):
    """Rows of an honest specialist: certain answers, inputs at the edge of all traffic."""
    return np.column_stack([rng.beta(0.6, 12.0, rows), rng.lognormal(0.35, 0.15, rows)])


def calibration(seed=0):
    leaks = honest_leaks(CALIBRATION_ROWS, np.random.default_rng(seed))
    return fit_calibration(MODEL, leaks, RowCosts(unit_seconds=0.01))


@pytest.fixture(scope="module")
def tariff():
    return ConformalTariff(calibration())


@dataclass
class Counter:
    """Where rows are charged, priced and billed as in a gate: a tariff, an account for each caller, no model."""

    tariff: ConformalTariff
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(5))
    now: float = 1e9

    def __post_init__(self):
        asyncio.run(self.ledger.open())

    def send(self, values, caller=THIEF, fingerprints=None):
        """The verdict on a request of these rows, (rows, measures), which are all new unless fingerprints are given."""
        rows = len(values)
        fingerprints = fingerprints or tuple(self.rng.bytes(8) for _ in range(rows))
        assessment = self.tariff.assess(Leaks(MEASURES, values), self.rng)
        sums, cells = tuple(values.sum(axis=0).tolist()), tuple(assessment.cells.tolist())
        identity = self.tariff.identity
        charge = Charge(MODEL, rows, sums, cells, fingerprints, self.tariff.cell_count, identity, self.now)
        account = asyncio.run(self.ledger.charge(caller, charge))
        verdict = self.tariff.verdict(account, self.ledger.logged_as(caller))
        work = self.tariff.work(assessment, account, verdict)
        rarest, lines = tuple(assessment.rarest.tolist()), tuple(map(tuple, values.tolist()))
        entry = LogEntry(self.now, MODEL, rows, MEASURES, lines, rarest, work, "sealed")
        asyncio.run(self.ledger.bill(caller, entry, updates=verdict.updates))
        return verdict

    def steal(self, most, beside=lambda: np.empty((0, 2)), caller=THIEF):
        """How many requests of one stolen row and the rows ``beside`` it the caller sends until it is suspected."""
        for number in range(1, most + 1):
            if self.send(np.vstack([beside(), stolen(1, self.rng)]), caller).suspected:
                return number
        raise AssertionError(f"not suspected after {most} stolen rows")

    def is_left(self, rows, most):
        """Whether the thief is unsuspected after some of so many of these rows, sent one by one."""
        return any(not self.send(next(rows)[None]).suspected for _ in range(most))

    def evidence(self, caller=THIEF):
        return asyncio.run(self.ledger.account(caller, MODEL)).evidence


@pytest.fixture
def counter(tariff):
    return Counter(tariff)


def test_a_thief_is_found_after_a_dozen_rows_and_an_honest_caller_never(counter):
    assert counter.steal(ALONE) > 1
    for _ in range(40):
        assert not counter.send(honest(50, counter.rng), HONEST).suspected


@pytest.mark.parametrize(("fillers", "most"), [(1, 20), (4, 40), (16, 150)])
def test_fresh_honest_fillers_delay_suspicion_and_do_not_prevent_it(counter, fillers, most):
    """They are paid rows, each of which the thief sees the answer of: sixteen for each stolen one."""
    counter.steal(most, lambda: honest(fillers, counter.rng))


@pytest.mark.parametrize("bank", [100, 4000])
def test_a_bank_of_honest_rows_buys_hardly_any_stolen_ones(counter, bank):
    for _ in range(bank // 50):
        counter.send(honest(50, counter.rng))
    counter.steal(3 * ALONE)


def test_honest_rows_that_are_sent_again_hide_nothing(counter):
    """Fifty known rows beside each stolen one count once."""
    rows = honest(50, counter.rng)
    fingerprints = tuple(counter.rng.bytes(8) for _ in rows)
    counter.send(rows, fingerprints=fingerprints)
    verdicts = [
        counter.send(np.vstack([rows, stolen(1, counter.rng)]), fingerprints=(*fingerprints, counter.rng.bytes(8)))
        for _ in range(3 * ALONE)
    ]
    assert verdicts[-1].suspected
    assert counter.evidence().rows == 50 + 3 * ALONE


def test_honest_rows_after_a_theft_do_not_wash_it_off(counter):
    """The evidence of a block that has ended stays, whatever comes after it."""
    for _ in range(20):
        counter.send(stolen(10, counter.rng))
    for _ in range(60):
        verdict = counter.send(honest(50, counter.rng))
    assert verdict.suspected
    assert counter.evidence().finished_log > 50.0


@pytest.mark.parametrize("cheapest", [True, False])
def test_who_stops_at_the_limit_and_sends_honest_rows_until_it_is_left_gets_few_rows(counter, cheapest):
    """After each alarm honest rows, ordinary or the cheapest ones, until there is no suspicion; then the next stolen row."""
    pool = honest(6000, counter.rng)
    rarest = counter.tariff.assess(Leaks(MEASURES, pool), counter.rng).rarest
    rows = iter(pool[rarest > 0.5] if cheapest else pool)
    taken = 1
    while not counter.send(stolen(1, counter.rng)).suspected or counter.is_left(rows, 500):
        taken += 1
        assert taken <= 3 * ALONE


def test_a_new_tariff_is_no_amnesty_and_no_accusation(counter):
    """Three calibrations with other honest rows: who was suspected is, from the first row on, and nobody else."""
    for _ in range(10):
        counter.send(stolen(5, counter.rng))
        counter.send(honest(50, counter.rng), HONEST)
    for seed in (1, 2, 3):
        counter.tariff = ConformalTariff(calibration(seed))
        assert counter.send(honest(1, counter.rng)).suspected
        assert not counter.send(honest(50, counter.rng), HONEST).suspected
        assert counter.evidence().carried_log is not None


def test_half_of_a_theft_before_a_new_tariff_counts_after_it(counter):
    needed = Counter(counter.tariff).steal(ALONE)
    for _ in range(needed - 1):
        assert not counter.send(stolen(1, counter.rng)).suspected
    before = counter.evidence().log_evidence
    counter.tariff = ConformalTariff(calibration(1))
    counter.send(stolen(1, counter.rng))
    assert counter.evidence().carried_log == pytest.approx(before)


def test_after_the_period_a_thief_is_found_again_as_fast_as_at_first(counter):
    counter.steal(ALONE)
    counter.now += EVIDENCE_SECONDS + 1.0
    assert not counter.send(stolen(1, counter.rng)).suspected
    counter.steal(ALONE)


def test_many_requests_in_flight_are_one_account(counter):
    """Charges of requests that are not billed yet count for those that come after them."""
    for _ in range(ALONE):
        values = stolen(1, counter.rng)
        assessment = counter.tariff.assess(Leaks(MEASURES, values), counter.rng)
        identity, cells = counter.tariff.identity, tuple(assessment.cells.tolist())
        charge = Charge(MODEL, 1, (0.0, 0.0), cells, (counter.rng.bytes(8),), counter.tariff.cell_count, identity, 1e9)
        account = asyncio.run(counter.ledger.charge(THIEF, charge))
    assert counter.tariff.verdict(account).suspected


# A caller who is known to be honest


@pytest.fixture
def known(tariff):
    """A counter whose tariff has a kind of the log of ``HONEST``, who sends unusual rows alone."""
    counter, rng = Counter(tariff), np.random.default_rng(8)
    values = unusual(2000, rng)
    cells = tariff.assess(Leaks(MEASURES, values), rng).cells
    counts = np.bincount(cells, minlength=tariff.cell_count)
    name = counter.ledger.logged_as(HONEST)
    kind = FittedKind(name, CALLER, counts, np.sort(values, axis=0).T.copy(), "honest")
    counter.tariff = ConformalTariff(replace(tariff.calibration, kinds=(*tariff.calibration.kinds, kind)))
    return counter


def test_its_own_kind_frees_a_known_caller_and_nobody_else(known):
    for _ in range(40):
        assert not known.send(unusual(50, known.rng), HONEST).suspected
    assert any(known.send(unusual(5, known.rng), THIEF).suspected for _ in range(40))


def test_the_key_of_a_known_caller_whitens_no_foreign_rows(known):
    """Whether its owner has used it before, and goes on using it, or not."""
    assert known.steal(2 * ALONE, caller=HONEST) > 1
    again = Counter(known.tariff, known.ledger)
    asyncio.run(again.ledger.reset(HONEST, MODEL))
    for _ in range(20):
        again.send(unusual(50, again.rng), HONEST)
    again.steal(60, lambda: unusual(2, again.rng), caller=HONEST)


def test_what_is_sent_with_a_stolen_key_does_not_change_the_kind(known):
    kind = known.tariff.own_kind(known.ledger.logged_as(HONEST))
    before = kind.counts.copy(), kind.scores.copy()
    for _ in range(5):
        known.send(stolen(20, known.rng), HONEST)
    after = known.tariff.own_kind(known.ledger.logged_as(HONEST))
    assert np.array_equal(before[0], after.counts)
    assert np.array_equal(before[1], after.scores)


# On a running gateway


@pytest.fixture(scope="module")
def gateway(laboratory):
    settings = laboratory.settings(models={MODEL: laboratory.variant(MODEL, unit=1e-5)})
    settings["callers"]["credit"] = {"seconds": 1e6, "units": 1}
    with laboratory.gateway(settings=settings) as gateway:
        yield gateway


def test_a_suspect_is_told_no_more_by_its_waits_than_by_its_tolls(gateway, thief):
    """Only suspects are measured twice, and only they get a memory-hard puzzle for so little work: the toll says it first."""
    client, noise = thief(gateway, KEYS[40]), np.random.default_rng(0).random((60, 64))
    first = client.toll(noise[0], accept="sha256; mode=sealed; receipts")
    assert not gateway.log()[-1]["suspected"]
    client.toll(noise)
    suspect = client.toll(noise[0], accept="sha256; mode=sealed; receipts")
    assert gateway.log()[-1]["suspected"]
    assert suspect["puzzle"]["name"] == "argon2id"
    assert suspect["typical_seconds"] > first["typical_seconds"]


def test_a_suspect_with_a_small_machine_pays_and_is_answered(gateway, infer_body, victim):
    """It offers 8 MiB: slowed, not locked out."""
    headers = {"content-type": "application/json", "x-api-key": KEYS[41]}
    purse = Purse(max_seconds=600, memory_kib=8 * 1024)
    transport = TollTransport(purse=purse)
    with httpx.Client(base_url=gateway.url, transport=transport, headers=headers, timeout=60) as client:
        caller = Thief(client, infer_body)
        assert caller.ask(np.random.default_rng(1).random((60, 64)), accept=None).status_code == 200
        response = caller.ask(victim.test[:2], accept=None)
        assert response.status_code == 200
        assert gateway.log()[-1]["suspected"]
    assert len(purse.payments) == 2
    assert {payment.puzzle for payment in purse.payments} == {"argon2id"}
