"""What the solver, its kernels and its kept memory are worth, next to bare argon2-cffi and the altcha solver.

    python benchmarks/bench_puzzle.py [--seconds 0.2] [--repeats 9] [--draws 1000] [--json FILE]

Everything is measured in one process, turn by turn: each repeat runs all competitors of a table one after the other, so
that whatever else the machine does meets them alike. Rates are the best of the repeats, shares the median of the
repeats' own ratios. Install ``altcha`` for its lines; they are left out where it is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version

from argon2.low_level import Type, hash_secret_raw

from modeltoll.errors import SolveStopped
from modeltoll.puzzle.benchmark import measure_rate, measure_squarings
from modeltoll.puzzle.counter import LADDER, Argon2idCounter, Sha256Counter
from modeltoll.puzzle.hashcash import Hashcash
from modeltoll.puzzle.native_kernels import kernels
from modeltoll.puzzle.precomputed import PrecomputedPool
from modeltoll.puzzle.puzzle import SolveControl
from modeltoll.puzzle.solver import solve, solve_timelock
from modeltoll.puzzle.squaring import squarers
from modeltoll.puzzle.timelock import TimeLock, Trapdoor
from modeltoll.records import Challenge, MachineProfile, Part, Work

try:
    from altcha import v1 as altcha_v1
    from altcha import v2 as altcha_v2
except ModuleNotFoundError:
    altcha_v1 = altcha_v2 = None

UNIT = MachineProfile("unit", "an evaluation a second", 1.0, dict.fromkeys(LADDER, 1.0), 1.0)
FEWEST = 4  # evaluations behind a rate
WORK = 40.0  # expected evaluations of a puzzle of one part; four parts take four times as many


def counted(evaluate, cores, seconds):
    """Evaluations per second of plain loops, one thread per core."""
    ends, done = threading.Event(), [0] * cores
    begin = time.perf_counter()

    def loop(place):
        while not ends.is_set() and (time.perf_counter() - begin < seconds or sum(done) < FEWEST):
            evaluate(place + cores * done[place])
            done[place] += 1

    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(loop, range(cores)))
    return sum(done) / (time.perf_counter() - begin)


def bare_argon2id(memory, n):
    """One evaluation as a loop around argon2-cffi makes it."""
    return hash_secret_raw(n.to_bytes(8, "big"), bytes(16), 1, memory, 1, 32, Type.ID)


def altcha_argon2id(memory, cores, seconds):
    """Evaluations per second of altcha's own solver, in as many threads as cores, each with every cores-th counter."""
    challenge = altcha_v2.create_challenge("ARGON2ID", 1, memory_cost=memory, key_prefix="00" * 32)
    done = [0] * cores

    def loop(place):
        def derive(*given):
            done[place] += 1
            return altcha_v2.derive_key_argon2id(*given)

        altcha_v2.solve_challenge(challenge, derive, counter_start=place, counter_step=cores, timeout=seconds)

    begin = time.perf_counter()
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(loop, range(cores)))
    return sum(done) / (time.perf_counter() - begin)


def altcha_sha256(seconds):
    """Hashes per second of altcha's solver on a puzzle without solution."""
    most = max(1000, int(seconds * 400_000))
    begin = time.perf_counter()
    altcha_v1.solve_challenge("0" * 64, "0" * 24, "SHA-256", most)
    return most / (time.perf_counter() - begin)


def compare(competitors, repeats):
    """Best rate of each, and the median share of the first one's rate that the others reach in the same turn."""
    turns = [{name: rate() for name, rate in competitors.items()} for _ in range(repeats)]
    base = next(iter(competitors))
    return {
        name: {
            "per_second": float(f"{max(turn[name] for turn in turns):.4g}"),
            "share": round(statistics.median(turn[name] / turn[base] for turn in turns), 3),
        }
        for name in competitors
    }


def argon2id_table(seconds, repeats):
    """Some rungs on one core and on two: bare argon2-cffi, this solver, altcha's."""
    lines = []
    for memory in (256, 1024, 8192, 32768, 65536, 262144):
        for cores in (1, 2):
            competitors = {
                "argon2-cffi": partial(counted, partial(bare_argon2id, memory), cores, seconds),
                "modeltoll": partial(measure_rate, "argon2id", memory, cores, seconds, time.perf_counter),
            }
            if altcha_v2 is not None and memory <= 65536:
                competitors["altcha"] = partial(altcha_argon2id, memory, cores, seconds)
            lines.append({"memory_kib": memory, "cores": cores, **compare(competitors, repeats)})
    return lines


def sha256_table(seconds, repeats):
    """Every kernel, plain Python first; hashcash; altcha."""
    here = kernels()[::-1]
    clock = time.perf_counter
    lines = []
    for cores in (1, 2):
        competitors = {one.name: partial(measure_rate, "sha256", 0, cores, seconds, clock, one) for one in here}
        competitors["hashcash"] = partial(measure_rate, "hashcash", 0, cores, seconds, clock)
        competitors["hashcash-sha1"] = partial(measure_rate, "hashcash-sha1", 0, cores, seconds, clock)
        if altcha_v1 is not None and cores == 1:
            competitors["altcha"] = partial(altcha_sha256, seconds)
        lines.append({"cores": cores, **compare(competitors, repeats)})
    return lines


def squaring_table(seconds, repeats):
    """Squarings modulo 2048 bits."""
    return compare(
        {one.name: partial(measure_squarings, one, seconds, time.perf_counter) for one in squarers()[::-1]}, repeats
    )


def varied(puzzle, work, draws):
    """The CPU time and the evaluations that puzzles of one work take, and how they vary."""
    rng, seconds, counts = random.Random(7), [], []
    for _ in range(draws):
        challenge, _ = puzzle.make(Work(work, 1, work), rng)
        begin = time.thread_time()
        solution = puzzle.solve(challenge, SolveControl())
        seconds.append(time.thread_time() - begin)
        counts.append(sum(n + 1 for n in solution.counters))
    return {
        "puzzles": draws,
        "evaluations_mean": round(statistics.fmean(counts), 2),
        "evaluations_cv": round(statistics.stdev(counts) / statistics.fmean(counts), 3),
        "seconds_cv": round(statistics.stdev(seconds) / statistics.fmean(seconds), 3),
        "most_over_mean": round(max(counts) / work, 2),
    }


def variation_table(draws):
    """Solving puzzles of one work, one part and four, against theory."""
    argon2id = Argon2idCounter(UNIT, ladder=(256,), max_memory_kib=256)
    lock = TimeLock(UNIT, Trapdoor.generate())
    cases = [
        ("argon2id 256 KiB, one part", argon2id, WORK, 0.577),
        ("argon2id 256 KiB, four parts", argon2id, 4 * WORK, 0.289),
        ("sha256, one part", Sha256Counter(UNIT), WORK, 0.577),
        ("sha256, four parts", Sha256Counter(UNIT), 4 * WORK, 0.289),
        ("hashcash", Hashcash(UNIT), WORK, 1.0),
        ("timelock", lock, 100 * WORK, 0.0),
    ]
    return [{"puzzle": name, "theory": theory, **varied(puzzle, work, draws)} for name, puzzle, work, theory in cases]


def milliseconds(function, repeats):
    """The median time of a call."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return float(f"{1000 * statistics.median(times):.4g}")


def making_table(repeats):
    """What making and checking costs the server, and making from stock."""
    rng = random.Random(8)
    lines = []
    for memory in (256, 8192, 65536, 262144):
        stock = PrecomputedPool(rng, memories_kib=(memory,), depth=4 * repeats)
        puzzle = Argon2idCounter(UNIT, ladder=(memory,), max_memory_kib=memory)
        stocked = Argon2idCounter(UNIT, ladder=(memory,), max_memory_kib=memory, precomputed=stock)
        work = Work(4 * WORK, 1, 4 * WORK)
        challenge, solution = puzzle.make(work, rng)
        line = {
            "puzzle": f"argon2id {memory} KiB, four parts",
            "make_ms": milliseconds(partial(puzzle.make, work, rng), repeats),
            "check_ms": milliseconds(partial(puzzle.check, challenge, solution), repeats),
        }
        if memory >= 65536:
            stock.fill()
            line["from_stock_ms"] = milliseconds(partial(stocked.make, work, rng), repeats)
        lines.append(line)
    for name, puzzle in (
        ("sha256, four parts", Sha256Counter(UNIT)),
        ("timelock", TimeLock(UNIT, Trapdoor.generate())),
    ):
        challenge, solution = puzzle.make(work, rng)
        make, check = partial(puzzle.make, work, rng), partial(puzzle.check, challenge, solution)
        lines.append({"puzzle": name, "make_ms": milliseconds(make, 50), "check_ms": milliseconds(check, 50)})
    return lines


def cancelled(solver, seconds):
    """How long after the wish to stop the solver comes back, in milliseconds."""
    wish = threading.Event()
    threading.Timer(seconds, wish.set).start()
    asked = []

    def stop():
        if wish.is_set():
            asked.append(time.perf_counter())
        return wish.is_set()

    begin = time.perf_counter()
    try:
        solver(SolveControl(cancelled=stop, cores=solver.keywords["cores"]))
    except SolveStopped:
        return 1000 * max(0.0, time.perf_counter() - begin - seconds)
    raise AssertionError("it was not stopped")


def solve_endless(watch, puzzle, memory, cores, kernel=None, squarer=None):
    """A puzzle without solution."""
    del cores  # the watch has them
    part = Part(bytes(16), 2**52, b"" if puzzle.startswith("hashcash") else bytes(16))
    if squarer is not None:
        return solve_timelock(Challenge(puzzle, (part,), modulus=b"\xff" * 256), watch, squarer)
    costs = (1, 1) if memory else (0, 0)
    return solve(Challenge(puzzle, (part,), memory, *costs), watch, kernel)


def cancelling_table(repeats):
    """From the wish to stop to the end, on every path."""
    paths = [("argon2id", {"memory": memory}, f"{memory} KiB") for memory in (256, 8192, 65536, 262144)]
    paths += [("sha256", {"memory": 0, "kernel": kernel}, kernel.name) for kernel in kernels()]
    paths += [("hashcash-sha1", {"memory": 0}, "python")]
    paths += [("timelock", {"memory": 0, "squarer": squarer}, squarer.name) for squarer in squarers()]
    lines = []
    for puzzle, given, what in paths:
        for cores in (1, 2):
            solver = partial(solve_endless, puzzle=puzzle, cores=cores, **given)
            times = [cancelled(solver, 0.1) for _ in range(repeats)]
            best, worst = round(statistics.median(times), 1), round(max(times), 1)
            lines.append({"path": f"{puzzle} {what}", "cores": cores, "median_ms": best, "worst_ms": worst})
    return lines


def measure(seconds, repeats, draws):
    """All tables."""
    return {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version(), "argon2-cffi": version("argon2-cffi")}
        | ({"altcha": version("altcha")} if altcha_v2 else {}),
        "command": f"python benchmarks/bench_puzzle.py --seconds {seconds:g} --repeats {repeats} --draws {draws}",
        "argon2id": argon2id_table(seconds, repeats),
        "sha256": sha256_table(seconds, repeats),
        "squarings": squaring_table(seconds, repeats),
        "variation": variation_table(draws),
        "making": making_table(5),
        "cancelling": cancelling_table(5),
    }


def main():
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description="What the solver is worth.")
    parser.add_argument("--seconds", type=float, default=0.2, help="how long to measure each rate")
    parser.add_argument("--repeats", type=int, default=9, help="turns of each table")
    parser.add_argument("--draws", type=int, default=1000, help="puzzles behind a coefficient of variation")
    parser.add_argument("--json", metavar="FILE", help="also write the result; - for standard output alone")
    given = parser.parse_args()
    result = measure(given.seconds, given.repeats, given.draws)
    text = json.dumps(result, indent=1) + "\n"
    if given.json == "-":
        sys.stdout.write(text)
        return
    for name, table in result.items():
        print(name)
        for line in table if isinstance(table, list) else [table]:
            print("  ", line if isinstance(line, str) else json.dumps(line))
    if given.json:
        with open(given.json, "w", encoding="ascii") as file:  # noqa: PTH123  a script
            file.write(text)


if __name__ == "__main__":
    main()
