"""MLServer with its scikit-learn runtime: python start_mlserver.py PORT."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

import joblib
from forest import trained

folder = Path("model")
folder.mkdir(exist_ok=True)
joblib.dump(trained(), folder / "model.joblib")
model = {
    "name": "digits",
    "implementation": "mlserver_sklearn.SKLearnModel",
    "parameters": {"uri": "./model.joblib"},
    "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 64]}],
    "outputs": [{"name": "predict_proba", "datatype": "FP64", "shape": [-1, 10]}],
}
(folder / "model-settings.json").write_text(json.dumps(model))
with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
    unused = [listening.getsockname()[1] for listening in (one, other)]
ports = dict(zip(("http_port", "grpc_port", "metrics_port"), (int(sys.argv[1]), *unused), strict=True))
Path("settings.json").write_text(json.dumps({"host": "127.0.0.1", "parallel_workers": 0, **ports}))
os.execv(Path(sys.executable).with_name("mlserver"), ["mlserver", "start", "."])
