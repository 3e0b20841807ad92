"""The operations of the admin API, each a method from a request schema to a response schema."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ParamSpec
from urllib.parse import urlsplit, urlunsplit

from modeltoll._version import __version__
from modeltoll.errors import ModeltollError, SettingsError
from modeltoll.gateway.admin.api import schemas
from modeltoll.gateway.callers.api_key_file import change_keys, read_keys, with_tier
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.records import Caller
from modeltoll.settlement_records import Standing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from modeltoll.gateway.callers.api_key_file import KeyDocument, KeyRecord
    from modeltoll.gateway.core.gate import Gate
    from modeltoll.gateway.settings.gateway import Settings
    from modeltoll.gateway.state import ServerState
    from modeltoll.ledger.ledger import Ledger
    from modeltoll.records import Account, LogEntry

__all__ = ["AdminApi", "Conflict", "NotFound"]

P = ParamSpec("P")

_DAY = 86_400
_KEY_PREFIX = "key:"
_HIDDEN = "**********"
_NO_CALLER = "the ledger has no such caller"


class NotFound(ModeltollError):
    """The caller or the tier does not exist (404)."""

    status = 404


class Conflict(ModeltollError):
    """The settings do not allow the operation (409)."""

    status = 409


class AdminApi:
    """The operations on one gateway. ``clock`` returns seconds since the epoch. The docstrings are the OpenAPI summaries."""

    def __init__(
        self,
        settings: Settings,
        gates: Mapping[str, Gate],
        ledger: Ledger,
        state: ServerState,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._gates = gates
        self._ledger = ledger
        self._state = state
        self._clock = clock

    async def get_status(self, request: schemas.NoParameters) -> schemas.StatusResponse:
        """The state of the gateway, and the models that it serves."""
        del request
        state = self._state
        return schemas.StatusResponse(
            version=__version__,
            settled=_utc_time(state.settings_loaded_at),
            broken=state.settings_invalid,
            leaving=state.draining,
            ledger=without_password(self._settings.ledger.url),
            models=tuple(_model_response(name, gate, self._settings) for name, gate in self._gates.items()),
        )

    async def get_settings(self, request: schemas.NoParameters) -> schemas.SettingsResponse:
        """The settings in force, with secrets masked."""
        del request
        settings = self._settings.model_dump(mode="json")
        settings["ledger"]["url"] = without_password(self._settings.ledger.url)
        for key in settings["callers"]["keys"]:
            key["sha256"] = key["sha256"][:8] + _HIDDEN
        return schemas.SettingsResponse(settings=settings)

    async def list_accounts(self, request: schemas.AccountsQuery) -> schemas.AccountsResponse:
        """The accounts with the most work issued, largest first."""
        accounts = await self._ledger.largest(request.limit, self._clock())
        return schemas.AccountsResponse(accounts=tuple(map(_account_response, accounts)))

    async def get_account(self, request: schemas.AccountQuery) -> schemas.CallerResponse:
        """The accounts of a caller or a group, its standing, and its usage of today's quota. Without ``model``, for all models.

        Before its first answer a caller has a standing and no account.
        """
        accounts = await self._accounts_of(request)
        standing = await self._ledger.standing(Caller(request.caller))
        if not accounts and standing == Standing():
            raise NotFound(_NO_CALLER)
        today = await self._ledger.spent(Caller(request.caller), int(self._clock() // _DAY))
        return schemas.CallerResponse(
            accounts=tuple(map(_account_response, accounts)),
            unsettled_seconds=standing.unsettled,
            prepaid_seconds=standing.prepaid,
            new_account_seconds_paid=standing.new_account,
            settled_rows=standing.settled_rows,
            rows_today=today.rows,
            work_seconds_today=today.work,
        )

    async def reset_account(self, request: schemas.ResetRequest) -> schemas.ResetResponse:
        """Delete the account of a caller or a group, and the caller's standing. The log and today's quota usage stay."""
        accounts = await self._accounts_of(request)
        if not accounts:
            raise NotFound(_NO_CALLER)
        models = [account.model for account in accounts if await self._ledger.reset(account.caller, account.model)]
        return schemas.ResetResponse(models=tuple(models))

    async def set_tier(self, request: schemas.TierRequest) -> schemas.TierResponse:
        """Set the tier of all keys of a caller in the key file; requests of the tier ``exempt`` are measured, not charged.

        Gateways that read the same file use the change within a second. Tiers of callers in the settings, or in JSON web
        tokens, are changed there.
        """
        path, tiers = self._settings.callers.key_file, self._settings.callers.tiers
        if request.tier not in tiers:
            raise NotFound(f"tier: there is no such tier; there are: {', '.join(tiers)}")
        if path is None:
            raise Conflict("the settings name no callers.key_file; set it to change tiers here")
        if not request.caller.startswith(_KEY_PREFIX):
            raise Conflict("only the tier of callers with a key in the key file (key:NAME) can be changed here")
        name = request.caller.removeprefix(_KEY_PREFIX)
        keys = await _access_key_file(change_keys, path, lambda document: with_tier(document, name, request.tier))
        count = sum(key.name == name for key in keys)
        if not count:
            raise NotFound("the key file has no key of this caller")
        return schemas.TierResponse(keys=count)

    async def list_keys(self, request: schemas.NoParameters) -> schemas.KeysResponse:
        """The keys in the key file: names, ids, tiers and expiry, not the keys themselves."""
        del request
        path = self._settings.callers.key_file
        lines = () if path is None else await _access_key_file(read_keys, path)
        return schemas.KeysResponse(
            keys=tuple(
                schemas.KeyResponse(
                    caller=_KEY_PREFIX + line.name,
                    identity=line.identity,
                    **line.model_dump(exclude={"name", "sha256"}),
                )
                for line in lines
            )
        )

    async def read_log(self, request: schemas.LogQuery) -> schemas.LogResponse:
        """A page of the ledger's log, in the order of its lines."""
        page = await self._ledger.log(request.after, request.limit)
        return schemas.LogResponse(
            lines=tuple(_log_line_response(number, hashed, entry) for number, hashed, entry in page)
        )

    async def _accounts_of(self, query: schemas.AccountQuery) -> list[Account]:
        models: Iterable[str] = [query.model] if query.model else self._gates
        caller = Caller(query.caller)
        found = [await self._ledger.account(caller, model, self._clock()) for model in models]
        return [account for account in found if account is not None]


async def _access_key_file(
    access: Callable[P, KeyDocument], *args: P.args, **kwargs: P.kwargs
) -> tuple[KeyRecord, ...]:
    """Read or change the key file in a thread, since it may have to wait for the file lock; returns its keys."""
    try:
        return (await asyncio.to_thread(access, *args, **kwargs)).keys
    except SettingsError as error:
        raise Conflict(str(error)) from None


def without_password(url: str) -> str:
    """A ledger's URL with passwords masked."""
    parts = urlsplit(url)
    if parts.password:
        url = urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", f":{_HIDDEN}@", 1)))
    return re.sub(r"((?:password|passfile|sslpassword)=)[^&]*", rf"\1{_HIDDEN}", url)


def _utc_time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _model_response(name: str, gate: Gate, settings: Settings) -> schemas.ModelResponse:
    tariff, model = gate.config.tariff, settings.models[name]
    return schemas.ModelResponse(
        name=name,
        protocol=model.protocol,
        mode=model.mode,
        measures=tuple(measure.name for measure in model.measures),
        unit_seconds=tariff.calibration.unit_seconds if isinstance(tariff, ConformalTariff) else None,
    )


def _account_response(account: Account) -> schemas.AccountResponse:
    return schemas.AccountResponse(
        caller=account.caller.name,
        model=account.model,
        rows=account.rows,
        requests=account.requests,
        work_seconds=account.work,
        first_seen=_utc_time(account.first_seen),
        last_seen=_utc_time(account.last_seen),
        tariff=account.tariff,
        leaks=account.leaks,
        counts=account.counts,
    )


def _log_line_response(number: int, hashed: str, entry: LogEntry) -> schemas.LogLineResponse:
    return schemas.LogLineResponse(
        line=number,
        who=hashed,
        at=_utc_time(entry.at),
        model=entry.model,
        rows=entry.rows,
        mode=entry.mode,
        work_seconds=entry.work.seconds,
        suspected=entry.work.suspected,
        leaks=entry.leaks,
        rarest=entry.rarest,
    )
