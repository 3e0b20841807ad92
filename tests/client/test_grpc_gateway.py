"""Interceptors and a real gateway over gRPC: crowds with a small credit, and a gateway that is killed and starts again."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import grpc.aio
import httpx
import numpy as np
import pytest
import yaml

from grpc_gateway import ALICE, GrpcModelServer, grpc_gateway, infer_request, infer_response, settings_document
from modeltoll import open_inference_messages as messages
from modeltoll.client.grpc import AioTollInterceptor, TollInterceptor
from modeltoll.client.purse import Purse
from modeltoll.demo.processes import free_port
from modeltoll.pricing.calibration import NewAccountToll
from modeltoll.pricing.fit import CalibrationTerms, RowCosts, fit_calibration
from modeltoll.records import Leaks

UNIT = 0.002
CALLERS = 32
KEY = (("x-api-key", ALICE),)
REQUEST, RESPONSE = messages.ModelInferRequest, messages.ModelInferResponse


def calibration(anonymous_units=0.0):
    leaks = Leaks(("entropy",), np.random.default_rng(0).random((400, 1)))
    terms = CalibrationTerms(new_account_toll=NewAccountToll(anonymous_units=anonymous_units))
    return fit_calibration("digits", leaks, RowCosts(undefended_seconds=UNIT, unit_seconds=UNIT), terms)


def own_answer(body, _context=None):
    """An answer that only this request gets."""
    request = REQUEST.FromString(body)
    number = float(np.frombuffer(request.raw_input_contents[0], "<f4")[0])
    return infer_response([[1 - 3 * number / 1000, *[number / 1000] * 3]], id=request.id).SerializeToString()


def row(number):
    return infer_request([[number, 1.0]], id=str(number))


def answers(numbers):
    return [RESPONSE.FromString(own_answer(row(number).SerializeToString())) for number in numbers]


@pytest.fixture(scope="module")
def model_server():
    with GrpcModelServer(own_answer).serving() as server:
        yield server


@contextlib.contextmanager
def small_credit(folder, model_server, *, anonymous_units=0.0):
    """A gateway whose callers have a credit of four units."""
    credit = {"seconds": 1e-9, "units": 4}
    callers = {"credit": credit, "anonymous_credit": credit}
    settings = settings_document(folder, model_server.address, calibration(anonymous_units), callers=callers)
    with grpc_gateway(folder, settings) as gateway:
        yield gateway


def standing(gateway, caller):
    return httpx.get(f"{gateway.admin}/api/account", params={"caller": caller}).json()


def test_a_crowd_of_one_key_with_a_small_credit_is_answered_and_owes_nothing(tmp_path, model_server):
    numbers = range(CALLERS)

    async def run(address):
        tolls = AioTollInterceptor()
        async with grpc.aio.insecure_channel(address, interceptors=[tolls]) as channel, tolls:
            infer = channel.unary_unary(messages.MODEL_INFER, REQUEST.SerializeToString, RESPONSE.FromString)
            return await asyncio.gather(*(infer(row(number), metadata=KEY) for number in numbers))

    with small_credit(tmp_path, model_server) as gateway:
        assert asyncio.run(run(gateway.address)) == answers(numbers)
        assert standing(gateway, "key:alice")["unsettled_seconds"] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("style", ["threads", "futures"])
def test_the_same_with_blocking_calls_and_futures(tmp_path, model_server, style):
    numbers = range(CALLERS)
    with small_credit(tmp_path, model_server) as gateway, grpc.insecure_channel(gateway.address) as channel:
        with TollInterceptor() as tolls, ThreadPoolExecutor(CALLERS) as threads:
            infer = grpc.intercept_channel(channel, tolls).unary_unary(
                messages.MODEL_INFER, REQUEST.SerializeToString, RESPONSE.FromString
            )
            if style == "threads":
                got = list(threads.map(lambda number: infer(row(number), metadata=KEY), numbers))
            else:
                futures = [infer.future(row(number), metadata=KEY) for number in numbers]
                got = [future.result() for future in futures]
        assert got == answers(numbers)
        assert standing(gateway, "key:alice")["unsettled_seconds"] == pytest.approx(0.0, abs=1e-9)


def test_a_new_account_pays_for_admission_once(tmp_path, model_server):
    purse = Purse()
    with (
        small_credit(tmp_path, model_server, anonymous_units=20.0) as gateway,
        grpc.insecure_channel(gateway.address) as channel,
        TollInterceptor(purse=purse) as tolls,
    ):
        infer = grpc.intercept_channel(channel, tolls).unary_unary(
            messages.MODEL_INFER, REQUEST.SerializeToString, RESPONSE.FromString
        )
        assert [infer(row(number)) for number in range(30)] == answers(range(30))
    admissions = [payment for payment in purse.payments if payment.mode == "redeem"]
    assert 1 <= len(admissions) <= 15
    assert not any(payment.mode == "redeem" for payment in purse.payments[-10:])


class Killed:
    """A gateway in a process of its own, which can be killed and started again at the same addresses."""

    def __init__(self, folder, model_server):
        settings = settings_document(folder, model_server.address, calibration())
        addresses = {name: f"127.0.0.1:{free_port()}" for name in ("listen", "listen_grpc", "admin")}
        self.address, self.admin = addresses["listen_grpc"], f"http://{addresses['admin']}"
        self._path, self._log = folder / "modeltoll.yaml", (folder / "gateway.log").open("ab")
        ledger = {"ledger": {"url": f"sqlite:///{folder / 'ledger.db'}"}}
        self._path.write_text(yaml.safe_dump(settings | addresses | ledger))
        self._process = None

    def start(self):
        command = [sys.executable, "-m", "modeltoll", "serve", str(self._path)]
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log)

    def kill(self):
        self._process.kill()
        self._process.wait()

    def await_ready(self):
        for _ in range(600):
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.admin}/readyz", timeout=5).is_success:
                    return
            time.sleep(0.1)
        raise AssertionError("the gateway does not start")

    def __enter__(self):
        self.start()
        self.await_ready()
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait()
        self._log.close()


def test_a_kill_in_the_middle_changes_no_answer_and_loses_no_receipt(tmp_path, model_server):
    """32 callers ask four times each, again while the gateway is away; the gateway is killed after a quarter of it."""
    answered, quarter = [], threading.Event()

    async def caller(infer, number):
        got = []
        for turn in range(4):
            request = row(10 * number + turn)
            while True:
                try:
                    got.append(await infer(request, metadata=KEY))
                    break
                except grpc.aio.AioRpcError as error:
                    assert error.code() is grpc.StatusCode.UNAVAILABLE, error  # noqa: PT017  it is retried
                    await asyncio.sleep(0.2)
            answered.append(number)
            if len(answered) == CALLERS:
                quarter.set()
        return got

    async def run(gateway):
        tolls = AioTollInterceptor()
        async with grpc.aio.insecure_channel(gateway.address, interceptors=[tolls]) as channel, tolls:
            infer = channel.unary_unary(messages.MODEL_INFER, REQUEST.SerializeToString, RESPONSE.FromString)
            callers = asyncio.gather(*(caller(infer, number) for number in range(CALLERS)))
            await asyncio.to_thread(quarter.wait, 60)
            gateway.kill()
            gateway.start()
            return await callers

    with Killed(tmp_path, model_server) as gateway:
        got = asyncio.run(run(gateway))
        assert got == [answers(10 * number + turn for turn in range(4)) for number in range(CALLERS)]
        account = standing(gateway, "key:alice")
        assert account["settled_rows"] >= 4 * CALLERS
        assert account["unsettled_seconds"] <= CALLERS * 100 * UNIT  # of calls that the kill cut off
