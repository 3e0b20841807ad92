"""A capacity that all callers share, such as places or bytes, of which no caller can take everything.

One caller may hold at most a share of what the other callers leave. With a share of one half the first caller gets at
most half, a second one half of the rest, and so on: as long as anything is free, a caller who holds nothing gets some.
"""

from __future__ import annotations

from typing import Self

from modeltoll.errors import CallerBusy, Overloaded

__all__ = ["CapacityHolding", "SharedCapacity"]


class SharedCapacity:
    """``whole`` units, of which one caller holds at most ``share`` (0 to 1) of those that no other caller holds.

    What a caller's only holding needs is bounded by ``whole`` alone, so that a single large one is always possible.
    """

    def __init__(self, whole: int, share: float, *, unit: str) -> None:
        """``unit`` names the units in errors, such as ``requests``."""
        self._whole = whole
        self._share = share
        self._unit = unit
        self._held_by: dict[str, int] = {}
        self.held = 0

    def hold(self, caller: str) -> CapacityHolding:
        """An empty holding of this caller, as a context: it is given back when the block ends."""
        return CapacityHolding(self, caller)

    def check(self, caller: str, amount: int, own: int) -> None:
        """Whether ``amount`` more fits into a holding of ``own`` units.

        Raises:
            Overloaded: all callers together hold too much. CallerBusy: this caller does.
        """
        if self.held + amount > self._whole:
            raise Overloaded(f"too many {self._unit} are here at once; try again later")
        mine = self._held_by.get(caller, 0)
        left_by_others = self._whole - (self.held - mine)
        if mine > own and mine + amount > self._share * left_by_others:
            raise CallerBusy(f"you have too many {self._unit} here at once; try again when some have ended")

    def take(self, caller: str, amount: int) -> None:
        """Add to what a caller holds; ``check`` comes first."""
        self._held_by[caller] = self._held_by.get(caller, 0) + amount
        self.held += amount

    def give_back(self, caller: str, amount: int) -> None:
        """Subtract an amount from what a caller holds."""
        if not amount:
            return
        self.held -= amount
        left = self._held_by[caller] - amount
        if left > 0:
            self._held_by[caller] = left
        else:
            del self._held_by[caller]


class CapacityHolding:
    """What one request holds of a capacity; ``amount`` in units."""

    __slots__ = ("_caller", "_capacity", "amount")

    def __init__(self, capacity: SharedCapacity, caller: str) -> None:
        self._capacity = capacity
        self._caller = caller
        self.amount = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()

    def give_back(self) -> None:
        """Give back all that is held."""
        self._capacity.give_back(self._caller, self.amount)
        self.amount = 0

    def check(self, amount: int) -> None:
        """Whether ``amount`` more would fit now; raises as ``add``, and takes nothing."""
        self._capacity.check(self._caller, amount, self.amount)

    def add(self, amount: int) -> None:
        """Take ``amount`` more.

        Raises:
            Overloaded: all callers together hold too much. CallerBusy: this caller does.
        """
        self.check(amount)
        self._capacity.take(self._caller, amount)
        self.amount += amount
