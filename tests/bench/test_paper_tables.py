"""The paper's tables cell by cell, its further figures, and results under the PATE cost of before."""

from __future__ import annotations

import pytest

from modeltoll.bench.paper import TABLE_2, TABLE_3, TABLE_5
from modeltoll.bench.report.aggregate import Results
from modeltoll.bench.report.curves import accuracy_against_leak, leak_against_queries
from modeltoll.bench.report.paper_figures import entropyrev, inout, published_time
from modeltoll.bench.report.paper_tables import distance, table2_cells, table3_cells
from modeltoll.bench.report.tables import table2
from modeltoll.bench.toll_schemes import CONFORMAL, DEFAULT_MEASURES, PUBLISHED

from .test_report_of_kinds import columns, document

COURSE = [
    {"queries": count, "seconds_without": count, "seconds_with": 3.0 * count, "leak": {"pate-cost": 0.5 * count, "entropy": 1.0},
     "accuracy": count / 200}
    for count in (50, 100)
]  # fmt: skip


def published(attack="copycat", measure="pate-cost", suite="table2", **changes):
    units = {
        "pate": 5300.0, "gap": 4000.0, "entropy": 4367.0, "pknn": 80.0, "ratio": 289.17, "ratio_undefended": 600.0,
    }  # fmt: skip
    given = {
        "attack": attack, "measure": measure, "queries": 10_000, "budget": 10_000, "accuracy": 0.5, "fidelity": 0.929,
        "scaled": {"epochs": (100, 15)}, "paper": units, "course": COURSE, "leak": {"pate-cost": 1.0},
    }  # fmt: skip
    return document(suite, PUBLISHED, 637.0, **(given | changes))


def cells(section):
    return {row["number"]: row for row in columns(section)}


def test_distances_are_shares_of_the_papers_number():
    assert distance(2.0, 3.0) == pytest.approx(0.5)
    assert distance(2.0, 0.0) == -1.0
    assert distance(None, 3.0) is None
    assert distance(2.0, None) is None


def test_table_2_has_the_paper_and_ours_in_one_unit_and_names_what_differs_where_they_are_far():
    found = cells(table2_cells(Results([published()])))
    cost, ratio, accuracy = (found[name] for name in ("PATE cost of a query", "ratio as the paper counts", "accuracy"))
    assert (cost["paper"], cost["here"], cost["distance"], cost["what differs"]) == ("0.53", "0.53", "+0 %", "")
    assert (ratio["paper"], ratio["here"], ratio["distance"]) == ("289x", "289x", "+0 %")
    alone = found["ratio to the model alone"]
    paper = TABLE_2["mnist", "copycat"].within / (10_000 * TABLE_5["mnist"].inference)
    assert alone["distance"] == f"{round(100 * (600 / paper - 1)):+d} %"
    assert (accuracy["paper"], accuracy["here"]) == ("92.7 %", "50.0 %")
    assert "epochs 15 in place of 100" in accuracy["what differs"]
    assert "epochs" not in alone["what differs"]


def test_table_2_names_smaller_teachers_and_other_numbers_of_queries():
    one = published("jacobian", dataset="cifar10", queries=4_000, paper={"pate": 4_000.0, "ratio": 9.0})
    row = cells(table2_cells(Results([one])))["PATE cost of a query"]
    assert row["what differs"] == "9,000 queries in the paper, 4,000 here; teachers smaller than ResNet-18"


def test_table_3_has_its_own_costs():
    found = cells(table3_cells(Results([published(measure="pknn-eps", suite="table3")])))
    paper = TABLE_3["mnist", "copycat"]
    assert found["pkNN cost of all queries"]["distance"] == "+60 %"
    assert found["gap of a query"]["distance"] == f"{round(100 * (4000 / paper.gap - 1)):+d} %"
    assert found["entropy of a query"]["here"] == "0.437"
    assert table2_cells(Results([published(measure="pknn-eps", suite="table3")])) is None


def test_results_without_the_papers_units_have_no_cells():
    old = published(measure="pate-eps")
    del old["paper"]
    assert table2_cells(Results([old])) is None
    assert table2_cells(Results([published(paper={})])) is None


def test_figures_of_single_attacks_need_the_attack_they_are_about():
    attacks = [published(attack) for attack in ("standard", "copycat", "inout", "jacobian")]
    shown = inout(Results(attacks))
    assert {row["attack"] for row in columns(shown)} == {"standard", "copycat", "inout"}
    assert [curve.label for curve in shown.chart.panels[0].curves] == ["standard", "copycat", "inout"]
    assert columns(shown)[0]["leak of a query"] == "0.5"
    assert entropyrev(Results(attacks)) is None
    assert inout(Results(attacks[:2])) is None
    time = published_time(Results(attacks))
    assert time.chart.panels[0].curves[0].points == ((150.0, 25.0), (300.0, 50.0))
    assert time.chart.panels[0].curves[1].dashed


def test_the_cost_of_queries_under_our_toll_is_that_of_the_same_queries_under_the_published_one():
    """A result has the leak of votes only where its toll prices them."""
    ours = {"tariff": CONFORMAL, "measure": DEFAULT_MEASURES, "agreement": None, "leak": {"entropy": 4.0}}
    course = [point | {"leak": {"entropy": 8.0}} for point in COURSE]
    alone, other = (published(attack) | ours | {"course": course} for attack in ("jacobian", "copycat"))
    results = Results([published(), other, alone])
    assert {row["attack"]: row["cost"] for row in columns(table2(results))} == {"jacobian": "4 entropy", "copycat": "1"}
    for section in (leak_against_queries, accuracy_against_leak):
        curves = {curve.label: curve.points for curve in section(results).chart.panels[0].curves}
        assert 50.0 in {number for point in curves["copycat"] for number in point}
        assert 8.0 in {number for point in curves["jacobian"] for number in point}


def test_a_result_on_the_pate_cost_of_before_is_shown_only_until_there_is_the_present_one():
    old, other = published(measure="pate-eps"), published("standard", measure="pate-eps")
    assert len(Results([old, other]).documents) == 2
    kept = Results([old, other, published()]).documents
    assert [(one["attack"], one["measure"]) for one in kept] == [("standard", "pate-eps"), ("copycat", "pate-cost")]
