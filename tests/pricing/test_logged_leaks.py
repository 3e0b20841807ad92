"""The ledger's log gives the leaks of one model, with callers, times, classes, and the measures fitted without kinds."""

from __future__ import annotations

import pytest

from modeltoll.errors import CalibrationError
from modeltoll.pricing.logged_leaks import UNKNOWN_CLASS, leaks_of_log
from modeltoll.records import LogEntry, Work

NAMES = ("entropy", "novelty")


def line(caller, rows, model="digits", mode="shadow", surcharge=1.0, measures=NAMES, classes=(), at=1.0):
    leaks = tuple(
        tuple(float(row) if place == 0 else float(place) for place in range(len(measures))) for row in range(rows)
    )
    work = Work(1.0, rows, 1.0, 0.0, surcharge)
    return 0, caller, LogEntry(at, model, rows, measures, leaks, (0.5,) * rows, work, mode, classes)


def test_the_log_gives_the_rows_of_one_model_in_one_mode():
    lines = [line("a", 2), line("b", 3), line("c", 4, model="letters"), line("d", 5, mode="sealed")]
    logged = leaks_of_log([*lines, line("e", 2), line("f", 2)], "digits", NAMES, ("shadow",))
    assert len(logged.leaks.values) == 9
    assert logged.leaks.values[:, 0].tolist() == [0, 1, 0, 1, 2, 0, 1, 0, 1]


def test_a_caller_who_dominates_the_tariff_and_suspects_are_reported():
    logged = leaks_of_log([line("a", 8), line("b", 2, surcharge=5.0)], "digits", NAMES, ("shadow",))
    assert any("caller a sent 8 of the 10 rows" in warning for warning in logged.warnings)
    assert any("2 of the 10 rows came from callers under suspicion" in warning for warning in logged.warnings)
    assert leaks_of_log([line(str(place), 1) for place in range(9)], "digits", NAMES, ("shadow",)).warnings == ()


@pytest.mark.parametrize("lines", [[], [line("a", 2, mode="sealed")], [line("a", 2, measures=("gap",))]])
def test_a_log_without_such_rows_is_refused(lines):
    with pytest.raises(CalibrationError, match="holds no rows of 'digits' in shadow mode"):
        leaks_of_log(lines, "digits", NAMES, ("shadow",))


def test_each_row_has_its_caller_its_time_and_its_class():
    lines = [line("a", 2, classes=(3, 4), at=1.0), line("b", 1, at=2.0), line("a", 1, classes=(5,), at=3.0)]
    logged = leaks_of_log(lines, "digits", NAMES, ("shadow",))
    assert logged.callers == ("a", "a", "b", "a")
    assert logged.at.tolist() == [1.0, 1.0, 2.0, 3.0]
    assert logged.leaks.classes.tolist() == [3, 4, UNKNOWN_CLASS, 5]
    assert leaks_of_log([line("a", 2)], "digits", NAMES, ("shadow",)).leaks.classes is None


def test_a_callers_rows_count_as_unsuspected_until_its_first_suspicion_and_others_rows_are_not_touched():
    lines = [line("a", 2), line("b", 1), line("a", 1, surcharge=3.0), line("a", 1), line("b", 1)]
    unsuspected = leaks_of_log(lines, "digits", NAMES, ("shadow",)).unsuspected
    assert unsuspected.tolist() == [True, True, True, False, False, True]


def test_measures_fitted_without_kinds_are_taken_where_every_line_has_them():
    both = (*NAMES, "novelty:clean")
    logged = leaks_of_log([line("a", 2, measures=both), line("b", 1, measures=both)], "digits", NAMES, ("shadow",))
    assert logged.leaks.measures == both
    assert logged.leaks.values[0].tolist() == [0.0, 1.0, 2.0]
    mixed = leaks_of_log([line("a", 2, measures=both), line("b", 1)], "digits", NAMES, ("shadow",))
    assert mixed.leaks.measures == NAMES
    with pytest.raises(CalibrationError, match="holds no rows"):
        leaks_of_log([line("a", 2, measures=(*NAMES, "gap"))], "digits", NAMES, ("shadow",))
