"""A gateway reduced to its settlements, to be run as a process of its own.

    settling_process.py URL reserve COUNT     # reservations of one second
    settling_process.py URL show COUNT FIRST  # receipts of one row, numbered from FIRST

Prints a line after each settlement once it is acknowledged: 1 if it was admitted, else 0, and the settled rows.
"""

from __future__ import annotations

import asyncio
import os
import sys

from modeltoll.ledger.from_url import open_ledger
from modeltoll.records import Caller
from modeltoll.settlement_records import Receipt, Reservation

CALLER = Caller("key:shared")
NOW = 1_750_000_000.0
CREDIT = 1e9


async def main(url, act, count, first=0):
    async with open_ledger(url) as ledger:
        for number in range(first, first + count):
            if act == "reserve":
                admission = await ledger.settle(CALLER, (), Reservation(1.0, CREDIT), NOW)
            else:
                receipt = Receipt(number.to_bytes(16, "big"), NOW + 86_400.0, rows=1)
                admission = await ledger.settle(CALLER, (receipt,), None, NOW)
            os.write(1, f"{int(admission.admitted)} {admission.settled_rows}\n".encode())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])))
