"""Benchmark the solver, its kernels and its reused memory against plain argon2-cffi and the altcha solver.

    python benchmarks/bench_puzzle.py [--seconds 0.2] [--repeats 9] [--draws 1000] [--native-python PYTHON] [--json FILE]

All measurements run in one process, except those of another interpreter. Each repeat runs all competitors of a table in
turn, so that other load affects them equally. Rates are the best of the repeats, shares the median of the ratios per
repeat. The lines of ``altcha`` need that package; without it they are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path

from argon2.low_level import Type, hash_secret_raw

import modeltoll
from modeltoll.errors import SolveStopped
from modeltoll.puzzle.benchmark import measure_rate, measure_squarings
from modeltoll.puzzle.counter import LADDER, Argon2idCounter, Sha256Counter
from modeltoll.puzzle.hashcash import Hashcash
from modeltoll.puzzle.native_argon2id import argon2id_kernels
from modeltoll.puzzle.native_kernels import PYTHON, kernels
from modeltoll.puzzle.precomputed import PrecomputedPool
from modeltoll.puzzle.puzzle import SolveControl
from modeltoll.puzzle.solver import solve, solve_timelock
from modeltoll.puzzle.squaring import squarers
from modeltoll.puzzle.timelock import TimeLock, Trapdoor
from modeltoll.records import MachineProfile, Work
from modeltoll.toll_records import Challenge, Part

try:
    from altcha import v1 as altcha_v1
    from altcha import v2 as altcha_v2
except ModuleNotFoundError:
    altcha_v1 = altcha_v2 = None

UNIT = MachineProfile("unit", "an evaluation a second", 1.0, dict.fromkeys(LADDER, 1.0), 1.0)
MIN_EVALUATIONS = 4  # per rate
WORK = 40.0  # expected evaluations of a puzzle of one part; four parts take four times as many


def counted(evaluate, cores, seconds):
    """Evaluations per second of plain loops, one thread per core."""
    stop_signal, done = threading.Event(), [0] * cores
    begin = time.perf_counter()

    def loop(place):
        while not stop_signal.is_set() and (time.perf_counter() - begin < seconds or sum(done) < MIN_EVALUATIONS):
            evaluate(place + cores * done[place])
            done[place] += 1

    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(loop, range(cores)))
    return sum(done) / (time.perf_counter() - begin)


def bare_argon2id(memory, n):
    """One evaluation by argon2-cffi."""
    return hash_secret_raw(n.to_bytes(8, "big"), bytes(16), 1, memory, 1, 32, Type.ID)


def altcha_argon2id(memory, cores, seconds):
    """Evaluations per second of altcha's solver, with one thread per core, each of which takes every cores-th counter."""
    challenge = altcha_v2.create_challenge("ARGON2ID", 1, memory_cost=memory, key_prefix="00" * 32)
    done = [0] * cores

    def loop(place):
        def derive(*settings):
            done[place] += 1
            return altcha_v2.derive_key_argon2id(*settings)

        altcha_v2.solve_challenge(challenge, derive, counter_start=place, counter_step=cores, timeout=seconds)

    begin = time.perf_counter()
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(loop, range(cores)))
    return sum(done) / (time.perf_counter() - begin)


def altcha_sha256(seconds):
    """Hashes per second of altcha's solver on a puzzle without a solution."""
    most = max(1000, int(seconds * 400_000))
    begin = time.perf_counter()
    altcha_v1.solve_challenge("0" * 64, "0" * 24, "SHA-256", most)
    return most / (time.perf_counter() - begin)


def compare(competitors, repeats):
    """The best rate of each competitor, and the median ratio to the first one's rate in the same turn."""
    turns = [{name: rate() for name, rate in competitors.items()} for _ in range(repeats)]
    base = next(iter(competitors))
    return {
        name: {
            "per_second": float(f"{max(turn[name] for turn in turns):.4g}"),
            "share": round(statistics.median(turn[name] / turn[base] for turn in turns), 3),
        }
        for name in competitors
    }


def counted_elsewhere(python, memory, cores, seconds):
    """As ``counted`` of ``bare_argon2id``, by the argon2-cffi of another interpreter."""
    code = (
        "from functools import partial; from bench_puzzle import bare_argon2id, counted; "
        f"print(counted(partial(bare_argon2id, {memory}), {cores}, {seconds}))"
    )
    paths = os.pathsep.join((str(Path(__file__).parent), str(Path(modeltoll.__file__).parents[1])))
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run([python, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def argon2id_table(seconds, repeats, native_python=None):
    """Some rungs on one core and on two: plain argon2-cffi, this solver with and without its kernel, altcha."""
    lines = []
    for memory in (256, 1024, 8192, 32768, 65536, 262144):
        for cores in (1, 2):
            competitors = {
                "argon2-cffi": partial(counted, partial(bare_argon2id, memory), cores, seconds),
                "modeltoll": partial(measure_rate, "argon2id", memory, cores, seconds, time.perf_counter),
                "modeltoll, no kernel": partial(
                    measure_rate, "argon2id", memory, cores, seconds, time.perf_counter, PYTHON
                ),
            }
            if native_python:
                competitors["argon2-cffi, -march=native"] = partial(
                    counted_elsewhere, native_python, memory, cores, seconds
                )
            if altcha_v2 is not None and memory <= 65536:
                competitors["altcha"] = partial(altcha_argon2id, memory, cores, seconds)
            lines.append({"memory_kib": memory, "cores": cores, **compare(competitors, repeats)})
    return lines


def sha256_table(seconds, repeats):
    """Every kernel, pure Python first; hashcash; altcha."""
    available = kernels()[::-1]
    clock = time.perf_counter
    lines = []
    for cores in (1, 2):
        competitors = {one.name: partial(measure_rate, "sha256", 0, cores, seconds, clock, one) for one in available}
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


def variation_of(puzzle, work, draws):
    """The processor time and the evaluations of puzzles of the same work, and their variation."""
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
    """The variation of puzzles of the same work with one part and with four, beside theory."""
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
    return [
        {"puzzle": name, "theory": theory, **variation_of(puzzle, work, draws)} for name, puzzle, work, theory in cases
    ]


def milliseconds(function, repeats):
    """The median time of a call in milliseconds."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return float(f"{1000 * statistics.median(times):.4g}")


def making_table(repeats):
    """The server's time for making and checking, and for making from precomputed evaluations."""
    rng = random.Random(8)
    lines = []
    for memory in (256, 8192, 65536, 262144):
        pool = PrecomputedPool(rng, memories_kib=(memory,), depth=4 * repeats)
        puzzle = Argon2idCounter(UNIT, ladder=(memory,), max_memory_kib=memory)
        from_pool = Argon2idCounter(UNIT, ladder=(memory,), max_memory_kib=memory, precomputed=pool)
        work = Work(4 * WORK, 1, 4 * WORK)
        challenge, solution = puzzle.make(work, rng)
        line = {
            "puzzle": f"argon2id {memory} KiB, four parts",
            "make_ms": milliseconds(partial(puzzle.make, work, rng), repeats),
            "check_ms": milliseconds(partial(puzzle.check, challenge, solution), repeats),
        }
        if memory >= 65536:
            pool.fill()
            line["from_stock_ms"] = milliseconds(partial(from_pool.make, work, rng), repeats)
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
    """The time from the request to stop until the solver returns, in milliseconds."""
    stop_requested = threading.Event()
    threading.Timer(seconds, stop_requested.set).start()
    begin = time.perf_counter()
    try:
        solver(SolveControl(cancelled=stop_requested.is_set, cores=solver.keywords["cores"]))
    except SolveStopped:
        return 1000 * max(0.0, time.perf_counter() - begin - seconds)
    raise AssertionError("it was not stopped")


def solve_endless(control, puzzle, memory, cores, kernel=None, squarer=None):
    """Solve a puzzle without a solution."""
    del cores  # they are in the control
    part = Part(bytes(16), 2**52, b"" if puzzle.startswith("hashcash") else bytes(16))
    if squarer is not None:
        return solve_timelock(Challenge(puzzle, (part,), modulus=b"\xff" * 256), control, squarer)
    costs = (1, 1) if memory else (0, 0)
    return solve(Challenge(puzzle, (part,), memory, *costs), control, kernel)


def cancelling_table(repeats):
    """The time from the request to stop until the end, for every type of search."""
    paths = [("argon2id", {"memory": memory}, f"{memory} KiB") for memory in (256, 8192, 65536, 262144)]
    paths += [("sha256", {"memory": 0, "kernel": kernel}, kernel.name) for kernel in kernels()]
    paths += [("hashcash-sha1", {"memory": 0}, "python")]
    paths += [("timelock", {"memory": 0, "squarer": squarer}, squarer.name) for squarer in squarers()]
    lines = []
    for puzzle, settings, what in paths:
        for cores in (1, 2):
            solver = partial(solve_endless, puzzle=puzzle, cores=cores, **settings)
            times = [cancelled(solver, 0.1) for _ in range(repeats)]
            best, worst = round(statistics.median(times), 1), round(max(times), 1)
            lines.append({"path": f"{puzzle} {what}", "cores": cores, "median_ms": best, "worst_ms": worst})
    return lines


def measure(seconds, repeats, draws, native_python=None):
    """All tables."""
    return {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version(), "argon2-cffi": version("argon2-cffi")}
        | ({"altcha": version("altcha")} if altcha_v2 else {}),
        "command": f"python benchmarks/bench_puzzle.py --seconds {seconds:g} --repeats {repeats} --draws {draws}"
        + (" --native-python PYTHON" if native_python else ""),
        "kernels": {"sha256": kernels()[0].name, "argon2id": (*argon2id_kernels(), "argon2-cffi")[0]},
        "argon2id": argon2id_table(seconds, repeats, native_python),
        "sha256": sha256_table(seconds, repeats),
        "squarings": squaring_table(seconds, repeats),
        "variation": variation_table(draws),
        "making": making_table(5),
        "cancelling": cancelling_table(5),
    }


def main():
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description="Benchmark the solver.")
    parser.add_argument("--seconds", type=float, default=0.2, help="duration of each measurement")
    parser.add_argument("--repeats", type=int, default=9, help="repeats of each table")
    parser.add_argument("--draws", type=int, default=1000, help="puzzles per coefficient of variation")
    parser.add_argument(
        "--native-python",
        metavar="PYTHON",
        help="an interpreter whose argon2-cffi was built with CFLAGS='-O3 -march=native', as a further competitor",
    )
    parser.add_argument("--json", metavar="FILE", help="also write the result; - for standard output alone")
    arguments = parser.parse_args()
    result = measure(arguments.seconds, arguments.repeats, arguments.draws, arguments.native_python)
    text = json.dumps(result, indent=1) + "\n"
    if arguments.json == "-":
        sys.stdout.write(text)
        return
    for name, table in result.items():
        print(name)
        for line in table if isinstance(table, list) else [table]:
            print("  ", line if isinstance(line, str) else json.dumps(line))
    if arguments.json:
        with open(arguments.json, "w", encoding="ascii") as file:  # noqa: PTH123  a script
            file.write(text)


if __name__ == "__main__":
    main()
