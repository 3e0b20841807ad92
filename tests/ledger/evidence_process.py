"""A gateway reduced to charges and the bills that fold their blocks, to be run as a process of its own.

    evidence_process.py URL wait ROWS         # one charge of so many rows, and never its bill
    evidence_process.py URL fold COUNT FIRST  # charges of 40 rows, numbered from FIRST, each with its bill

Prints the rows counted so far after each charge, and again after its bill.
"""

from __future__ import annotations

import asyncio
import os
import sys

from modeltoll.ledger.from_url import open_ledger
from modeltoll.records import Caller
from modeltoll.testing.ledger_charges import make_charge, make_log_entry
from modeltoll.testing.ledger_evidence import folding_updates

CALLER = Caller("key:shared", groups=("org:shared",))
ROWS = 40


async def main(url, act, count, first=0):
    async with open_ledger(url) as ledger:
        if act == "wait":
            account = await ledger.charge(CALLER, make_charge(*range(count)))
            os.write(1, f"{account.evidence.rows}\n".encode())
            await asyncio.Event().wait()  # until it is killed
        for number in range(first, first + count):
            account = await ledger.charge(CALLER, make_charge(*range(ROWS * number, ROWS * (number + 1))))
            os.write(1, f"{account.evidence.rows}\n".encode())
            await ledger.bill(CALLER, make_log_entry(1.0), None, folding_updates(account))
            os.write(1, f"{account.evidence.rows}\n".encode())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])))
