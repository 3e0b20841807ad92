"""Generate the test vectors of the wire format, for implementations in any language.

    python vectors/make.py [DIRECTORY]

The output is reproducible byte for byte: the random generator is seeded, and no clock is read.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

from modeltoll import wire
from modeltoll.puzzle import functions, seal, squaring
from modeltoll.puzzle.counter import Argon2idCounter, Sha256Counter
from modeltoll.puzzle.hashcash import Hashcash
from modeltoll.puzzle.precomputed import PrecomputedPool
from modeltoll.puzzle.puzzle import SolveControl
from modeltoll.puzzle.solver import solve
from modeltoll.puzzle.timelock import TimeLock, Trapdoor
from modeltoll.records import Answer, MachineProfile, Work
from modeltoll.toll_records import Challenge, Solution, Toll

COMMAND = "python vectors/make.py"
SEED = 20220501
PROFILE = MachineProfile("vectors", "round numbers, so that the vectors stay small", 1000.0, {256: 1000.0}, 1000.0)
# Two primes, generated for this file and public.
P = (
    "fa6fa038f2f79ba1f6863d044061e3e0fafb261b3e506fe50accb2ed1315cd35"
    "d36ac1df9e002329f3d90bc33d3097c5af1c465df884d62ab37120d9e140498d"
    "91e24bc16306a05a0e39ea8ef001e1ca0282bfcae21dace341ab9e3ed4967903"
    "88415fcd0cc79eb7c064beaf2a15495018977e82bb873ec0cd058999b713c009"
)
Q = (
    "ef005036e954bdd2f3fc78393f49b87402a18f0ffdd5af809ed8a3639deed658"
    "651e32193b43f31903e098bece7940e25008266c29ba059dcd1ff92cd45cc8ca"
    "00420fea1e55e8dcad824d04088b07cd788f8b3885e225ca365a55fc0ca2235b"
    "42239bcd2ddd5908bbaa762da8d0539295fd587d74c9a51dc93d43c6f0d830f1"
)
ANSWERS = {
    "json": Answer(200, "application/json", b'{"predictions": [[0.9, 0.1]]}'),
    "binary": Answer(200, "application/octet-stream", bytes(range(256))),
    "empty": Answer(204, "", b""),
    "unicode": Answer(200, "application/json; charset=utf-8", '{"label": "Zürich ☃"}'.encode()),
}


SEALS = {"json": (b"receipt", 512), "binary": (bytes(range(110)), 0), "empty": (b"", 1024), "unicode": (b"", 0)}
PATHS = ("/v2/models/digits/infer", "/predict", wire.REDEEM_PATH)
EXPIRES = 1893456000


def challenges_by_name(rng: random.Random) -> dict[str, tuple[Challenge, Solution | None]]:
    """One challenge of every puzzle and shape by name, with its solution if the server knows it."""
    argon2id = Argon2idCounter(PROFILE, ladder=(256,), max_memory_kib=256)
    pool = PrecomputedPool(rng, memories_kib=(256,), depth=1)
    pool.fill()
    from_pool = Argon2idCounter(PROFILE, ladder=(256,), max_memory_kib=256, precomputed=pool)
    return {
        "argon2id, one part": argon2id.make(_work(0.012), rng),
        "argon2id, four parts": argon2id.make(_work(0.08), rng),
        "sha256, one part": Sha256Counter(PROFILE).make(_work(0.02), rng),
        "sha256, four parts, exact": Sha256Counter(PROFILE, disclose="exact").make(_work(1.5), rng),
        "sha256, blind": Sha256Counter(PROFILE, disclose="blind", blind_seconds=10.0).make(_work(0.5), rng),
        "hashcash": Hashcash(PROFILE).make(_work(0.7), rng),
        "hashcash, 9 bits": Hashcash(PROFILE, bits_only=True).make(_work(0.7), rng),
        "hashcash, SHA-1, 9 bits": Hashcash(PROFILE, digest="sha1", bits_only=True).make(_work(0.7), rng),
        "argon2id, made ahead": from_pool.make(_work(0.012), rng),
        "timelock": TimeLock(PROFILE, _trapdoor()).make(_work(0.3), rng),
    }


def challenges(rng: random.Random) -> list[dict[str, Any]]:
    """The canonical bytes of each challenge in each of its modes."""
    return [
        {"name": name, "mode": mode, "canonical": wire.canonical_challenge(challenge, mode).decode("ascii")}
        for name, (challenge, _) in challenges_by_name(rng).items()
        for mode in _modes(challenge)
    ]


def puzzles(rng: random.Random) -> list[dict[str, Any]]:
    """F(n) and its halves for counters of every width, the largest digest of hashcash bounds, and F of a time lock."""
    seed = rng.randbytes(functions.SEED_BYTES)
    rows: list[dict[str, Any]] = []
    for memory_kib in (0, 256, 1024):
        for n in (0, 1, 255, 256, 2**32, 2**53 - 1):
            value = functions.evaluate(seed, n, memory_kib)
            name = functions.ARGON2ID if memory_kib else functions.SHA256
            row = {"puzzle": name, "m_kib": memory_kib, "seed": seed.hex(), "n": n, "value": value.hex()}
            rows.append(row | {"check": functions.check_of(value).hex(), "secret": functions.secret_of(value).hex()})
    for name in functions.HASHCASHES:
        for bound in (1, 2, 3, 1000, 2**20, 2**48):
            largest = functions.largest_digest(bound, name).hex()
            rows.append({"puzzle": name, "bound": bound, "largest_digest": largest})
    trapdoor = _trapdoor()
    base = squaring.time_lock_base(seed, trapdoor.modulus)
    for squarings in (1, 1000):
        value = squaring.time_lock_value(trapdoor.power(base, squarings))
        lock = {"seed": seed.hex(), "modulus": f"{trapdoor.modulus:x}", "base": f"{base:x}", "squarings": squarings}
        rows.append({"puzzle": functions.TIMELOCK, **lock, "value": value.hex()})
    return rows


def seals(rng: random.Random) -> list[dict[str, Any]]:
    """Sealed answers, with the challenge's canonical bytes, its solution and its proof. ``length``: of the padding."""
    rows: list[dict[str, Any]] = []
    sealed = {name: pair for name, pair in challenges_by_name(rng).items() if pair[1] is not None}
    for name, (challenge, solution) in sealed.items():
        assert solution is not None
        associated = wire.canonical_challenge(challenge, wire.SEALED)
        for kind, answer in ANSWERS.items():
            receipt, length = SEALS[kind]
            payload = seal.seal_answer(answer, solution, associated, rng, receipt=receipt, length=length)
            rows.append(
                {
                    "name": f"{name}, {kind}",
                    "associated": associated.decode("ascii"),
                    "counters": list(solution.counters),
                    "secret": solution.secret.hex(),
                    "proof": seal.proof_of(solution).hex(),
                    "proof_digest": seal.digest_proof(seal.proof_of(solution)).hex(),
                    "status": answer.status,
                    "content_type": answer.content_type,
                    "body": answer.body.hex(),
                    "receipt": receipt.hex(),
                    "length": length,
                    "cargo": payload.hex(),
                }
            )
    return rows


def tolls(rng: random.Random) -> list[dict[str, Any]]:
    """Bodies of 402 responses with the path of their request, and what a client makes of them.

    Of sealed ones the answer and the receipt; of the others the body that redeems them.
    """
    rows: list[dict[str, Any]] = []
    for name, (challenge, solution) in challenges_by_name(rng).items():
        for mode in _modes(challenge):
            for settles in (False, True) if mode == wire.SEALED else (False,):
                title = f"{name}, receipt" if settles else name
                rows.append({"name": title, "mode": mode, **_toll(rng, (challenge, solution), mode, settles=settles)})
    made = challenges_by_name(rng)["argon2id, made ahead"]
    rows.append({"name": "admission", "mode": wire.REDEEM, **_toll(rng, made, wire.REDEEM, admission=True)})
    return rows


def _toll(
    rng: random.Random,
    made: tuple[Challenge, Solution | None],
    mode: str,
    *,
    settles: bool = False,
    admission: bool = False,
) -> dict[str, Any]:
    """The rest of the row of one toll."""
    challenge, known = made
    answer, path = ANSWERS["json"], PATHS[rng.randrange(len(PATHS))]
    solution = known or solve(challenge, SolveControl())
    row: dict[str, Any] = {"path": path, "counters": list(solution.counters), "secret": solution.secret.hex()}
    if mode == wire.SEALED:
        receipt = rng.randbytes(110) if settles else b""
        associated = wire.canonical_challenge(challenge, mode)
        payload = seal.seal_answer(answer, solution, associated, rng, receipt=receipt, length=1024)
        row |= {"answer": answer.body.decode("ascii"), "receipt": receipt.hex()}
    else:
        payload = rng.randbytes(40)
        solved: dict[str, Any] = (
            {"proof": seal.proof_of(solution)} if solution.secret else {"counters": solution.counters}
        )
        row |= {"token": payload.hex(), "redemption": wire.encode_redemption(payload, **solved).decode("ascii")}
        row |= {"admission": True} if admission else {}
    expires = EXPIRES if mode == wire.REDEEM else None
    toll = Toll(mode, challenge, payload, 1, 0.1, expires=expires, admission=admission, settles=settles)
    row["body"] = wire.encode_toll(toll, "a toll is due", path).decode("ascii")
    return row | {"authenticate": wire.format_authenticate(toll, "digits")}


def messages(rng: random.Random) -> list[dict[str, Any]]:
    """References, headers and bodies that clients read and write."""
    rows: list[dict[str, Any]] = [
        {"path": path, "target": target, "reference": wire.relative_reference(path, target)}
        for path in PATHS
        for target in (wire.REDEEM_PATH, wire.SETTLE_PATH)
    ]
    for receipts in (False, True):
        accept = wire.Accept(memory_kib=262144, receipts=receipts)
        rows.append({"memory_mib": 256, "receipts": receipts, "accept": wire.format_accept(accept)})
    for count in (1, 3, 16):
        shown = tuple(rng.randbytes(110) for _ in range(count))
        texts = {"settle": wire.format_settle(shown), "settlement": wire.encode_settlement(shown).decode("ascii")}
        rows.append({"returned": [receipt.hex() for receipt in shown], **texts})
    return rows


FILES = {
    "challenge.json": challenges,
    "message.json": messages,
    "puzzle.json": puzzles,
    "seal.json": seals,
    "toll.json": tolls,
}


def render(name: str) -> str:
    """The text of one file."""
    document = {"command": COMMAND, "seed": SEED, "vectors": FILES[name](random.Random(SEED))}  # noqa: S311  vectors are public
    return json.dumps(document, indent=1) + "\n"


def _modes(challenge: Challenge) -> tuple[str, ...]:
    return (wire.REDEEM,) if challenge.puzzle in wire.HASHCASHES else wire.MODES


def _trapdoor() -> Trapdoor:
    return Trapdoor(int(P, 16), int(Q, 16))


def _work(seconds: float) -> Work:
    return Work(seconds, 1, seconds)


def main(arguments: list[str]) -> None:
    """Write all files beside this one, or into the given directory."""
    directory = Path(arguments[0]) if arguments else Path(__file__).parent
    for name in FILES:
        (directory / name).write_text(render(name), encoding="ascii", newline="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
