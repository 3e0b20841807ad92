"""The whole demo on little data: real servers in their own processes, real puzzles, and no process left at the end."""

import json
import signal
import socket
import subprocess
import sys
import time

import pytest

from modeltoll.demo.data import DataSizes
from modeltoll.demo.processes import free_port, serving
from modeltoll.demo.report import HEADINGS, table, write_report
from modeltoll.demo.run import Options, run
from modeltoll.errors import ModeltollError

SIZES = DataSizes(
    honest=40, specialist=15, shifted=15, pictures=20, plain=15, noise=10, diluted=5, covered=4, bank=8, banked=6,
    accounts=4, strangers=50, of_kind=60,
)  # fmt: skip


@pytest.fixture(scope="module")
def outcome(tmp_path_factory, stage):
    options = Options(trees=20, sizes=SIZES, budget=0.2)
    return run(options, tmp_path_factory.mktemp("demo"), stage, "a test")


def test_every_opened_answer_is_the_model_servers_byte_for_byte(outcome):
    assert outcome.changed == 0
    assert outcome.compared >= SIZES.honest


def test_the_honest_caller_solves_everything_and_thieves_are_asked_for_many_times_more_work(outcome):
    honest = list(outcome.honest.values())
    assert [caller.solved for caller in honest] == [SIZES.honest, SIZES.specialist, SIZES.shifted]
    assert not any(caller.suspected.any() for caller in honest)
    dearest = max(caller.work.mean() for caller in honest)
    traffic = [line.summary for line in outcome.thieves]
    assert sum(summary.solved for summary in traffic) < sum(len(summary.traffic.requests) for summary in traffic)
    for line in outcome.thieves:
        wanted = int(line.summary.traffic.wanted.sum())
        assert line.summary.work.sum() / wanted > 5 * dearest, line.name


def test_the_report_has_three_files_with_the_documented_members(outcome, tmp_path):
    write_report(outcome, tmp_path)
    result = json.loads((tmp_path / "result.json").read_text())
    assert set(result) >= {
        "victim", "undefended_ms_per_row", "unit_ms", "honest", "thieves", "answers_compared", "answers_changed", "seconds"
    }  # fmt: skip
    assert result["honest_callers"][0] == result["honest"]
    assert len(result["honest_callers"]) == 3
    for caller in result["honest_callers"]:
        assert set(caller) == {"name", "queries", "mean_ratio", "p50_ms", "p99_ms", "suspected"}
    assert len(result["thieves"]) == len(outcome.thieves) == 8
    for thief in result["thieves"]:
        assert set(thief) >= {"name", "accounts", "queries", "solved", "ratio", "paid_seconds", "accuracy", "fidelity"}
        assert "suspected_from" in thief
    assert (tmp_path / "ratios.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "report.html").read_text()
    rows = table(outcome)
    assert all(len(row) == len(HEADINGS) for row in rows)
    assert all(cell in page for row in rows[1:4] for cell in row)


def test_a_server_that_does_not_start_says_why(tmp_path):
    command = ["modeltoll.demo.model_server", str(tmp_path / "missing.joblib"), "1"]
    with (
        pytest.raises(ModeltollError, match="did not start"),
        serving(command, "http://127.0.0.1:1/", tmp_path / "log"),
    ):
        pass


def test_a_server_does_not_outlive_a_killed_demo(children, gone):
    """Also after SIGKILL, when the demo cannot stop the server."""
    waiting = [
        sys.executable,
        "-c",
        "import subprocess, sys; subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE).wait()",
    ]
    server = [sys.executable, "-m", "modeltoll.demo.parent_watchdog", "http.server", "0", "--bind", "127.0.0.1"]
    demo = subprocess.Popen([*waiting, *server], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (left := children(demo.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left
    demo.kill()
    demo.wait(10)
    assert gone(left)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process_and_no_traceback(tmp_path, signal_number, children, gone, interrupted):
    command = [sys.executable, "-m", "modeltoll", "demo", "--short", "--out", str(tmp_path)]
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while not (left := children(demo.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left, "the demo started no server"
    demo.send_signal(signal_number)
    _, output = demo.communicate(timeout=30)
    assert demo.returncode in interrupted
    assert "Traceback" not in output
    assert gone(left), "a server outlived the demo"


def test_a_free_port_is_one_that_no_outgoing_connection_takes():
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        assert 20_000 <= port < 32_768


def test_no_free_port_is_an_error(monkeypatch):
    def taken(*_, **__):
        raise OSError("in use")

    monkeypatch.setattr(socket, "create_server", taken)
    with pytest.raises(ModeltollError, match="no free port"):
        free_port()
