"""KServe's own model server with a small classifier: python kserve_server.py PORT [grpc].

The model ``m`` takes ``x`` (rows, 4) and answers with the probabilities ``p`` (rows, 3), raw where that is asked.
"""

from __future__ import annotations

import asyncio
import sys

import numpy as np
from kserve import InferOutput, InferResponse, Model, ModelRepository
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.grpc.server import GRPCServer
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from kserve.protocol.rest.server import RESTServer

WEIGHTS = np.random.default_rng(0).normal(size=(4, 3))


class Classifier(Model):
    """A linear classifier."""

    def __init__(self):
        super().__init__("m")
        self.ready = True

    async def get_input_types(self):
        return [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]

    async def get_output_types(self):
        return [{"name": "p", "datatype": "FP32", "shape": [-1, 3]}]

    def predict(self, payload, headers=None, response_headers=None):
        powers = np.exp(payload.inputs[0].as_numpy() @ WEIGHTS)
        scores = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
        output = InferOutput("p", list(scores.shape), "FP32")
        output.set_data_from_numpy(scores, binary_data=False)
        asked = {"use_binary_outputs": payload.use_binary_outputs, "requested_outputs": payload.request_outputs}
        return InferResponse(payload.id, self.name, [output], **asked)


models = ModelRepository()
models.update(Classifier())
extension = ModelRepositoryExtension(model_registry=models)
plane = DataPlane(model_registry=models)
if sys.argv[2:] == ["grpc"]:
    limits = dict.fromkeys(("grpc_max_send_message_length", "grpc_max_receive_message_length"), 64 << 20)
    asyncio.run(GRPCServer(int(sys.argv[1]), plane, extension, limits).start(4))
else:
    server = RESTServer("kserve.model_server:app", plane, extension, int(sys.argv[1]))
    server.config.host = "127.0.0.1"  # by default every address
    server.run()
