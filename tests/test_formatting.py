"""Numbers for people: rounded as is said, in fitting units, and a dash where there is none."""

from __future__ import annotations

import math

import pytest

from modeltoll.formatting import (
    MISSING,
    abbreviated,
    clock,
    count,
    decimal,
    grouped_count,
    moment,
    number,
    percent,
    seconds,
    short_percent,
    times,
)
from modeltoll.gateway.admin.dashboard.charts import value

NOW = 1_750_000_000.0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, ["1.83x", "9.99x", "57.3x", "423x", "1,024x", MISSING]),
        ({"decimals": 3, "whole_from": math.inf}, ["1.834x", "9.990x", "57.3x", "423.4x", "1,024.4x", MISSING]),
        ({"decimals": 3, "whole_from": 1000.0}, ["1.834x", "9.990x", "57.3x", "423.4x", "1,024x", MISSING]),
        ({"whole_from": 10.0, "missing": "none"}, ["1.83x", "9.99x", "57x", "423x", "1,024x", "none"]),
    ],
)
def test_a_ratio_has_fewer_places_the_larger_it_is(options, said):
    assert [times(ratio, **options) for ratio in (1.834, 9.99, 57.31, 423.4, 1024.4, None)] == said


def test_shares_are_said_in_per_cent():
    assert [percent(share) for share in (0.9876, 1.0, None)] == ["98.8 %", "100.0 %", MISSING]
    assert [short_percent(share) for share in (0.5, 0.999, 1 / 1601, None)] == ["50%", "99.9%", "0.0625%", MISSING]


def test_a_number_has_three_digits_and_no_power_of_ten_where_it_is_large():
    said = {0.012345: "0.0123", 57.31: "57.3", 123.4: "123", 999.7: "1,000", 12_345.6: "12,346", -1500.0: "-1,500"}
    assert {one: number(one) for one in said} == said
    assert number(None) == MISSING


def test_significant_digits_are_kept_or_shortened():
    said = {0.0: "0", 0.123456: "0.123", 0.5: "0.500", 12345.6: "12,346", 1e-9: "1.00e-09", 1e9: "1.00e+09"}
    assert {one: decimal(one) for one in said} == said
    assert [decimal(one) for one in (None, math.nan, math.inf)] == [MISSING] * 3
    assert [abbreviated(one) for one in (0.5, 1234.0, None)] == ["0.5", "1.23e+03", MISSING]


def test_counts_are_grouped():
    assert [count(one) for one in (1234567, 0.4, None)] == ["1,234,567", "0", MISSING]
    assert [grouped_count(one, "row") for one in (0, 1, 2000)] == ["0 rows", "1 row", "2,000 rows"]


@pytest.mark.parametrize(
    ("span", "said"),
    [
        (0.0, "0 s"),
        (4.2e-5, "42.0 µs"),
        (0.00422, "4.22 ms"),
        (0.35, "350 ms"),
        (1.0, "1.00 s"),
        (119.0, "119 s"),
        (3600.0, "60.0 min"),
        (13_500.0, "3.75 h"),
        (1e6, "11.6 days"),
        (1e15, "1.16e+10 days"),
        (None, MISSING),
        (math.nan, MISSING),
        (math.inf, MISSING),
    ],
)
def test_spans_of_time_are_said_in_their_unit(span, said):
    assert seconds(span) == said


def test_times_are_said_in_utc():
    assert moment(NOW) == "2025-06-15 15:06:40"
    assert clock(NOW) == "15:06"


def test_a_number_of_a_chart_is_said_by_its_kind():
    kinds = {"time": "15:06", "count": "1,750,000,000", "units": "1.75e+09"}
    assert {kind: value(NOW, kind) for kind in kinds} == kinds
    assert [value(0.5, "share"), value(0.5, "seconds"), value(None, "count")] == ["50%", "500 ms", MISSING]
