"""What an operator can ask and do: each a method from one form to another."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ParamSpec
from urllib.parse import urlsplit, urlunsplit

from modeltoll._version import __version__
from modeltoll.errors import ModeltollError, SettingsError
from modeltoll.gateway.admin.api import schemas
from modeltoll.gateway.callers.key_file import change_keys, read_keys, with_tier
from modeltoll.pricing.conformal import ConformalTariff
from modeltoll.records import Caller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from modeltoll.gateway.callers.key_file import KeyDocument, KeyRecord
    from modeltoll.gateway.core.gate import Gate
    from modeltoll.gateway.settings.load import Settings
    from modeltoll.gateway.state import ServerState
    from modeltoll.ledger.ledger import Ledger
    from modeltoll.records import Account, LogEntry

__all__ = ["AdminApi", "Conflict", "NotFound"]

P = ParamSpec("P")

_DAY = 86_400
_KEY = "key:"
_HIDDEN = "**********"


class NotFound(ModeltollError):
    """There is no such caller, or no such tier."""

    status = 404


class Conflict(ModeltollError):
    """What is asked cannot be done with these settings."""

    status = 409


class AdminApi:
    """The operator's desk of one gateway. ``clock`` gives seconds since the epoch."""

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

    async def status(self, asked: schemas.NoParameters) -> schemas.StatusResponse:
        """How the gateway stands, and which models it serves."""
        del asked
        state = self._state
        return schemas.StatusResponse(
            version=__version__,
            settled=_moment(state.settings_loaded_at),
            broken=state.settings_invalid,
            leaving=state.draining,
            ledger=without_password(self._settings.ledger.url),
            models=tuple(_model(name, gate, self._settings) for name, gate in self._gates.items()),
        )

    async def settings(self, asked: schemas.NoParameters) -> schemas.SettingsResponse:
        """The settings in force, without secrets."""
        del asked
        told = self._settings.model_dump(mode="json")
        told["ledger"]["url"] = without_password(self._settings.ledger.url)
        for key in told["callers"]["keys"]:
            key["sha256"] = key["sha256"][:8] + _HIDDEN
        return schemas.SettingsResponse(settings=told)

    async def accounts(self, asked: schemas.AccountsQuery) -> schemas.AccountsResponse:
        """The callers to whom the most work was issued."""
        found = await self._ledger.largest(asked.limit, self._clock())
        return schemas.AccountsResponse(accounts=tuple(map(_account, found)))

    async def account(self, asked: schemas.AccountQuery) -> schemas.CallerResponse:
        """All that is known of a caller, or of a group. Without ``model``, of the models that are served."""
        found = await self._known(asked)
        today = await self._ledger.spent(Caller(asked.caller), int(self._clock() // _DAY))
        return schemas.CallerResponse(
            accounts=tuple(map(_account, found)), rows_today=today.rows, work_seconds_today=today.work
        )

    async def reset(self, asked: schemas.ResetRequest) -> schemas.ResetResponse:
        """Forget a caller, or a group: from now on he is new. The log stays, and so does his day's allowance."""
        found = await self._known(asked)
        models = [account.model for account in found if await self._ledger.reset(account.caller, account.model)]
        return schemas.ResetResponse(models=tuple(models))

    async def tier(self, asked: schemas.TierRequest) -> schemas.TierResponse:
        """Move all keys of a caller in the key file to a tier; ``exempt`` is measured and never charged.

        Running gateways that read the same file follow within a second. Callers that the settings list, or whom a token
        names, are moved there.
        """
        path, tiers = self._settings.callers.key_file, self._settings.callers.tiers
        if asked.tier not in tiers:
            raise NotFound(f"tier: there is none of this name; there are: {', '.join(tiers)}")
        if path is None:
            raise Conflict("the settings name no callers.key_file, whose keys could be moved")
        if not asked.caller.startswith(_KEY):
            raise Conflict("only callers with a key in the key file have a tier that can be changed here")
        name = asked.caller.removeprefix(_KEY)
        keys = await _of_file(change_keys, path, lambda document: with_tier(document, name, asked.tier))
        count = sum(key.name == name for key in keys)
        if not count:
            raise NotFound("the key file has no key of this caller")
        return schemas.TierResponse(keys=count)

    async def keys(self, asked: schemas.NoParameters) -> schemas.KeysResponse:
        """The keys of the key file, without the keys."""
        del asked
        path = self._settings.callers.key_file
        lines = () if path is None else await _of_file(read_keys, path)
        return schemas.KeysResponse(
            keys=tuple(
                schemas.KeyResponse(
                    caller=_KEY + line.name, identity=line.identity, **line.model_dump(exclude={"name", "sha256"})
                )
                for line in lines
            )
        )

    async def log(self, asked: schemas.LogQuery) -> schemas.LogResponse:
        """A page of the ledger's log of tolls."""
        page = await self._ledger.log(asked.after, asked.limit)
        return schemas.LogResponse(lines=tuple(_line(number, who, bill) for number, who, bill in page))

    async def _known(self, asked: schemas.AccountQuery) -> list[Account]:
        models: Iterable[str] = [asked.model] if asked.model else self._gates
        found = [await self._ledger.account(Caller(asked.caller), model, self._clock()) for model in models]
        known = [account for account in found if account is not None]
        if not known:
            raise NotFound("the ledger knows no such caller")
        return known


async def _of_file(ask: Callable[P, KeyDocument], *args: P.args, **kwargs: P.kwargs) -> tuple[KeyRecord, ...]:
    """The keys of a file that is read or changed, which may have to wait for its lock."""
    try:
        return (await asyncio.to_thread(ask, *args, **kwargs)).keys
    except SettingsError as error:
        raise Conflict(str(error)) from None


def without_password(url: str) -> str:
    """A ledger's URL as it may be shown."""
    parts = urlsplit(url)
    if parts.password:
        url = urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", f":{_HIDDEN}@", 1)))
    return re.sub(r"((?:password|passfile|sslpassword)=)[^&]*", rf"\1{_HIDDEN}", url)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _model(name: str, gate: Gate, settings: Settings) -> schemas.ModelResponse:
    tariff, model = gate.config.tariff, settings.models[name]
    return schemas.ModelResponse(
        name=name,
        protocol=model.protocol,
        mode=model.mode,
        measures=tuple(measure.name for measure in model.measures),
        unit_seconds=tariff.calibration.unit_seconds if isinstance(tariff, ConformalTariff) else None,
    )


def _account(account: Account) -> schemas.AccountResponse:
    return schemas.AccountResponse(
        caller=account.caller.name,
        model=account.model,
        rows=account.rows,
        requests=account.requests,
        work_seconds=account.work,
        first_seen=_moment(account.first_seen),
        last_seen=_moment(account.last_seen),
        tariff=account.tariff,
        leaks=account.leaks,
        counts=account.counts,
    )


def _line(number: int, who: str, bill: LogEntry) -> schemas.LogLineResponse:
    return schemas.LogLineResponse(
        line=number,
        who=who,
        at=_moment(bill.at),
        model=bill.model,
        rows=bill.rows,
        mode=bill.mode,
        work_seconds=bill.work.seconds,
        suspected=bill.work.suspected,
        leaks=bill.leaks,
        rarest=bill.rarest,
    )
