"""Conformance suite for serving protocols: ``check_protocol(ProtocolTrial(...))``."""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from modeltoll.errors import AnswerError, RequestError
from modeltoll.records import Answer
from modeltoll.testing.protocol_mutations import (
    first_of_each,
    mutations,
    reversed_members,
    with_member_twice,
    with_unknown_members,
)
from modeltoll.testing.protocol_streams import StreamTrial, check_streams

if TYPE_CHECKING:
    from modeltoll.gateway.protocols.protocol import ParsedRequest, ServiceDescription, ServingProtocol
    from modeltoll.records import Evidence, Floats

__all__ = ["ProtocolTrial", "check_protocol"]

_MAX_MESSAGE = 1000  # characters of an error message, at most
_FINGERPRINT_BYTES = 32
_ROUNDED = 2**53  # the first whole number that has the same float of 64 bits as the next one


@dataclass(frozen=True, slots=True)
class ProtocolTrial:
    """A serving protocol with what it is tested on.

    Attributes:
        protocol, service: the protocol, and the description of the service.
        inputs: 3 rows or more, all different: numbers (rows, dimensions), or other inputs that the protocol takes.
        encode_request: writes the body of a request for such rows.
        answer: writes the model server's answer, given scores (rows, 4).
        scores_of: returns these scores from the evidence.
        partial: whether an answer may hold only some of the scores.
        one_row: whether a request holds one row: ``encode_request`` and ``answer`` are then called with one.
        reorder: writes the same request with the named inputs in another order; None: it has none.
        integers: writes a request of rows of one whole number each; None: the protocol takes none.
        streams: how answers are streamed; None: the protocol has no streams.
        seed: seed of scores and mutations.
        mutations: how many mutated requests are read, and as many answers.
    """

    protocol: ServingProtocol
    service: ServiceDescription
    inputs: Any
    encode_request: Callable[[Any], bytes]
    answer: Callable[[Floats], Answer]
    scores_of: Callable[[Evidence], Floats | None] = lambda evidence: evidence.scores
    partial: bool = False
    one_row: bool = False
    reorder: Callable[[Any], bytes] | None = None
    integers: Callable[[list[int]], bytes] | None = None
    streams: StreamTrial | None = None
    seed: int = 0
    mutations: int = 300

    @property
    def numbers(self) -> Floats | None:
        """The inputs if they are numbers, else None."""
        return self.inputs if isinstance(self.inputs, np.ndarray) else None


def check_protocol(trial: ProtocolTrial) -> None:
    """Check a serving protocol against ``ServingProtocol``, also on mutated requests and answers.

    Raises:
        AssertionError: the protocol violates ``ServingProtocol``; the message says how.
    """
    protocol, service, answer = trial.protocol, trial.service, trial.answer
    assert len(trial.inputs) >= 3, "the suite needs 3 rows or more"
    rng = np.random.default_rng(trial.seed)
    if trial.one_row:
        _check_single_rows(trial)
        trial = replace(trial, inputs=trial.inputs[:1])
    body = trial.encode_request(trial.inputs)
    parsed = protocol.read(body, service)
    scores = rng.dirichlet(np.ones(4), size=len(trial.inputs))
    _check_routes(protocol)
    _check_request(trial, parsed)
    _check_same_request(trial, parsed)
    _check_other_requests(trial, body)
    _check_integers(trial)
    _check_evidence(trial, parsed, scores)
    _check_whole_answer(trial, parsed, scores)
    _check_errors(protocol)
    for mutated in mutations(body, rng, trial.mutations):
        _check_mutated_request(protocol, service, mutated)
    for mutated in mutations(answer(scores).body, rng, trial.mutations):
        _check_mutated_answer(trial, parsed, replace(answer(scores), body=mutated))
    if trial.streams is not None:
        check_streams(trial, trial.streams, rng)


def _check_routes(protocol: ServingProtocol) -> None:
    """Routes are absolute and unique, with no fields but model and version."""
    routes = protocol.routes
    all_routes = (*routes.infer, *routes.pass_through)
    assert protocol.name, "the protocol has no name"
    assert routes.infer, "the protocol has no route for inference"
    assert len(set(all_routes)) == len(all_routes), "a route is listed twice"
    public_routes = {routes.ready} if routes.metadata is None else {routes.metadata, routes.ready}
    assert public_routes <= set(routes.pass_through), (
        "metadata and ready are not among the routes that are passed through"
    )
    for template in all_routes:
        fields = [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]
        assert template.startswith("/"), f"{template} is not absolute"
        assert set(fields) <= {"model", "version"}, f"{template} has fields other than model and version"
    assert "{version}" not in routes.ready, "the ready route has a version"
    assert routes.infer[0].format(model="m") == routes.infer[0].replace("{model}", "m"), "the first route has a version"


def _check_request(trial: ProtocolTrial, parsed: ParsedRequest) -> None:
    """``read`` reads what ``encode_request`` wrote; a fingerprint does not depend on the row's position."""
    protocol, service, inputs, fingerprints = trial.protocol, trial.service, trial.inputs, parsed.fingerprints
    reordered_inputs: Any = [*inputs[::-1], inputs[0]]
    if trial.numbers is None:
        assert parsed.inputs is None, "inputs that are no numbers were read as numbers"
    else:
        assert parsed.inputs is not None, "numbers were not read as inputs"
        assert np.array_equal(parsed.inputs, inputs), "the inputs were read as other numbers"
        reordered_inputs = np.vstack([inputs[::-1], inputs[:1]])
    assert len(fingerprints) == len(inputs), "the numbers of fingerprints and rows differ"
    assert {len(one) for one in fingerprints} == {_FINGERPRINT_BYTES}, "a fingerprint is not 32 bytes long"
    assert len(set(fingerprints)) == len(fingerprints), "different rows have the same fingerprint"
    if trial.one_row:
        return
    reordered = protocol.read(trial.encode_request(reordered_inputs), service)
    assert reordered.fingerprints == (*fingerprints[::-1], fingerprints[0]), (
        "a fingerprint depends on the row's position"
    )
    _refuses(trial, trial.encode_request(inputs), "more rows than ``max_rows``", max_rows=len(inputs) - 1)


def _check_single_rows(trial: ProtocolTrial) -> None:
    """Requests of one row each: different rows have different fingerprints, whenever they are read."""
    bodies = [trial.encode_request(trial.inputs[place : place + 1]) for place in range(len(trial.inputs))]
    prints = [trial.protocol.read(body, trial.service).fingerprints for body in (*bodies, *bodies)]
    assert len(set(prints)) == len(bodies), "different rows have the same fingerprint, or one row has several"


def _refuses(trial: ProtocolTrial, body: bytes, what: str, **changes: Any) -> None:
    """``read`` raises ``RequestError`` for a request."""
    try:
        trial.protocol.read(body, replace(trial.service, **changes))
    except RequestError:
        return
    raise AssertionError(f"{what} were read")


def _check_same_request(trial: ProtocolTrial, parsed: ParsedRequest) -> None:
    """The order of members and of named inputs, and JSON's white space, change neither inputs nor fingerprints."""
    body = trial.encode_request(trial.inputs)
    bodies = [] if trial.reorder is None else [trial.reorder(trial.inputs)]
    if _is_json(body):
        bodies += [
            json.dumps(reversed_members(json.loads(body))).encode(),
            json.dumps(json.loads(body), indent=2).encode(),
        ]
    for other in bodies:
        found = trial.protocol.read(other, trial.service)
        assert found.fingerprints == parsed.fingerprints, (
            "a fingerprint depends on the order of what the model reads by name"
        )
        if parsed.inputs is not None:
            assert found.inputs is not None, "the inputs of a request in another order were not read"
            assert np.array_equal(found.inputs, parsed.inputs), (
                "the inputs depend on the order of what the model reads by name"
            )
        assert found.answer_bound == parsed.answer_bound, "the answer's bound depends on the order of members"


def _check_other_requests(trial: ProtocolTrial, body: bytes) -> None:
    """A member that is not known, or a second one of a name, is refused at every depth."""
    if not _is_json(body) or not isinstance(json.loads(body), dict):
        return
    for changed in (*with_unknown_members(body, 1), *with_unknown_members(body, "a")):
        _refuses(trial, changed, "members that are not known")
    for changed in with_member_twice(body):
        _refuses(trial, changed, "members of one name")


def _check_integers(trial: ProtocolTrial) -> None:
    """Whole numbers of 64 bits are exact in fingerprints, though the inputs are floats."""
    if trial.integers is None:
        return
    numbers = [_ROUNDED, _ROUNDED + 1, -_ROUNDED - 1, 2**63 - 1, 2**63 - 2, -(2**63)]
    parsed = trial.protocol.read(trial.integers(numbers), trial.service)
    assert len(set(parsed.fingerprints)) == len(numbers), "different whole numbers have the same fingerprint"
    for number in (2**64, 10**400):
        _refuses(trial, trial.integers([number]), "whole numbers beyond 64 bits")


def _check_whole_answer(trial: ProtocolTrial, parsed: ParsedRequest, scores: Floats) -> None:
    """An unknown member of an answer is refused, at every depth; the answer is no longer than its bound."""
    answer = trial.answer(scores)
    if parsed.answer_bound is not None:
        assert len(answer.body) <= parsed.answer_bound, "the answer is longer than its bound"
    if not _is_json(answer.body):
        return
    for value in (0.5, "a", [0.5]):
        for body in with_unknown_members(answer.body, value):
            try:
                trial.protocol.evidence(parsed, replace(answer, body=body), trial.service)
            except AnswerError:
                continue
            raise AssertionError(f"an answer with {value!r} in a member that is not measured was accepted")


def _check_evidence(trial: ProtocolTrial, parsed: ParsedRequest, scores: Floats) -> None:
    """Evidence has the request's inputs and the answer's scores; an answer that does not match the request is refused."""
    protocol, service, answer = trial.protocol, trial.service, trial.answer
    evidence = protocol.evidence(parsed, answer(scores), service)
    assert evidence.fingerprints == parsed.fingerprints, "the evidence has other fingerprints"
    shown = trial.scores_of(evidence)
    assert shown is not None, "the evidence has no scores"
    assert np.allclose(shown, scores, rtol=1e-9, atol=1e-12), "the scores were read as other numbers"
    if trial.numbers is not None:
        assert evidence.inputs is parsed.inputs, "the inputs were lost"
    invalid_answers: list[tuple[str, Answer, ServiceDescription]] = []
    if not trial.one_row:
        invalid_answers = [
            ("an answer with one row less", answer(scores[1:]), service),
            ("an answer with one row more", answer(np.vstack([scores, scores[:1]])), service),
        ]
    if service.kind in ("probabilities", "tokens"):
        invalid_answers.append(("scores that sum to 2", answer(2 * scores), service))
    if service.output:
        other_output = replace(service, output=service.output + "x")
        invalid_answers.append(("an answer without the declared output", answer(scores), other_output))
    for description, bad_answer, described in invalid_answers:
        try:
            protocol.evidence(parsed, bad_answer, described)
        except AnswerError:
            continue
        raise AssertionError(f"{description} was accepted as evidence")


def _check_errors(protocol: ServingProtocol) -> None:
    """``error_text`` reads the message that ``error`` wrote, shortens a long one, and returns no message for other bodies."""
    for message in ("plain", 'with "quotes", a \\ and \n', "with ümläuts and 漢字", ""):
        body = protocol.error(message)
        json.dumps(protocol.error_member(message))
        assert protocol.error_text(Answer(400, "application/json", body)) == message, (
            "``error_text`` reads another message than ``error`` wrote"
        )
    long = protocol.error_text(Answer(400, "application/json", protocol.error("long " * 10_000)))
    assert long.startswith("long"), "a long message is lost"
    assert len(long) <= _MAX_MESSAGE, "a long message is not shortened"
    for body in (b"", b"\xff\xfe", b"<html>", b"[" * 100_000, b'{"error": 1}'):
        assert protocol.error_text(Answer(400, "text/html", body)) == "", (
            "``error_text`` read a message from an invalid body"
        )


def _check_mutated_request(protocol: ServingProtocol, service: ServiceDescription, body: bytes) -> None:
    """A mutated request raises ``RequestError`` or is read to a valid parsed request."""
    try:
        parsed = protocol.read(body, service)
    except RequestError:
        return
    assert 1 <= len(parsed.fingerprints) <= service.max_rows, "a parsed request without rows, or with too many"
    assert {len(one) for one in parsed.fingerprints} == {_FINGERPRINT_BYTES}, "a fingerprint is not 32 bytes long"
    if _is_json(body):
        first = json.loads(body, object_pairs_hook=first_of_each)
        ours, theirs = (json.dumps(one, sort_keys=True) for one in (first, json.loads(body)))  # NaN equals no NaN
        assert ours == theirs, "a request was read that readers of JSON read differently"
    if parsed.inputs is not None:
        assert len(parsed.inputs) == len(parsed.fingerprints), "inputs and fingerprints differ in number"
        assert not np.isinf(parsed.inputs).any(), "an input is infinite"


def _check_mutated_answer(trial: ProtocolTrial, parsed: ParsedRequest, answer: Answer) -> None:
    """A mutated answer raises ``AnswerError`` or is read to valid evidence."""
    try:
        evidence = trial.protocol.evidence(parsed, answer, trial.service)
    except AnswerError:
        return
    shown = trial.scores_of(evidence)
    assert shown is not None, "the evidence has no scores"
    assert len(shown) == len(parsed.fingerprints), "the numbers of score rows and request rows differ"
    assert np.isfinite(shown).all(), "a score is not finite"
    if trial.service.kind == "probabilities":
        sums = shown.sum(axis=1)
        assert (shown >= 0.0).all(), "a score is negative"
        assert (sums <= 1.0 + 1e-9).all() if trial.partial else np.allclose(sums, 1.0), "scores do not sum to 1"


def _is_json(body: bytes) -> bool:
    """Whether a body is one JSON document, by a reader that is not strict."""
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True
