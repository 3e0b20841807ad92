"""What the thieves over gRPC share: a tariff, a model whose scores its callers choose, and how replies and tolls are read."""

from __future__ import annotations

import json
import secrets
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import numpy as np

from grpc_gateway import infer_request, infer_response
from modeltoll import open_inference_messages as messages
from modeltoll import wire
from modeltoll.pricing.calibration import NewAccountToll
from modeltoll.pricing.fit import CalibrationTerms, RowCosts, fit_calibration
from modeltoll.puzzle.proof import proof_of
from modeltoll.records import Leaks
from modeltoll.toll_records import Solution

OK, UNPAID, DENIED = grpc.StatusCode.OK, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.PERMISSION_DENIED
UNIT, CREDIT = 0.0001, 10  # reference seconds of an average honest row, and units
AT_ONCE = 16
LEVELS = ([0.97, 0.01, 0.01, 0.01], [0.4, 0.3, 0.2, 0.1], [0.25, 0.25, 0.25, 0.25])  # cheap, dear, dearest


def thieves_calibration(anonymous_units=0.0):
    """Honest rows whose entropies lie between 0 and 1; ``anonymous_units``: of the new-account toll."""
    leaks = Leaks(("entropy",), np.random.default_rng(0).random((400, 1)))
    terms = CalibrationTerms(new_account_toll=NewAccountToll(anonymous_units=anonymous_units))
    return fit_calibration("digits", leaks, RowCosts(undefended_seconds=UNIT, unit_seconds=UNIT), terms)


def levelled(body, _context):
    """An answer whose scores the first number of each row chooses, and whose label the second one."""
    request = messages.ModelInferRequest.FromString(body)
    rows = np.frombuffer(request.raw_input_contents[0], "<f4").reshape(-1, 2)
    scores = [np.roll(LEVELS[int(level)], int(label)) for level, label in rows]
    return infer_response(scores, id=request.id).SerializeToString()


def at_once(send, *places):
    """The replies to the same call, sent many times at once to several places."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(send, places * (AT_ONCE // len(places))))


def standing(gateway, key):
    """What the ledger keeps of a caller."""
    account = httpx.get(f"{gateway.admin}/api/account", params={"caller": f"key:{key.removesuffix('-key')}"})
    return account.json() if account.is_success else {}


def row(level=0, label=0, count=1, name="1"):
    return infer_request([[level, label]] * count, id=name)


def guesses(toll):
    """Proofs that can be made of what is published, without an evaluation."""
    parts = toll.challenge.parts
    checks, seeds = b"".join(part.check for part in parts), b"".join(part.seed for part in parts)
    zeros = tuple([0] * len(parts))
    for secret in (checks, seeds, bytes(16 * len(parts))):
        yield wire.encode_redemption(toll.payload, proof=proof_of(Solution(zeros, secret)))
    for proof in ((checks * 2)[:32], (seeds * 2)[:32], bytes(32), toll.payload[:32], secrets.token_bytes(32)):
        yield wire.encode_redemption(toll.payload, proof=proof)
    for counter in range(20):
        yield wire.encode_redemption(toll.payload, counters=(counter,) * len(parts))


def objects(reply):
    """What a toll says beside its random members and its payload."""
    if reply.code is UNPAID:
        members = json.loads(reply.trailing[wire.GRPC_TOLL_KEY])
        assert len(reply.trailing[wire.GRPC_TOLL_KEY]) <= 7 << 10
    else:
        members = json.loads(reply.response.parameters["toll"].string_param)
        assert not reply.response.outputs
    puzzle = members["puzzle"]
    parts = [part["n"] for part in puzzle["parts"]]
    return {"mode": members["mode"], "rows": members["rows"], "seconds": members["typical_seconds"], "n": parts}
