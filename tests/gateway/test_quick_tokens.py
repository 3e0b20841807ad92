"""Log-probabilities that are read quickly are read as they are one by one; what is unusual is left to the slower reader."""

import random

import numpy as np
import pytest

from modeltoll.errors import AnswerError
from modeltoll.gateway.protocols import token_tables
from modeltoll.gateway.protocols.chat_answers import LastDocument
from modeltoll.gateway.protocols.quick_tokens import quick_probabilities
from modeltoll.gateway.protocols.token_tables import MOST, token_table
from modeltoll.records import Answer

USUAL = {"token": "a", "logprob": -0.5, "bytes": [97]}
FAULTS = [
    {"logprob": None},
    {"logprob": True},
    {"logprob": 0.5},
    {"logprob": "0"},
    {"bytes": [256]},
    {"bytes": [97] * 9},
    {"bytes": "a"},
    {"id": 1.5},
    {"id": True},
    {"token": 1},
    {"more": 1},
]
ODDITIES = [{"logprob": 0}, {"logprob": -5000}, {"logprob": 5e-4}, {"bytes": None}, {"bytes": []}, {"id": 7}]


def tokens_with(change, place):
    """Two tokens, of which the second, or one of its alternatives, is changed."""
    alternatives = [{**USUAL, "logprob": -0.5 - rank} for rank in range(3)]
    token = {**USUAL, "top_logprobs": alternatives}
    changed = {**USUAL, "top_logprobs": [dict(one) for one in alternatives]}
    (changed if place == "token" else changed["top_logprobs"][1]).update(change)
    return [token, changed]


def read_slowly(tokens, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(token_tables, "quick_probabilities", lambda *_: None)
        return token_table(tokens)


@pytest.mark.parametrize("place", ["token", "alternative"])
@pytest.mark.parametrize("change", [{}, *ODDITIES, *FAULTS, {"top_logprobs": []}, {"top_logprobs": None}])
def test_both_readers_read_the_same_or_refuse_it(change, place, monkeypatch):
    tokens = tokens_with(change, place)
    try:
        table, covered = read_slowly(tokens, monkeypatch)
    except AnswerError as error:
        with pytest.raises(AnswerError, match=str(error)):
            token_table(tokens)
        return
    quick, quickly_covered = token_table(tokens)
    assert np.array_equal(table, quick)
    assert covered == quickly_covered


def test_the_usual_ones_are_read_quickly():
    assert quick_probabilities(tokens_with({}, "token"), MOST + 1) is not None


@pytest.mark.parametrize("seed", range(20))
def test_random_tokens_are_read_the_same(seed, monkeypatch):
    rng = random.Random(seed)
    tokens = []
    for _ in range(5):
        logs = [-rng.expovariate(0.3) - 3.1 for _ in range(rng.randint(1, MOST))]
        shown = [{**USUAL, "logprob": log} for log in logs]
        tokens.append({**USUAL, "logprob": rng.choice([*logs, -4.0]), "top_logprobs": shown})
    assert quick_probabilities(tokens, MOST + 1) is not None
    assert np.array_equal(token_table(tokens)[0], read_slowly(tokens, monkeypatch)[0])


def test_too_many_alternatives_are_not_read_quickly():
    shown = [{**USUAL, "logprob": -4.0 - rank / 100} for rank in range(MOST + 1)]
    assert quick_probabilities([{**USUAL, "top_logprobs": shown}], MOST + 1) is None


def test_a_document_is_kept_for_its_own_answer_and_once():
    answer, same = (Answer(200, "application/json", b'{"a": 1}') for _ in range(2))
    documents = LastDocument()
    kept = documents.read(answer)
    assert documents.take(same) == kept
    assert documents.take(same) is not kept
    kept = documents.read(answer)
    assert documents.take(answer) is kept
    assert documents.take(answer) is not kept


@pytest.mark.parametrize("place", ["token", "alternative"])
def test_a_log_probability_that_is_no_number_is_refused(place):
    tokens = tokens_with({"logprob": float("nan")}, place)
    assert quick_probabilities(tokens, MOST + 1) is None
    with pytest.raises(AnswerError, match="not a number of 0 or less"):
        token_table(tokens)


@pytest.mark.parametrize("beside", [1e6, -1e6, float("inf")])
def test_what_stands_beside_a_log_probability_that_is_no_number_does_not_matter(beside):
    tokens = [{**USUAL, "logprob": float("nan"), "top_logprobs": [{"token": "a", "logprob": beside}]}]
    assert quick_probabilities(tokens, MOST + 1) is None
    with pytest.raises(AnswerError):
        token_table(tokens)
