"""What a ledger does to the evidence of an account, in plain Python: rows are counted, blocks end, evidence is added.

``sizes``: the lengths of the blocks, which tests shorten.
"""

from __future__ import annotations

import dataclasses
import math

from modeltoll.evidence_records import RESTART_ROWS, EvidenceState, FinishedBlock
from modeltoll.records import Account, Caller


def new_state(cells, sizes=RESTART_ROWS):
    """The evidence of an account without rows."""
    nothing = (0,) * cells
    return EvidenceState(nothing, (nothing,) * len(sizes), (1,) * len(sizes), (None,) * len(sizes), since=0.0)


def advanced(state, cells, sizes=RESTART_ROWS):
    """The state after a request with rows in these cells: a block ends with the request in which it is full."""

    def added(counts):
        return tuple(count + cells.count(cell) for cell, count in enumerate(counts))

    blocks, numbers, finished = list(state.blocks), list(state.numbers), list(state.finished)
    for place, size in enumerate(sizes):
        blocks[place] = added(blocks[place])
        if sum(blocks[place]) >= size:
            finished[place] = FinishedBlock(numbers[place], blocks[place])
            blocks[place] = (0,) * state.cells
            numbers[place] += 1
    return dataclasses.replace(
        state, counts=added(state.counts), blocks=tuple(blocks), numbers=tuple(numbers), finished=tuple(finished)
    )


def folded(state, blocks):
    """The state after the evidence of finished blocks is added."""
    finished, log = list(state.finished), state.finished_log
    for block in blocks:
        assert finished[block.restart].number == block.number
        finished[block.restart] = None
        if block.log_term > -math.inf:
            high = max(log, block.log_term)
            log = high + math.log(math.exp(log - high) + math.exp(block.log_term - high))
    return dataclasses.replace(state, finished=tuple(finished), finished_log=log)


def account_of(state, name="key:a", **changes):
    """An account with this evidence."""
    rows = state.rows
    return Account(Caller(name), "model", rows, rows, (), state, 0.0, "tariff", 0.0, 0.0, **changes)
