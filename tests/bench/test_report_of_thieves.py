"""The report's sections on what a clone costs its thief."""

from __future__ import annotations

import pytest

from modeltoll.bench.experiment import HONEST
from modeltoll.bench.report.aggregate import Results
from modeltoll.bench.report.thieves import accuracy_by_labels, accuracy_per_euro
from modeltoll.bench.suites import SuiteOptions, plan_experiments
from modeltoll.bench.toll_schemes import CONFORMAL, PUBLISHED

from .test_report_of_kinds import columns, document


def clone(suite, tariff, core, card, **changes):
    """A result of which the toll's work costs so many euros on a core and on a graphics card."""
    bills = [{"machine": "core", "euros": core}, {"machine": "card", "euros": card}]
    plain = {
        "attack": "freematch", "budget": 1000, "accuracy": 0.9, "fidelity": 0.91, "ratio": 9.0, "theft_seconds": 360.0,
        "bills": bills,
    }  # fmt: skip
    return document(suite, tariff, **(plain | changes))


def test_a_euro_buys_less_the_more_the_toll_asks():
    found = [clone("table2", PUBLISHED, 0.038, 0.0), clone("table2", CONFORMAL, 0.798, 0.398)]
    (row,) = columns(accuracy_per_euro(Results(found)))
    assert float(row["euros without a toll"]) == pytest.approx(0.002)  # 360 seconds of a core at 0.02 euros an hour
    assert float(row["under ours"]) == pytest.approx(0.8)
    # 80 points above guessing for 0.002, 0.040, 0.800 and 0.400 euros
    names = ("points per euro: no toll", "published toll", "our toll", "our toll, solved on a GPU")
    assert [float(row[name].replace(",", "")) for name in names] == pytest.approx([40_000.0, 2000.0, 100.0, 200.0])


def test_clones_that_guess_and_honest_callers_buy_nothing_and_have_no_row():
    guessing = [clone("table2", CONFORMAL, 1.0, 1.0, accuracy=accuracy) for accuracy in (0.1, None)]
    honest = clone("table2", CONFORMAL, 1.0, 1.0, attack=HONEST)
    assert accuracy_per_euro(Results([*guessing, honest])) is None


def test_each_number_of_labels_has_its_row_in_ascending_order():
    found = [
        clone("labels", tariff, 1.0, 1.0, budget=budget, accuracy=accuracy, ratio=ratio)
        for budget, accuracy in ((4000, 0.8), (100, 0.3))
        for tariff, ratio in ((PUBLISHED, 2.0), (CONFORMAL, 5.0))
    ]
    first, second = columns(accuracy_by_labels(Results(found)))
    assert (first["labels"], first["accuracy"], first["published toll"], first["our toll"]) == (
        "100",
        "30.0 %",
        "2.00x",
        "5.00x",
    )
    assert second["labels"] == "4,000"
    assert accuracy_by_labels(Results([])) is None


def test_the_suite_of_labels_has_the_papers_numbers_below_the_budget():
    planned = plan_experiments("labels", SuiteOptions(datasets=("mnist",), attacks=("mixmatch",), seeds=1))
    assert [one.queries for one in planned] == [100, 100, 250, 250, 1000, 1000, 4000, 4000, 8000, 8000]
    few = plan_experiments("labels", SuiteOptions(datasets=("mnist",), attacks=("mixmatch",), seeds=1, queries=300))
    assert {one.queries for one in few} == {100, 250}
