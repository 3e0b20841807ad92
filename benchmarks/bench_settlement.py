"""Settlement: what thieves get who pay no toll, what those work who pay, and what honest callers notice.

    python benchmarks/bench_settlement.py [--parts theft callers] [--rows 600] [--accounts 1 50] [--unit-ms 0.05]
        [--clients httpx requests aiohttp sidecar node] [--repetitions 7] [--block 200] [--json FILE]

**Theft.** 600 patches of scikit-learn's photographs are stolen from a network on its digits, behind ``modeltoll serve`` with
entropy and novelty, with one account and with 50. Thieves who *play along* use the real client, without keys, each from a
network of its own. *Done* is the number of evaluations up to the counters that were found, divided by the rate of the
machine profile; *promised* is the sum over the ledger's log, new-account tolls included. The unit is ``--unit-ms``, far
smaller than that of a real model, so that the whole takes minutes. Thieves who *do not play along* have keys, and a unit of
5 ms: they throw tolls away, and try counters, proofs and lengths, without any evaluation.

**Callers.** Each client posts honest rows one after the other, in alternating blocks: with receipts; without announcing them
(redeem mode); and with receipts dropped at a gateway whose credit nobody uses up, which is as good as no settlement. Ratios
are to the latter, within one repetition. Processor time of the gateway is without the thread of lower priority that computes
puzzles ahead. Then batches within the credit, several at once, batches of 10,000 rows, and callers who refuse dear tolls.
Needs Linux, and for the Node client ``make js``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path

from settlement_callers import CLIENTS, honest_callers
from settlement_theft import playing_along, refusing_to_play

PARTS = ("theft", "callers")
# Of the version before proofs and settlement, with one account, measured on 2026-11-29: all answers in some 20 s.
BEFORE = {"accounts": 1, "rows": 600, "answers": 600, "evaluations": 0}


def theft(given):
    """Both kinds of thieves."""
    playing, refusing = [], []
    for accounts in given.accounts:
        playing.append(playing_along(given.rows, accounts, given.unit_ms / 1000))
        print(playing[-1], file=sys.stderr)
        for fillers in (True, False):
            refusing.append(refusing_to_play(given.rows, accounts, fillers=fillers))
            print(refusing[-1], file=sys.stderr)
    return {"playing_along": playing, "not_playing_along": refusing, "before": BEFORE}


def command(given):
    """The command that makes this result again."""
    return (
        f"python benchmarks/bench_settlement.py --parts {' '.join(given.parts)} --rows {given.rows} "
        f"--accounts {' '.join(map(str, given.accounts))} --unit-ms {given.unit_ms:g} --clients {' '.join(given.clients)} "
        f"--repetitions {given.repetitions} --block {given.block}"
    )


def show(result):
    """Everything for people, as lines."""
    for part in PARTS:
        for name, lines in result.get(part, {}).items():
            print(f"{part}: {name}")
            for line in lines if isinstance(lines, list) else [lines]:
                print(f"  {line}")


def main():
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(
        description="What settlement keeps from thieves, and what honest callers notice of it."
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rows", type=int, default=600, help="patches to steal")
    parser.add_argument("--accounts", nargs="+", type=int, default=[1, 50], help="accounts to steal with, at most 64")
    parser.add_argument("--unit-ms", type=float, default=0.05, help="work of an average row, of thieves who play along")
    parser.add_argument("--clients", nargs="+", choices=CLIENTS, default=list(CLIENTS))
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--block", type=int, default=200, help="requests in a block")
    parser.add_argument("--json", metavar="FILE", help="also write the result; - for standard output alone")
    given = parser.parse_args()
    result = {
        "command": command(given),
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 1),
    }
    if "theft" in given.parts:
        result["theft"] = theft(given)
    if "callers" in given.parts:
        result["callers"] = honest_callers(given.clients, given.repetitions, given.block)
    if given.json != "-":
        show(result)
    if given.json:
        text = json.dumps(result, indent=2) + "\n"
        sys.stdout.write(text) if given.json == "-" else Path(given.json).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
