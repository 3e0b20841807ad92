"""The files in vectors/ fix the wire byte for byte; other languages read them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from urllib.parse import urljoin

import pytest

from modeltoll import wire
from modeltoll.puzzle import functions, seal, squaring
from modeltoll.puzzle.puzzle import SolveControl
from modeltoll.puzzle.solver import solve
from modeltoll.records import Answer
from modeltoll.toll_records import Solution

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
    payload = bytes.fromhex(row["cargo"])
    opened = seal.open_answer(payload, solution, row["associated"].encode("ascii"))
    assert opened == seal.OpenedAnswer(answer, bytes.fromhex(row["receipt"]))
    assert seal.proof_of(solution).hex() == row["proof"]
    assert seal.digest_proof(seal.proof_of(solution)).hex() == row["proof_digest"]
    content = 14 + len(answer.content_type) + len(opened.receipt) + len(answer.body)
    assert len(payload) == 12 + max(row["length"], content) + 16


@pytest.mark.parametrize("row", vectors("toll"), ids=named)
def test_whole_tolls_can_be_paid(row):
    """Decode the body, solve the puzzle, and open the seal or redeem: all that another language's client must do."""
    toll = wire.decode_toll(row["body"].encode("ascii"))
    solution = solve(toll.challenge, SolveControl())
    assert (toll.mode, toll.admission) == (row["mode"], row.get("admission", False))
    assert wire.format_authenticate(toll, "digits") == row["authenticate"]
    assert (list(solution.counters), solution.secret.hex()) == (row["counters"], row["secret"])
    if row["mode"] == wire.REDEEM:
        assert toll.payload.hex() == row["token"]
        assert toll.redeem == wire.relative_reference(row["path"], wire.REDEEM_PATH)
        solved = {"proof": seal.proof_of(solution)} if solution.secret else {"counters": solution.counters}
        assert wire.encode_redemption(toll.payload, **solved).decode("ascii") == row["redemption"]
        return
    opened = seal.open_answer(toll.payload, solution, wire.canonical_challenge(toll.challenge, toll.mode))
    assert opened.answer.body.decode("ascii") == row["answer"]
    assert opened.receipt.hex() == row["receipt"]
    assert toll.settles == bool(opened.receipt)
    assert toll.settle == (wire.relative_reference(row["path"], wire.SETTLE_PATH) if toll.settles else "")


@pytest.mark.parametrize("row", vectors("message"), ids=str)
def test_headers_and_bodies_are_read_and_written_alike(row):
    if "reference" in row:
        assert wire.relative_reference(row["path"], row["target"]) == row["reference"]
        assert urljoin(f"https://host/below{row['path']}", row["reference"]) == f"https://host/below{row['target']}"
    elif "accept" in row:
        accept = wire.Accept(memory_kib=1024 * row["memory_mib"], receipts=row["receipts"])
        assert wire.parse_accept(row["accept"]) == accept
        assert wire.format_accept(accept) == row["accept"]
    else:
        receipts = tuple(bytes.fromhex(receipt) for receipt in row["returned"])
        assert wire.parse_settle(row["settle"]) == wire.decode_settlement(row["settlement"].encode()) == receipts
