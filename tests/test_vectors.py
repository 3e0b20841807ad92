"""The files in vectors/ fix the wire byte for byte; other languages read them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from modeltoll import wire
from modeltoll.puzzle import functions, seal, squaring
from modeltoll.puzzle.puzzle import SolveControl
from modeltoll.puzzle.solver import solve
from modeltoll.records import Answer, Solution

FOLDER = Path(__file__).parents[1] / "vectors"


def load_maker():
    spec = importlib.util.spec_from_file_location("vectors_make", FOLDER / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKER = load_maker()


def vectors(name):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="ascii"))["vectors"]


def named(row):
    return " ".join(
        str(row[key]) for key in ("name", "mode", "puzzle", "m_kib", "n", "bound", "squarings") if key in row
    )


@pytest.mark.parametrize("name", MAKER.FILES)
def test_the_command_in_each_file_makes_it_again_byte_for_byte(name, tmp_path):
    MAKER.main([str(tmp_path)])
    assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes()
    assert json.loads((FOLDER / name).read_bytes())["command"] == MAKER.COMMAND


@pytest.mark.parametrize("row", vectors("challenge"), ids=named)
def test_canonical_bytes_are_read_and_written_alike(row):
    """The canonical form is itself valid JSON whose puzzle decodes to the challenge that writes it."""
    document = json.loads(row["canonical"])
    challenge = wire.decode_challenge(document["puzzle"])
    assert document["mode"] == row["mode"]
    assert wire.canonical_challenge(challenge, row["mode"]) == row["canonical"].encode("ascii")


@pytest.mark.parametrize("row", vectors("puzzle"), ids=named)
def test_functions_have_their_published_values(row):
    if row["puzzle"] in functions.HASHCASHES:
        assert functions.largest_digest(row["bound"], row["puzzle"]).hex() == row["largest_digest"]
        return
    if row["puzzle"] == functions.TIMELOCK:
        modulus, base = int(row["modulus"], 16), int(row["base"], 16)
        assert squaring.time_lock_base(bytes.fromhex(row["seed"]), modulus) == base
        assert squaring.time_lock_value(pow(base, 1 << row["squarings"], modulus)).hex() == row["value"]
        return
    value = functions.evaluate(bytes.fromhex(row["seed"]), row["n"], row["m_kib"])
    assert value.hex() == row["value"]
    assert functions.check_of(value).hex() == row["check"]


@pytest.mark.parametrize("row", vectors("seal"), ids=named)
def test_seals_open_to_their_answers(row):
    answer = Answer(row["status"], row["content_type"], bytes.fromhex(row["body"]))
    solution = Solution(tuple(row["counters"]), bytes.fromhex(row["secret"]))
    assert seal.open_answer(bytes.fromhex(row["cargo"]), solution, row["associated"].encode("ascii")) == answer


@pytest.mark.parametrize("row", vectors("toll"), ids=named)
def test_whole_tolls_can_be_paid(row):
    """Decode the body, solve the puzzle, and open the seal: all that a client in another language must do."""
    toll = wire.decode_toll(row["body"].encode("ascii"))
    solution = solve(toll.challenge, SolveControl())
    assert (toll.mode, toll.admission) == (row["mode"], row.get("entry", False))
    assert wire.format_authenticate(toll, "digits") == row["authenticate"]
    if row["mode"] == wire.REDEEM:
        assert toll.payload.hex() == row["token"]
        return
    assert list(solution.counters) == row["counters"]
    opened = seal.open_answer(toll.payload, solution, wire.canonical_challenge(toll.challenge, toll.mode))
    assert opened.body.decode("ascii") == row["answer"]
