"""The part of the conformance suite of serving protocols that checks their readers of event streams."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from modeltoll.errors import AnswerError
from modeltoll.testing.protocol_mutations import UNKNOWN, json_mutation, mutations, with_unknown_members

if TYPE_CHECKING:
    from modeltoll.gateway.protocols.protocol import ParsedRequest
    from modeltoll.records import Evidence, Floats
    from modeltoll.testing.protocols import ProtocolTrial

__all__ = ["StreamTrial", "check_streams"]

_COMMENT = b"modeltoll-comment"
_STRIDE = 23  # bytes between two places at which a stream breaks off, beside the ends of events
_SIZES = (1, 2, 3, 7, 64)  # of the chunks in which a stream comes, in bytes


@dataclass(frozen=True, slots=True)
class StreamTrial:
    """How a protocol's answers are streamed.

    Attributes:
        encode_request: writes the body of a request for such rows, whose answer comes as a stream.
        events: writes the events of the answer that ``ProtocolTrial.answer`` writes as a whole, the last one being the one
            that ends the stream, each with the empty line behind it.
    """

    encode_request: Callable[[Any], bytes]
    events: Callable[[Floats], Sequence[bytes]]


def check_streams(trial: ProtocolTrial, streams: StreamTrial, rng: np.random.Generator) -> None:
    """Check a protocol's ``StreamReader`` against its whole answers, also on cut, mutated and broken streams.

    Raises:
        AssertionError: the reader violates ``StreamReader``; the message says how.
    """
    scores = rng.dirichlet(np.ones(4), size=len(trial.inputs))
    parsed = _check_request(trial, streams)
    events = streams.events(scores)
    stream = b"".join(events)
    whole = trial.protocol.evidence(parsed, trial.answer(scores), trial.service)
    released = _check_cuts(trial, parsed, stream, whole)
    _check_bounds(parsed, released, whole)
    _check_incomplete(trial, parsed, events, whole)
    _check_errors(trial, parsed, events)
    _check_unmeasured(trial, parsed, events)
    for mutated in mutations(stream, rng, trial.mutations):
        _check_mutated(trial, parsed, mutated)
    for _ in range(trial.mutations):
        place = int(rng.integers(len(events)))
        _check_mutated(trial, parsed, _joined(events, place, _json_mutated(events[place], rng)))


def _check_request(trial: ProtocolTrial, streams: StreamTrial) -> ParsedRequest:
    """A stream is the same row as a whole answer, and has a reader; a whole answer has none."""
    protocol, service = trial.protocol, trial.service
    parsed = protocol.read(streams.encode_request(trial.inputs), service)
    whole = protocol.read(trial.encode_request(trial.inputs), service)
    assert parsed.stream is not None, "a request for a stream has no reader"
    assert whole.stream is None, "a request for a whole answer has a reader of streams"
    assert parsed.fingerprints == whole.fingerprints, "a fingerprint depends on whether the answer is streamed"
    return parsed


def _read(trial: ProtocolTrial, parsed: ParsedRequest, chunks: Sequence[bytes]) -> tuple[bytes, Evidence | None]:
    """What the caller gets of a stream, and its evidence; None where it cannot be measured."""
    assert parsed.stream is not None  # _check_request has seen it
    reader = parsed.stream()
    pieces = [reader.feed(chunk) for chunk in chunks]
    for piece in pieces:
        assert not piece or piece.endswith(b"\n\n"), "a part of an event was released"
    try:
        return b"".join(pieces), trial.protocol.evidence(parsed, reader.finish(), trial.service)
    except AnswerError:
        return b"".join(pieces), None


def _cut(stream: bytes, size: int) -> list[bytes]:
    return [stream[start : start + size] for start in range(0, len(stream), size)]


def _same(trial: ProtocolTrial, one: Evidence, other: Evidence) -> bool:
    """Whether both have the same rows, scores and tokens."""
    scores, others = trial.scores_of(one), trial.scores_of(other)
    if scores is None or others is None or one.fingerprints != other.fingerprints:
        return False
    tables, other_tables = one.tokens or (), other.tokens or ()
    return (
        np.array_equal(scores, others)
        and len(tables) == len(other_tables)
        and all(map(np.array_equal, tables, other_tables))
    )


def _check_cuts(trial: ProtocolTrial, parsed: ParsedRequest, stream: bytes, whole: Evidence) -> bytes:
    """However a stream is cut, it shows the same events and is the same answer. Returns what is released of it."""
    released, evidence = _read(trial, parsed, [stream])
    assert evidence is not None, "a whole stream cannot be measured"
    assert _same(trial, evidence, whole), "a stream is measured otherwise than the same answer as a whole"
    for size in _SIZES:
        again, evidence = _read(trial, parsed, _cut(stream, size))
        assert evidence is not None, f"a stream in chunks of {size} bytes cannot be measured"
        assert _same(trial, evidence, whole), "what is measured of a stream depends on how it is cut"
        assert again == released, "what is released of a stream depends on how it is cut"
    return released


def _check_bounds(parsed: ParsedRequest, released: bytes, whole: Evidence) -> None:
    """A stream is no longer than the bounds to which it is padded."""
    if parsed.answer_bound is not None:
        assert len(released) <= parsed.answer_bound, "the stream is longer than its bound"
    if parsed.token_bound is not None:
        tokens = sum(map(len, whole.tokens or ()))
        assert len(released) <= parsed.token_bound(tokens), "the stream is longer than the bound of its tokens"


def _check_incomplete(trial: ProtocolTrial, parsed: ParsedRequest, events: Sequence[bytes], whole: Evidence) -> None:
    """A stream that breaks off, between two events or within one, is no answer, unless all of the answer has come."""
    stream, ends = b"".join(events), list(accumulate(map(len, events)))
    for end in sorted({*range(0, len(stream), _STRIDE), *ends[:-1], len(stream) - 1}):
        _, evidence = _read(trial, parsed, [stream[:end]])
        assert evidence is None or _same(trial, evidence, whole), "a part of a stream was read as a whole answer"


def _check_errors(trial: ProtocolTrial, parsed: ParsedRequest, events: Sequence[bytes]) -> None:
    """A stream with an error in it is no answer."""
    error = b"data: %b\n\n" % trial.protocol.error("no more memory")
    for place in range(len(events)):
        _, evidence = _read(trial, parsed, [b"".join((*events[:place], error, *events[place:]))])
        assert evidence is None, "a stream with an error in it was read as an answer"


def _check_unmeasured(trial: ProtocolTrial, parsed: ParsedRequest, events: Sequence[bytes]) -> None:
    """What is no part of the answer makes the stream unmeasurable, or is not released."""
    for place, event in enumerate(events):
        comment = b": %b\n\n" % _COMMENT
        released, _ = _read(trial, parsed, [b"".join((*events[:place], comment, *events[place:]))])
        assert _COMMENT not in released, "the text of a comment was released"
        for field in (b"id", b"retry", b"other"):
            released, _ = _read(trial, parsed, [_joined(events, place, b"%b: %b\n%b" % (field, _COMMENT, event))])
            assert _COMMENT not in released, f"the field {field.decode()!r} was released, and nobody measures it"
        for value in (0.5, "a", [0.5]):
            for changed in _with_unknown(event, value):
                released, evidence = _read(trial, parsed, [_joined(events, place, changed)])
                assert evidence is None or UNKNOWN.encode() not in released, (
                    f"an event with {value!r} in a member that is not measured was released"
                )


def _check_mutated(trial: ProtocolTrial, parsed: ParsedRequest, stream: bytes) -> None:
    """Whatever comes, ``feed`` raises nothing, and what can be measured is valid evidence."""
    _, evidence = _read(trial, parsed, [stream])
    if evidence is not None:
        shown = trial.scores_of(evidence)
        assert shown is not None, "the evidence of a stream has no scores"
        assert np.isfinite(shown).all(), "a score of a stream is not finite"
        assert evidence.rows == len(parsed.fingerprints), "the evidence of a stream has other rows"


def _joined(events: Sequence[bytes], place: int, changed: bytes) -> bytes:
    return b"".join((*events[:place], changed, *events[place + 1 :]))


def _split(event: bytes) -> tuple[bytes, bytes] | None:
    """What stands before the document of an event, and the document; None where it has none."""
    head, mark, data = event.partition(b"data: ")
    try:
        json.loads(data)
    except ValueError:
        return None
    return head + mark, data.strip()


def _with_unknown(event: bytes, value: object) -> Iterator[bytes]:
    """The event with an unknown member in each of its objects, one after the other."""
    if (parts := _split(event)) is not None:
        for changed in with_unknown_members(parts[1], value):
            yield b"%b%b\n\n" % (parts[0], changed)


def _json_mutated(event: bytes, rng: np.random.Generator) -> bytes:
    """The event with its document changed; one without a document as it is."""
    parts = _split(event)
    return event if parts is None else b"%b%b\n\n" % (parts[0], json_mutation(parts[1], rng))
