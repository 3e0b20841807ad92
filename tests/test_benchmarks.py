"""What the benchmarks of the gate share: their comparisons are those of one repetition, and their fixtures do what they say."""

from __future__ import annotations

import asyncio
import importlib
from pathlib import Path

import pytest
from altcha import v2 as altcha
from starlette.testclient import TestClient

from modeltoll.records import Answer
from modeltoll.testing.model_servers import FakeUpstream

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def benchmark_module(monkeypatch):
    """A module of the benchmarks, by its name."""

    def module(name):
        monkeypatch.syspath_prepend(BENCHMARKS)
        return importlib.import_module(name)

    return module


def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(benchmark_module):
    percentile = benchmark_module("proxy_load").percentile
    values = list(range(200, 0, -1))
    assert [percentile(values, part) for part in (0, 0.1, 50, 99, 99.9, 100)] == [1, 1, 100, 198, 200, 200]
    assert percentile([7.0], 99) == 7.0


def test_ratios_are_of_the_same_repetition(benchmark_module):
    load = benchmark_module("proxy_load")

    def run(p50, cpu, per_second):
        return {"p50": p50, "cpu": cpu, "per_second": per_second}

    results = {
        ("rows", load.BARE, 1): [run(1.0, 0.0, 1), run(2.0, 0.0, 1), run(4.0, 0.0, 1)],
        ("rows", "sqlite", 1): [run(3.0, 0.0, 1), run(4.0, 0.0, 1), run(10.0, 0.0, 1)],
        ("rows", load.BARE, 32): [run(0.0, 0.1, 100), run(0.0, 0.2, 50), run(0.0, 0.2, 80)],
        ("rows", "sqlite", 32): [run(0.0, 0.5, 20), run(0.0, 0.4, 25), run(0.0, 0.6, 20)],
    }
    found = load.compared(results, "rows", "sqlite")
    assert found["p50_ratio"] == [2.5, 2.0, 3.0]
    assert found["own_p50_ms"] == [2000.0, 2000.0, 6000.0]
    assert found["cpu_ratio"] == [3.0, 2.0, 5.0]
    assert found["throughput_ratio"] == [0.25, 0.2, 0.5]


def test_a_load_generator_counts_outcomes(benchmark_module):
    turns = iter(range(10_000))

    async def send():
        await asyncio.sleep(0)
        return "toll" if next(turns) % 2 else "answer"

    found = asyncio.run(benchmark_module("proxy_load").send_repeatedly(send, 3, 0.01))
    assert set(found["outcomes"]) == {"toll", "answer"}
    assert found["p50"] <= found["p99"] <= found["p999"]
    assert found["per_second"] > 0


@pytest.mark.parametrize("kind", ["sha256", "argon2id"])
def test_altcha_lets_a_request_pass_with_a_solved_challenge_alone(benchmark_module, kind):
    fixtures = benchmark_module("neighbour_fixtures")
    upstream = FakeUpstream(lambda *_: Answer(200, "application/json", b"{}"))
    client = TestClient(fixtures.altcha_application(kind)(upstream))
    challenge = altcha.Challenge.from_dict(client.get(fixtures.CHALLENGE_PATH).json())
    solution = altcha.solve_challenge(challenge)
    solved = altcha.Payload(challenge, solution).to_base64()
    wrong = altcha.Payload(challenge, altcha.Solution(solution.counter + 1, "00" * 32)).to_base64()
    statuses = [
        client.post("/v2/models/m/infer", content=b"{}", headers={"altcha": payload}).status_code
        for payload in (solved, wrong, "")
    ]
    assert statuses == [200, 402, 402]


def test_the_stub_of_chats_shows_the_log_probabilities_that_are_asked_for(benchmark_module):
    answer = benchmark_module("neighbour_fixtures").chat_answers()
    plain, asked = (answer("/", body) for body in (b"{}", b'{"logprobs":true,"top_logprobs":3}'))
    assert b'"logprobs":null' in plain.replace(b" ", b"")
    assert asked.count(b'"logprob":') == 10 * (1 + 3)


def test_the_stub_answers_pipelined_requests_each_with_its_body(benchmark_module):
    fixtures = benchmark_module("gateway_fixtures")

    class Transport:
        def __init__(self):
            self.written = b""

        def write(self, data):
            self.written += data

    stub, transport = fixtures.StubModelServer(lambda path, body: path.encode() + b"=" + body + b";"), Transport()
    stub.connection_made(transport)
    sent = b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcPOST /b HTTP/1.1\r\nContent-Length: 2\r\n\r\nde"
    for at in range(0, len(sent), 7):
        stub.data_received(sent[at : at + 7])
    assert transport.written == b"/a=abc;/b=de;"
