"""The part of the conformance suite of serving protocols that checks what becomes of mutated requests and answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import AnswerError, RequestError
from modeltoll.testing.protocol_mutations import first_of_each, is_json

if TYPE_CHECKING:
    from modeltoll.gateway.protocols.protocol import ParsedRequest, ServiceDescription, ServingProtocol
    from modeltoll.records import Answer
    from modeltoll.testing.protocols import ProtocolTrial

__all__ = ["FINGERPRINT_BYTES", "check_mutated_answer", "check_mutated_request"]

FINGERPRINT_BYTES = 32


def check_mutated_request(protocol: ServingProtocol, service: ServiceDescription, body: bytes) -> None:
    """A mutated request raises ``RequestError`` or is read to a valid parsed request."""
    try:
        parsed = protocol.read(body, service)
    except RequestError:
        return
    assert 1 <= len(parsed.fingerprints) <= service.max_rows, "a parsed request without rows, or with too many"
    assert {len(one) for one in parsed.fingerprints} == {FINGERPRINT_BYTES}, "a fingerprint is not 32 bytes long"
    if is_json(body):
        first = json.loads(body, object_pairs_hook=first_of_each)
        ours, theirs = (json.dumps(one, sort_keys=True) for one in (first, json.loads(body)))  # NaN equals no NaN
        assert ours == theirs, "a request was read that readers of JSON read differently"
    if parsed.inputs is not None:
        assert len(parsed.inputs) == len(parsed.fingerprints), "inputs and fingerprints differ in number"
        assert not np.isinf(parsed.inputs).any(), "an input is infinite"


def check_mutated_answer(trial: ProtocolTrial, parsed: ParsedRequest, answer: Answer) -> None:
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
