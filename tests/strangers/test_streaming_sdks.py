"""Unmodified SDKs and an agent framework stream a chat with a call of a tool: the events come as without a gateway."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import httpx
import numpy as np
import pytest

from modeltoll.client.httpx import TollTransport
from modeltoll.client.purse import Purse
from modeltoll.gateway.callers.identify import hash_key
from modeltoll.pricing.calibration_file import save_calibration
from modeltoll.pricing.fit import RowCosts, fit_calibration
from modeltoll.records import Leaks
from modeltoll.testing.chat_server import CHAT_PATH, chat_server
from modeltoll.testing.model_servers import serving
from served_gateway import served_gateway
from served_sidecar import Sidecar
from streaming_programs import (
    CHAT,
    KEY,
    agent_events,
    async_client,
    async_openai_chunks,
    openai_chunks,
    openai_events,
    sync_client,
)

PROGRAMS = {
    "openai": (openai_chunks, sync_client),
    "openai, its helper": (openai_events, sync_client),
    "openai, async": (async_openai_chunks, async_client),
    "pydantic-ai": (agent_events, async_client),
}
MODEL = {
    "protocol": "openai-chat",
    "output": {"kind": "tokens", "logprobs": "raw"},
    "measures": [{"name": "tokens"}],
    "puzzle": {"allow": ["sha256"]},
    "tariff": "chat.json",
}


@dataclass(frozen=True)
class Addresses:
    """Of the model server itself, of gateways before it by their mode, and of a sidecar before the enforcing one."""

    direct: str
    shadow: str
    enforce: str
    sidecar: str


@pytest.fixture(scope="module")
def addresses(tmp_path_factory):
    keys = [{"name": "sdk", "sha256": hash_key(KEY)}]
    with ExitStack() as stack:
        server = stack.enter_context(serving(chat_server(0.001)))
        urls = {}
        for mode in ("shadow", "enforce"):
            folder = tmp_path_factory.mktemp(mode)
            leaks = Leaks(("tokens",), 20 * np.random.default_rng(0).random((400, 1)))
            save_calibration(fit_calibration("chat", leaks, RowCosts(unit_seconds=1e-4)), folder / "chat.json")
            models = {"chat": MODEL | {"mode": mode}}
            urls[mode] = stack.enter_context(served_gateway(folder, server, models, callers={"keys": keys})).url
        sidecar = stack.enter_context(Sidecar(urls["enforce"]))
        yield Addresses(server, sidecar=sidecar.url, **urls)


@pytest.fixture(scope="module")
def direct(addresses):
    """What each program sees without a gateway."""
    seen = {name: program(addresses.direct) for name, (program, _) in PROGRAMS.items()}
    assert all(len(events) > 10 for events in seen.values())
    return seen


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_priced_stream_is_replayed_as_it_was_made(addresses, direct, name):
    program, client = PROGRAMS[name]
    purse = Purse()
    assert program(addresses.enforce, client(purse)) == direct[name]
    assert purse.payments


@pytest.mark.parametrize("name", PROGRAMS)
def test_in_shadow_mode_the_events_pass(addresses, direct, name):
    program, client = PROGRAMS[name]
    purse = Purse()
    assert program(addresses.shadow, client(purse)) == direct[name]
    assert program(addresses.shadow) == direct[name]
    assert not purse.payments


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_that_knows_nothing_of_tolls_streams_through_the_sidecar(addresses, direct, name):
    assert PROGRAMS[name][0](addresses.sidecar) == direct[name]


def test_the_log_probabilities_that_a_program_asks_for_come_and_no_others(addresses):
    asked = {"logprobs": True, "top_logprobs": 2}
    expected = openai_chunks(addresses.direct, **asked)
    assert openai_chunks(addresses.enforce, sync_client(Purse()), **asked) == expected
    assert openai_chunks(addresses.shadow, **asked) == expected
    assert len(expected[1]["choices"][0]["logprobs"]["content"][0]["top_logprobs"]) == 2


def test_each_event_is_a_chunk_of_its_own(addresses):
    def chunks(url, client):
        with client, client.stream("POST", url + CHAT_PATH, json=CHAT, headers={"x-api-key": KEY}) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            return list(response.iter_raw())

    whole = chunks(addresses.enforce, httpx.Client(transport=TollTransport(purse=Purse())))
    assert len(whole) == len(openai_chunks(addresses.direct)) + 1  # and [DONE]
    assert all(chunk.startswith(b"data: ") and chunk.endswith(b"\n\n") for chunk in whole)
    passed = b"".join(chunks(addresses.shadow, httpx.Client()))
    assert passed.startswith(b"".join(whole))
    assert passed.removeprefix(b"".join(whole)).startswith(b": Toll-Receipt: rows=1; work=")
