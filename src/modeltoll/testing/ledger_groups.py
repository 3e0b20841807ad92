"""Checks of groups: accounts that several callers share."""

from __future__ import annotations

import asyncio

from modeltoll.records import Caller
from modeltoll.testing.ledger_charges import (
    MODEL,
    LedgerCheck,
    LedgerFactory,
    existing_account,
    make_charge,
    make_log_entry,
    open_ledger,
)

__all__ = ["GROUP_CHECKS"]

_GROUPS = ("org:suite", "prefix:198.51.0.0/16")


def _members(check: str, count: int, *groups: str) -> list[Caller]:
    """Callers of the same groups; their names contain the check's name, so that checks may share a store."""
    return [Caller(f"key:suite-{check}-{number}", groups=tuple(groups)) for number in range(count)]


async def _concurrent_charges_add_up_in_groups(make: LedgerFactory) -> None:
    """100 concurrent charges by 4 callers of the same groups: callers and groups count each row exactly once."""
    callers = _members("groups", 4, *_GROUPS)
    groups = [Caller(name) for name in _GROUPS]
    async with open_ledger(make, *callers, *groups) as ledger:
        charges = [ledger.charge(callers[number % 4], make_charge(number, cell=number % 3)) for number in range(100)]
        accounts = await asyncio.gather(*charges)
        for index in range(2):
            assert sorted(account.groups[index].rows for account in accounts) == list(range(1, 101))
            assert all(account.groups[index].evidence.rows == account.groups[index].rows for account in accounts)
        for group in groups:
            found = await existing_account(ledger, group)
            assert (found.rows, found.requests, found.leaks, found.work) == (100, 100, (50.0, 25.0), 0.0)
            assert found.evidence.counts == (34, 33, 33)
        for caller in callers:
            found = await existing_account(ledger, caller)
            assert (found.rows, found.evidence.rows) == (25, 25)
            assert [group.rows for group in found.groups] == [100, 100]


async def _callers_of_one_group_share_nothing_else(make: LedgerFactory) -> None:
    """A charge changes the caller's account and those of its groups, each with a sketch of its own, and no other."""
    alice, bob = (Caller(f"key:suite-shares-{name}", groups=("org:suite-shares",)) for name in ("alice", "bob"))
    outsider, group = Caller("key:suite-shares-outsider"), Caller("org:suite-shares")
    async with open_ledger(make, alice, bob, outsider, group) as ledger:
        assert (await ledger.charge(alice, make_charge(1, 2))).groups[0].evidence.counts[0] == 2
        before = await existing_account(ledger, alice)
        after = await ledger.charge(bob, make_charge(2, 3))
        assert after.evidence.counts[0] == 2  # both are new to Bob
        assert (after.groups[0].rows, after.groups[0].evidence.counts[0]) == (4, 3)  # and one of them to the group
        assert (await ledger.charge(outsider, make_charge(1))).groups == ()
        again = await existing_account(ledger, alice)
        assert (again.rows, again.evidence, again.leaks) == (before.rows, before.evidence, before.leaks)
        assert again.groups == after.groups
        assert (await existing_account(ledger, Caller(alice.name))).groups == ()


async def _groups_are_read_by_name_and_are_not_among_the_largest(make: LedgerFactory) -> None:
    """Groups are read and reset by name, have no work, and are not in ``largest``."""
    caller, group = Caller("key:suite-apart", groups=("org:suite-apart",)), Caller("org:suite-apart")
    async with open_ledger(make, caller, group) as ledger:
        charged = await ledger.charge(caller, make_charge(1, 2))
        assert charged == await existing_account(ledger, caller)
        await ledger.bill(caller, make_log_entry(1.0))
        later = await existing_account(ledger, caller)
        assert later.groups[0].evidence == later.evidence == charged.evidence
        assert (later.work, later.groups[0].work) == (1.0, 0.0)
        largest = [account.caller.name for account in await ledger.largest(10_000)]
        assert caller.name in largest
        assert group.name not in largest
        assert await ledger.reset(group, MODEL) is True
        assert (await existing_account(ledger, caller)).groups == ()
        assert await ledger.reset(group, MODEL) is False


async def _invalid_group_names_are_refused_and_change_nothing(make: LedgerFactory) -> None:
    """A group name that is a caller's, occurs twice, is empty or holds a NUL raises ``ValueError``."""
    name = "key:suite-ill-named"
    async with open_ledger(make, Caller(name)) as ledger:
        for groups in (("key:other",), ("org:a", "org:a"), ("org:\0",), ("",), (name,)):
            try:
                await ledger.charge(Caller(name, groups=groups), make_charge(1))
            except ValueError:
                continue
            raise AssertionError(f"the groups {groups} were accepted")
        assert await ledger.account(Caller(name), MODEL) is None


GROUP_CHECKS: tuple[LedgerCheck, ...] = (
    _concurrent_charges_add_up_in_groups,
    _callers_of_one_group_share_nothing_else,
    _groups_are_read_by_name_and_are_not_among_the_largest,
    _invalid_group_names_are_refused_and_change_nothing,
)
