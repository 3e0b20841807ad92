"""Suspicion: honest callers of any kind, mixture or order are not suspected, thieves are, and the running evidence of a
simulation is that of verdicts one after another.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence_steps import account_of, advanced, folded, new_state
from modeltoll.errors import CalibrationError
from modeltoll.evidence_records import RESTART_ROWS
from modeltoll.ledger.memory import MemoryLedger
from modeltoll.pricing.cells import Cells
from modeltoll.pricing.kinds import ALL_TRAFFIC, CALLER, CLASS, DECLARED, FittedKind, FittedStranger
from modeltoll.pricing.suspicion import Suspicion, SuspicionTerms
from modeltoll.records import Caller, Charge, LogEntry, Work

CELLS = Cells(2, 3000)
SHORT = (8, 16, 32)


def laws_of(rng, number):
    """All traffic, and so many kinds whose laws differ from it."""
    return [CELLS.widths, *rng.dirichlet(12.0 * CELLS.widths + 0.05, number)]


def thief_law():
    """Rows that are rare in both coordinates."""
    law = np.multiply.outer(1.0 / np.arange(1, 7), 1.0 / np.arange(1, 9)).ravel()
    return law / law.sum()


def fitted(laws, rows, rng):
    return [
        FittedKind(f"kind {place}", DECLARED if place else ALL_TRAFFIC, rng.multinomial(rows, law))
        for place, law in enumerate(laws)
    ]


@pytest.fixture(scope="module")
def laws():
    return laws_of(np.random.default_rng(0), 5)


@pytest.fixture(scope="module")
def suspicion(laws):
    rng = np.random.default_rng(1)
    strangers = [FittedStranger("photographs", rng.multinomial(1000, thief_law()))]
    return Suspicion(CELLS, fitted(laws, 2000, rng), strangers, SuspicionTerms())


@pytest.fixture(scope="module")
def short(laws):
    """Without known strangers, and with short blocks, so that many end within a few rows."""
    return Suspicion(CELLS, fitted(laws, 2000, np.random.default_rng(1)), (), SuspicionTerms(), SHORT)


def ran(suspicion, cells):
    """The running evidence of one account without repeated rows."""
    cells = np.asarray(cells, np.int64)
    return suspicion.running(cells, np.zeros(len(cells), np.int64), np.ones(len(cells), np.bool_))


def first_suspected(suspicion, cells):
    """The number of rows after which the account is suspected, or None."""
    suspected = suspicion.surcharge_at(ran(suspicion, cells).log_evidence) > 1.0
    return int(suspected.argmax()) + 1 if suspected.any() else None


def test_no_honest_caller_is_suspected_whatever_they_send_and_in_whatever_order(suspicion, laws):
    """Each kind alone, random mixtures, and callers who change the kind every 50 rows; 4,000 rows each."""
    rng = np.random.default_rng(2)
    streams = [rng.choice(CELLS.count, 4000, p=law) for law in laws]
    streams += [rng.choice(CELLS.count, 4000, p=rng.dirichlet(np.ones(len(laws))) @ laws) for _ in range(4)]
    for _ in range(4):
        order = rng.integers(0, len(laws), 80)
        streams.append(np.concatenate([rng.choice(CELLS.count, 50, p=laws[kind]) for kind in order]))
    for cells in streams:
        assert first_suspected(suspicion, cells) is None


def test_a_kind_that_nobody_declared_is_found(laws):
    """The promise is for declared kinds: without its kind, a caller far from all traffic is suspected, and with it not."""
    rng = np.random.default_rng(3)
    cells = rng.choice(CELLS.count, 1000, p=laws[3])
    known = fitted(laws, 2000, rng)
    assert first_suspected(Suspicion(CELLS, known[:1], (), SuspicionTerms()), cells) < 500
    assert first_suspected(Suspicion(CELLS, known, (), SuspicionTerms()), cells) is None


def test_thieves_are_found_alone_among_fillers_and_after_a_bank(suspicion, laws):
    rng = np.random.default_rng(4)
    stolen = rng.choice(CELLS.count, 400, p=thief_law())
    honest = rng.choice(CELLS.count, 6000, p=laws[0])
    assert first_suspected(suspicion, stolen) <= 25
    filled = honest[:1600].copy()
    filled[::4] = stolen
    assert first_suspected(suspicion, filled) <= 400
    after_bank = first_suspected(suspicion, np.concatenate([honest[:4000], stolen]))
    assert 4000 < after_bank <= 4060


def test_rows_that_are_too_easy_are_evidence_too(suspicion):
    """A thief who sends none but the commonest rows is suspected, and it is these rows that are marked."""
    easy = CELLS.of_list([0.9, 0.9])
    found = ran(suspicion, [easy] * 300)
    assert suspicion.surcharge_at(found.log_evidence)[-1] == pytest.approx(100.0)
    assert found.frequent[-1]


def test_a_verdict_marks_the_cells_that_speak_against_a_suspect_and_no_others(suspicion, laws):
    rng = np.random.default_rng(5)
    counts = rng.multinomial(200, 0.5 * laws[0] + 0.5 * thief_law())
    state = dataclasses.replace(new_state(CELLS.count), counts=tuple(counts.tolist()))
    verdict = suspicion.verdict(account_of(state))
    assert verdict.suspected
    shares, law = counts / counts.sum(), suspicion.fitted(counts)
    assert (verdict.frequent <= (shares > law)).all()
    assert verdict.frequent[0]
    assert not verdict.frequent[counts == 0].any()
    assert (law <= 1.25 * suspicion.laws.caps.max(axis=0) + 1e-9).all()


@pytest.mark.parametrize("mixture", [0.0, 0.3, 1.0])
def test_running_evidence_is_that_of_verdicts_one_after_another(short, laws, mixture):
    """Through a ledger, one row a request, blocks ending and being added: at every row to 60, and at every end of a block."""

    async def walk(cells):
        ledger, caller, found = MemoryLedger(), Caller("key:a"), []
        await ledger.open()
        entry = LogEntry(0.0, "model", 1, ("m",), ((1.0,),), (0.5,), Work(0.0, 1, 0.0), "sealed")
        for place, cell in enumerate(cells):
            charge = Charge("model", 1, (1.0,), (cell,), (place.to_bytes(8, "big"),), CELLS.count, "tariff", 0.0)
            account = await ledger.charge(caller, charge)
            whole = standard.log_evidence(account.evidence)
            verdict = standard.verdict(account)
            await ledger.bill(caller, entry, None, verdict.updates)
            found.append((verdict, whole))
        return found

    standard = Suspicion(CELLS, fitted(laws, 2000, np.random.default_rng(1)), (), SuspicionTerms())
    rng = np.random.default_rng(6)
    cells = rng.choice(CELLS.count, 140, p=(1 - mixture) * laws[0] + mixture * thief_law())
    found, running = asyncio.run(walk(cells.tolist())), ran(standard, cells)
    for row, (verdict, whole) in enumerate(found):
        if row < 60 or (row + 1) % 64 == 0:
            assert verdict.log_evidence <= whole + 0.3
            top = -2.0 * math.log(1e-6)
            assert min(running.log_evidence[row], top) == pytest.approx(min(whole, top), abs=0.3)
            assert verdict.surcharge == pytest.approx(standard.surcharge_at(running.log_evidence[row]), rel=0.2)
            if verdict.suspected:
                assert verdict.frequent[cells[row]] == running.frequent[row]
    assert found[-1][0].suspected == (mixture > 0.0)


ROWS = st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, CELLS.count - 1)), max_size=90)


@settings(max_examples=25)
@given(ROWS)
def test_running_evidence_of_interleaved_accounts_is_that_of_each_alone(short, rows):
    """With short blocks; and a row that its account has sent before changes nothing."""
    accounts = np.array([row[0] for row in rows], np.int64)
    counted = np.array([row[1] for row in rows], np.bool_)
    cells = np.array([row[2] for row in rows], np.int64)
    running = short.running(cells, accounts, counted)
    assert running.log_evidence.shape == running.frequent.shape == (len(rows),)
    states, values = {}, {}
    for place, (account, fresh, cell) in enumerate(rows):
        if fresh:
            state = advanced(states.get(account, new_state(CELLS.count, SHORT)), [cell], SHORT)
            values[account] = short.log_evidence(state)
            states[account] = folded(state, short._test.judge(state).folded)
        assert running.log_evidence[place] == pytest.approx(values.get(account, 0.0), abs=0.35)


def test_running_evidence_keeps_its_value_between_evaluations(suspicion, laws):
    cells = np.random.default_rng(7).choice(CELLS.count, 1000, p=0.8 * laws[0] + 0.2 * thief_law())
    whole = ran(suspicion, cells).log_evidence
    for rows in (59, 60, 300, 700):
        assert ran(suspicion, cells[:rows]).log_evidence[: rows - 50] == pytest.approx(whole[: rows - 50], abs=0.2)
    assert len(np.unique(whole[60:].round(6))) < 150


def test_a_callers_own_log_is_honest_for_that_caller_alone(suspicion):
    """And evidence that earlier tariffs had found is left aside for such a caller."""
    rng = np.random.default_rng(8)
    law = rng.dirichlet(0.3 * np.ones(CELLS.count))
    own = FittedKind("5f0c", CALLER, rng.multinomial(1500, law))
    counts = tuple(rng.multinomial(500, law).tolist())
    state = dataclasses.replace(new_state(CELLS.count), counts=counts, carried_log=40.0)
    account = account_of(state)
    assert suspicion.verdict(account).suspected
    assert not suspicion.verdict(account, own).suspected
    assert suspicion.log_evidence(state, own) < 0.0
    assert not suspicion.verdict(dataclasses.replace(account, evidence=new_state(CELLS.count))).suspected


def test_a_kind_of_few_rows_has_a_tolerance_of_its_own(laws):
    """200 rows of a kind in 48 cells: its other rows are not suspected over 3,000 rows, those of a thief are."""
    rng = np.random.default_rng(9)
    kinds = fitted(laws[:1], 3000, rng)
    kinds.append(FittedKind("class 3", CLASS, rng.multinomial(200, laws[4])))
    suspicion = Suspicion(CELLS, kinds, (), SuspicionTerms())
    assert first_suspected(suspicion, rng.choice(CELLS.count, 3000, p=laws[4])) is None
    assert first_suspected(suspicion, rng.choice(CELLS.count, 400, p=thief_law())) <= 60


def test_carried_evidence_suspects_at_once(suspicion):
    """What an earlier tariff had found stays: a new calibration is no amnesty."""
    state = dataclasses.replace(new_state(CELLS.count), carried_log=30.0)
    verdict = suspicion.verdict(account_of(state))
    assert verdict.log_evidence == pytest.approx(30.0 - math.log(2.0), abs=1e-6)
    assert verdict.suspected
    assert not verdict.frequent.any()


def test_components_are_the_tests_that_the_evidence_is_made_of(suspicion, laws):
    cells = np.random.default_rng(10).choice(CELLS.count, 100, p=0.5 * laws[0] + 0.5 * thief_law())
    state = new_state(CELLS.count)
    for cell in cells.tolist():
        state = advanced(state, [cell])
        state = folded(state, suspicion._test.judge(state).folded)
    parts = suspicion.components(state)
    assert [part.restart for part, _ in parts] == [None, 0, 1, 2, 3, 4]
    assert [sum(part.counts) for part, _ in parts] == [100, 36, 100, 100, 100, 100]
    whole = sum(math.exp(part.log_weight + log) for part, log in parts) + math.exp(state.finished_log)
    assert suspicion.log_evidence(state) == pytest.approx(math.log(whole), abs=1e-3)


def test_updates_name_the_account_and_come_only_where_something_changes(suspicion):
    account = account_of(new_state(CELLS.count))
    (update,) = suspicion.verdict(account).updates
    assert (update.account, update.tariff, update.folded) == ("key:a", "tariff", ())
    stored = dataclasses.replace(account.evidence, log_evidence=update.log_evidence)
    assert suspicion.verdict(dataclasses.replace(account, evidence=stored)).updates == ()


def test_groups_are_judged_by_their_own_rows_and_updated_too(suspicion):
    thief = dataclasses.replace(new_state(CELLS.count), counts=(300, *(0,) * (CELLS.count - 1)))
    groups = (account_of(thief, "org:a"), account_of(new_state(CELLS.count), "prefix:10.0.0.0/24"))
    account = account_of(new_state(CELLS.count), groups=groups)
    verdict = suspicion.verdict(account)
    assert (verdict.surcharge, verdict.frequent) == (1.0, None)
    assert verdict.group_surcharge == pytest.approx(10.0)
    assert {update.account for update in verdict.updates} == {"key:a", "org:a", "prefix:10.0.0.0/24"}
    settled = suspicion.verdict(dataclasses.replace(account, settled_rows=200))
    assert settled.group_surcharge == 1.0
    assert settled.updates == verdict.updates


@given(st.floats(-50.0, 500.0), st.floats(1.0, 1e6), st.sampled_from([1e-6, 0.01]))
def test_the_surcharge_is_the_root_of_the_evidence_between_one_and_its_maximum(log_evidence, maximum, alpha):
    terms = SuspicionTerms(alpha=alpha, maximum=maximum)
    kinds = [FittedKind(ALL_TRAFFIC, ALL_TRAFFIC, np.full(CELLS.count, 100))]
    surcharge = float(Suspicion(CELLS, kinds, (), terms).surcharge_at(log_evidence))
    excess = 0.5 * (log_evidence + math.log(alpha))
    assert math.log(surcharge) == pytest.approx(min(max(excess, 0.0), math.log(maximum)), abs=1e-9)


def test_an_account_over_other_cells_is_refused(suspicion):
    with pytest.raises(CalibrationError, match="another tariff"):
        suspicion.verdict(account_of(new_state(CELLS.count - 1)))


@pytest.mark.parametrize(
    "terms",
    [
        {"alpha": 0.0}, {"alpha": math.nan}, {"rho": -0.1}, {"rho0": -0.1}, {"maximum": 0.5}, {"rare_below": 1.5},
        {"group_maximum": 10.1}, {"group_rare_below": 0.11},
    ],
    ids=str,
)  # fmt: skip
def test_terms_out_of_range_are_refused_by_name(terms):
    with pytest.raises(CalibrationError, match=f"'suspicion.{next(iter(terms))}'"):
        SuspicionTerms(**terms)


def test_blocks_have_the_lengths_of_the_ledger(suspicion):
    assert suspicion._running_terms.restart_rows == RESTART_ROWS
