"""The measures that were fitted without kinds price the rows of suspects, and nobody else pays for them or waits for them."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from modeltoll import wire
from modeltoll.errors import AnswerError
from modeltoll.evidence_records import Verdict
from modeltoll.gateway.core import early_measurement
from modeltoll.gateway.core.credit import Credit, CreditTerms
from modeltoll.gateway.core.request import unknown_account
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.records import Caller, Charge

SURCHARGE = 4.0


class FirstNumber:
    """Leaks the first number of a row. It notes whether it ran in the thread of the event loop."""

    def __init__(self, name, place, clean=None):
        self.name, self.inputs_alone = name, True
        self._place, self.threads = place, []
        if clean is not None:
            self.clean = clean

    def measure(self, evidence):
        self.threads.append(threading.current_thread() is threading.main_thread())
        return np.abs(evidence.inputs[:, self._place])


@pytest.fixture
def clean():
    return FirstNumber("entropy:clean", 1)


@pytest.fixture
def clean_harness(harness, clean):
    """The first number of a row leaks by the measure fitted with kinds, the second by the one fitted without."""
    scores = np.linspace(0.0, 1.0, 320)[None]
    calibration = replace(harness.tariff.calibration, scores=scores, clean_scores=scores, kinds=(), priced_classes=())
    harness.tariff = ConformalTariff(calibration)
    harness.measures = (FirstNumber("entropy", 0, clean),)
    harness.credit = CreditTerms(Credit(1e6, 1.0), Credit(1e6, 1.0))
    return harness


@pytest.fixture
def suspects(monkeypatch):
    """Whoever is called a suspect comes under suspicion, without any cell that speaks against it."""
    usual = ConformalTariff.verdict

    def verdict(self, account, logged_as=""):
        found = usual(self, account, logged_as)
        if account.caller.name != "key:suspect":
            return replace(found, surcharge=1.0)
        return replace(found, surcharge=SURCHARGE, frequent=np.zeros(self.cell_count, np.bool_))

    monkeypatch.setattr(ConformalTariff, "verdict", verdict)
    return Caller("key:suspect")


def test_nobody_but_a_suspect_is_measured_twice(clean_harness, clean, suspects):
    for _ in range(3):
        clean_harness.handle(clean_harness.infer_body([0.2, 0.99]))
    assert clean.threads == []
    clean_harness.handle(clean_harness.infer_body([0.2, 0.99]), suspects)
    assert clean.threads == [False], "beside the event loop"
    assert clean_harness.log()[-1].measures == ("entropy",)


def test_a_suspects_row_costs_the_larger_of_both_prices_and_the_surcharge(clean_harness, suspects):
    """A row that is rare by either of the two measures; one that is common by the clean one costs what it cost."""
    unit, factor = clean_harness.tariff.unit_seconds, clean_harness.tariff.factor_at
    prices = {}
    for row in ((0.2, 0.99), (0.2, 0.2), (0.99, 0.99), (0.2, 0.6)):
        honest = clean_harness.handle(clean_harness.infer_body([*row])).work.seconds
        suspect = clean_harness.handle(clean_harness.infer_body([*row]), suspects).work.seconds
        prices[row] = honest / unit, suspect / unit
    rare = factor(5 / 321)  # four honest rows leak as much
    assert prices[0.2, 0.2][0] == prices[0.2, 0.2][1] < 1.0
    assert prices[0.2, 0.99] == (prices[0.2, 0.2][0], pytest.approx(SURCHARGE * rare))
    assert prices[0.99, 0.99] == (pytest.approx(rare), pytest.approx(SURCHARGE * rare))
    assert prices[0.2, 0.6][1] == pytest.approx(SURCHARGE), "at least one unit"


def test_where_a_tariff_has_no_clean_scores_the_usual_ones_price_a_suspect(clean_harness, suspects):
    """Leaks of the one measure are not ranked among those of the other."""
    calibration = replace(clean_harness.tariff.calibration, clean_scores=None)
    clean_harness.tariff = ConformalTariff(calibration)
    works = [
        clean_harness.handle(clean_harness.infer_body([0.9, second]), suspects).work.seconds for second in (0.1, 50.0)
    ]
    assert works[0] == works[1]


def test_shadow_mode_logs_the_leaks_of_both_for_everybody(clean_harness, clean, suspects, monkeypatch):
    monkeypatch.setattr(early_measurement, "MIN_THREAD_SECONDS", 1e9)
    clean_harness.mode = "shadow"
    gate = clean_harness.gate()
    for caller in (clean_harness.alice, suspects):
        clean_harness.handle(clean_harness.infer_body([[0.2, 0.99], [0.3, 0.4]]), caller, gate=gate)
    for entry in clean_harness.log():
        assert entry.measures == ("entropy", "entropy:clean")
        assert entry.leaks == ((0.2, 0.99), (0.3, 0.4))
        assert entry.classes == (0, 0)
    assert len(clean.threads) == 2, "a suspect is measured no oftener"
    assert clean_harness.account(suspects).leaks == (pytest.approx(0.5),)
    assert clean_harness.log()[1].work.surcharge == SURCHARGE


def test_shadow_mode_measures_both_while_the_model_server_works(clean_harness, clean, monkeypatch):
    monkeypatch.setattr(early_measurement, "MIN_THREAD_SECONDS", -1.0)
    clean_harness.mode = "shadow"
    clean_harness.handle(clean_harness.infer_body([0.2, 0.99]))
    assert clean.threads == [False]


@pytest.mark.parametrize("leaks", [np.array([np.nan]), np.array([np.inf]), np.array([-1.0]), np.zeros(2), [0.5], None])
def test_clean_leaks_that_are_no_numbers_release_nothing(clean_harness, clean, suspects, leaks):
    clean.measure = lambda evidence: leaks
    with pytest.raises(AnswerError):
        clean_harness.handle(clean_harness.infer_body([0.2, 0.9]), suspects)
    assert clean_harness.log() == []


@pytest.mark.parametrize("mode", ["enforce", "shadow"])
def test_the_log_has_the_predicted_classes(harness, mode):
    harness.mode = mode
    scores = [[0.1, 0.2, 0.6, 0.1], [0.7, 0.1, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25]]
    harness.upstream.handler = lambda path, body: harness.answer(scores)
    harness.handle(harness.infer_body([[1, 2], [3, 4], [5, 6]]))
    assert harness.log()[0].classes == (2, 0, 0)


def test_the_updates_of_a_verdict_are_part_of_the_bill(harness):
    """Also the evidence of a block that has ended, in the step after the one in which it ended."""
    harness.credit = CreditTerms(Credit(1e6, 1.0), Credit(1e6, 1.0))
    gate = harness.gate()
    for start in range(4):
        rows = [[start, row] for row in range(40)]
        harness.handle(harness.infer_body(rows), gate=gate, accept=wire.Accept(receipts=True))
        state = harness.account().evidence
        assert state.finished == (None,) * len(state.finished)
        assert state.log_evidence == pytest.approx(harness.tariff.suspicion.log_evidence(state), abs=0.2)
    assert state.numbers[0] == 3
    assert np.isfinite(state.finished_log)


def test_while_the_ledger_is_down_nobody_is_a_suspect(harness):
    """With ``release`` the row price alone is asked, of whomever."""
    charge = Charge("digits", 1, (0.1,), (3,), (bytes(8),), harness.tariff.cell_count, harness.tariff.identity, 5.0)
    verdict = harness.tariff.verdict(unknown_account(Caller("key:a"), charge))
    assert verdict.surcharge == verdict.group_surcharge == 1.0
    assert isinstance(verdict, Verdict)
