"""The arithmetic of evidence: pure functions that every ledger implementation follows.

For each account a ledger stores an ``EvidenceState``. ``charge`` counts the fresh rows in it, ``bill`` stores what a tariff
concluded from it. A ledger that computes elsewhere, such as in SQL or Lua, does the same operations in the same order, so
that each number is the same.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from modeltoll.evidence_records import RESTART_ROWS, EvidenceState, FinishedBlock

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from modeltoll.evidence_records import EvidenceUpdate

__all__ = ["add_logs", "check_updates", "counted", "restarted", "updated"]

_LARGEST = 1e15  # of a logarithm
_MOST_BLOCKS = 2**53  # a number above is no number of a block
_NEGLIGIBLE = -700.0  # a difference of logarithms below which the smaller one adds nothing


def check_updates(accounts: Iterable[str], updates: Sequence[EvidenceUpdate]) -> None:
    """Validate the updates of a bill. ``accounts``: the names of the accounts of the caller and of its groups.

    Raises:
        ValueError: the update of another account, or two of one account; a logarithm that is NaN, plus infinity, or beyond
            1e15; or a block of no restart, or without a number.
    """
    names = [update.account for update in updates]
    if len(set(names)) < len(names) or not set(names) <= set(accounts):
        raise ValueError("a bill updates accounts of its caller and of the caller's groups, each once")
    for update in updates:
        if not all(map(_is_logarithm, (update.log_evidence, *(block.log_term for block in update.folded)))):
            raise ValueError("the logarithms of evidence must be finite and of a usual size, or minus infinity")
        for block in update.folded:
            if not (0 <= block.restart < len(RESTART_ROWS) and 1 <= block.number < _MOST_BLOCKS):
                raise ValueError("a folded block needs a restart and a number from 1 up")


def restarted(before: EvidenceState, cells: int, at: float, period: float, *, same: bool) -> EvidenceState:
    """The state in which rows of the time ``at`` are counted: ``before``, or one that starts anew.

    ``same``: whether the tariff and its cells are still the same. Evidence of another tariff is carried, so that a new
    tariff is no amnesty. Evidence that is ``period`` seconds old is dropped.
    """
    if at - before.since >= period:
        return EvidenceState.new(cells, at)
    if same:
        return before
    if before.rows == 0 and before.carried_log is None:  # there is nothing to carry
        return EvidenceState.new(cells, at)
    carried = before.log_evidence
    return replace(EvidenceState.new(cells, at, carried), log_evidence=carried)


def counted(state: EvidenceState, cells: Iterable[int]) -> EvidenceState:
    """The state with fresh rows of these cells. Blocks that have reached their rows end, where their slot is empty."""
    rows = tuple(cells)
    counts = _added(state.counts, rows)
    blocks = [_added(block, rows) for block in state.blocks]
    numbers, finished = state.numbers, state.finished
    for restart, size in enumerate(RESTART_ROWS):
        if finished[restart] is None and sum(blocks[restart]) >= size:
            ended = FinishedBlock(numbers[restart], blocks[restart])
            finished = (*finished[:restart], ended, *finished[restart + 1 :])
            numbers = (*numbers[:restart], numbers[restart] + 1, *numbers[restart + 1 :])
            blocks[restart] = (0,) * len(counts)
    return EvidenceState(
        counts=counts,
        blocks=tuple(blocks),
        numbers=numbers,
        finished=finished,
        since=state.since,
        finished_log=state.finished_log,
        log_evidence=state.log_evidence,
        carried_log=state.carried_log,
    )


def updated(state: EvidenceState, update: EvidenceUpdate) -> EvidenceState:
    """The state after a valid update, whose tariff is that of the account. See ``EvidenceUpdate``."""
    finished, finished_log = list(state.finished), state.finished_log
    for folded in update.folded:
        block = finished[folded.restart]
        if block is not None and block.number == folded.number:
            finished[folded.restart] = None
            finished_log = add_logs(finished_log, folded.log_term)
    return replace(state, finished=tuple(finished), finished_log=finished_log, log_evidence=update.log_evidence)


def add_logs(one: float, other: float) -> float:
    """The natural logarithm of the sum of two numbers, from their logarithms, each finite or minus infinity."""
    high, low = max(one, other), min(one, other)
    if low == -math.inf or low - high < _NEGLIGIBLE:
        return high
    return high + math.log(1.0 + math.exp(low - high))


def _added(counts: tuple[int, ...], cells: tuple[int, ...]) -> tuple[int, ...]:
    more = list(counts)
    for cell in cells:
        more[cell] += 1
    return tuple(more)


def _is_logarithm(number: float) -> bool:
    return number == -math.inf or abs(number) <= _LARGEST
