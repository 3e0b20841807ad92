"""The model of file types in the package ``magika`` as an Open Inference server.

python benchmarks/file_type_model.py PORT
"""

from __future__ import annotations

import sys

import uvicorn

from modeltoll.bench.victims.file_types import load_file_type_model
from modeltoll.demo.model_server import model_server

if __name__ == "__main__":
    uvicorn.run(model_server(load_file_type_model()), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
