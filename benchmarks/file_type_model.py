"""The model of file types in the package ``magika`` (its ONNX file alone) as an Open Inference server.

python benchmarks/file_type_model.py PORT
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import uvicorn

from modeltoll.demo.model_server import model_server

THREADS = 1


class FileTypeModel:
    """The scores of file types, with the interface of a scikit-learn classifier."""

    def __init__(self):
        found = importlib.util.find_spec("magika")
        if found is None or found.origin is None:
            raise SystemExit("this benchmark needs the package 'magika'")
        (folder,) = (file.parent for file in Path(found.origin).parent.glob("models/*/model.onnx"))
        config = json.loads((folder / "config.min.json").read_text())
        self.name, self.classes_ = folder.name, config["target_labels_space"]
        self.n_features_in_ = config["beg_size"] + config["end_size"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        providers = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=providers)

    def predict_proba(self, rows):
        """Scores (n, classes) of rows (n, 2048) of codes."""
        parts = [
            self._session.run(["target_label"], {"bytes": np.ascontiguousarray(part, dtype=np.int32)})[0]
            for part in np.array_split(rows, max(1, len(rows) // 100))
        ]
        return np.concatenate(parts).astype(np.float64)


if __name__ == "__main__":
    uvicorn.run(model_server(FileTypeModel()), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
