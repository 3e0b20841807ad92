"""A gateway reduced to its charges, to be run as a process of its own.

    charging_process.py STORE CALLER COUNT [--at-once N] [--user UID] [--file-limit BYTES]

Prints the row count after each charge once it is acknowledged, or what the ledger refused with. COUNT charges are made N at
once, by default one after the other. With a limit on the size of files (a disk that is full) it lifts the limit at the first
refusal and goes on. STORE is a SQLite file or a ledger's URL.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
from pathlib import Path

from modeltoll.errors import LedgerError
from modeltoll.ledger.from_url import ledger_from_url
from modeltoll.ledger.sqlite import SqliteLedger
from modeltoll.records import Caller, Charge


def say(line):
    os.write(1, f"{line}\n".encode())  # nothing stays in a buffer when the process is killed


def lift_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


async def charge(ledger, caller, number):
    fingerprint = f"{caller[:4]:_<4}".encode() + number.to_bytes(4, "big")
    entry = Charge("m", 1, (0.5,), (number % 3,), (fingerprint,), 3, "t", 1e9)
    try:
        say((await ledger.charge(Caller("key:shared"), entry)).rows)
    except LedgerError as error:
        say(error)
        lift_limit()


async def charge_all(store, caller, count, at_once):
    ledger = ledger_from_url(store) if "://" in store else SqliteLedger(Path(store))
    try:
        await ledger.open()
        for start in range(0, count, at_once):
            await asyncio.gather(*(charge(ledger, caller, number) for number in range(start, start + at_once)))
    except LedgerError as error:
        say(error)
    finally:
        await ledger.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("store")
    parser.add_argument("caller")
    parser.add_argument("count", type=int)
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--user", type=int)
    parser.add_argument("--file-limit", type=int)
    given = parser.parse_args()
    if given.file_limit is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (given.file_limit, hard))
    if given.user is not None:
        os.setgroups([])
        os.setegid(given.user)
        os.seteuid(given.user)
    asyncio.run(charge_all(given.store, given.caller, given.count, given.at_once))


if __name__ == "__main__":
    main()
