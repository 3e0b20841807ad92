"""The verbs of whoever sets a gateway up: ``init`` writes settings for a model server, ``check`` tries them."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from modeltoll.cli.terminal import (
    FAILED,
    JsonFile,
    SettingsFile,
    command_name,
    note,
    print_table,
    requires_extra,
    warn,
    write_json,
)
from modeltoll.errors import ModeltollError, SettingsError

if TYPE_CHECKING:
    from modeltoll.gateway.setup.check import CheckReport, RouteCheck
    from modeltoll.gateway.setup.discover import DiscoveredModel

__all__ = ["verbs"]

verbs = typer.Typer()

_PATIENCE = 10.0  # seconds for a model server to answer a sample


@verbs.command(epilog="Example: modeltoll init http://127.0.0.1:8000")
@command_name
def init(
    url: Annotated[str, typer.Argument(metavar="URL", help="The running model server.")],
    *,
    model: Annotated[
        str | None, typer.Option(help="The model's name, where the server does not list them, or of this one alone.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The settings file.")] = Path("modeltoll.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Also where there is such a file.")] = False,
) -> None:
    """Find out what a model server speaks and serves, and write a commented settings file for it."""
    with requires_extra("gateway"):
        from modeltoll.gateway.settings.load import UpstreamSettings  # noqa: PLC0415
        from modeltoll.gateway.setup.settings_template import first_settings  # noqa: PLC0415
    from pydantic import ValidationError  # noqa: PLC0415  an extra

    from modeltoll.gateway.settings.errors import errors_of  # noqa: PLC0415

    try:
        UpstreamSettings(url=url)
    except ValidationError as error:
        raise SettingsError([f"URL: {fault}" for fault in errors_of(error)]) from None
    if out.exists() and not force:
        raise SettingsError([f"--out: {out} is there already; name another, or overwrite it with --force"])
    finds = asyncio.run(_discovered(url, model))
    try:
        out.write_text(first_settings(url, finds), encoding="utf-8")
    except OSError as error:
        raise ModeltollError(f"{out} cannot be written: {error.strerror}") from None
    for find in finds:
        holds = f"{find.kind} of {find.classes} classes" if find.classes else find.kind
        note.print(f"found {escape(find.model)}: {find.protocol}, {holds}", soft_wrap=True)
    warn(f"{find.model}: {find.guessed}; see {out}" for find in finds if find.guessed)
    note.print(f"{out} is written. Next: modeltoll check {out}; modeltoll serve {out}", soft_wrap=True)


async def _discovered(url: str, model: str | None) -> tuple[DiscoveredModel, ...]:
    from modeltoll.gateway.setup.discover import discover  # noqa: PLC0415
    from modeltoll.gateway.upstream.http_upstream import HttpUpstream  # noqa: PLC0415

    upstream = HttpUpstream(url, timeout=_PATIENCE)
    await upstream.open()
    try:
        return await discover(upstream, model)
    finally:
        await upstream.close()


@verbs.command(epilog="Example: modeltoll check modeltoll.yaml")
@command_name
def check(
    settings: SettingsFile,
    *,
    inputs: Annotated[Path | None, typer.Option(help="Rows to ask for, .npy: the first eight are.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Try settings against the running model server: what each route will measure, and what it will cost."""
    with requires_extra("gateway"):
        from modeltoll.gateway.settings.load import load_settings  # noqa: PLC0415
        from modeltoll.gateway.setup.check import check_gateway as try_all  # noqa: PLC0415
    checked = asyncio.run(try_all(load_settings(settings), inputs))
    if json_file is not None:
        write_json(asdict(checked) | {"good": checked.good}, json_file)
    if json_file != "-":
        for tried in checked.models:
            print_table((escape(f"{tried.model}, asked at {tried.route}"), ""), _facts(tried))
    for notice in checked.notices:
        note.print(f"[yellow]note:[/] {escape(notice)}", soft_wrap=True)
    if not checked.good:
        for fault in _faults(checked):
            note.print(f"[red]failed:[/] {escape(fault)}", soft_wrap=True)
        raise typer.Exit(FAILED)
    note.print(f"ledger: {checked.ledger}. All is well.", soft_wrap=True)


def _faults(checked: CheckReport) -> list[str]:
    return [*checked.faults, *(f"{tried.model}: {fault}" for tried in checked.models for fault in tried.faults)]


def _facts(tried: RouteCheck) -> list[tuple[str, Any]]:
    facts = [("mode", tried.mode)]
    if tried.rows:
        facts.append((f"a sample of {tried.rows} rows took the model server, ms", f"{1000 * tried.seconds:.2f}"))
    facts += [(f"leak of its rows by {name}, mean", f"{leak:.4g}") for name, leak in tried.leaks.items()]
    if tried.price_seconds is not None:
        facts.append(("price of such a row, reference ms, before suspicion", f"{1000 * tried.price_seconds:.2f}"))
    if tried.unit_seconds is None:
        facts.append(("price", "none yet: there is no tariff"))
    else:
        facts.append(
            ("unit: the most that an honest row costs on average, reference ms", f"{1000 * tried.unit_seconds:.2f}")
        )
    facts += [(f"{share:.1%} of honest rows wait at most, ms", f"{1000 * wait:.1f}") for share, wait in tried.waits]
    facts += [("fault", escape(fault)) for fault in tried.faults]
    return facts
