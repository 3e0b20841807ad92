"""The command line: standard output, standard error, exit codes and help."""

from __future__ import annotations

import functools
import io
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import typer
from rich.console import Console
from rich.progress import Progress
from typer.testing import CliRunner

from modeltoll import __version__, wire
from modeltoll.cli import app, proxy
from modeltoll.cli import call as call_command
from modeltoll.cli.terminal import Stages
from modeltoll.client.purse import Payment
from modeltoll.pricing.calibration import NEW_ACCOUNT_QUERIES
from modeltoll.puzzle import benchmark, seal
from modeltoll.puzzle.counter import Sha256Counter
from modeltoll.puzzle.machine_profile import DEFAULT_PROFILE
from modeltoll.puzzle.puzzle import expected_seconds
from modeltoll.records import Answer, MachineProfile, Work
from modeltoll.toll_records import Challenge, Part, Toll

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = sorted(typer.main.get_command(app).commands)
UNIT = MachineProfile("unit", "work is counted in evaluations", 1.0, {256: 1.0})
BODY = bytes(range(256)) + b"\r\n\n"
SEED, NEVER = b"s" * 16, b"\0" * 16
EXPENSIVE = Challenge("sha256", (Part(SEED, 10**9, NEVER),))
ENOUGH = f"--max-seconds {math.ceil(expected_seconds(EXPENSIVE, DEFAULT_PROFILE))}"


class Handler(BaseHTTPRequestHandler):
    """Answers a POST with the server's response for its path, and records the request."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.requests_seen.append(
            (dict(self.headers), body)
        )  # before the answer, so that a client that has it finds the record
        status, kind, answer = self.server.answers[self.path]
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        self.server.request_received.set()

    def log_message(self, *_):
        """Log nothing."""


def sealed_toll(answer, receipt=b""):
    """The body of a cheap toll in sealed mode, with a receipt if one is given."""
    rng = random.Random(0)
    challenge, solution = Sha256Counter(UNIT).make(Work(10.0, 1, 10.0), rng)
    payload = seal.seal_answer(answer, solution, wire.canonical_challenge(challenge, wire.SEALED), rng, receipt=receipt)
    return wire.encode_toll(Toll(wire.SEALED, challenge, payload, 3, 0.1, settles=bool(receipt)), "toll", "/toll")


def unsolvable_toll(challenge):
    """A response with a toll that must not be paid."""
    return 402, "application/json", wire.encode_toll(Toll(wire.SEALED, challenge, b"", 1, 1.0), "toll", "/toll")


ANSWERS = {
    "/toll": (402, "application/json", sealed_toll(Answer(200, "application/octet-stream", BODY))),
    "/sealed-fault": (402, "application/json", sealed_toll(Answer(500, "text/plain", b"broken"))),
    "/settling": (402, "application/json", sealed_toll(Answer(200, "application/octet-stream", BODY), b"receipt")),
    wire.SETTLE_PATH: (204, "text/plain", b""),
    "/plain": (200, "text/plain", b"plain"),
    "/fault": (503, "text/plain", b"no [model] today"),
    "/money": (402, "text/html", b"five dollars"),
    "/moved": (307, "text/plain", b"elsewhere"),
    "/expensive": unsolvable_toll(EXPENSIVE),
    "/large": unsolvable_toll(Challenge("argon2id", (Part(SEED, 1, NEVER),), 128 * 1024, 1, 1)),
    "/malformed": (402, "application/json", b'{"toll": {"v": 9}}'),
    "/endless": unsolvable_toll(Challenge("sha256", (Part(SEED, 2**50, NEVER),))),
}


@pytest.fixture(scope="module")
def running():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.answers, server.requests_seen, server.request_received = ANSWERS, [], threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.fixture
def server(running):
    running.requests_seen.clear()
    running.request_received.clear()
    running.url = f"http://127.0.0.1:{running.server_port}"
    return running


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    monkeypatch.delenv("MODELTOLL_KEY", raising=False)


def call(*arguments, stdin=b"{}", env=None):
    return CliRunner().invoke(app, ["call", *map(str, arguments)], input=stdin, env=env)


def test_standard_output_is_the_answer(server):
    result = call(server.url + "/toll", stdin=b'{"inputs": []}')
    assert (result.exit_code, result.stdout_bytes) == (0, BODY)
    assert "of sha256 for 3 rows" in result.stderr
    assert len(result.stderr.splitlines()) == 1  # no time that would be the server's
    headers, body = server.requests_seen[0]
    assert (body, headers["content-type"]) == (b'{"inputs": []}', "application/json")
    assert "authorization" not in headers


def test_explain_prints_the_toll_before_and_after_payment(server):
    """On standard error; standard output is the answer only."""
    with module("call", server.url + "/toll", "--explain") as process:
        out, err = process.communicate(b"{}", timeout=60)
    request_received, *_, took = err.decode().splitlines()
    assert (process.returncode, out) == (0, BODY)
    assert request_received.startswith("toll: sha256 in 1 part, mode sealed, for 3 rows; ")
    assert "s of work expected on one core (the server says 0.1 s)" in request_received
    assert took.startswith("paid ")
    assert took.endswith(" s were expected")


def test_what_was_paid_for_admission_is_told_from_what_was_paid_for_the_answer():
    admission, answer = (Payment(0.5, 0.25, 1, "sha256", "redeem", admission) for admission in (True, False))
    assert call_command._payment_line(admission, explain=False) == "paid 0.250 s of sha256 for admission with 1 row"
    assert call_command._payment_line(answer, explain=False) == "paid 0.250 s of sha256 for 1 row"


def test_explain_prints_a_refused_toll(server):
    result = call(server.url + "/large", "--explain")
    assert (result.exit_code, result.stdout_bytes) == (1, b"")
    assert "toll: argon2id of 131072 KiB in 1 part, mode sealed, for 1 row; " in result.stderr


def test_explain_prints_that_there_was_no_toll(server):
    assert "no toll was asked" in call(server.url + "/plain", "--explain").stderr


def test_a_body_can_come_from_a_file(server, tmp_path):
    file = tmp_path / "request.json"
    file.write_bytes(b'{"from": "file"}')
    assert call(server.url + "/plain", "--data", file, stdin=b"not this").stdout_bytes == b"plain"
    assert server.requests_seen[0][1] == b'{"from": "file"}'


def test_without_a_toll_nothing_is_paid_and_nothing_is_said_of_work(server):
    result = call(server.url + "/plain")
    assert (result.exit_code, result.stdout_bytes, result.stderr) == (0, b"plain", "")


def test_on_a_terminal_the_answer_ends_with_a_new_line(server):
    """The prompt, and what the command says itself, begin a line; a pipe gets the answer as it came."""
    terminal, its_end = os.openpty()
    with module("call", server.url + "/plain", stdout=its_end) as process:
        process.communicate(b"{}", timeout=60)
    os.close(its_end)
    assert os.read(terminal, 100) == b"plain\r\n"
    os.close(terminal)


def test_a_port_that_is_taken_is_an_error_that_says_by_what(server):
    address = server.url.removeprefix("http://")
    result = CliRunner().invoke(app, ["proxy", "--upstream", "http://127.0.0.1:1", "--listen", address])
    assert result.exit_code == 2
    assert f"cannot listen on {address}: process {os.getpid()} (" in result.stderr


def test_the_proxys_default_port_is_that_of_no_known_model_server():
    known = {
        3000,
        4000,
        5000,
        7860,
        8000,
        8001,
        8002,
        8080,
        8081,
        8085,
        8500,
        8501,
        8888,
        9000,
        9001,
        9090,
        11434,
        30000,
    }
    assert int(proxy._PROXY_ADDRESS.rpartition(":")[2]) not in known


def test_the_key_comes_from_the_option_or_the_environment(server):
    call(server.url + "/plain", "--key", "one")
    call(server.url + "/plain", env={"MODELTOLL_KEY": "two"})
    assert [headers["authorization"] for headers, _ in server.requests_seen] == ["Bearer one", "Bearer two"]


@pytest.mark.parametrize("key", ["secret\nword", "secrét"])
def test_a_key_that_cannot_be_sent_is_not_shown(server, key):
    result = call(server.url + "/plain", "--key", key)
    assert result.exit_code == 2
    assert "--key" in result.stderr
    assert "secr" not in result.output
    assert server.requests_seen == []


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/fault", b"no [model] today", "the server answered 503"),
        ("/sealed-fault", b"broken", "the server answered 500"),
        ("/money", b"five dollars", "the server answered 402"),
        ("/moved", b"elsewhere", "the server answered 307"),
        ("/expensive", b"", f"(max_seconds); to pay it, set {ENOUGH}"),
        ("/large", b"", "(memory_kib); to pay it, set --memory-mib"),
        ("/malformed", b"", "the toll is not of version 2"),
    ],
)
def test_failures_exit_with_1_and_a_reason(server, path, body, message):
    result = call(server.url + path, "--memory-mib", "64")
    assert (result.exit_code, result.stdout_bytes) == (1, body)
    assert "failed: " in result.stderr
    assert message in result.stderr


def test_the_option_that_a_refusal_names_helps(server):
    """No counter solves this toll, which shows only after the limit is raised."""
    assert "no counter below" in call(server.url + "/large", "--memory-mib", "128").stderr


@pytest.mark.parametrize(
    "url",
    [
        "",
        "word",
        "http://",
        "ftp://host/",
        "http://[::1",
        "http://a..b/",
        "http://xn--/",
        "http://h\x00st/",
        "http://127.0.0.1:1/",
        "http://127.0.0.1:1/[/red]",
    ],
)
def test_an_unreachable_address_exits_with_1_and_one_line(url):
    result = call(url)
    assert (result.exit_code, result.stdout_bytes) == (1, b"")
    assert f"failed: {url}: " in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_an_unreadable_file_exits_with_2(server, tmp_path, name):
    result = call(server.url + "/plain", "--data", tmp_path / name)
    assert (result.exit_code, server.requests_seen) == (2, [])
    assert "--data" in result.stderr
    assert "cannot be read" in result.stderr


@pytest.mark.parametrize(
    "wrong", [["--max-seconds", "nan"], ["--max-seconds", "-1"], ["--cores", "0"], ["--memory-mib", "0"], ["--no-such"]]
)
def test_a_wrong_option_exits_with_2(server, wrong):
    result = call(server.url + "/plain", *wrong)
    assert (result.exit_code, server.requests_seen, result.stdout) == (2, [], "")
    assert wrong[0] in result.stderr


def test_an_unknown_command_exits_with_2():
    result = CliRunner().invoke(app, ["collect"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "collect" in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_shows_an_example(command):
    result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert f"Example: modeltoll {command} " in result.stdout


def test_invalid_settings_exit_with_2(tmp_path):
    for command in (["serve"], ["calibrate", "--inputs", "x.npy"]):
        result = CliRunner().invoke(app, [*command, str(tmp_path / "missing[/].yaml")])
        assert (result.exit_code, result.stdout) == (2, "")
        assert "missing[/].yaml: cannot be read" in result.stderr


def test_version_prints_the_packages_version():
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"{__version__}\n")


def test_bench_puzzle_prints_its_json_and_nothing_else(monkeypatch):
    small = functools.partial(benchmark.measure_puzzles, ladder=(256, 512))
    monkeypatch.setattr(benchmark, "measure_puzzles", small)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    result = CliRunner().invoke(app, ["bench-puzzle", "--seconds", "0.01", "--json", "-"])
    assert result.exit_code == 0
    rows = json.loads(result.stdout)
    assert {row["puzzle"] for row in rows} == {"argon2id", "sha256", "hashcash", "hashcash-sha1", "timelock"}
    assert all(row["evaluations_per_second"] > 0 for row in rows)


def module(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "modeltoll", *arguments],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **{"stdout": subprocess.PIPE} | options,
    )


def test_the_package_runs_as_a_module(server):
    with module("call", server.url + "/toll") as process:
        out, err = process.communicate(b"{}", timeout=60)
    assert (process.returncode, out) == (0, BODY)
    assert b"paid" in err


@pytest.mark.parametrize("cores", ["1", "2"])
def test_an_interrupt_exits_with_130_without_traceback(server, cores, interrupted):
    with module("call", server.url + "/endless", "--max-seconds", "inf", "--cores", cores) as process:
        process.stdin.write(b"{}")
        process.stdin.close()
        assert server.request_received.wait(60)
        process.send_signal(signal.SIGINT)
        out, err = process.stdout.read(), process.stderr.read()
        assert process.wait(60) in interrupted
    assert (out, err) == (b"", b"interrupted\n")


DRAW = random.Random(0)
MOMENTS = [round(DRAW.uniform(0.0, 0.6), 3) for _ in range(6)]  # seconds
ANNOUNCED = (
    "import modeltoll.cli.interrupts as i; i.exit_at_once(); print(flush=True); from modeltoll.cli import main; main()"
)


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_interrupt_while_modules_are_imported_exits_with_130_too(moment):
    """At any moment from the first line of the package on: of imports, of reading the options, and of a command."""
    arguments = [sys.executable, "-c", ANNOUNCED, "bench-puzzle", "--seconds", "1000"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(moment)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.endswith(b"interrupted\n")
    assert b"Traceback" not in err


SWALLOWED = """
import time
from modeltoll.cli import interrupts
interrupts.exit_at_once()
with interrupts.Running():
    try:
        print(flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("swallowed", flush=True)
    try:
        time.sleep(60)
    finally:
        time.sleep(2.5 * interrupts._AGAIN)
        print("cleared up", flush=True)
"""


def test_an_interrupt_that_a_library_swallows_is_raised_again_but_not_while_a_command_clears_up():
    with subprocess.Popen([sys.executable, "-c", SWALLOWED], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert out == b"swallowed\ncleared up\n"
    assert process.returncode != 0


def test_a_closed_pipe_is_no_traceback(server):
    with module("call", server.url + "/toll") as process:
        process.stdout.close()
        process.stdin.write(b"{}")
        process.stdin.close()
        err = process.stderr.read()
    assert process.returncode == 1
    assert b"Traceback" not in err


def test_the_sidecar_pays_until_it_is_terminated(server):
    with module("proxy", "--upstream", server.url, "--listen", "127.0.0.1:0") as process:
        message = process.stderr.readline().decode()
        url = re.search(r"proxy on (http://[0-9.:]+) for", message)[1]
        request = urllib.request.Request(url + "/toll", b"{}", {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as response:
            assert (response.status, response.read()) == (200, BODY)
        with urllib.request.urlopen(url + "/metrics", timeout=30) as response:
            assert b"modeltoll_proxy_rows_total 3.0" in response.read()
        process.send_signal(signal.SIGTERM)
        assert (process.wait(60), process.stderr.read(), process.stdout.read()) == (0, b"", b"")


def test_a_call_settles_before_it_ends(server):
    result = call(server.url + "/settling", env={"MODELTOLL_KEY": "k"})
    assert (result.exit_code, result.stdout_bytes) == (0, BODY)
    headers, body = server.requests_seen[-1]
    assert (headers["Authorization"], wire.decode_settlement(body)) == ("Bearer k", (b"receipt",))
    assert len(server.requests_seen) == 2


def test_the_sidecar_serves_the_names_it_was_told_and_settles_when_it_is_terminated(server):
    options = ["--listen", "127.0.0.1:0", "--host-name", "proxy.internal", "--allow-origin", "https://app.example"]
    with module("proxy", "--upstream", server.url, *options) as process:
        url = re.search(r"proxy on (http://[0-9.:]+) for", process.stderr.readline().decode())[1]

        def status(path, **headers):
            try:
                with urllib.request.urlopen(urllib.request.Request(url + path, b"{}", headers), timeout=30) as response:
                    return response.status
            except urllib.error.HTTPError as error:
                return error.code

        assert status("/plain", host="evil.example") == 403
        assert status("/plain", origin="https://evil.example") == 403
        assert server.requests_seen == []
        assert status("/plain", host="proxy.internal:8081", origin="https://app.example") == 200
        assert status("/settling", authorization="Bearer k") == 200
        process.send_signal(signal.SIGTERM)
        assert (process.wait(60), process.stderr.read(), process.stdout.read()) == (0, b"", b"")
    headers, body = server.requests_seen[-1]
    assert (headers["Authorization"], wire.decode_settlement(body)) == ("Bearer k", (b"receipt",))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--upstream", "ftp://host"),
        ("--upstream", "http://user:word@host"),
        ("--listen", "nowhere"),
        ("--listen", "127.0.0.1:99999"),
        ("--listen", "127.0.0.1:²"),
        ("--listen", "192.0.2.1:0"),
        ("--max-seconds", "nan"),
        ("--host-name", "http://proxy"),
        ("--allow-origin", "app.example.org"),
    ],
)
def test_an_invalid_sidecar_option_is_an_error_that_names_it(option, value):
    arguments = {"--upstream": "http://127.0.0.1:1", "--listen": "127.0.0.1:0"} | {option: value}
    result = CliRunner().invoke(app, ["proxy", *(part for pair in arguments.items() for part in pair)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert option in result.stderr


def _new_account_units(tmp_path, *options):
    """The new-account toll that ``calibrate`` writes, in units; None if it refuses the options."""
    leaks, made = ROOT / "results" / "pricing" / "leaks-mnist.npz", tmp_path / "tariff.json"
    command = ["calibrate", "--leaks", str(leaks), "--out", str(made), "--measures", "entropy", *options]
    result = CliRunner().invoke(app, command)
    return json.loads(made.read_text())["entry"]["anonymous_units"] if result.exit_code == 0 else None


@pytest.mark.parametrize(
    ("options", "units"),
    [
        (("--undefended-ms", "8"), NEW_ACCOUNT_QUERIES),
        (("--undefended-ms", "8", "--overhead", "0.5", "--new-account-toll", "50"), 100.0),
        (("--unit-ms", "8", "--new-account-toll", "50"), 50.0),
        (("--undefended-ms", "8", "--new-account-toll", "0"), 0.0),
        (("--undefended-ms", "8", "--new-account-toll", "-1"), None),
        (("--undefended-ms", "8", "--new-account-toll", "nan"), None),
    ],
)
def test_the_new_account_toll_is_stated_in_queries(tmp_path, options, units):
    assert _new_account_units(tmp_path, *options) == units


def test_a_step_has_a_bar_from_its_first_progress_to_its_end():
    bars = Progress(console=Console(file=io.StringIO()), disable=True)
    steps = Stages(bars, "All", 2)
    say, silent = steps.of("one"), steps.of("another")
    assert [task.description for task in bars.tasks] == ["All"]
    say(3, 10)
    say(4, 10)
    assert [(task.description.strip(), task.completed, task.total) for task in bars.tasks[1:]] == [("one", 4, 10)]
    steps.end("one")
    say(10, 10)  # progress after the end is ignored
    steps.end("another")
    silent(1, 10)
    assert [(task.description, task.completed, task.total) for task in bars.tasks] == [("All", 2, 2)]
