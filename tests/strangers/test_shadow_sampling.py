"""Shadow mode changes nothing of what a chat is answered: the model server samples as the caller, or its own defaults, say."""

from __future__ import annotations

import json

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from modeltoll.testing.model_servers import serving
from served_gateway import CHAT, served_gateway

HELLO = [{"role": "user", "content": "hi"}]
NEUTRAL = {"temperature": 1, "top_p": 1, "frequency_penalty": 0, "presence_penalty": 0}


def answer(document, default):
    """What a server says that samples at ``default`` where a request names no temperature."""
    named = document.get("temperature")
    text = f"at {float(default if named is None else named)}"
    token = {"token": text, "logprob": -0.5, "bytes": None, "top_logprobs": []}
    token["top_logprobs"] = [{"token": text, "logprob": -0.5, "bytes": None}]
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    choice["logprobs"] = {"content": [token]} if document.get("logprobs") else None
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "chat", "choices": [choice], "usage": usage}


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    """What the model server was asked, its address, and those of gateways in shadow mode by what the settings say of it."""
    asked, default = [], [0.6]

    async def say(request):
        asked.append(json.loads(await request.body()))
        return JSONResponse(answer(asked[-1], default[0]))

    def gateway(**output):
        model = CHAT | {"output": {"kind": "tokens"} | output}
        return served_gateway(tmp_path_factory.mktemp("gateway"), url, {"chat": model})

    server = Starlette(routes=[Route("/v1/chat/completions", say, methods=["POST"])])
    with (
        serving(server) as url,
        gateway() as tempered,
        gateway(neutral_defaults=True) as neutral,
        gateway(logprobs="raw") as raw,
    ):
        yield asked, default, url, {"tempered": tempered.url, "neutral": neutral.url, "raw": raw.url}


SAMPLING = [
    {},
    {"temperature": None},
    {"temperature": 0},
    {"temperature": 0.7, "top_p": 0.9},
    {"temperature": 1},
    NEUTRAL,
]


@pytest.mark.parametrize("kind", ["tempered", "neutral", "raw"])
@pytest.mark.parametrize("sampling", SAMPLING, ids=str)
def test_the_server_is_asked_with_the_callers_own_temperature(setup, kind, sampling):
    asked, default, url, gates = setup
    default[0] = 1.0 if kind == "neutral" else 0.6
    body = {"model": "chat", "messages": HELLO} | sampling
    seen = [httpx.post(f"{base}/v1/chat/completions", json=body).json() for base in (url, gates[kind])]
    assert seen[0] == seen[1]
    direct, through = ({name: each[name] for name in NEUTRAL if name in each} for each in asked[-2:])
    assert through == direct or (kind == "neutral" and through == NEUTRAL | {k: v for k, v in direct.items() if v})


MEASURED = {"tempered": [NEUTRAL], "neutral": [{}, {"temperature": None}, {"temperature": 1}, NEUTRAL], "raw": SAMPLING}


@pytest.mark.parametrize("kind", MEASURED)
def test_what_is_measured_is_what_the_model_itself_says(setup, kind):
    """With the least work that shadow mode reports, ``rows=1``; what is not measured has ``rows=0``."""
    _, _, _, gates = setup
    for sampling in SAMPLING:
        body = {"model": "chat", "messages": HELLO} | sampling
        found = httpx.post(f"{gates[kind]}/v1/chat/completions", json=body)
        assert found.headers["toll-receipt"].startswith(f"rows={int(sampling in MEASURED[kind])}"), sampling
