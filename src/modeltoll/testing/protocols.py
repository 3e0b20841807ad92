"""Doubles for the gateway's neighbours, and the law of serving protocols: ``check_protocol``."""

from __future__ import annotations

import contextlib
import json
import socket
import string
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import uvicorn

from modeltoll.errors import AnswerError, ModeltollError, RequestError
from modeltoll.records import Answer

if TYPE_CHECKING:
    from modeltoll.gateway.protocols.protocol import ParsedRequest, ServiceDescription, ServingProtocol
    from modeltoll.records import Evidence, Floats

__all__ = ["FakeUpstream", "ProtocolTrial", "Script", "check_protocol", "scripted_server", "serving"]

_STOP_SECONDS = 10.0
_MUTATIONS = 300
_SHORTENED = 1000  # characters that a complaint may have at most

Script = Sequence[bytes | threading.Event]


class FakeUpstream:
    """A model server that says what it is told to, at once.

    ``says`` answers a request's (path, body), or is an error to raise. ``asked`` keeps every (path, body) that came;
    the body of a GET is empty. ``types`` keeps their content types.
    """

    def __init__(self, says: Callable[[str, bytes], Answer] | ModeltollError) -> None:
        self.says = says
        self.asked: list[tuple[str, bytes]] = []
        self.types: list[str] = []

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def predict(self, path: str, body: bytes, content_type: str = "application/json") -> Answer:
        """As ``Upstream.predict``."""
        self.asked.append((path, body))
        self.types.append(content_type)
        if isinstance(self.says, ModeltollError):
            raise self.says
        return self.says(path, body)

    async def fetch(self, path: str) -> Answer:
        """As ``Upstream.fetch``."""
        return await self.predict(path, b"")


@contextlib.contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve an ASGI application from a thread on a free port of the loopback address; yields its URL."""
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_graceful_shutdown=round(_STOP_SECONDS),
        )
    )
    listening = socket.create_server(("127.0.0.1", 0), backlog=512)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(2 * _STOP_SECONDS)
        listening.close()


@contextlib.contextmanager
def scripted_server(script: Script) -> Iterator[str]:
    """A server that reads the head of a request, says the ``script``, and hangs up; yields its URL.

    An event in the script makes it wait until that is set, for as long as the block lasts.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def talk(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            heard = b""
            while b"\r\n\r\n" not in heard and (chunk := connection.recv(65536)):
                heard += chunk
            for line in script:
                if isinstance(line, bytes):
                    connection.sendall(line)
                else:
                    while not (line.wait(0.01) or over.is_set()):
                        pass

    def accept() -> None:
        with contextlib.suppress(OSError):  # the listening socket was shut
            while True:
                connection, _ = listening.accept()
                threading.Thread(target=talk, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        over.set()
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(2 * _STOP_SECONDS)
        listening.close()


@dataclass(frozen=True, slots=True)
class ProtocolTrial:
    """What a serving protocol is tried with.

    ``inputs`` are 3 rows or more, all different: numbers (rows, dimensions), or whatever else the protocol takes.
    ``ask`` writes a request for such rows; ``answer`` what the model server says to it, given scores (rows, 4).
    ``shows`` finds these scores in the evidence. ``partial``: an answer may show some of them only.
    """

    protocol: ServingProtocol
    service: ServiceDescription
    inputs: Any
    ask: Callable[[Any], bytes]
    answer: Callable[[Floats], Answer]
    shows: Callable[[Evidence], Floats | None] = lambda evidence: evidence.scores
    partial: bool = False
    seed: int = 0

    @property
    def numbers(self) -> Floats | None:
        """The inputs, if they are numbers."""
        return self.inputs if isinstance(self.inputs, np.ndarray) else None


def check_protocol(trial: ProtocolTrial) -> None:
    """Hold a serving protocol to the law of its plug.

    Raises:
        AssertionError: the protocol breaks the law; the message says how.
    """
    protocol, service, answer = trial.protocol, trial.service, trial.answer
    assert len(trial.inputs) >= 3, "the suite needs 3 rows or more"
    rng = np.random.default_rng(trial.seed)
    body = trial.ask(trial.inputs)
    question = protocol.read(body, service)
    scores = rng.dirichlet(np.ones(4), size=len(trial.inputs))
    _check_routes(protocol)
    _check_reading(trial, question)
    _check_evidence(trial, question, scores)
    _check_errors(protocol)
    for spoilt in _spoilt(body, rng):
        _check_spoilt_request(protocol, service, spoilt)
    for spoilt in _spoilt(answer(scores).body, rng):
        _check_spoilt_answer(trial, question, replace(answer(scores), body=spoilt))


def _check_routes(protocol: ServingProtocol) -> None:
    """Routes are absolute, name nothing but a model and its version, and each has one meaning."""
    routes = protocol.routes
    every = (*routes.infer, *routes.pass_through)
    assert protocol.name, "the protocol has no name"
    assert routes.infer, "the protocol has no route for inference"
    assert len(set(every)) == len(every), "a route is listed twice"
    open_to_all = {routes.ready} if routes.metadata is None else {routes.metadata, routes.ready}
    assert open_to_all <= set(routes.pass_through), "metadata and ready are routes that go through"
    for template in every:
        fields = [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]
        assert template.startswith("/"), f"{template} is not absolute"
        assert set(fields) <= {"model", "version"}, f"{template} names something else than a model and its version"
    assert "{version}" not in routes.ready, "whether the server is ready does not depend on a version"
    assert routes.infer[0].format(model="m") == routes.infer[0].replace("{model}", "m"), "the first route has a version"


def _check_reading(trial: ProtocolTrial, question: ParsedRequest) -> None:
    """What ``ask`` writes, ``read`` reads; a fingerprint belongs to its row, wherever it stands."""
    protocol, service, inputs, prints = trial.protocol, trial.service, trial.inputs, question.fingerprints
    turned_inputs: Any = [*inputs[::-1], inputs[0]]
    if trial.numbers is None:
        assert question.inputs is None, "what is no number was read as inputs"
    else:
        assert question.inputs is not None, "numbers were not read as inputs"
        assert np.array_equal(question.inputs, inputs), "the inputs were read as other numbers"
        turned_inputs = np.vstack([inputs[::-1], inputs[:1]])
    assert len(prints) == len(inputs), "there is not one fingerprint per row"
    assert {len(one) for one in prints} == {8}, "a fingerprint is not of 8 bytes"
    assert len(set(prints)) == len(prints), "different rows have one fingerprint"
    turned = protocol.read(trial.ask(turned_inputs), service)
    assert turned.fingerprints == (*prints[::-1], prints[0]), "a fingerprint depends on where its row stands"
    try:
        protocol.read(trial.ask(inputs), replace(service, max_rows=len(inputs) - 1))
    except RequestError:
        return
    raise AssertionError("more rows than the service allows were read")


def _check_evidence(trial: ProtocolTrial, question: ParsedRequest, scores: Floats) -> None:
    """The evidence is the question's and the answer's; what does not fit the question is refused."""
    protocol, service, answer = trial.protocol, trial.service, trial.answer
    evidence = protocol.evidence(question, answer(scores), service)
    assert evidence.fingerprints == question.fingerprints, "the evidence is of other rows"
    shown = trial.shows(evidence)
    assert shown is not None, "the evidence has no scores"
    assert np.allclose(shown, scores, rtol=1e-9, atol=1e-12), "the scores were read as other numbers"
    if trial.numbers is not None:
        assert evidence.inputs is question.inputs, "the inputs were lost"
    faults = [
        ("an answer with a row less", answer(scores[1:]), service),
        ("an answer with a row more", answer(np.vstack([scores, scores[:1]])), service),
    ]
    if service.kind in ("probabilities", "tokens"):
        faults.append(("scores that sum to 2", answer(2 * scores), service))
    if service.output:
        other = replace(service, output=service.output + "x")
        faults.append(("an answer without the declared output", answer(scores), other))
    for fault, said, asked in faults:
        try:
            protocol.evidence(question, said, asked)
        except AnswerError:
            continue
        raise AssertionError(f"{fault} was taken for evidence")


def _check_errors(protocol: ServingProtocol) -> None:
    """An error says its message and no more, reads back as a complaint, and a long complaint is shortened."""
    for message in ("plain", 'with "quotes", a \\ and \n', "with ümläuts and 漢字", ""):
        body = protocol.error(message)
        json.dumps(protocol.error_member(message))
        assert protocol.error_text(Answer(400, "application/json", body)) == message, "an error reads back otherwise"
    long = protocol.error_text(Answer(400, "application/json", protocol.error("long " * 10_000)))
    assert long.startswith("long"), "a long complaint is lost"
    assert len(long) <= _SHORTENED, "a long complaint is not shortened"
    for body in (b"", b"\xff\xfe", b"<html>", b"[" * 100_000, b'{"error": 1}'):
        assert protocol.error_text(Answer(400, "text/html", body)) == "", "garbage complains of something"


def _check_spoilt_request(protocol: ServingProtocol, service: ServiceDescription, body: bytes) -> None:
    """Bytes are a question or a ``RequestError``, and a question is sound."""
    try:
        question = protocol.read(body, service)
    except RequestError:
        return
    assert 1 <= len(question.fingerprints) <= service.max_rows, "a question without rows, or with too many"
    if question.inputs is not None:
        assert len(question.inputs) == len(question.fingerprints), "inputs and fingerprints differ in number"
        assert np.isfinite(question.inputs).all(), "an input is not finite"


def _check_spoilt_answer(trial: ProtocolTrial, question: ParsedRequest, answer: Answer) -> None:
    """Bytes are evidence or an ``AnswerError``, and evidence is sound."""
    try:
        evidence = trial.protocol.evidence(question, answer, trial.service)
    except AnswerError:
        return
    shown = trial.shows(evidence)
    assert shown is not None, "evidence without scores"
    assert len(shown) == len(question.fingerprints), "not one row of scores per row of the question"
    assert np.isfinite(shown).all(), "a score is not finite"
    if trial.service.kind == "probabilities":
        sums = shown.sum(axis=1)
        assert (shown >= 0.0).all(), "a score is negative"
        assert (sums <= 1.0 + 1e-9).all() if trial.partial else np.allclose(sums, 1.0), "scores do not sum to 1"


def _spoilt(body: bytes, rng: np.random.Generator) -> Iterator[bytes]:
    """The body cut short, with bytes changed, left out, put in, or a piece doubled."""
    yield from (b"", body[:-1], body + body, b"\xff" + body, b"[" * 200_000, b"null", b"{}", b"[]")
    alphabet = b'0123456789-.eE+"{}[]:,nulltrefasNaInity \\\x00\xff'
    for _ in range(_MUTATIONS):
        start = int(rng.integers(len(body)))
        end = min(len(body), start + int(rng.integers(1, 12)))
        noise = bytes(rng.choice(np.frombuffer(alphabet, np.uint8), size=int(rng.integers(0, 6))))
        choices = (body[:start], body[:start] + noise + body[end:], body[:start] + noise + body[start:])
        yield (*choices, body[:end] + body[start:])[int(rng.integers(4))]
