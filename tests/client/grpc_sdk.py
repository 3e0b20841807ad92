"""Unmodified gRPC SDKs, each in a process of its own, for two of them register the same messages.

    python grpc_sdk.py SDK TARGET...

SDK is triton, triton-async, triton-aio or kserve. A target is ADDRESS,CALLERS or ADDRESS,CALLERS,MAX_SECONDS; with the last
the client pays in the process itself. Prints a JSON list with one entry for each target: the list of the callers' answers
(messages in hexadecimal, of kserve what its client makes of them), or the text of the error.
"""

from __future__ import annotations

import asyncio
import json
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

KEY = {"x-api-key": "k"}
ROWS = 2


@dataclass(frozen=True)
class Target:
    """An address, the number of callers at once, and the limit with which tolls are paid in the process."""

    address: str
    callers: int
    max_seconds: float | None

    def prepare(self, client):
        """Let a client pay tolls, where it shall."""
        if self.max_seconds is not None:
            from modeltoll.client.grpc import pay_tolls  # noqa: PLC0415

            pay_tolls(client, self.max_seconds)


def table(caller):
    """The rows of one caller."""
    return np.random.default_rng(caller).normal(size=(ROWS, 4)).astype(np.float32)


def triton_inputs(kind, caller):
    tensor = kind("x", [ROWS, 4], "FP32")
    tensor.set_data_from_numpy(table(caller))
    return [tensor]


def hexadecimal(result):
    return result.get_response().SerializeToString(deterministic=True).hex()


def triton(target, *, waits):
    """Blocking calls, or futures that the callers wait for; each caller is a thread."""
    import tritonclient.grpc as sdk  # noqa: PLC0415

    with sdk.InferenceServerClient(target.address) as client, ThreadPoolExecutor(target.callers) as threads:
        target.prepare(client)
        assert client.is_server_live()

        def ask(caller):
            inputs, named = triton_inputs(sdk.InferInput, caller), {"request_id": str(caller), "headers": KEY}
            if not waits:
                return hexadecimal(client.infer("m", inputs, **named))
            ended = Future()

            def callback(result, error):
                ended.set_result(result) if error is None else ended.set_exception(error)

            client.async_infer("m", inputs, callback, **named)
            return hexadecimal(ended.result(60))

        return list(threads.map(ask, range(target.callers)))


async def triton_aio(target):
    """Calls of the asynchronous client."""
    import tritonclient.grpc.aio as sdk  # noqa: PLC0415

    async with sdk.InferenceServerClient(target.address) as client:
        target.prepare(client)

        async def ask(caller):
            inputs = triton_inputs(sdk.InferInput, caller)
            return hexadecimal(await client.infer("m", inputs, request_id=str(caller), headers=KEY))

        return await asyncio.gather(*map(ask, range(target.callers)))


async def kserve(target):
    """Calls of KServe's client."""
    from kserve import InferInput, InferRequest  # noqa: PLC0415
    from kserve.inference_client import InferenceGRPCClient  # noqa: PLC0415

    async with InferenceGRPCClient(target.address) as client:
        target.prepare(client)

        async def ask(caller):
            tensor = InferInput("x", [ROWS, 4], "FP32")
            tensor.set_data_from_numpy(table(caller), binary_data=True)
            request = InferRequest("m", [tensor], request_id=str(caller))
            answer = await client.infer(request, headers=tuple(KEY.items()))
            return json.dumps(answer.to_dict(), sort_keys=True, default=str)

        return await asyncio.gather(*map(ask, range(target.callers)))


CALLS = {
    "triton": lambda target: triton(target, waits=False),
    "triton-async": lambda target: triton(target, waits=True),
    "triton-aio": lambda target: asyncio.run(triton_aio(target)),
    "kserve": lambda target: asyncio.run(kserve(target)),
}


def main():
    """Print what an SDK gets."""
    name, *targets = sys.argv[1:]
    sys.argv = sys.argv[:1]  # kserve parses the command line of the importing program
    outcomes = []
    for text in targets:
        address, callers, *limit = text.split(",")
        try:
            outcomes.append(CALLS[name](Target(address, int(callers), float(limit[0]) if limit else None)))
        except Exception as error:  # noqa: BLE001  of any SDK
            outcomes.append(f"{type(error).__name__}: {error}")
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
