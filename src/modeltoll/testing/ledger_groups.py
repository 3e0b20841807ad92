"""The laws of groups: accounts that several callers share."""

from __future__ import annotations

import asyncio

from modeltoll.ledger.account_math import HALF_LIFE
from modeltoll.records import Caller
from modeltoll.testing.ledger_charges import MODEL, NOW, Law, Make, bill, caller_named, entry, open_ledger

__all__ = ["GROUP_LAWS"]

_GROUPS = ("org:suite", "prefix:198.51.0.0/16")


def _members(law: str, count: int, *groups: str) -> list[Caller]:
    """Callers of the same groups; all names are the law's own, so that laws may share a store."""
    return [Caller(f"key:suite-{law}-{number}", groups=tuple(groups)) for number in range(count)]


async def concurrent_charges_add_up_in_groups_too(make: Make) -> None:
    """100 charges at once by 4 callers of the same groups: callers and groups count each row exactly once."""
    callers = _members("groups", 4, *_GROUPS)
    groups = [Caller(name) for name in _GROUPS]
    async with open_ledger(make, *callers, *groups) as ledger:
        charges = [ledger.charge(callers[number % 4], entry(number, hit=number % 3)) for number in range(100)]
        accounts = await asyncio.gather(*charges)
        for place in range(2):
            assert sorted(account.groups[place].rows for account in accounts) == list(range(1, 101))
            assert all(sum(account.groups[place].counts[0]) == account.groups[place].rows for account in accounts)
        for group in groups:
            found = await caller_named(ledger, group)
            assert (found.rows, found.requests, found.leaks, found.work) == (100, 100, (50.0, 25.0), 0.0)
            assert found.counts == ((34.0, 33.0, 33.0), (0.0, 0.0, 100.0))
        for caller in callers:
            found = await caller_named(ledger, caller)
            assert (found.rows, sum(found.counts[0])) == (25, 25.0)
            assert [group.rows for group in found.groups] == [100, 100]


async def callers_of_one_group_share_nothing_else(make: Make) -> None:
    """A charge shows in the caller's own account and in his groups', each with a sketch of its own, and nowhere else."""
    alice, bob = (Caller(f"key:suite-shares-{name}", groups=("org:suite-shares",)) for name in ("alice", "bob"))
    stranger, group = Caller("key:suite-shares-stranger"), Caller("org:suite-shares")
    async with open_ledger(make, alice, bob, stranger, group) as ledger:
        assert (await ledger.charge(alice, entry(1, 2))).groups[0].counts[0][0] == 2.0
        before = await caller_named(ledger, alice)
        after = await ledger.charge(bob, entry(2, 3))
        assert after.counts[0][0] == 2.0  # both are new to Bob
        assert (after.groups[0].rows, after.groups[0].counts[0][0]) == (4, 3.0)  # and one of them to the group
        assert (await ledger.charge(stranger, entry(1))).groups == ()
        again = await caller_named(ledger, alice)
        assert (again.rows, again.counts, again.leaks) == (before.rows, before.counts, before.leaks)
        assert again.groups == after.groups
        assert (await caller_named(ledger, Caller(alice.name))).groups == ()


async def groups_fade_and_stand_apart_from_the_largest(make: Make) -> None:
    """Groups fade as callers do, are asked for and reset by their names, get no bill and are not among the largest."""
    caller, group = Caller("key:suite-apart", groups=("org:suite-apart",)), Caller("org:suite-apart")
    async with open_ledger(make, caller, group) as ledger:
        charged = await ledger.charge(caller, entry(1, 2))
        assert charged == await caller_named(ledger, caller)
        await ledger.bill(caller, bill(1.0))
        later = await caller_named(ledger, caller, NOW + HALF_LIFE)
        assert later.groups[0].counts[0][0] == later.counts[0][0] == 1.0
        assert (later.work, later.groups[0].work) == (1.0, 0.0)
        largest = [account.caller.name for account in await ledger.largest(10_000, NOW)]
        assert caller.name in largest
        assert group.name not in largest
        assert await ledger.reset(group, MODEL) is True
        assert (await caller_named(ledger, caller)).groups == ()
        assert await ledger.reset(group, MODEL) is False


async def ill_named_groups_are_refused_and_leave_no_trace(make: Make) -> None:
    """A group that is named like a caller, like another group, or not at all raises ``ValueError``."""
    name = "key:suite-ill-named"
    async with open_ledger(make, Caller(name)) as ledger:
        for groups in (("key:other",), ("org:a", "org:a"), ("org:\0",), ("",), (name,)):
            try:
                await ledger.charge(Caller(name, groups=groups), entry(1))
            except ValueError:
                continue
            raise AssertionError(f"the groups {groups} were taken")
        assert await ledger.account(Caller(name), MODEL, NOW) is None


GROUP_LAWS: tuple[Law, ...] = (
    concurrent_charges_add_up_in_groups_too,
    callers_of_one_group_share_nothing_else,
    groups_fade_and_stand_apart_from_the_largest,
    ill_named_groups_are_refused_and_leave_no_trace,
)
