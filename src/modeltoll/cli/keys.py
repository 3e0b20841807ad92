"""The verbs of ``keys``: API keys are made, shown, changed for new ones and taken back, while gateways run."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from modeltoll.cli.terminal import JsonFile, SettingsFile, command_name, note, print_table, requires_extra, write_json
from modeltoll.errors import SettingsError

if TYPE_CHECKING:
    from modeltoll.gateway.callers.key_file import KeyDocument, KeyRecord
    from modeltoll.gateway.settings.callers import CallerSettings

__all__ = ["verbs"]

verbs = typer.Typer(
    name="keys",
    help="API keys in the settings' key file: running gateways notice a change within seconds.",
    epilog="Example: modeltoll keys create modeltoll.yaml alice --tier discounted",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is: the caller key:NAME.")]

_UNITS = {"m": 60.0, "h": 3600.0, "d": 86_400.0}


@verbs.command(epilog="Example: modeltoll keys create modeltoll.yaml alice --organisation acme --expires 90d")
@command_name
def create(  # noqa: PLR0913  each is a choice of the operator's
    settings: SettingsFile,
    name: Name,
    *,
    tier: Annotated[str, typer.Option(help="A tier of the settings.")] = "normal",
    organisation: Annotated[str | None, typer.Option(help="Whose keys share a histogram.")] = None,
    expires: Annotated[str | None, typer.Option(help="When it ends: 90d, 12h, or 2027-01-31 (UTC).")] = None,
    remark: Annotated[str, typer.Option("--note", help="A word for the list.")] = "",
    another: Annotated[bool, typer.Option("--another", help="Also where NAME has a key already.")] = False,
) -> None:
    """Make a key. It is printed once, on standard output; the file holds its hash."""
    from pydantic import ValidationError  # noqa: PLC0415  an extra

    callers, path = _owner(settings)
    from modeltoll.gateway.callers import key_file  # noqa: PLC0415
    from modeltoll.gateway.settings.errors import errors_of  # noqa: PLC0415

    if tier not in callers.tiers:
        raise SettingsError([f"--tier: there is no {tier!r}; there are: {', '.join(callers.tiers)}"])
    now, (key, sha256) = _now(), key_file.draw_key()
    end = None if expires is None else _expiry(expires, now)
    try:
        line = key_file.KeyRecord(
            name=name, sha256=sha256, tier=tier, organisation=organisation, created=now, expires=end, note=remark
        )
    except ValidationError as error:
        raise SettingsError(errors_of(error)) from None
    key_file.change_keys(path, lambda document: key_file.with_key(document, line, another=another))
    _print_key(key, f"a key of {name} ({line.identity}, {tier})")


@verbs.command("list", epilog="Example: modeltoll keys list modeltoll.yaml")
@command_name
def list_keys(settings: SettingsFile, json_file: JsonFile = None) -> None:
    """Show the keys: whose, on which terms, and until when. The keys themselves nobody can show."""
    _, path = _owner(settings)
    from modeltoll.gateway.callers.key_file import read_keys  # noqa: PLC0415

    document, now = read_keys(path), _now()
    if json_file is not None:
        write_json(
            [{"id": key.identity, **key.model_dump(mode="json"), "expired": key.expired(now)} for key in document.keys],
            json_file,
        )
    if json_file != "-":
        headings = ("name", "id", "tier", "organisation", "created", "expires", "note")
        print_table(headings, [_cells(key, now) for key in document.keys])


@verbs.command(epilog="Example: modeltoll keys revoke modeltoll.yaml alice")
@command_name
def revoke(
    settings: SettingsFile,
    name: Name,
    identity: Annotated[str | None, typer.Option("--id", help="This key alone, by its id in the list.")] = None,
) -> None:
    """Take back all keys of a name, or one of them."""
    _, path = _owner(settings)
    from modeltoll.gateway.callers import key_file  # noqa: PLC0415

    before = len(key_file.read_keys(path).keys)
    after: KeyDocument = key_file.change_keys(path, lambda document: key_file.without_key(document, name, identity))
    note.print(escape(f"{name}: {before - len(after.keys)} taken back"), soft_wrap=True)


@verbs.command(epilog="Example: modeltoll keys rotate modeltoll.yaml alice --overlap 7d")
@command_name
def rotate(
    settings: SettingsFile,
    name: Name,
    overlap: Annotated[str, typer.Option(help="How long the keys before stay good: 7d, 12h, 30m or 0m.")] = "1d",
) -> None:
    """Make a new key on the terms of the one before, which stays good for a while."""
    _, path = _owner(settings)
    from modeltoll.gateway.callers import key_file  # noqa: PLC0415

    now, (key, sha256) = _now(), key_file.draw_key()
    span = _duration(overlap, "--overlap")
    key_file.change_keys(path, lambda document: key_file.with_new_key(document, name, sha256, now, span))
    _print_key(key, f"a new key of {name} ({sha256[:8]}); the keys before end {now + span:%Y-%m-%d %H:%M} UTC")


def _owner(settings: Path) -> tuple[CallerSettings, Path]:
    """What the settings say of callers, and their key file."""
    with requires_extra("gateway"):
        from modeltoll.gateway.settings.load import load_settings  # noqa: PLC0415
    callers = load_settings(settings).callers
    if callers.key_file is None:
        raise SettingsError(["callers.key_file: is not set; say where the keys are kept, such as key_file: keys.json"])
    return callers, callers.key_file


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _print_key(key: str, what: str) -> None:
    sys.stdout.write(key + "\n")
    sys.stdout.flush()
    note.print(escape(f"{what}; it is shown this once"), soft_wrap=True)


def _cells(key: KeyRecord, now: datetime) -> tuple[str, ...]:
    expires = "never" if key.expires is None else f"{key.expires:%Y-%m-%d %H:%M}"
    return (
        escape(key.name),
        key.identity,
        escape(key.tier),
        escape(key.organisation or ""),
        f"{key.created:%Y-%m-%d}",
        f"{expires}, expired" if key.expired(now) else expires,
        escape(key.note),
    )


def _duration(text: str, option: str) -> timedelta:
    found = re.fullmatch(r"([0-9]{1,6})([mhd])", text)
    if found is None:
        raise SettingsError([f"{option}: {text!r} is not a time such as 90d, 12h or 30m"])
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])


def _expiry(text: str, now: datetime) -> datetime:
    """A time from now, or the beginning of a day."""
    try:
        end = datetime.fromisoformat(text)
    except ValueError:
        end = now + _duration(text, "--expires")
    end = end if end.tzinfo else end.replace(tzinfo=UTC)
    if end <= now:
        raise SettingsError([f"--expires: {text} is over already"])
    return end
