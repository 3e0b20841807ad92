"""Asks one URL with one client and prints the error and the growth of the largest memory use in MiB.

python bomb_client.py httpx|httpx-async|requests|aiohttp|aiohttp-undecoded URL WARM_UP_URL
"""

from __future__ import annotations

import asyncio
import resource
import sys

import aiohttp
import httpx
import requests

from modeltoll.client.aiohttp import TollMiddleware
from modeltoll.client.httpx import AsyncTollTransport, TollTransport
from modeltoll.client.requests import TollAdapter
from modeltoll.errors import TollError

MIB = 1 << 20
library, url, warm_up = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_AS, (4096 * MIB, 4096 * MIB))  # whatever happens, the machine stays usable


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def ask_httpx():
    with httpx.Client(transport=TollTransport()) as client:
        client.get(warm_up)
        yield
        client.get(url)


def ask_requests():
    with requests.Session() as session:
        session.mount("http://", TollAdapter())
        session.get(warm_up)
        yield
        session.get(url)


async def ask_httpx_async():
    async with httpx.AsyncClient(transport=AsyncTollTransport()) as client:
        await client.get(warm_up)
        yield
        await client.get(url)


async def ask_aiohttp():
    decode = library == "aiohttp"
    async with aiohttp.ClientSession(middlewares=[TollMiddleware()], auto_decompress=decode) as session:
        await session.get(warm_up)
        yield
        await (await session.get(url)).read()


async def measure_async(steps):
    await anext(steps)
    before, outcome = peak(), "passed"
    try:
        await anext(steps, None)
    except TollError as error:
        outcome = type(error).__name__
    print(outcome, round(peak() - before))


def measure(steps):
    next(steps)
    before, outcome = peak(), "passed"
    try:
        next(steps, None)
    except TollError as error:
        outcome = type(error).__name__
    print(outcome, round(peak() - before))


if library in ("httpx", "requests"):
    measure(ask_httpx() if library == "httpx" else ask_requests())
else:
    asyncio.run(measure_async(ask_httpx_async() if library == "httpx-async" else ask_aiohttp()))
