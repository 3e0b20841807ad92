"""One request of a driver: the account that it belongs to, and the receipts that it returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from modeltoll import wire
from modeltoll.client.receipts import Account

if TYPE_CHECKING:
    from modeltoll.client.purse import Purse
    from modeltoll.toll_records import Toll

__all__ = ["Delivery", "TollCall", "resolved_path"]

_PORTS = {"http": 80, "https": 443}


@dataclass(slots=True)
class Delivery:
    """Receipts on their way, until the driver has the response and calls ``confirm``."""

    counted: bool = False

    def confirm(self, status: int, headers: Mapping[str, str]) -> None:
        """See whether a gateway read the receipts: it asks for a toll, or says that the answer is one of its own.

        It reads none with a request that it refuses, and with requests that it passes on, for example for metadata.
        """
        self.counted = status == wire.STATUS or wire.RECEIPT_HEADER.lower() in {name.lower() for name in headers}


class TollCall:
    """A request that may meet a toll.

    Args:
        purse: what pays.
        url: of the request, absolute.
        headers: of the request, with any case of names.
        repeatable: whether the request can be sent a second time; false if its body can be read once only.
        owner: who posts the receipts that no request returns.
    """

    def __init__(
        self, purse: Purse, url: str, headers: Mapping[str, Any], *, repeatable: bool = False, owner: object = None
    ) -> None:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port and parts.port != _PORTS.get(parts.scheme) else ""
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        self.purse = purse
        self.path = parts.path or "/"
        self.repeatable = repeatable
        self.owner = owner
        self.account = Account(
            f"{parts.scheme}://{host}{port}", _text(headers.get("authorization")), _text(headers.get("x-api-key"))
        )

    def find_toll(self, body: bytes) -> Toll | None:
        """The toll in a response's body, or None; see ``wire.find_toll``."""
        return wire.find_toll(body, self.purse.puzzles)

    @contextmanager
    def receipts_in(self, headers: MutableMapping[str, Any]) -> Iterator[Delivery]:
        """Return receipts in ``Toll-Settle`` while the block sends a request with these headers.

        Those that were not delivered are put back, whatever ends the block. The header is removed at the end, because
        libraries copy the headers of a request to the next one of a redirect. A header of the caller's own is kept.
        """
        delivery, receipts = Delivery(), self.purse.receipts
        taken = () if wire.SETTLE_HEADER in headers else receipts.take_for_request(self.account, self.path)
        try:
            if taken:
                headers[wire.SETTLE_HEADER] = wire.format_settle(one.receipt for one in taken)
            yield delivery
        finally:
            if taken:
                headers.pop(wire.SETTLE_HEADER, None)
                if not delivery.counted:
                    receipts.put_back(taken)


def _text(value: str | bytes | None) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value or ""


def resolved_path(path: str, reference: str) -> str:
    """The path to which a toll's ``redeem`` or ``settle`` leads, from the ``path`` of the request (RFC 3986, 5.2).

    The reference was checked (``wire.find_toll``), so that it has steps upwards and then names only. Hence the result is
    of the same origin as the request.
    """
    steps = reference.count("../")
    folders = path.split("/")[:-1]
    return "/".join([*folders[: max(len(folders) - steps, 1)], reference[3 * steps :]])
