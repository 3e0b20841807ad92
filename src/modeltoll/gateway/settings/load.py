"""Load settings from a YAML file and the environment; all errors are reported at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import ValidationError
from pydantic_settings import SettingsError as SourceFault

from modeltoll.errors import SettingsError
from modeltoll.gateway.settings.errors import errors_of
from modeltoll.gateway.settings.field_types import without_nulls
from modeltoll.gateway.settings.gateway import LedgerSettings, Settings
from modeltoll.gateway.settings.yaml_file import read_document, written_values

__all__ = ["load_settings"]

_SQLITE_HERE = re.compile(r"sqlite:///(?!/)(.+)")  # a SQLite file that is not named from the root


def _anchored(document: dict[str, Any], folder: Path) -> dict[str, Any]:
    """File names in a settings file are relative to it, wherever the gateway is started."""
    models = document.get("models")
    for model in models.values() if isinstance(models, dict) else ():
        measures = model.get("measures") if isinstance(model, dict) else None
        for holder, member in [
            (model, "tariff"),
            *((m, "file") for m in (measures if isinstance(measures, list) else ())),
        ]:
            if isinstance(holder, dict) and isinstance(holder.get(member), str):
                holder[member] = str(folder / holder[member])
    callers, operation = document.get("callers"), document.get("operation")
    tokens = callers.get("jwt") if isinstance(callers, dict) else None
    upstream = document.get("upstream")
    files = [(upstream, name) for name in ("api_key_file", "ca_file", "client_certificate", "client_key")]
    files += [
        (document, "profile"),
        (callers, "key_file"),
        (tokens, "key_file"),
        (tokens, "key_url_ca_file"),
        (operation, "audit_file"),
    ]
    for holder, member in files:
        if isinstance(holder, dict) and isinstance(holder.get(member), str):
            holder[member] = str(folder / holder[member])
    _anchor_texts({name: part for name, part in document.items() if name != "models"}, folder)
    ledger = document.setdefault("ledger", {})
    if isinstance(ledger, dict) and isinstance(url := ledger.get("url", LedgerSettings().url), str):
        ledger["url"] = _SQLITE_HERE.sub(lambda found: f"sqlite:///{quote(str(folder.absolute()))}/{found[1]}", url)
    return document


def _anchor_texts(part: Any, folder: Path) -> None:
    """The same for the files of ``{file: path}``, which stand in place of texts."""
    members = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    for member in members:
        if isinstance(member, dict) and set(member) == {"file"} and isinstance(member["file"], str):
            member["file"] = str(folder / member["file"])
        else:
            _anchor_texts(member, folder)


def load_settings(path: Path) -> Settings:
    """Read a settings file; what the environment says overrides it.

    Raises:
        SettingsError: every fault of the file at once, each naming the setting and what to do.
    """
    document = _anchored(without_nulls(read_document(path), Settings), path.parent)
    try:
        return Settings(**document)
    except ValidationError as error:
        raise SettingsError(errors_of(error, written=written_values(path))) from None
    except SourceFault as error:  # a variable that should hold JSON and does not
        raise SettingsError([f"environment: {error}; write JSON, or set a member of it by MODELTOLL_A__B"]) from None
