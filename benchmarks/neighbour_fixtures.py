"""What the gateway stands beside in its benchmark: LiteLLM's proxy for chats, and ALTCHA's challenges for requests.

The chats' stub of a model server is that of ``gateway_fixtures.py``; it adds log-probabilities where they are asked for, as the
gateway does. ALTCHA protects a pass-through of the gateway's own stack: each request takes a challenge, which the client
solves, and a second round trip with the solution. The challenges are so easy that solving takes less than a millisecond.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
import os
import random
import re
import subprocess

import aiohttp
import numpy as np
import yaml
from altcha import v2 as altcha
from gateway_fixtures import ANY_PATH, CREDIT, KEY, PATH, forwarded, free_port, request_body, response_bytes
from proxy_load import send_repeatedly
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from modeltoll.gateway.callers.identify import hash_key
from modeltoll.pricing.calibration_file import save_calibration
from modeltoll.pricing.fit import RowCosts, fit_calibration
from modeltoll.records import Leaks
from modeltoll.testing.chat_server import CHAT_PATH, chat_server

__all__ = [
    "ALTCHA_KINDS",
    "altcha_application",
    "altcha_load",
    "chat_answers",
    "chat_load",
    "chat_settings",
    "litellm_command",
    "litellm_settings",
    "litellm_version",
]

CHAT = "chat"
CHALLENGE_PATH = "/challenge"
ALTCHA_KINDS = ("sha256", "argon2id")
_SECRET, _KEY_SECRET = "a-secret-of-the-benchmark", "another-secret-of-the-benchmark"
_TRIES = 16  # of a challenge of Argon2id, at most: 8 evaluations on average, as the gateway asks at least
_MEMORY_KIB = 64  # of an evaluation; the gateway's lowest rung
_TOP_LOGPROBS = re.compile(rb'"top_logprobs": ?(\d+)')
_CHAT_ROWS, _CHAT_ANSWERS = 2000, 500  # of the calibration, and of the stub
_CHAT_TOKENS, _SHOWN = 10, 20  # tokens of an answer; log-probabilities of each token


def chat_answers():
    """What the stub answers to a chat: ten tokens, with as many log-probabilities of each as are asked for.

    The model is sure of some answers and unsure of others, as it is in those that the tariff was made from.
    """
    client, known = TestClient(chat_server()), {}

    def answer(_path, body):
        asked = _TOP_LOGPROBS.search(body)
        top = asked and int(asked[1])
        if top not in known:
            question = {"model": CHAT, "messages": [{"role": "user", "content": "?"}]}
            question |= {} if top is None else {"logprobs": True, "top_logprobs": top}
            document = client.post(CHAT_PATH, json=question).json()
            answers = [_with_probability(document, own) for own in _own_probabilities(_CHAT_ANSWERS, seed=1)]
            known[top] = itertools.cycle([response_bytes(json.dumps(one).encode()) for one in answers])
        return next(known[top])

    return answer


def _own_probabilities(count, seed):
    """The probability of each token of some chats."""
    return np.random.default_rng(seed).uniform(0.3, 0.99, count)


def _with_probability(document, own):
    """The document with another probability of its tokens. What is left is shared by others, each half as likely as the last."""
    document = copy.deepcopy(document)
    for token in (document["choices"][0].get("logprobs") or {}).get("content", ()):
        token["logprob"] = math.log(own)
        for rank, other in enumerate(token["top_logprobs"]):
            other["logprob"] = math.log(own if rank == 0 else (1.0 - own) / 2.0**rank)
    return document


def _chat_leaks(own):
    """The leaks of chats, (chats, 1), in which each of ten tokens has the probability ``own`` (chats,)."""
    shares = np.concatenate([own[:, None], (1.0 - own[:, None]) / 2.0 ** np.arange(1, _SHOWN)], axis=1)
    return Leaks(("tokens",), -_CHAT_TOKENS * (shares * np.log(shares)).sum(axis=1, keepdims=True))


def chat_settings(folder, name, mode, upstream_port, unit_ms):
    """Write the settings of a proxy for chats, on SQLite; returns the file, the public port and the admin port."""
    leaks = _chat_leaks(_own_probabilities(_CHAT_ROWS, seed=0))
    costs = RowCosts(undefended_seconds=unit_ms / 1000, unit_seconds=unit_ms / 1000)
    save_calibration(fit_calibration(CHAT, leaks, costs), folder / "chat.tariff.json")
    port, admin = free_port(), free_port()
    model = {
        "tariff": "chat.tariff.json",
        "protocol": "openai-chat",
        "output": {"kind": "tokens", "logprobs": "raw"},
        "measures": [{"name": "tokens"}],
        "mode": mode,
        "puzzle": {"max_memory_mib": 8, "suspected_memory_mib": 8},
    }
    document = {
        "listen": f"127.0.0.1:{port}",
        "admin": f"127.0.0.1:{admin}",
        "upstream": {"url": f"http://127.0.0.1:{upstream_port}"},
        "ledger": {"url": f"sqlite:///chat-{name}.db"},
        "callers": {"keys": [{"name": "bench", "sha256": hash_key(KEY)}], "credit": CREDIT},
        "models": {CHAT: model},
    }
    path = folder / f"chat-{name}.yaml"
    path.write_text(yaml.safe_dump(document))
    return path, port, admin


def litellm_settings(folder, upstream_port):
    """Write the configuration of LiteLLM's proxy: one model, one key, and nothing that asks other servers."""
    parameters = {
        "model": f"openai/{CHAT}",
        "api_base": f"http://127.0.0.1:{upstream_port}/v1",
        "api_key": "none",
    }
    document = {
        "model_list": [{"model_name": CHAT, "litellm_params": parameters}],
        "litellm_settings": {"telemetry": False, "set_verbose": False},
        "general_settings": {"master_key": KEY},
    }
    path = folder / "litellm.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def litellm_command(venv, settings, port):
    """The command that runs LiteLLM's proxy with one worker, and its environment."""
    program = venv / "bin" / "litellm"
    command = [
        str(program),
        "--config",
        str(settings),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--num_workers",
        "1",
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_TELEMETRY": "False"}
    return command, environment | quiet


def litellm_version(venv):
    """The version of LiteLLM in an environment."""
    code = "from importlib.metadata import version; print(version('litellm'))"
    run = subprocess.run([str(venv / "bin" / "python"), "-c", code], capture_output=True, check=True, text=True)
    return run.stdout.strip()


async def chat_load(port, connections, seconds, seed):
    """Send fresh chats over some connections; an outcome is the status."""
    rng = random.Random(seed)
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:

        async def send():
            words = " ".join(str(rng.randrange(10_000)) for _ in range(20))
            question = {"model": CHAT, "messages": [{"role": "user", "content": words}], "max_tokens": 32}
            async with session.post(f"http://127.0.0.1:{port}{CHAT_PATH}", json=question) as response:
                await response.read()
                return str(response.status)

        return await send_repeatedly(send, connections, seconds)


def altcha_application(kind):
    """Makes of an upstream an application that asks for a solved challenge of ALTCHA before each request."""

    def application(upstream):
        async def challenge(_request: Request) -> Response:
            return JSONResponse(_challenge(kind).to_dict())

        async def infer(request: Request) -> Response:
            payload = request.headers.get("altcha", "")
            if not altcha.verify_solution(payload, _SECRET, hmac_key_secret=_KEY_SECRET).verified:
                return Response(status_code=402)
            return await forwarded(upstream, request)

        return Starlette(routes=[Route(CHALLENGE_PATH, challenge), Route(ANY_PATH, infer, methods=["POST"])])

    return application


def _challenge(kind):
    """A challenge of ALTCHA's second version, signed."""
    if kind == "sha256":
        return altcha.create_challenge("SHA-256", 1, hmac_secret=_SECRET)
    return altcha.create_challenge(
        "ARGON2ID",
        1,
        counter=random.randrange(_TRIES),
        memory_cost=_MEMORY_KIB,
        parallelism=1,
        hmac_secret=_SECRET,
        hmac_key_secret=_KEY_SECRET,
    )


async def altcha_load(port, connections, seconds, seed):
    """Take a challenge, solve it and send a request with the solution, over some connections; an outcome is the status."""
    rng, url = random.Random(seed), f"http://127.0.0.1:{port}"
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:

        async def send():
            async with session.get(url + CHALLENGE_PATH) as response:
                challenge = altcha.Challenge.from_dict(await response.json())
            solution = altcha.solve_challenge(challenge)
            solved = {"altcha": altcha.Payload(challenge, solution).to_base64()}
            async with session.post(url + PATH, data=request_body(rng), headers=solved) as response:
                await response.read()
                return str(response.status)

        return await send_repeatedly(send, connections, seconds)
