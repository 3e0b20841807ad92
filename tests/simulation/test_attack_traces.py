"""The laws of traces: units and other names are read; what is out of order, repeated or missing is refused."""

from __future__ import annotations

import pytest

from modeltoll.errors import CalibrationError
from modeltoll.simulation.attack_traces import fit_standard, read_trace


def write(tmp_path, text):
    path = tmp_path / "trace.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_units_in_brackets_and_other_names_are_read(tmp_path):
    plain = "time,privacy,queries\n1,10,1000\n2,20,2000\n"
    for text in (
        plain,
        plain.replace("time", "Time (sec)"),
        "\ufeff" + plain,
        "time (ms),privacy cost,queries\n1000,10,1000\n2000,20,2000",
    ):
        (trace,) = read_trace(write(tmp_path, text))
        assert trace.mode == "standard"
        assert trace.seconds.tolist() == [1.0, 2.0]
        assert trace.leaks.tolist() == [10.0, 20.0]
        assert trace.queries.tolist() == [1000.0, 2000.0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "time,privacy,queries\n",
        "time (fortnights),privacy,queries\n1,1,1\n",
        "time,privacy\n1,1\n",
        "privacy,queries\n1,1\n",
        "time,queries\n1,1\n",
        "time,privacy,queries\n1,,1\n",
        "time,privacy,queries\n1,nan,1\n",
        "time,privacy,queries\n1,1\n",
    ],
)
def test_a_trace_that_cannot_be_read_is_refused(tmp_path, text):
    with pytest.raises(CalibrationError, match="trace"):
        read_trace(write(tmp_path, text))


def test_a_line_cannot_be_fitted_to_one_point_or_to_several_modes(tmp_path):
    for text in ("time,privacy,queries\n1,1,1\n", "time,mode,privacy,queries\n1,a,1,1\n2,a,2,2\n1,b,1,1\n"):
        with pytest.raises(CalibrationError, match="must have one mode"):
            fit_standard(write(tmp_path, text))
    with pytest.raises(CalibrationError, match="cannot read"):
        fit_standard(tmp_path / "absent.csv")


BATCHES = ["time (s),mode,diff queries,privacy cost", "0.2,a,0,0", *(f"{7 * k},a,16,{250 * k}" for k in range(1, 8))]
COUNTED = ["time,privacy,queries", *(f"{7 * k},{250 * k},{1000 * k}" for k in range(1, 8))]


@pytest.mark.parametrize("lines", [BATCHES, COUNTED])
def test_a_complete_trace_is_read_and_one_without_a_row_is_refused_by_line(tmp_path, lines):
    (trace,) = read_trace(write(tmp_path, "\n".join(lines)))
    assert trace.seconds[-1] == 49.0
    assert trace.queries[-1] == 7000.0
    for gone in range(3, len(lines) - 1):  # a run without its first or its last rows is a run too
        rest = lines[:gone] + lines[gone + 1 :]
        with pytest.raises(CalibrationError, match=rf"line {gone + 1}: a row .* seems to be missing"):
            read_trace(write(tmp_path, "\n".join(rest)))


@pytest.mark.parametrize("lines", [BATCHES, COUNTED])
def test_rows_out_of_order_or_repeated_are_refused_by_line(tmp_path, lines):
    swapped = [*lines[:4], lines[5], lines[4], *lines[6:]]
    repeated = [*lines[:5], lines[4], *lines[5:]]
    backwards = [lines[0], *lines[:0:-1]]
    for wrong in (swapped, repeated, backwards):
        with pytest.raises(CalibrationError, match=r"line \d+: the .* does not grow"):
            read_trace(write(tmp_path, "\n".join(wrong)))


def test_a_leak_that_falls_is_refused(tmp_path):
    with pytest.raises(CalibrationError, match="line 4: the privacy cost of mode 'standard' does not grow"):
        read_trace(write(tmp_path, "time,privacy,queries\n1,5,1\n2,6,2\n3,5,3\n"))


def test_modes_may_be_interleaved(tmp_path):
    text = "time,mode,privacy,queries\n1,a,1,10\n1,b,2,10\n2,a,2,20\n2,b,4,20\n"
    one, two = read_trace(write(tmp_path, text))
    assert (one.mode, one.leaks.tolist()) == ("a", [1.0, 2.0])
    assert (two.mode, two.leaks.tolist()) == ("b", [2.0, 4.0])


def test_a_run_that_took_no_time_is_refused(tmp_path):
    with pytest.raises(CalibrationError, match="has taken no time"):
        read_trace(write(tmp_path, "time,privacy,queries\n0,1,1\n"))
