"""What the audit log, the log and the traces record of a request, and what they never contain."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import resource
import sys
import time

import pytest
from opentelemetry.sdk.trace.export import SpanExportResult
from starlette.testclient import TestClient

from modeltoll.errors import UpstreamError
from modeltoll.gateway.observability import audit as audit_module
from modeltoll.gateway.observability.audit import AuditLog, AuditRecord, NameHasher
from modeltoll.gateway.observability.logging_setup import JsonFormatter, configure_logging
from modeltoll.gateway.observability.request_log import RequestLogMiddleware, RequestRecorder
from modeltoll.gateway.observability.tracing import TracedUpstream, Tracer
from modeltoll.gateway.public.app import application
from modeltoll.gateway.settings.operation import OperationSettings
from modeltoll.gateway.upstream.http_upstream import HttpUpstream
from modeltoll.testing.model_servers import scripted_server

RECORD = AuditRecord(1.5, "abc", "POST", "/x", 402, 0.25)
SECRET = "alice-key"
JSON_TYPE = {"content-type": "application/json"}
KEY = JSON_TYPE | {"x-api-key": SECRET}


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def recording_client(harness, audit=None, tracer=None):
    recorder = RequestRecorder(harness.clock, NameHasher(b"k" * 32), audit, tracer)
    return TestClient(RequestLogMiddleware(application(harness.components()), recorder), raise_server_exceptions=False)


def test_each_request_is_one_line_with_the_callers_hash_the_request_and_its_outcome(harness, tmp_path):
    log, path = AuditLog(tmp_path / "audit"), harness.path
    with log.running():
        client = recording_client(harness, log)
        client.post(path, content=harness.infer_body([1, 2]), headers=KEY)
        client.post(path, content=b"{", headers=KEY)
        client.post(path, content=harness.infer_body([1, 2]), headers=JSON_TYPE | {"x-api-key": "wrong"})
        client.get("/secret/place")
        harness.upstream.handler = UpstreamError("down")
        client.post(path, content=harness.infer_body([1, 2]), headers=JSON_TYPE | {"x-api-key": "vip-key"})
    toll, bad, refused, unlisted, failed = lines(tmp_path / "audit")
    template = "/v2/models/{model}/infer"
    assert (toll["model"], toll["rows"], toll["mode"], toll["status"]) == ("digits", 1, "redeem", 402)
    assert toll["work_seconds"] == pytest.approx(harness.log()[0].work.seconds, abs=1e-9)
    assert (toll["method"], toll["route"], toll["error"]) == ("POST", template, "")
    assert toll["who"] == bad["who"] == NameHasher(b"k" * 32).hash("key:alice") != failed["who"] != ""
    assert (bad["status"], bad["error"], bad["rows"]) == (400, "RequestError", 0)
    assert (refused["status"], refused["error"], refused["who"]) == (401, "CallerRefused", "")
    assert (unlisted["status"], unlisted["error"], unlisted["route"]) == (404, "RouteRefused", "")
    assert (failed["status"], failed["error"]) == (502, "UpstreamError")


def test_neither_keys_nor_names_nor_payloads_nor_unknown_paths_are_in_the_audit_log(harness, tmp_path):
    log = AuditLog(tmp_path / "audit")
    with log.running():
        client = recording_client(harness, log)
        client.post(harness.path, content=harness.infer_body([123.456, 2]), headers=KEY)
        client.get(f"/{SECRET}?key={SECRET}")
    text = (tmp_path / "audit").read_text()
    assert len(text.splitlines()) == 2
    assert not [word for word in (SECRET, "alice", "123.456", "key:") if word in text]
    assert (tmp_path / "audit").stat().st_mode & 0o077 == 0


def test_the_hash_depends_on_the_key_and_no_caller_has_no_hash():
    one, other = NameHasher(b"1" * 32), NameHasher(b"2" * 32)
    assert one.hash("key:a") == NameHasher(b"1" * 32).hash("key:a") != other.hash("key:a")
    assert (one.hash("key:a") != one.hash("key:b"), one.hash("")) == (True, "")


class Disk:
    """``os.write`` on a disk that may be full, or take half a line."""

    def __init__(self, monkeypatch):
        self.room, self.write = 10**9, os.write
        monkeypatch.setattr(audit_module.os, "write", self)

    def __call__(self, descriptor, line):
        if self.room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self.write(descriptor, line[: self.room])
        self.room -= written
        return written


def test_a_full_disk_loses_lines_which_are_counted_and_logged_once_and_nothing_else(tmp_path, monkeypatch, caplog):
    """At most half a line is left, and the next line that fits starts on a new line."""
    disk, log, whole = Disk(monkeypatch), AuditLog(tmp_path / "audit"), len(RECORD.line())
    with log.running():
        disk.room = 2 * whole + 7
        for _ in range(5):
            log.append(RECORD)
            until(lambda: not log._lines)
        until(lambda: log.lost_lines == 3)
        assert log.failing
        disk.room = 10**9
        log.append(RECORD)
        until(lambda: not log.failing)
    first, second, half, last = (tmp_path / "audit").read_bytes().split(b"\n")[:-1]
    assert (json.loads(first), json.loads(last), half) == (json.loads(second), json.loads(first), RECORD.line()[:7])
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert "3 lines were lost" in caplog.text


def until(law):
    while not law():
        time.sleep(0.001)  # another thread writes


def test_a_gateway_whose_files_may_grow_no_further_serves_on(harness, tmp_path):
    """A real limit of the system's, as a full partition gives."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = AuditLog(tmp_path / "audit")
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, hard))
    try:
        with log.running():
            client = recording_client(harness, log)
            said = [
                client.post(harness.path, content=harness.infer_body([n, n]), headers=KEY).status_code
                for n in range(12)
            ]
            until(lambda: not log._lines)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert said == [402] * 12
    assert (tmp_path / "audit").stat().st_size <= 600
    assert log.lost_lines > 0


def test_a_file_that_cannot_be_opened_is_tried_again(tmp_path):
    log = AuditLog(tmp_path / "later" / "audit")
    with log.running():
        log.append(RECORD)
        until(lambda: log.lost_lines == 1)
        (tmp_path / "later").mkdir()
        log.append(RECORD)
        until(lambda: not log.failing)
    assert len(lines(tmp_path / "later" / "audit")) == 1


def test_a_file_that_was_moved_away_is_made_anew(tmp_path):
    log, path = AuditLog(tmp_path / "audit"), tmp_path / "audit"
    with log.running():
        log.append(RECORD)
        until(path.exists)
        until(lambda: path.stat().st_size)
        path.rename(tmp_path / "audit.1")
        log.append(RECORD)
    assert (len(lines(tmp_path / "audit.1")), len(lines(path))) == (1, 1)


def test_the_number_of_waiting_lines_is_bounded(tmp_path):
    log = AuditLog(tmp_path / "audit", max_waiting=3)  # nobody writes yet
    for _ in range(5):
        log.append(RECORD)
    assert log.lost_lines == 2
    with log.running():
        pass
    assert len(lines(tmp_path / "audit")) == 3


# The log


def test_a_json_log_line_is_one_line_whatever_the_message():
    try:
        int("line\nbreak")
    except ValueError:
        record = logging.LogRecord("a.b", logging.ERROR, "", 0, "said %s", ('"x"\n',), sys.exc_info())
    line = JsonFormatter().format(record)
    said = json.loads(line)
    assert "\n" not in line
    assert (said["level"], said["logger"], said["message"]) == ("error", "a.b", 'said "x"\n')
    assert "ValueError: invalid literal" in said["traceback"]
    assert said["at"].endswith("Z")


@pytest.fixture
def loggers():
    """The process's loggers, put back afterwards."""
    names = ("", "modeltoll")
    before = [(logging.getLogger(name), list(logging.getLogger(name).handlers)) for name in names]
    levels = [logger.level for logger, _ in before]
    yield
    for (logger, handlers), level in zip(before, levels, strict=True):
        logger.handlers = handlers
        logger.setLevel(level)


@pytest.mark.usefixtures("loggers")
def test_the_log_is_written_as_the_settings_say(capsys):
    configure_logging(OperationSettings(log_format="json", log_level="warning"))
    logging.getLogger("modeltoll.gateway").info("quiet")
    logging.getLogger("modeltoll.gateway").warning("loud")
    logging.getLogger("somebody").warning("else")
    assert [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()] == ["loud", "else"]
    configure_logging(OperationSettings())
    logging.getLogger("modeltoll.gateway").info("again")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("INFO modeltoll.gateway: again")


@pytest.mark.usefixtures("loggers")
def test_a_log_that_cannot_be_written_stops_nothing(monkeypatch):
    with open("/dev/full", "w") as full:  # noqa: PTH123  a device
        monkeypatch.setattr(sys, "stderr", full)
        configure_logging(OperationSettings())
        logging.getLogger("modeltoll.gateway").error("lost")
        monkeypatch.undo()
        with pytest.raises(OSError, match="No space"):
            full.close()  # what was buffered: the line did get as far as the device


# Traces


class Collector:
    """Keeps what is exported."""

    def __init__(self):
        self.spans = []

    def export(self, spans):
        self.spans += spans
        return SpanExportResult.SUCCESS

    def shutdown(self):
        pass

    def force_flush(self, timeout_millis=0):
        return True


def test_a_trace_has_a_span_for_the_request_and_one_for_the_model_server_and_no_secret(harness):
    collector = Collector()
    tracer = Tracer(collector, 1.0)
    harness.upstream = TracedUpstream(harness.upstream, tracer)
    trace_id, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    headers = KEY | {"traceparent": f"00-{trace_id}-{parent}-01"}
    with tracer.running():
        client = recording_client(harness, tracer=tracer)
        client.post(harness.path, content=harness.infer_body([123.456, 2]), headers=headers)
        client.post(harness.path, content=b"{", headers=headers)
    asked, answered, refused = collector.spans
    assert {f"{span.context.trace_id:032x}" for span in collector.spans} == {trace_id}
    assert f"{answered.parent.span_id:016x}" == parent
    assert asked.parent.span_id == answered.context.span_id
    assert (answered.name, asked.name) == ("POST /v2/models/{model}/infer", "model server")
    assert answered.attributes["http.response.status_code"] == 402
    assert (answered.attributes["modeltoll.mode"], answered.attributes["modeltoll.rows"]) == ("redeem", 1)
    assert refused.attributes["error.type"] == "RequestError"
    text = "".join(span.to_json() for span in collector.spans)
    assert not [word for word in (SECRET, "alice", "123.456") if word in text]


def test_no_trace_is_kept_of_what_falls_outside_the_share(harness):
    collector = Collector()
    tracer = Tracer(collector, 0.0)
    with tracer.running():
        assert (
            recording_client(harness, tracer=tracer)
            .post(harness.path, content=harness.infer_body([1, 2]), headers=KEY)
            .status_code
            == 402
        )
    assert collector.spans == []


def test_the_trace_is_passed_on_to_the_model_server():
    tracer, sent = Tracer(Collector(), 1.0), []
    with scripted_server([b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}"]) as url:

        async def ask():
            upstream = HttpUpstream(url, headers=lambda: sent.append(dict(tracer.headers())) or sent[-1])
            await upstream.open()
            with tracer.upstream_span("/x"):
                answer = await upstream.fetch("/x")
            await upstream.close()
            return answer

        assert asyncio.run(ask()).status == 200
    assert sent[0]["traceparent"].startswith("00-")
    tracer._provider.shutdown()


def test_without_an_audit_log_and_traces_requests_go_by_unwatched(harness):
    scopes, app = [], application(harness.components())

    async def seen(scope, receive, send):
        scopes.append(scope)
        await app(scope, receive, send)

    client = TestClient(RequestLogMiddleware(seen, RequestRecorder(harness.clock, NameHasher(b"k" * 32))))
    assert client.post(harness.path, content=harness.infer_body([1, 2]), headers=KEY).status_code == 402
    assert "modeltoll.notes" not in scopes[0]
