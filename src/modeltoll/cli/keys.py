"""The commands ``keys``: create, list, rotate, mark and revoke API keys in the key file, while gateways run."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from modeltoll.cli.option_records import takes_options
from modeltoll.cli.terminal import (
    JsonFile,
    SettingsFile,
    note,
    print_table,
    requires_extra,
    with_exit_codes,
    write_json,
)
from modeltoll.errors import SettingsError

if TYPE_CHECKING:
    from modeltoll.gateway.callers.api_key_file import KeyDocument, KeyRecord
    from modeltoll.gateway.settings.callers import CallerSettings

__all__ = ["commands"]

commands = typer.Typer(
    name="keys",
    help="Create, list, rotate and revoke API keys in the key file; running gateways read changes within seconds.",
    epilog="Example: modeltoll keys create modeltoll.yaml alice --tier discounted",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the caller, whose account is key:NAME.")]

_UNITS = {"m": 60.0, "h": 3600.0, "d": 86_400.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateOptions:
    """The caller of a new key, and what holds for it."""

    settings: SettingsFile
    name: Name
    tier: Annotated[
        str, typer.Option(help="Tier of the key: exempt, discounted, normal, strict, or one of the settings.")
    ] = "normal"
    organisation: Annotated[
        str | None, typer.Option(help="Organisation; its keys share a group account for suspicion.")
    ] = None
    expires: Annotated[
        str | None,
        typer.Option(
            help="Expiry: a time from now such as 90d or 12h, or a UTC date such as 2027-01-31; by default never."
        ),
    ] = None
    remark: Annotated[str, typer.Option("--note", help="Text to show in the list.")] = ""
    another: Annotated[bool, typer.Option("--another", help="Create the key even if NAME has one.")] = False


@commands.command(epilog="Example: modeltoll keys create modeltoll.yaml alice --organisation acme --expires 90d")
@with_exit_codes
@takes_options
def create(options: CreateOptions) -> None:
    """Create an API key and print it on standard output. The key file holds only its hash, so it cannot be shown again."""
    from pydantic import ValidationError  # noqa: PLC0415  an extra

    callers, path = _owner(options.settings)
    from modeltoll.gateway.callers import api_key_file  # noqa: PLC0415
    from modeltoll.gateway.settings.errors import errors_of  # noqa: PLC0415

    if options.tier not in callers.tiers:
        raise SettingsError([f"--tier: there is no {options.tier!r}; there are: {', '.join(callers.tiers)}"])
    now, (key, sha256) = _now(), api_key_file.draw_key()
    end = None if options.expires is None else _expiry(options.expires, now)
    try:
        line = api_key_file.KeyRecord(
            name=options.name,
            sha256=sha256,
            tier=options.tier,
            organisation=options.organisation,
            created=now,
            expires=end,
            note=options.remark,
        )
    except ValidationError as error:
        raise SettingsError(errors_of(error)) from None
    api_key_file.change_keys(path, lambda document: api_key_file.with_key(document, line, another=options.another))
    _print_key(key, f"created a key of {options.name} (id {line.identity}, tier {options.tier})")


@commands.command("list", epilog="Example: modeltoll keys list modeltoll.yaml")
@with_exit_codes
def list_keys(settings: SettingsFile, json_file: JsonFile = None) -> None:
    """List the keys with name, id, tier, organisation and expiry. The keys themselves are not stored."""
    _, path = _owner(settings)
    from modeltoll.gateway.callers.api_key_file import read_keys  # noqa: PLC0415

    document, now = read_keys(path), _now()
    if json_file is not None:
        write_json(
            [{"id": key.identity, **key.model_dump(mode="json"), "expired": key.expired(now)} for key in document.keys],
            json_file,
        )
    if json_file != "-":
        headings = ("name", "id", "tier", "organisation", "created", "expires", "known honest", "note")
        print_table(headings, [_key_cells(key, now) for key in document.keys])


@commands.command(epilog="Example: modeltoll keys revoke modeltoll.yaml alice")
@with_exit_codes
def revoke(
    settings: SettingsFile,
    name: Name,
    identity: Annotated[
        str | None, typer.Option("--id", help="Revoke only the key with this id, as shown by 'keys list'.")
    ] = None,
) -> None:
    """Revoke all keys of a name, or one of them."""
    _, path = _owner(settings)
    from modeltoll.gateway.callers import api_key_file  # noqa: PLC0415

    before = len(api_key_file.read_keys(path).keys)
    after: KeyDocument = api_key_file.change_keys(
        path, lambda document: api_key_file.without_key(document, name, identity)
    )
    note.print(escape(f"{name}: {before - len(after.keys)} revoked"), soft_wrap=True)


@commands.command(epilog="Example: modeltoll keys rotate modeltoll.yaml alice --overlap 7d")
@with_exit_codes
def rotate(
    settings: SettingsFile,
    name: Name,
    overlap: Annotated[str, typer.Option(help="Time for which the old keys stay valid: 7d, 12h, 30m or 0m.")] = "1d",
) -> None:
    """Replace a key by a new one with the same terms and print it; the old one stays valid for a while."""
    _, path = _owner(settings)
    from modeltoll.gateway.callers import api_key_file  # noqa: PLC0415

    now, (key, sha256) = _now(), api_key_file.draw_key()
    overlap_time = _duration(overlap, "--overlap")
    api_key_file.change_keys(
        path, lambda document: api_key_file.with_new_key(document, name, sha256, now, overlap_time)
    )
    _print_key(
        key,
        f"created a new key of {name} (id {sha256[:8]}); the old keys expire {now + overlap_time:%Y-%m-%d %H:%M} UTC",
    )


@commands.command("known-honest", epilog="Example: modeltoll keys known-honest modeltoll.yaml alice")
@with_exit_codes
def known_honest(
    settings: SettingsFile,
    name: Name,
    *,
    forget: Annotated[bool, typer.Option("--forget", help="Take the mark away.")] = False,
) -> None:
    """Mark the caller of a key as known honest, as of now.

    Its log up to now becomes a kind of its own, for this caller alone, with the next 'calibrate --from-ledger'. Repeat the
    command to renew the moment up to which the log counts.
    """
    _, path = _owner(settings)
    from modeltoll.gateway.callers import api_key_file  # noqa: PLC0415

    at = None if forget else _now()
    api_key_file.change_keys(path, lambda document: api_key_file.with_known_honest(document, name, at))
    mark = "no longer marked as known honest" if at is None else f"known honest as of {at:%Y-%m-%d %H:%M} UTC"
    note.print(escape(f"{name}: {mark}; it takes effect with the next 'modeltoll calibrate'"), soft_wrap=True)


def _owner(settings: Path) -> tuple[CallerSettings, Path]:
    """The callers' section of the settings, and the path of the key file."""
    with requires_extra("gateway"):
        from modeltoll.gateway.settings.load import load_settings  # noqa: PLC0415
    callers = load_settings(settings).callers
    if callers.key_file is None:
        raise SettingsError(
            ["callers.key_file: is not set; name the key file in the settings, for example key_file: keys.json"]
        )
    return callers, callers.key_file


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _print_key(key: str, description: str) -> None:
    sys.stdout.write(key + "\n")
    sys.stdout.flush()
    note.print(escape(f"{description}; it is shown this once; store it"), soft_wrap=True)


def _key_cells(key: KeyRecord, now: datetime) -> tuple[str, ...]:
    expires = "never" if key.expires is None else f"{key.expires:%Y-%m-%d %H:%M}"
    return (
        escape(key.name),
        key.identity,
        escape(key.tier),
        escape(key.organisation or ""),
        f"{key.created:%Y-%m-%d}",
        f"{expires}, expired" if key.expired(now) else expires,
        "" if key.known_honest is None else f"{key.known_honest:%Y-%m-%d %H:%M}",
        escape(key.note),
    )


def _duration(text: str, option: str) -> timedelta:
    found = re.fullmatch(r"([0-9]{1,6})([mhd])", text)
    if found is None:
        raise SettingsError([f"{option}: {text!r} is not a time; write for example 90d, 12h or 30m"])
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])


def _expiry(text: str, now: datetime) -> datetime:
    """The end of a key from a duration, or a date or time (UTC)."""
    try:
        end = datetime.fromisoformat(text)
    except ValueError:
        end = now + _duration(text, "--expires")
    end = end if end.tzinfo else end.replace(tzinfo=UTC)
    if end <= now:
        raise SettingsError([f"--expires: {text} is in the past; give a later time"])
    return end
