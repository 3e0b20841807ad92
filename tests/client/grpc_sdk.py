"""Unmodified gRPC SDKs, each in a process of its own, for two of them register the same messages.

    python grpc_sdk.py SDK ADDRESS [--tolls] [--rows N] [--callers N]

SDK is triton, triton-async, triton-aio or kserve. ``--tolls`` lets the client pay in the process itself. Prints a JSON list
of the responses: the messages in hexadecimal, of kserve what its client makes of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

KEY = {"x-api-key": "k"}


def rows(caller, count):
    """The rows of one caller."""
    return np.random.default_rng(caller).normal(size=(count, 4)).astype(np.float32)


def triton_inputs(kind, table):
    tensor = kind("x", list(table.shape), "FP32")
    tensor.set_data_from_numpy(table)
    return [tensor]


def hexadecimal(result):
    return result.get_response().SerializeToString(deterministic=True).hex()


def triton(given, pay):
    """Blocking calls, each caller a thread."""
    import tritonclient.grpc as sdk  # noqa: PLC0415

    def ask(client, caller):
        inputs = triton_inputs(sdk.InferInput, rows(caller, given.rows))
        return hexadecimal(client.infer("m", inputs, request_id=str(caller), headers=KEY))

    def wait(client, caller):
        ended = Future()
        inputs = triton_inputs(sdk.InferInput, rows(caller, given.rows))

        def callback(result, error):
            ended.set_result(result) if error is None else ended.set_exception(error)

        client.async_infer("m", inputs, callback, request_id=str(caller), headers=KEY)
        return hexadecimal(ended.result(60))

    with sdk.InferenceServerClient(given.address) as client, ThreadPoolExecutor(given.callers) as threads:
        pay(client)
        assert client.is_server_live()
        one = wait if given.sdk == "triton-async" else ask
        return list(threads.map(lambda caller: one(client, caller), range(given.callers)))


async def triton_aio(given, pay):
    """Calls of the asynchronous client."""
    import tritonclient.grpc.aio as sdk  # noqa: PLC0415

    async with sdk.InferenceServerClient(given.address) as client:
        pay(client)

        async def ask(caller):
            inputs = triton_inputs(sdk.InferInput, rows(caller, given.rows))
            return hexadecimal(await client.infer("m", inputs, request_id=str(caller), headers=KEY))

        return await asyncio.gather(*map(ask, range(given.callers)))


async def kserve(given, pay):
    """Calls of KServe's client."""
    sys.argv = sys.argv[:1]  # it parses the command line of the importing program
    from kserve import InferInput, InferRequest  # noqa: PLC0415
    from kserve.inference_client import InferenceGRPCClient  # noqa: PLC0415

    async with InferenceGRPCClient(given.address) as client:
        pay(client)

        async def ask(caller):
            tensor = InferInput("x", [given.rows, 4], "FP32")
            tensor.set_data_from_numpy(rows(caller, given.rows), binary_data=True)
            request = InferRequest("m", [tensor], request_id=str(caller))
            answer = await client.infer(request, headers=tuple(KEY.items()))
            return json.dumps(answer.to_dict(), sort_keys=True, default=str)

        return await asyncio.gather(*map(ask, range(given.callers)))


def main():
    """Print what an SDK gets."""
    parser = argparse.ArgumentParser()
    parser.add_argument("sdk")
    parser.add_argument("address")
    parser.add_argument("--tolls", action="store_true")
    parser.add_argument("--max-seconds", type=float, default=30.0)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--callers", type=int, default=1)
    given = parser.parse_args()

    def pay(client):
        if given.tolls:
            from modeltoll.client.grpc import pay_tolls  # noqa: PLC0415

            pay_tolls(client, given.max_seconds)

    if given.sdk.endswith("aio"):
        answers = asyncio.run(triton_aio(given, pay))
    else:
        answers = asyncio.run(kserve(given, pay)) if given.sdk == "kserve" else triton(given, pay)
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
