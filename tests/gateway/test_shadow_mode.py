"""Shadow mode lets everything pass that the model server answers, and says what it could not measure and why."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from starlette.testclient import TestClient

from modeltoll import wire
from modeltoll.errors import LedgerError, ModeltollError, UpstreamTimeout
from modeltoll.gateway.assembly.unmeasured_notice import unmeasured_notices
from modeltoll.gateway.core.gate import Gate
from modeltoll.gateway.core.unmeasured import Unmeasured
from modeltoll.gateway.protocols.oip import OpenInference
from modeltoll.gateway.protocols.openai_embeddings import OpenAIEmbeddings
from modeltoll.gateway.protocols.protocol import ServiceDescription
from modeltoll.gateway.public.app import application
from modeltoll.ledger.from_url import open_ledger
from modeltoll.ledger.memory import MemoryLedger
from modeltoll.records import REASON_CHARACTERS, Answer, Evidence

ODD_ANSWERS = {
    "not summing to 1": lambda harness: harness.answer([[0.5, 0.1, 0.1, 0.1]]),
    "other classes": lambda harness: harness.answer([[0.5, 0.5, 0.0]]),
    "a row more": lambda harness: harness.answer([[0.97, 0.01, 0.01, 0.01]] * 2),
    "NaN": lambda harness: Answer(200, "application/json", b'{"outputs": [{"data": [NaN]}]}'),
    "another output": lambda harness: harness.answer([[0.97, 0.01, 0.01, 0.01]], output="q"),
    "no JSON": lambda harness: Answer(200, "text/csv; charset=utf-8", b"a,b\n1,2\n"),
    "nothing": lambda harness: Answer(200, "application/json", b""),
}


@pytest.fixture
def shadow(harness):
    harness.mode = "shadow"
    return harness


@pytest.mark.parametrize("caller", ["alice", "vip"])
@pytest.mark.parametrize("odd", ODD_ANSWERS.values(), ids=ODD_ANSWERS)
def test_an_answer_that_cannot_be_measured_goes_out_unchanged_and_is_logged(shadow, odd, caller):
    shadow.upstream.handler = lambda path, body: odd(shadow)
    result = shadow.handle(shadow.infer_body([1, 2]), getattr(shadow, caller))
    assert (result.answer, result.toll, result.mode) == (odd(shadow), None, "shadow")
    (entry,) = shadow.log()
    assert entry.reason == result.reason
    assert result.reason.startswith("answer: ")
    assert (entry.rows, entry.measures, entry.leaks, entry.work.seconds) == (1, (), (), 0.0)
    assert shadow.account() is None


ODD_REQUESTS = {
    "no JSON": b'{"inputs": [',
    "a null": b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "INT32", "data": [null, 1]}]}',
    "a category": b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "BYTES", "data": ["red", 1]}]}',
    "an unknown member": b'{"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}], "more": 1}',
    "a member twice": b'{"inputs": [], "inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}]}',
    "nothing": b"",
}


@pytest.mark.parametrize("body", ODD_REQUESTS.values(), ids=ODD_REQUESTS)
def test_a_request_that_cannot_be_read_reaches_the_model_server_as_it_is(shadow, body):
    shadow.upstream.handler = lambda path, body: shadow.answer([[0.25] * 4])
    result = shadow.handle(body)
    assert shadow.upstream.requests == [(shadow.path, body)]
    assert result.answer == shadow.answer([[0.25] * 4])
    assert [entry.reason for entry in shadow.log()] == [result.reason]
    assert result.reason.startswith("request: ")


LEAKS = [np.array([np.nan]), np.array([-1.0]), np.zeros(2), [0.5], None, np.array(["a"])]


@pytest.mark.parametrize("leaks", LEAKS, ids=str)
def test_leaks_that_are_no_numbers_do_not_hold_an_answer_back(shadow, leaks):
    shadow.measures = (SimpleNamespace(name="entropy", measure=lambda evidence: leaks),)
    assert shadow.handle(shadow.infer_body([1, 2])).reason.startswith("answer: ")


@pytest.mark.parametrize("early", [True, False])
def test_a_measure_that_fails_does_not_hold_an_answer_back_and_its_traceback_is_logged_once(shadow, early, caplog):
    def fail(evidence):
        raise ZeroDivisionError

    shadow.measures = (SimpleNamespace(name="entropy", inputs_alone=early, measure=fail),)
    gate = shadow.gate()
    results = [shadow.handle(shadow.infer_body([1, 2]), gate=gate) for _ in range(2)]
    assert [result.reason for result in results] == ["failure: ZeroDivisionError"] * 2
    assert sum(record.exc_info is not None for record in caplog.records) == 1


def test_evidence_of_other_rows_than_the_request_does_not_hold_an_answer_back(shadow, monkeypatch):
    found = Evidence((b"1",), scores=np.full((1, 4), 0.25))
    monkeypatch.setattr(OpenInference, "evidence", lambda self, parsed, answer, service: found)
    assert shadow.handle(shadow.infer_body([[1, 2], [3, 4]])).reason.startswith("answer: ")


def test_what_the_model_server_refuses_or_does_not_answer_is_no_answer(shadow):
    for fault in (UpstreamTimeout("slow"), Answer(400, "application/json", b'{"error": "no"}')):
        shadow.upstream.handler = fault if isinstance(fault, ModeltollError) else lambda path, body, fault=fault: fault
        for body in (shadow.infer_body([1, 2]), b"odd"):
            with pytest.raises(ModeltollError):
                shadow.handle(body)
    assert shadow.log() == []


def test_another_status_of_success_passes_in_shadow_mode_alone(harness):
    harness.upstream.handler = lambda path, body: Answer(202, "application/json", b'{"task": 7}')
    with pytest.raises(ModeltollError):
        harness.handle(harness.infer_body([1, 2]))
    harness.mode = "shadow"
    assert harness.handle(harness.infer_body([1, 2])).reason == "status: 202"
    assert harness.handle(b"odd").answer.status == 202


def test_a_ledger_that_does_not_answer_holds_nothing_back(shadow):
    class Down(MemoryLedger):
        async def charge(self, *args):
            raise LedgerError("down")

        async def bill(self, *args):
            raise LedgerError("down")

        async def settle(self, *args):
            raise LedgerError("down")

    shadow.ledger = Down()
    shadow.upstream.handler = lambda path, body: shadow.answer([[0.25] * 4])
    asyncio.run(shadow.ledger.open())
    for body in (shadow.infer_body([1, 2]), b"odd"):
        result = shadow.handle(body)
        assert (result.answer is not None, result.in_ledger) == (True, False)


def test_a_reason_is_a_short_text_that_every_ledger_can_store(shadow):
    unmeasured = Unmeasured("digits", "shadow", shadow.ledger, shadow.clock)
    long = "request: \0\ud800" + "x" * 1000
    asyncio.run(unmeasured.result(shadow.alice, shadow.answer([[1.0]]), 0, long))
    (entry,) = shadow.log()
    assert entry.reason.startswith("request: ??x")
    assert len(entry.reason) == REASON_CHARACTERS


def test_measured_and_unmeasured_requests_are_counted_by_few_reasons(shadow):
    shadow.upstream.handler = lambda path, body: shadow.answer([[0.25] * 4])
    with TestClient(shadow.application()) as client:
        post = {"url": shadow.path, "headers": {"x-api-key": "alice-key", "content-type": "application/json"}}
        assert client.post(content=shadow.infer_body([1, 2]), **post).status_code == 200
        for body in (b"odd", b"odder"):
            assert client.post(content=body, **post).headers["toll-receipt"] == wire.format_receipt(0, 0.0, "shadow")
    sample = 'modeltoll_unmeasured_requests_total{model="digits",reason="request"}'
    assert shadow.metric(sample) == 2
    assert shadow.metric('modeltoll_requests_total{mode="shadow",model="digits"}') == 3


CONTENT_TYPES = ["text/csv", "application/x-npy", "multipart/form-data; boundary=1", "text/plain", None]


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
def test_other_content_types_pass_in_shadow_mode_alone(harness, content_type):
    headers = {"x-api-key": "alice-key"} | ({"content-type": content_type} if content_type else {})
    harness.upstream.handler = lambda path, body: Answer(200, "text/csv", b"1,2\n")
    with TestClient(harness.application()) as client:
        refused = client.post(harness.path, content=b"a,b\n", headers=headers)
        assert (refused.status_code, harness.upstream.requests) == (415 if content_type else 400, [])
    harness.mode = "shadow"
    with TestClient(harness.application()) as client:
        response = client.post(harness.path, content=b"a,b\n", headers=headers)
    assert (response.status_code, response.content, response.headers["content-type"]) == (200, b"1,2\n", "text/csv")
    assert harness.upstream.content_types == [content_type or "application/octet-stream"]
    assert harness.log()[0].reason.startswith("content-type: ")


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data; boundary=1", None])
@pytest.mark.parametrize("browser", [{"origin": "https://a.test"}, {"sec-fetch-site": "cross-site"}])
def test_what_a_page_of_another_origin_sends_without_asking_stays_refused(shadow, content_type, browser):
    headers = browser | {"x-api-key": "alice-key"} | ({"content-type": content_type} if content_type else {})
    with TestClient(shadow.application()) as client:
        assert client.post(shadow.path, content=b"a", headers=headers).status_code == 415
        own = headers | {"sec-fetch-site": "same-origin"}
        shadow.upstream.handler = lambda path, body: Answer(200, "text/plain", b"b")
        assert client.post(shadow.path, content=b"a", headers=own).status_code == 200


def test_a_version_that_is_not_listed_passes_unmeasured_in_shadow_mode_alone(harness):
    harness.upstream.handler = lambda path, body: harness.answer([[0.25] * 4])
    path, headers = "/v2/models/digits/versions/9/infer", {"x-api-key": "alice-key"}
    with TestClient(harness.application()) as client:
        assert client.post(path, json=json.loads(harness.infer_body([1, 2])), headers=headers).status_code == 404
    harness.mode = "shadow"
    with TestClient(harness.application()) as client:
        assert client.post(path, json=json.loads(harness.infer_body([1, 2])), headers=headers).status_code == 200
        listed = path.replace("9", "1")
        assert client.post(listed, json=json.loads(harness.infer_body([1, 2])), headers=headers).status_code == 200
        assert client.post("/v2/models/other/infer", json={}, headers=headers).status_code == 404
        assert client.post("/v2/repository/models/digits/unload", json={}, headers=headers).status_code == 404
    assert [entry.reason for entry in harness.log()] == ["version: 9", ""]


@pytest.mark.parametrize("version", ["..%25252F..%25252Fother", "1%3Fa", "1%23", "%2525", "1%0A"])
def test_no_version_leads_to_another_model(shadow, version):
    shadow.upstream.handler = lambda path, body: shadow.answer([[0.25] * 4])
    post = {"json": json.loads(shadow.infer_body([1, 2])), "headers": {"x-api-key": "alice-key"}}
    with TestClient(shadow.application()) as client:
        assert client.post(f"/v2/models/digits/versions/{version}/infer", **post).status_code == 404
        assert client.get(f"/v2/models/digits/versions/{version}", headers=post["headers"]).status_code == 404
    assert shadow.upstream.requests == []


# A server in Go reads names of members in any letters, and the last one counts.
OTHERS = (b'{"model": "free", "MODEL": "dear", "input": "a"}', b'{"model": "dear", "model": "free", "input": "a"}')


@pytest.mark.parametrize("other", ["enforce", "shadow"])
@pytest.mark.parametrize("body", OTHERS)
def test_beside_a_model_in_enforce_mode_a_request_must_be_read(shadow, body, other):
    shadow.upstream.handler = lambda path, body: Answer(200, "application/json", b"the other model's answer")
    gates = {}
    for name, mode in (("free", "shadow"), ("dear", other)):
        service = ServiceDescription(name, "", "embeddings")
        gate = shadow.gate()
        model = replace(gate.config.served_model, service=service, protocol=OpenAIEmbeddings())
        gates[name] = Gate(
            replace(gate.config, served_model=model, mode=mode), shadow.upstream, shadow.ledger, shadow.runtime
        )
    components = replace(shadow.components(), gates=gates)
    headers = {"x-api-key": "alice-key", "content-type": "application/json"}
    with TestClient(application(components)) as client:
        response = client.post("/v1/embeddings", content=body, headers=headers)
    assert (response.status_code, len(shadow.upstream.requests)) == ((200, 1) if other == "shadow" else (400, 0))


def test_a_query_that_is_not_allowed_passes_in_shadow_mode_alone(harness):
    post = {"json": json.loads(harness.infer_body([1, 2])), "headers": {"x-api-key": "alice-key"}}
    for mode, status in (("enforce", 400), ("shadow", 200)):
        harness.mode = mode
        with TestClient(harness.application()) as client:
            assert client.post(f"{harness.path}?threshold=9", **post).status_code == status


def test_at_start_one_sentence_says_what_share_of_the_last_day_was_not_measured(shadow, tmp_path):
    url = f"sqlite:///{tmp_path}/ledger.db"

    async def notices():
        async with open_ledger(url) as ledger:
            unmeasured = Unmeasured("digits", "shadow", ledger, lambda: 1e9)
            for reason in ("request: odd", "request: odd", "answer: none"):
                await unmeasured.result(shadow.alice, shadow.answer([[1.0]]), 0, reason)
        settings = SimpleNamespace(models={"digits": SimpleNamespace(mode="shadow")}, ledger=SimpleNamespace(url=url))
        return [await unmeasured_notices(settings, lambda at=1e9 + seconds: at) for seconds in (60, 2 * 86_400)]

    now, later = asyncio.run(notices())
    assert now == (
        "models.digits: 100.0% of 3 requests of the last day were not measured; most often (2 of them): request: odd",
    )
    assert later == ()
