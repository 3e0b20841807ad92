"""The ledger of many machines, in memory: a Valkey or Redis server, which any number of gateways share.

A charge is one script on the server (``lua/charge.lua``) with the arithmetic of ``account_math``. What a restart of the
server loses depends on its settings; with ``appendonly yes`` it is the last second. ``valkey_connection`` describes
connections and errors.
"""

from __future__ import annotations

import math
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Self

import msgspec

from modeltoll.errors import LedgerError
from modeltoll.evidence_records import EVIDENCE_SECONDS, RESTART_ROWS
from modeltoll.ledger import account_math, settlement_math
from modeltoll.ledger.retention import KEEP_LOG_DAYS, MAX_LINES_AT_ONCE, RECEIPT_GRACE, UNTOUCHED, Retention
from modeltoll.ledger.row_codec import LOG_COLUMNS, bounded, encode_line
from modeltoll.ledger.url_options import positive_number, read_options, whole_number
from modeltoll.ledger.valkey_codec import decode_stored_account, decode_stored_line, decode_stored_standing
from modeltoll.ledger.valkey_connection import CONNECTIONS, TIMEOUT, ValkeyConnection
from modeltoll.ledger.valkey_url import CERTIFICATES, DATABASE, connection_parameters
from modeltoll.records import Caller, DailyUsage
from modeltoll.settlement_records import Admission, Standing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from urllib.parse import SplitResult

    from modeltoll.evidence_records import EvidenceUpdate
    from modeltoll.ledger.valkey_commands import Argument
    from modeltoll.records import Account, Charge, DailyQuota, LogEntry
    from modeltoll.settlement_records import Adjustment, Receipt, Reservation

__all__ = ["ValkeyLedger"]

# The braces put all keys into one slot of a cluster, so that a script may use any of them.
_MARK, _LOG, _LINE, _RANKING = "{modeltoll}:ledger", "{modeltoll}:log", "{modeltoll}:line", "{modeltoll}:ranking"
_ACCOUNT, _SKETCH, _DAY = "{modeltoll}:account:", "{modeltoll}:sketch:", "{modeltoll}:day:"
_STANDING, _RECEIPT = "{modeltoll}:standing:", "{modeltoll}:receipt:"
_DAY_SECONDS = 3 * 86_400  # lifetime of a day's usage
_UNTOUCHED = int(UNTOUCHED)  # lifetime of accounts and standings after their last change, in seconds


class _LuaNumbers(msgspec.Struct):
    """The numbers of a charge, for the Lua script."""

    rows: int
    leaks: tuple[float, ...]
    cells: tuple[int, ...]
    cell_count: int
    at: float
    sizes: tuple[int, ...]


class _AccountChange(msgspec.Struct, omit_defaults=True):
    """What a bill changes in one account, for the Lua script: the work in seconds, and an ``EvidenceUpdate``."""

    seconds: float
    log_evidence: float | None = None
    folded: list[tuple[int, int, float]] | None = None


_PACKER = msgspec.msgpack.Encoder(enc_hook=float)  # the hook is for numpy's floats
_NUMBERS = msgspec.json.Encoder(enc_hook=float)


class ValkeyLedger:
    """Accounts and log under keys that begin with ``{modeltoll}``.

    ``parameters``: of redis-py's ``Connection``. ``period``: seconds after which the evidence of an account starts anew.
    ``timeout``: seconds for a step. ``connections``: size of the pool. Without ``create`` the ledger must
    exist already.
    """

    url_options: ClassVar[frozenset[str]] = CERTIFICATES | {DATABASE, "timeout", "connections", KEEP_LOG_DAYS}

    def __init__(
        self,
        parameters: Mapping[str, Any],
        *,
        period: float = EVIDENCE_SECONDS,
        timeout: float = TIMEOUT,
        connections: int = CONNECTIONS,
        retention: Retention | None = None,
        create: bool = True,
    ) -> None:
        self._server = ValkeyConnection(parameters, timeout=timeout, connections=connections, create=create)
        self._retention = retention or Retention()
        self._period = period
        self._salt: bytes | None = None

    @classmethod
    def from_url(cls, url: SplitResult, *, period: float, create: bool = True) -> Self:
        """For ``valkey://user:password@host:port/number`` or ``redis://``; ``valkeys://`` and ``rediss://`` use TLS.

        For a Unix socket ``unix:///path?db=number``.

        Raises:
            SettingsError: the URL has no host, or an invalid port, number, file or option.
        """
        options = read_options(url)
        return cls(
            connection_parameters(url, options),
            period=period,
            timeout=positive_number(options, "timeout", TIMEOUT),
            connections=whole_number(options, "connections", CONNECTIONS),
            retention=Retention.from_options(options),
            create=create,
        )

    async def open(self) -> None:
        """See ``Ledger.open`` and ``ValkeyConnection.open``."""
        if self._salt is None:
            self._salt = await self._server.open(_MARK)

    async def close(self) -> None:
        """See ``Ledger.close``."""
        self._salt = None
        await self._server.close()

    async def check_writable(self) -> None:
        """See ``Ledger.check_writable``."""
        await self._server.check_writable(_MARK)

    async def charge(self, caller: Caller, charge: Charge) -> Account:
        """See ``Ledger.charge``."""
        account_math.check_charge(caller, charge)
        affected = account_math.affected_accounts(caller)
        names = [_account_name(owner, charge.model) for owner in affected]
        keys = [_RANKING, *chain.from_iterable((_ACCOUNT + name, _SKETCH + name) for name in names)]
        ranked = "" if caller.is_group else names[0]
        values: list[Argument] = [
            _PACKER.encode(
                _LuaNumbers(charge.rows, charge.leaks, charge.cells, charge.cell_count, charge.at, RESTART_ROWS)
            ),
            b"".join(charge.fingerprints),
            charge.model,
            charge.tariff,
            self._period,
            account_math.SKETCH_SIZE,
            _UNTOUCHED,
            ranked,
            *(owner.name for owner in affected),
        ]
        after = await self._server.run("charge", keys, values)
        own, *groups = map(decode_stored_account, affected, after)
        return account_math.with_groups(own, groups)

    async def settle(
        self, caller: Caller, receipts: Sequence[Receipt], reservation: Reservation | None, at: float
    ) -> Admission:
        """See ``Ledger.settle``."""
        settlement_math.check_settlement(caller, receipts, reservation, at)
        usable = settlement_math.unexpired(receipts, at)
        keys = [_RECEIPT.encode() + settlement_math.receipt_key(caller, receipt.identity) for receipt in usable]
        numbers: list[Argument] = [float(at), _UNTOUCHED]
        numbers += ("",) * 4 if reservation is None else map(float, settlement_math.reservation_numbers(reservation))
        for receipt in usable:
            numbers += (
                math.ceil(receipt.expires - at + RECEIPT_GRACE),
                float(receipt.unsettled),
                receipt.rows,
                float(receipt.prepaid),
                float(receipt.new_account),
            )
        names = [_STANDING.encode() + caller.name.encode(), *keys]
        found = await self._server.run("settle", names, numbers, repeatable=reservation is None)
        admitted, settled_rows, *seconds = found
        from_credit, from_prepaid, missing, missing_new_account = map(float, seconds)
        return Admission(
            bool(admitted), from_credit, from_prepaid, missing, missing_new_account, settled_rows=int(settled_rows)
        )

    async def adjust(self, caller: Caller, adjustment: Adjustment) -> None:
        """See ``Ledger.adjust``."""
        settlement_math.check_adjustment(caller, adjustment)
        await self._server.run(
            "adjust", [_STANDING + caller.name], [float(adjustment.unsettled), float(adjustment.prepaid), _UNTOUCHED]
        )

    async def standing(self, caller: Caller) -> Standing:
        """See ``Ledger.standing``."""
        stored = await self._server.ask("GET", _STANDING + caller.name)
        return Standing() if stored is None else decode_stored_standing(stored)

    def derived_key(self, purpose: str) -> bytes:
        """See ``Ledger.derived_key``."""
        if self._salt is None:
            raise LedgerError("the ledger is not open")
        return account_math.derived_key(purpose, self._salt)

    async def bill(
        self,
        caller: Caller,
        entry: LogEntry,
        adjustment: Adjustment | None = None,
        updates: Sequence[EvidenceUpdate] = (),
    ) -> None:
        """See ``Ledger.bill``."""
        account_math.check_log_entry(caller, entry)
        account_math.check_updates(caller, updates)
        if adjustment is not None:
            settlement_math.check_adjustment(caller, adjustment)
        name = _account_name(caller, entry.model)
        changes = _account_changes(caller, entry.work.seconds, updates)
        line = encode_line(self.logged_as(caller), entry)
        fields = chain.from_iterable(
            (name, kind(value)) for (name, kind), value in zip(LOG_COLUMNS.items(), line, strict=True)
        )
        due = self._retention.sweep(entry.at)
        values = [
            _PACKER.encode([change for change, _ in changes.values()]),
            name,
            *(("", "") if adjustment is None else (float(adjustment.unsettled), float(adjustment.prepaid))),
            _UNTOUCHED,
            "" if due is None else MAX_LINES_AT_ONCE,
            "" if due is None or due.lines_before is None else due.lines_before,
            _ACCOUNT,
            *(tariff for _, tariff in changes.values()),
            *fields,
        ]
        accounts = [_ACCOUNT + _account_name(Caller(owner), entry.model) for owner in changes]
        keys = [_LOG, _RANKING, _LINE, _STANDING + caller.name, *accounts]
        self._retention.swept(more=bool(await self._server.run("bill", keys, values)))

    async def spend(self, caller: Caller, more: DailyUsage, quota: DailyQuota) -> bool:
        """See ``Ledger.spend``."""
        account_math.check_usage(caller, more)
        limits = ["" if limit is None else limit for limit in (quota.rows, quota.work)]
        usage = [more.day, more.rows, float(more.work)]
        return bool(await self._server.run("spend", [_DAY + caller.name], [*usage, *limits, _DAY_SECONDS]))

    async def spent(self, caller: Caller, day: int) -> DailyUsage:
        """See ``Ledger.spent``."""
        day_found, rows, work = await self._server.ask("HMGET", _DAY + caller.name, "day", "rows", "work")
        stored = None if day_found is None else DailyUsage(int(day_found), int(rows), float(work))
        return account_math.usage_on(stored, day)

    async def account(self, caller: Caller, model: str) -> Account | None:
        """See ``Ledger.account``."""
        account_math.check_names(caller, model)
        affected = account_math.affected_accounts(caller)
        found = await self._server.ask("MGET", *(_ACCOUNT + _account_name(owner, model) for owner in affected))
        own, *groups = [
            None if stored is None else decode_stored_account(owner, stored)
            for owner, stored in zip(affected, found, strict=True)
        ]
        return None if own is None else account_math.with_groups(own, groups)

    async def largest(self, limit: int) -> Sequence[Account]:
        """See ``Ledger.largest``."""
        if limit <= 0:
            return []
        found = await self._server.run("largest", [_RANKING], [bounded(limit), _ACCOUNT], repeatable=True)
        return [decode_stored_account(None, stored) for stored in found]

    async def log(self, after: int, limit: int) -> Sequence[tuple[int, str, LogEntry]]:
        """See ``Ledger.log``."""
        if limit <= 0:
            return []
        start = f"{bounded(after) + 1}-0"
        found = await self._server.ask("XRANGE", _LOG, start, "+", "COUNT", bounded(limit))
        return [
            decode_stored_line(number, dict(zip(fields[::2], fields[1::2], strict=True))) for number, fields in found
        ]

    def logged_as(self, caller: Caller) -> str:
        """See ``Ledger.logged_as``."""
        return account_math.hashed_name(caller, self._salt or b"")

    async def reset(self, caller: Caller, model: str) -> bool:
        """See ``Ledger.reset``."""
        account_math.check_names(caller, model)
        name = _account_name(caller, model)
        keys = [_RANKING, _ACCOUNT + name, _SKETCH + name, _STANDING + caller.name]
        return bool(await self._server.run("reset", keys, [name]))


def _account_name(caller: Caller, model: str) -> str:
    """The account's member in the ranking and the end of its keys; unique, because names contain no NUL."""
    return f"{caller.name}\0{model}"


def _account_changes(
    caller: Caller, seconds: float, updates: Sequence[EvidenceUpdate]
) -> dict[str, tuple[_AccountChange, str]]:
    """The changes of a bill and their tariffs, by the names of the accounts, the caller's first."""
    changes = {caller.name: (_AccountChange(float(seconds)), "")}
    for update in updates:
        folded = [(block.restart, block.number, float(block.log_term)) for block in update.folded]
        work = float(seconds) if update.account == caller.name else 0.0
        changes[update.account] = _AccountChange(work, float(update.log_evidence), folded), update.tariff
    return changes
