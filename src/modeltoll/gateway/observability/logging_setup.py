"""How the log is written: lines for people, or one JSON object a line for machines, on standard error."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from modeltoll.gateway.settings.operation import OperationSettings

__all__ = ["JsonFormatter", "configure_logging"]

_OURS = "modeltoll"
_CONSOLE = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class JsonFormatter(logging.Formatter):
    """A record as one JSON object: ``at``, ``level``, ``logger``, ``process``, ``message``, and ``traceback`` if any."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the message holds."""
        members = {
            "at": _moment(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            members["traceback"] = self.formatException(record.exc_info)
        return json.dumps(members)


class _ReopeningHandler(logging.StreamHandler[TextIO]):
    """A line that cannot be written is lost; saying so could not be written either."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  the name is logging's
        """Nothing."""


def configure_logging(settings: OperationSettings) -> None:
    """From now on this process says what its settings ask for; a disk that is full under the log stops nothing."""
    handler = _ReopeningHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else logging.Formatter(_CONSOLE))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)  # of what others say
    logging.getLogger(_OURS).setLevel(settings.log_level.upper())
