"""The metrics of several workers on one page, each sample with its worker's number."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from starlette.responses import Response

from modeltoll.errors import ModeltollError
from modeltoll.gateway.upstream.http_upstream import HttpUpstream

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["METRICS", "WorkerMetricsApp", "merge_metrics"]

METRICS = "/metrics"
_MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PATIENCE = 2.0  # seconds for a worker to say its part
_SAMPLE = re.compile(r"([A-Za-z_:][\w:]*)(?:\{(.*)\})? (.+)")


def merge_metrics(pages: Mapping[int, str]) -> str:
    """One page in Prometheus' text format from the pages of workers, by their numbers.

    Each sample gets the label ``worker``; sums and quantiles over workers are the reader's: ``sum without (worker)``.
    """
    families: dict[str, list[str]] = {}
    for worker, page in pages.items():
        family: list[str] = []
        for line in page.splitlines():
            if line.startswith("# HELP "):
                family = families.setdefault(line, [])
            elif line.startswith("#"):
                family.extend([line] * (line not in family))
            elif sample := _SAMPLE.fullmatch(line):
                name, labels, value = sample.groups()
                more = f",{labels}" if labels else ""
                family.append(f'{name}{{worker="{worker}"{more}}} {value}')
    return "\n".join(line for head, family in families.items() for line in (head, *family)) + "\n"


class WorkerMetricsApp:
    """The operator's side of one worker; its page of metrics is that of all workers who answer in time.

    ``addresses`` are where the workers' own pages are, in the order of their numbers.
    """

    def __init__(self, admin: ASGIApp, addresses: Sequence[str]) -> None:
        self._admin = admin
        self._workers = [HttpUpstream(address, timeout=_PATIENCE, connections=1) for address in addresses]

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Be ready to ask the workers for as long as the block lasts."""
        async with AsyncExitStack() as stack:
            for worker in self._workers:
                await worker.open()
                stack.push_async_callback(worker.close)
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or scope["path"] != METRICS or scope["method"] not in {"GET", "HEAD"}:
            await self._admin(scope, receive, send)
            return
        pages = await asyncio.gather(*map(_page, self._workers))
        known = {number: page for number, page in enumerate(pages) if page is not None}
        head = "# HELP modeltoll_workers Workers whose metrics are on this page\n# TYPE modeltoll_workers gauge\n"
        body = f"{head}modeltoll_workers {len(known)}\n{merge_metrics(known)}"
        await Response(body, media_type=_MEDIA_TYPE)(scope, receive, send)


async def _page(worker: HttpUpstream) -> str | None:
    try:
        answer = await worker.fetch(METRICS)
    except ModeltollError:
        return None
    return answer.body.decode() if answer.status == 200 else None
