"""Unmodified Open Inference SDKs get a real server's answers through a real gateway, the sidecar paying for them.

Four processes: KServe's model server, ``modeltoll serve`` before it, ``modeltoll proxy`` before that, and the SDK here.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import tritonclient.http
import tritonclient.http.aio
from tritonclient.utils import InferenceServerException

from kserve_gateway import counted, free_address, kserve_server, write_settings
from modeltoll.demo.processes import serving

ROWS = np.array([[0.1, 0.2, 0.3, 0.4], [1.0, -1.0, 0.5, 0.0]], np.float32)
TOLLS, BOUGHT = "modeltoll_proxy_tolls_total", "modeltoll_proxy_rows_total"

# It parses the command line of the importing program as options of its model server.
with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sys, "argv", sys.argv[:1])
    kserve = pytest.importorskip("kserve", reason="kserve has no release for this Python")


@dataclass(frozen=True)
class Deployment:
    """Addresses without scheme: model server, gateway, and sidecars with a high and a low limit."""

    server: str
    gateway: str
    sidecar: str
    poor: str

    def counted(self, name):
        """A sum over the sidecar's counters of that name."""
        return counted(self.sidecar, name)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    """All of them running, each with an honest row paid for."""
    folder = tmp_path_factory.mktemp("deployment")
    server, gateway, admin, sidecar, poor = (free_address() for _ in range(5))
    settings = write_settings(folder, f"http://{server}", listen=gateway, admin=admin, ledger={"url": "memory://"})
    proxy = ["modeltoll", "proxy", "--upstream", f"http://{gateway}", "--listen"]
    with (
        kserve_server(server, folder),
        serving(["modeltoll", "serve", str(settings)], f"http://{admin}/readyz", folder / "gateway.log"),
        serving([*proxy, sidecar], f"http://{sidecar}/metrics", folder / "sidecar.log"),
        serving([*proxy, poor, "--max-seconds", "0"], f"http://{poor}/metrics", folder / "poor.log"),
    ):
        yield Deployment(server, gateway, sidecar, poor)


def triton_input():
    """The rows as raw tensors, tritonclient's default."""
    tensor = tritonclient.http.InferInput("x", list(ROWS.shape), "FP32")
    tensor.set_data_from_numpy(ROWS)
    return tensor


def seen(result):
    """Everything that tritonclient returns of an answer: its JSON, and the numbers of its raw tensors."""
    return result.get_response(), result.as_numpy("p").tolist()


OUTPUTS = {
    "by default": None,
    "by name": [tritonclient.http.InferRequestedOutput("p")],
    "two classes, of a server that shows all": [tritonclient.http.InferRequestedOutput("p", class_count=2)],
}


@pytest.mark.parametrize("outputs", OUTPUTS.values(), ids=OUTPUTS)
def test_tritonclient_sees_through_the_sidecar_what_it_sees_directly(deployment, outputs):
    """With raw tensors in the request and in the answer, its default."""
    shown, tolls, bought = {}, deployment.counted(TOLLS), deployment.counted(BOUGHT)
    for address in (deployment.server, deployment.sidecar):
        with tritonclient.http.InferenceServerClient(address) as client:
            shown[address] = seen(client.infer("m", [triton_input()], outputs=outputs, request_id="1"))
    document, scores = shown[deployment.sidecar]
    assert shown[deployment.sidecar] == shown[deployment.server]
    assert document["outputs"][0]["parameters"] == {"binary_data_size": 24}
    assert np.allclose(np.sum(scores, axis=1), 1.0)
    assert (deployment.counted(TOLLS) - tolls, deployment.counted(BOUGHT) - bought) == (1, len(ROWS))


def test_tritonclient_reads_json_tensors_too(deployment):
    """KServe's server takes no JSON from tritonclient itself, which gives it no content type."""
    tensor, output = triton_input(), tritonclient.http.InferRequestedOutput("p", binary_data=False)
    tensor.set_data_from_numpy(ROWS, binary_data=False)
    with tritonclient.http.InferenceServerClient(deployment.sidecar) as client:
        raw = client.infer("m", [triton_input()], request_id="1")
        plain = client.infer("m", [tensor], outputs=[output], request_id="1")
    assert len(plain.get_response()["outputs"][0]["data"]) == 6
    assert plain.as_numpy("p").tolist() == raw.as_numpy("p").tolist()


def test_the_async_tritonclient_is_paid_for_at_once(deployment):
    async def main(address):
        async with tritonclient.http.aio.InferenceServerClient(address) as client:
            asked = [client.infer("m", [triton_input()], request_id=str(number)) for number in range(4)]
            return [seen(result) for result in await asyncio.gather(*asked)]

    assert asyncio.run(main(deployment.sidecar)) == asyncio.run(main(deployment.server))


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_tritonclient_may_compress_its_requests(deployment, algorithm):
    """KServe's own server does not take them."""
    with tritonclient.http.InferenceServerClient(deployment.sidecar) as client:
        plain, compressed = (
            client.infer("m", [triton_input()], request_compression_algorithm=how) for how in (None, algorithm)
        )
    assert seen(compressed) == seen(plain)


def test_metadata_and_health_need_no_toll(deployment):
    tolls = deployment.counted(TOLLS)
    with tritonclient.http.InferenceServerClient(deployment.sidecar) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("m")
        assert client.get_model_metadata("m")["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert deployment.counted(TOLLS) == tolls


def test_what_the_gateway_and_the_sidecar_refuse_is_an_error_with_its_reason(deployment):
    with (
        tritonclient.http.InferenceServerClient(deployment.sidecar) as client,
        tritonclient.http.InferenceServerClient(deployment.poor) as poor,
    ):
        with pytest.raises(InferenceServerException, match=r"404.*not served here"):
            client.get_model_repository_index()
        with pytest.raises(InferenceServerException, match=r"404.*no such model"):
            client.infer("other", [triton_input()])
        with pytest.raises(InferenceServerException, match=r"402.*the limit is 0"):
            poor.infer("m", [triton_input()])


@pytest.mark.parametrize("raw", [False, True], ids=["JSON", "raw"])
def test_the_kserve_sdk_sees_through_the_sidecar_what_it_sees_directly(deployment, raw):
    async def main(address):
        client = kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v2", verify=False))
        tensor, headers = kserve.InferInput("x", list(ROWS.shape), "FP32"), {}
        tensor.set_data_from_numpy(ROWS, binary_data=raw)
        asked = kserve.InferRequest("m", [tensor], request_id="1", parameters={"binary_data_output": raw})
        try:
            assert await client.is_server_ready(f"http://{address}")
            assert await client.is_model_ready(f"http://{address}", "m")
            result = await client.infer(f"http://{address}", asked, model_name="m", response_headers=headers)
        finally:
            await client.close()
        return result.to_rest(), result.outputs[0].as_numpy().tolist(), headers.get("inference-header-content-length")

    tolls = deployment.counted(TOLLS)
    through, direct = asyncio.run(main(deployment.sidecar)), asyncio.run(main(deployment.server))
    assert through == direct
    assert (through[2] is not None) == raw
    assert deployment.counted(TOLLS) == tolls + 1
