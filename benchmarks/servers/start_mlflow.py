"""MLflow's model server: python start_mlflow.py PORT."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import mlflow.sklearn
from forest import trained

shutil.rmtree("model", ignore_errors=True)
mlflow.sklearn.save_model(trained(), "model", pyfunc_predict_fn="predict_proba", serialization_format="cloudpickle")
serve = ["mlflow", "models", "serve", "-m", "model", "-h", "127.0.0.1", "-p", sys.argv[1], "--env-manager", "local"]
os.execv(Path(sys.executable).with_name("mlflow"), serve)
