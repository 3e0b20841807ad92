"""Configures logging to standard error: lines for people, or one JSON object per line for machines."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from modeltoll.gateway.settings.operation import OperationSettings

__all__ = ["JsonFormatter", "configure_logging"]

_PACKAGE = "modeltoll"
_CONSOLE_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class JsonFormatter(logging.Formatter):
    """A record as one JSON object: ``at``, ``level``, ``logger``, ``process``, ``message``, and ``traceback`` if any."""

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter``; the result has no line breaks."""
        members = {
            "at": _timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            members["traceback"] = self.formatException(record.exc_info)
        return json.dumps(members)


class _LossyHandler(logging.StreamHandler[TextIO]):
    """Drops a line that cannot be written; a report of that could not be written either."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  the name is logging's
        """Ignore the error."""


def configure_logging(settings: OperationSettings) -> None:
    """Set this process's log format and level. A log that cannot be written, as on a full disk, stops nothing."""
    handler = _LossyHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else logging.Formatter(_CONSOLE_FORMAT))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)  # for all other packages
    logging.getLogger(_PACKAGE).setLevel(settings.log_level.upper())
