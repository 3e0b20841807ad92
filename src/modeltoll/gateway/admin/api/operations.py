"""The operations of the admin API, each a method from a request schema to a response schema."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, ParamSpec
from urllib.parse import urlsplit, urlunsplit

from modeltoll._version import __version__
from modeltoll.errors import ModeltollError, SettingsError
from modeltoll.gateway.admin.api import schemas
from modeltoll.gateway.admin.api.responses import (
    account_response,
    explained_account_response,
    log_line_response,
    model_response,
    suspect_response,
    utc_time,
)
from modeltoll.gateway.callers.api_key_file import KeyFileError, change_keys, read_keys, with_known_honest, with_tier
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.explain import explain_caller
from modeltoll.records import Caller
from modeltoll.settlement_records import Standing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from modeltoll.gateway.callers.api_key_file import KeyDocument, KeyRecord
    from modeltoll.gateway.core.gate import Gate
    from modeltoll.gateway.settings.gateway import Settings
    from modeltoll.gateway.state import ServerState
    from modeltoll.ledger.ledger import Ledger
    from modeltoll.records import Account

__all__ = ["AdminApi", "Conflict", "NotFound"]

P = ParamSpec("P")

_DAY = 86_400
_KEY_PREFIX = "key:"
_HIDDEN = "**********"
_NO_CALLER = "the ledger has no such caller"
_NO_KEY = "the key file has no key of this caller"


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
            settled=utc_time(state.settings_loaded_at),
            broken=state.settings_invalid,
            leaving=state.draining,
            ledger=without_password(self._settings.ledger.url),
            models=tuple(model_response(name, gate, self._settings) for name, gate in self._gates.items()),
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
        accounts = await self._ledger.largest(request.limit)
        return schemas.AccountsResponse(accounts=tuple(map(account_response, accounts)))

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
            accounts=tuple([self._explained(account, standing) for account in accounts]),
            unsettled_seconds=standing.unsettled,
            prepaid_seconds=standing.prepaid,
            new_account_seconds_paid=standing.new_account,
            settled_rows=standing.settled_rows,
            rows_today=today.rows,
            work_seconds_today=today.work,
        )

    def _explained(self, account: Account, standing: Standing) -> schemas.AccountResponse:
        """An account, with its evidence explained where it is of the tariff in force."""
        tariff = self._tariff(account.model)
        if tariff is None or account.tariff != tariff.identity:
            return account_response(account)
        logged_as = self._ledger.logged_as(account.caller)
        return explained_account_response(account, explain_caller(tariff, account, standing, logged_as))

    def _tariff(self, model: str) -> ConformalTariff | None:
        tariff = self._gates[model].config.tariff if model in self._gates else None
        return tariff if isinstance(tariff, ConformalTariff) else None

    async def list_suspects(self, request: schemas.AccountsQuery) -> schemas.SuspectsResponse:
        """The suspected callers among so many accounts with the most work issued, by the evidence of their latest bill."""
        accounts = await self._ledger.largest(request.limit)
        suspects = []
        for account in accounts:
            tariff = self._tariff(account.model)
            if tariff is None or account.tariff != tariff.identity:
                continue
            surcharge = float(tariff.suspicion.surcharge_at(account.evidence.log_evidence))
            if surcharge > 1.0:
                suspects.append(suspect_response(account, surcharge))
        return schemas.SuspectsResponse(considered=len(accounts), suspects=tuple(suspects))

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
        tiers = self._settings.callers.tiers
        if request.tier not in tiers:
            raise NotFound(f"tier: there is no such tier; there are: {', '.join(tiers)}")
        path, name = self._key_file_of(request.caller)
        keys = await _access_key_file(change_keys, path, lambda document: with_tier(document, name, request.tier))
        count = sum(key.name == name for key in keys)
        if not count:
            raise NotFound(_NO_KEY)
        return schemas.TierResponse(keys=count)

    async def set_known_honest(self, request: schemas.KnownHonestRequest) -> schemas.KnownHonestResponse:
        """Mark all keys of a caller in the key file as those of a caller known to be honest, as of now, or take the mark away.

        The caller's log up to now becomes a kind of its own, for this caller alone, with the next ``modeltoll calibrate``.
        """
        path, name = self._key_file_of(request.caller)
        at = utc_time(self._clock()).replace(microsecond=0) if request.known_honest else None
        try:
            keys = await _access_key_file(change_keys, path, lambda document: with_known_honest(document, name, at))
        except KeyFileError:
            raise NotFound(_NO_KEY) from None
        return schemas.KnownHonestResponse(keys=sum(key.name == name for key in keys), known_honest=at)

    def _key_file_of(self, caller: str) -> tuple[Path, str]:
        """The key file, and the name that the caller has in it."""
        path = self._settings.callers.key_file
        if path is None:
            raise Conflict("the settings name no callers.key_file; set it to change keys here")
        if not caller.startswith(_KEY_PREFIX):
            raise Conflict("only callers with a key in the key file (key:NAME) can be changed here")
        return path, caller.removeprefix(_KEY_PREFIX)

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
            lines=tuple(log_line_response(number, hashed, entry) for number, hashed, entry in page)
        )

    async def _accounts_of(self, query: schemas.AccountQuery) -> list[Account]:
        models: Iterable[str] = [query.model] if query.model else self._gates
        caller = Caller(query.caller)
        found = [await self._ledger.account(caller, model) for model in models]
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
