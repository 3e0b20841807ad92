"""Merges the metrics of several workers into one page; each sample is labelled with its worker's number."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from starlette.responses import Response

from modeltoll.errors import ModeltollError
from modeltoll.gateway.observability.metric_catalogue import METRICS, PREFIX
from modeltoll.gateway.upstream.http_upstream import HttpOptions, HttpUpstream

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["METRICS_PATH", "WorkerMetricsApp", "merge_metrics"]

METRICS_PATH = "/metrics"
_WORKERS = METRICS["workers"]
_MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_WORKER_TIMEOUT = 2.0  # seconds
_SAMPLE = re.compile(r"([A-Za-z_:][\w:]*)(?:\{(.*)\})? (.+)")


def merge_metrics(pages: Mapping[int, str]) -> str:
    """One page in Prometheus' text format from the pages of workers, by the workers' numbers.

    Each sample gets the label ``worker``. Sums over workers are left to the query: ``sum without (worker)``.
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
                other_labels = f",{labels}" if labels else ""
                family.append(f'{name}{{worker="{worker}"{other_labels}}} {value}')
    return "\n".join(line for head, family in families.items() for line in (head, *family)) + "\n"


class WorkerMetricsApp:
    """The admin application of one worker; its metrics page is that of all workers that answer in time.

    ``addresses`` are the URLs of the workers' own admin applications, in the order of their numbers.
    """

    def __init__(self, admin: ASGIApp, addresses: Sequence[str]) -> None:
        self._admin = admin
        self._workers = [
            HttpUpstream(address, timeout=_WORKER_TIMEOUT, options=HttpOptions(connections=1)) for address in addresses
        ]

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Keep connections to the workers open while the block lasts."""
        async with AsyncExitStack() as stack:
            for worker in self._workers:
                await worker.open()
                stack.push_async_callback(worker.close)
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or scope["path"] != METRICS_PATH or scope["method"] not in {"GET", "HEAD"}:
            await self._admin(scope, receive, send)
            return
        pages = await asyncio.gather(*map(_metrics_page, self._workers))
        answered = {number: page for number, page in enumerate(pages) if page is not None}
        name, text = PREFIX + _WORKERS.name, _WORKERS.text
        head = f"# HELP {name} {text}\n# TYPE {name} {_WORKERS.kind}\n"
        body = f"{head}{name} {len(answered)}\n{merge_metrics(answered)}"
        await Response(body, media_type=_MEDIA_TYPE)(scope, receive, send)


async def _metrics_page(worker: HttpUpstream) -> str | None:
    try:
        answer = await worker.fetch(METRICS_PATH)
    except ModeltollError:
        return None
    return answer.body.decode() if answer.status == 200 else None
