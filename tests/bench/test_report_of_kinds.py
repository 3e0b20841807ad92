"""The report's sections on kinds of honest callers: each toll in its column, and the trade-off between callers and thieves."""

from __future__ import annotations

import pytest

from modeltoll.bench.report.aggregate import Results
from modeltoll.bench.report.kinds import before_kinds, honest_kinds, strangers, trade_off
from modeltoll.bench.toll_schemes import CALIBRATED, CONFORMAL, UNKNOWN_STRANGERS, WITHOUT_KINDS

RHO = "conformal-rho-0.1"


def document(suite, tariff, ratio, **changes):
    plain = {
        "suite": suite, "dataset": "mnist", "attack": "copycat", "evasion": "none", "defence": "none", "tariff": tariff,
        "measure": "entropy+novelty", "profile": "full", "seed": 0, "budget": 100, "workload": "", "foreign": "", "version": 2,
        "ratio": ratio, "suspected": 0.0, "first_alarm": None, "queries": 100, "accuracy": None, "victim_accuracy": 0.9,
        "checks": [],
    }  # fmt: skip
    return plain | changes


def honest(suite, tariff, workload, ratio, **changes):
    return document(suite, tariff, ratio, attack="honest", workload=workload, **changes)


def columns(section):
    return [dict(zip(section.table.headings, row, strict=True)) for row in section.table.rows]


def test_each_kind_has_its_price_under_every_toll():
    found = [
        honest("honest", CONFORMAL, "dark", 1.7),
        honest("honest", CALIBRATED, "dark", 1.8),
        honest("honest", WITHOUT_KINDS, "dark", 2890.0, suspected=0.9, first_alarm=12.0),
        honest("honest", CONFORMAL, "pixelated", 2.6),
        honest("honest", CONFORMAL, "no longer known", 2.0),
    ]
    section = honest_kinds(Results(found))
    dark, pixelated = columns(section)
    assert (dark["honest caller"], dark["declared"]) == ("dark", "yes")
    assert (dark["ours"], dark["ours, rho0 raised"], dark["ours, without kinds"]) == ("1.70x", "1.80x", "2,890x")
    assert section.table.rows[0].count("from row 12") == 1
    assert (pixelated["declared"], pixelated["ours, without kinds"]) == ("no", "\N{EN DASH}")
    assert honest_kinds(Results([])) is None


def test_results_of_the_tariff_before_kinds_are_named_and_not_taken_for_those_of_kinds():
    found = [
        honest("honest", CONFORMAL, "dark", 2303.0, version=1),
        honest("honest", CONFORMAL, "dark", 1.7, dataset="fashion"),
        document("table2", CONFORMAL, 5472.0, version=1),
    ]
    (row,) = columns(honest_kinds(Results(found)))
    assert (row["data set"], row["ours"]) == ("fashion", "1.70x")
    named = {(row["suite"], row["data set"]): row["experiments"] for row in columns(before_kinds(Results(found)))}
    assert named == {("honest", "mnist"): "1", ("table2", "mnist"): "1"}
    assert before_kinds(Results(found[1:2])) is None


def test_strangers_are_shown_known_and_unknown():
    found = [
        document(
            "strangers", CONFORMAL, 2000.0, foreign="emnist", evasion="fresh-fillers-2", suspected=1.0, first_alarm=54.0
        ),
        document("strangers", UNKNOWN_STRANGERS, 1500.0, foreign="emnist", evasion="fresh-fillers-2"),
        document("strangers", CONFORMAL, 5400.0),
    ]
    first, second = columns(strangers(Results(found)))
    assert (first["images"], first["evasion"], first["suspected"]) == ("emnist", "fresh-fillers-2", "from row 54")
    assert (first["ours"], first["ours, thief's family unknown"]) == ("2,000x", "1,500x")
    assert second["images"] == "usual"


def test_the_trade_off_has_a_point_for_each_tolerance_at_its_worst_declared_kind():
    found = [
        honest("trade-off", CONFORMAL, "in-distribution", 1.6),
        honest("trade-off", CONFORMAL, "dark", 1.9),
        honest("trade-off", CONFORMAL, "pixelated", 2.7),
        document("trade-off", CONFORMAL, 5000.0),
        document("trade-off", CONFORMAL, 90.0, evasion="fresh-fillers-16"),
        honest("trade-off", RHO, "dark", 1000.0, suspected=1.0, first_alarm=9.0),
        document("trade-off", RHO, 5100.0),
    ]
    section = trade_off(Results(found))
    (panel,) = section.chart.panels
    curves = {curve.label: curve.points for curve in panel.curves}
    assert curves["usual images"] == (pytest.approx((1.9, 5000.0)), pytest.approx((1000.0, 5100.0)))
    assert curves["usual images, fresh-fillers-16"] == (pytest.approx((1.9, 90.0)),)
    rows = columns(section)
    assert {row["worst declared kind"] for row in rows if row["toll"] == "ours"} == {"1.90x dark"}
    assert {row["worst kind"] for row in rows if row["toll"] == "ours"} == {"2.70x pixelated"}
    assert trade_off(Results([])) is None
