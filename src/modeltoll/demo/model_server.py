"""The demo's model server: a scikit-learn classifier behind the Open Inference Protocol, without any toll.

python -m modeltoll.demo.model_server MODEL.joblib PORT
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import joblib
import msgspec
import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

__all__ = ["INPUT", "MODEL", "OUTPUT", "model_server"]

MODEL, INPUT, OUTPUT = "victim", "x", "probabilities"


def _refusal(message: str) -> Response:
    return JSONResponse({"error": message}, status_code=400)


def model_server(model: Any) -> Starlette:
    """An Open Inference server for a fitted classifier with ``predict_proba``."""
    width, classes = int(model.n_features_in_), len(model.classes_)

    async def infer(request: Request) -> Response:
        try:
            tensor = msgspec.json.decode(await request.body())["inputs"][0]
            rows = np.asarray(tensor["data"], np.float64).reshape(tensor["shape"])
        except (msgspec.DecodeError, KeyError, IndexError, TypeError, ValueError):
            return _refusal("the request does not follow the Open Inference Protocol")
        if rows.ndim != 2 or rows.shape[1] != width:
            return _refusal(f"expected shape [rows, {width}], got {list(rows.shape)}")
        scores = model.predict_proba(rows)
        output = {"name": OUTPUT, "shape": list(scores.shape), "datatype": "FP64", "data": scores.ravel().tolist()}
        return Response(msgspec.json.encode({"model_name": MODEL, "outputs": [output]}), media_type="application/json")

    async def metadata(request: Request) -> Response:
        del request
        return JSONResponse(
            {
                "name": MODEL,
                "platform": "scikit-learn",
                "inputs": [{"name": INPUT, "datatype": "FP64", "shape": [-1, width]}],
                "outputs": [{"name": OUTPUT, "datatype": "FP64", "shape": [-1, classes]}],
            }
        )

    async def healthy(request: Request) -> Response:
        del request
        return Response()

    return Starlette(
        routes=[
            Route("/v2/health/live", healthy),
            Route("/v2/health/ready", healthy),
            Route(f"/v2/models/{MODEL}", metadata),
            Route(f"/v2/models/{MODEL}/ready", healthy),
            Route(f"/v2/models/{MODEL}/infer", infer, methods=["POST"]),
        ]
    )


def _main(model_file: Path, port: int) -> None:
    uvicorn.run(model_server(joblib.load(model_file)), host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]))
